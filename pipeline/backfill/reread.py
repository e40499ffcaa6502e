"""The re-read list: rows that the stream could not finish by itself are read from the source by key and merged if still wanted."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from connectors.base import Reader, Writer
from pipeline import copytext
from pipeline.backfill.worker import CopyTable
from pipeline.model import Key, Text

Read = dict[Key, tuple[int, tuple[Text, ...] | None]]
"""By key: the list sequence it was read for, and the source's row (None: it has none)."""


def read_listed(table: CopyTable, reader: Reader, writer: Writer, current: Callable[[], bool] = lambda: True, *, limit: int = 1000) -> Read:
    """What the source has now for the keys on the list. `current` is asked after the list was read: whether the stream still writes the
    columns that `table` names. Where it writes more, a row read for these would lose what the event that listed it had in the others.
    """
    listed = writer.listed(table.target, limit)
    if not listed or not current():
        return {}
    key_at = [table.target.columns.index(c) for c in table.target.key]
    rows: dict[Key, tuple[Text, ...]] = {}
    blocks = reader.by_keys(table.source, table.source_key, table.projection, [key for key, _ in listed])
    for block in blocks if table.shape is None else copytext.reshape(blocks, table.shape):
        for row in copytext.decode(block):
            rows[tuple(row[at] for at in key_at)] = tuple(row)  # type: ignore[misc]
    return {key: (sequence, rows.get(key)) for key, sequence in listed}


def reread(table: CopyTable, reader: Reader, writer: Writer, current: Callable[[], bool] = lambda: True) -> int:
    """One round over one table while it is being copied; answers how many entries came off the list.

    An entry that changed between the read and the merge stays: a later event has seen to that key, or will.
    """
    return writer.merge_listed(table.target, read_listed(table, reader, writer, current))


class Mending:
    """The same once a table is copied and may be read: a row goes in only behind a marker written after it was read, if no event of
    its key came out before that marker, so that no row ever goes back to an older version. Call `turn` now and then.
    """

    def __init__(
        self,
        reader: Reader,
        writer: Writer,
        marker: Callable[[], str],
        applied: Callable[[str], bool],
        current: Callable[[], bool] = lambda: True,
    ) -> None:
        self._reader, self._writer, self._marker, self._applied, self._current = reader, writer, marker, applied, current
        self._under_way: dict[int, tuple[str, Read]] = {}

    def turn(self, tables: Iterable[CopyTable]) -> None:
        """One small step for each of these tables, whose side tables the stream keeps."""
        for table in tables:
            number = table.target.number
            if number in self._under_way:
                token, read = self._under_way[number]
                if self._applied(token):
                    del self._under_way[number]
                    self._writer.merge_listed(table.target, read, overwrite=True)
                continue
            read = read_listed(table, self._reader, self._writer, self._current)
            if read:
                self._under_way[number] = (self._marker(), read)
            elif self._current():
                self._writer.untrack(table.target)
