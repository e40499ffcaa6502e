"""Walks a table's key in ranges, one after the other: where the next one ends."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.base import Reader
from pipeline.model import Key, Kind, Table

_DENSE = 0.5
"""Rows for each number between a key's first and last one, from which on ranges are cut by counting."""


class Walk:
    """Where the walk stands. Looking for a bound reads as many entries of the key's index as there are rows in the range; where the key is
    a number and most numbers are there, counting does, and no range has more rows than numbers."""

    def __init__(self, reader: Reader, table: Table, key: Sequence[str], after: Key | None = None) -> None:
        """`after`: the bound that the walk goes on from; None: the start, which is open."""
        self._reader, self._table, self._key = reader, table, tuple(key)
        self.at = after
        self._count = 0
        self._last: int | None = None
        if self._key == table.key and len(self._key) == 1 and table.column(self._key[0]).type.kind is Kind.INT:
            extent = reader.extent(table, self._key[0])
            if extent is not None:
                first, last = map(int, extent)
                if table.rows >= _DENSE * (last - first + 1):
                    self._count, self._last = int(after[0]) if after else first - 1, last

    def upper(self, rows: int) -> Key | None:
        """The upper bound of the next range of at most so many rows; None: it is the last one, and open."""
        if self._last is None:
            self.at = next(self._reader.boundaries(self._table, self._key, rows, self.at), None)
        else:
            self._count += rows
            self.at = (str(self._count),) if self._count < self._last else None
        return self.at
