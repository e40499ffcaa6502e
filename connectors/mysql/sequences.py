"""AUTO_INCREMENT counters: where they are, and moving them on before a side is written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from connectors.base import Address
from connectors.mysql.connection import connect, mapped
from connectors.mysql.ddl import qualified, quote
from pipeline.model import TableId

Column = tuple[TableId, str]


class Counters:
    """The AUTO_INCREMENT counters of some tables."""

    def __init__(self, address: Address, tables: Iterable[TableId]) -> None:
        self._tables = tuple(tables)
        self._connection = connect(address, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def read(self) -> dict[Column, int]:
        """The last value that each counter gave out, by the column it is behind."""
        try:
            with self._connection.cursor() as cursor:
                return {(table, column): following - 1 for table, column, following in _counters(cursor, self._tables) if following > 1}
        except Exception as error:
            raise mapped(error, "auto-increment counters") from None

    def ahead(self, given: Mapping[Column, int], gap: int) -> dict[str, int]:
        """Moves each counter beyond the column's values and beyond what the other side gave out, plus a gap; one that is there already
        stays. Answers {table: last value it counts as given out}."""
        out: dict[str, int] = {}
        try:
            with self._connection.cursor() as cursor:
                for table, column, following in _counters(cursor, self._tables):
                    cursor.execute(f"SELECT max({quote(column)}) FROM {qualified(table)}")
                    highest = int(cursor.fetchone()[0] or 0)
                    taken = max(highest, given.get((table, column), 0))
                    out[str(table)] = following - 1
                    if taken >= following:
                        out[str(table)] = taken + gap
                        cursor.execute(f"ALTER TABLE {qualified(table)} AUTO_INCREMENT = {taken + gap + 1}")
        except Exception as error:
            raise mapped(error, "auto-increment counters") from None
        return out


def _counters(cursor: Any, tables: Iterable[TableId]) -> list[tuple[TableId, str, int]]:
    """(table, column, next value). SHOW CREATE TABLE: the statistics of information_schema may be a day old."""
    import re

    out: list[tuple[TableId, str, int]] = []
    for table in tables:
        cursor.execute(
            "SELECT column_name FROM information_schema.columns "
            "WHERE table_schema = %s AND table_name = %s AND extra LIKE '%%auto_increment%%'",
            (table.schema, table.name),
        )
        row = cursor.fetchone()
        if row is None:
            continue
        cursor.execute(f"SHOW CREATE TABLE {qualified(table)}")
        options = str(cursor.fetchone()[1]).rpartition("\n)")[2]
        found = re.search(r"\bAUTO_INCREMENT=(\d+)", options)
        out.append((table, str(row[0]), int(found.group(1)) if found else 1))
    return out
