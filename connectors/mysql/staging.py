"""Staging tables of a MySQL-family session: rows and keys as temporary tables, typed as the target's columns, filled from memory.

Typed, so that values are converted once, joins use the target's own equality and indexes, and a value that does not fit is found here.
Columns are called `c0`, `c1`, … (`o0`, … for the old key of a key change): no name of the target's can get in the way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from connectors.base import TargetTable
from connectors.mysql.ddl import qualified, quote
from connectors.mysql.infile import LocalData, NotAllowed
from connectors.mysql.sidetables import Relation, SideTables, target_columns
from connectors.mysql.types import literal_sql
from pipeline import copytext
from pipeline.errors import DataRejected
from pipeline.model import Row, Text, Value
from pipeline.stages import Stages

WHOLE, PART, LISTED, GONE = 1, 0, 2, 3
"""`cf_w`: a whole row to be written; columns are still missing; its key goes on the re-read list; only a key, known not to be there."""

_FORMAT = r"CHARACTER SET utf8mb4 FIELDS TERMINATED BY '\t' ESCAPED BY '\\' LINES TERMINATED BY '\n'"
_AT_ONCE = 500
Encode = Callable[[Iterable[Sequence[Value]]], bytes]


class Staging:
    """The staging tables of one target table in one session, and the conditions that join them to it."""

    def __init__(self, connection: Any, data: LocalData, migration: str, target: TargetTable, stages: Stages) -> None:
        self.connection = connection
        self.data = data
        self.stages = stages
        self.target = target
        self.table = qualified(target.table.id)
        self.at = {name: at for at, name in enumerate(target.columns)}
        key_at = [self.at[name] for name in target.key]
        rows, keys = f"`crossfade`.`cf_stage_{target.number}`", f"`crossfade`.`cf_gone_{target.number}`"
        self.new = Relation(rows, tuple(f"c{at}" for at in key_at))
        self.old = Relation(rows, tuple(f"o{at}" for at in key_at))
        self.gone = Relation(keys, tuple(f"c{at}" for at in key_at))
        self.rest = [name for name in target.columns if name not in target.key]
        self.infile = True
        with connection.cursor() as cursor:
            self.columns = target_columns(cursor, target)
            declared = [f"c{at} {self.columns[name].declared} NULL" for name, at in self.at.items()]
            old = [f"o{at} {self.columns[target.columns[at]].declared} NULL" for at in key_at]
            for name, what in ((rows, declared + old), (keys, [declared[at] for at in key_at])):
                cursor.execute(f"DROP TEMPORARY TABLE IF EXISTS {name}")
                cursor.execute(
                    f"CREATE TEMPORARY TABLE {name} (cf_g BIGINT NOT NULL DEFAULT 0, cf_w TINYINT NOT NULL DEFAULT {WHOLE}, "
                    f"{', '.join(what)}) ENGINE = InnoDB ROW_FORMAT = DYNAMIC"
                )
        self._dirty: set[str] = set()
        self.side = SideTables(connection.cursor(), migration, target, self.columns)

    # -- SQL pieces ------------------------------------------------------------------------------------------------------------------

    def match(self, table: str, stage: str, names: Sequence[str]) -> str:
        """Row `table` of the target has exactly the key in columns `names` of `stage`. The first half finds it by the target's index,
        the second keeps `a` apart from `A` where the collation does not."""
        conditions = []
        for column, name in zip(self.target.key, names, strict=True):
            left, right = f"{table}.{quote(column)}", f"{stage}.{name}"
            conditions.append(f"{left} = {right}")
            if self.columns[column].exact_collation:
                conditions.append(f"CAST({left} AS BINARY) = CAST({right} AS BINARY)")
        return " AND ".join(conditions)

    @property
    def exact(self) -> bool:
        """Whether the target's own equality of keys is that of the stream."""
        return not any(self.columns[column].exact_collation for column in self.target.key)

    @property
    def absent(self) -> str:
        """After a LEFT JOIN of the target as `t`: no such row."""
        return f"t.{quote(self.target.key[0])} IS NULL"

    @property
    def column_list(self) -> str:
        return ", ".join(quote(name) for name in self.target.columns)

    @property
    def staged_list(self) -> str:
        return ", ".join(f"s.c{at}" for at in range(len(self.target.columns)))

    def clear_gone(self) -> None:
        """Empties the key table inside a transaction, for keys that a statement puts there."""
        self._dirty.add(self.gone.name)  # what it holds at the end must not be taken for keys of the next batch
        with self.connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {self.gone.name}")

    # -- filling ---------------------------------------------------------------------------------------------------------------------

    def empty(self) -> None:
        """Both tables empty again. Between transactions only: TRUNCATE commits."""
        with self.connection.cursor() as cursor:
            for name in self._dirty:
                cursor.execute(f"TRUNCATE TABLE {name}")
        self._dirty.clear()

    def load_rows(
        self, rows: Sequence[Row], *, group: int = 0, state: int = WHOLE, given: Sequence[int] | None = None, encode: Encode | None = None
    ) -> int:
        """Rows of the target's columns, or of those at `given`, into the row table. `encode`: their COPY text, known otherwise."""
        places = range(len(self.target.columns)) if given is None else given
        into = [(f"c{at}", self.target.columns[at]) for at in places]
        return self._load(self.new.name, into, [self._encoded(rows, encode)], group, state)

    def load_moves(self, moves: Iterable[tuple[Sequence[Text], Sequence[Value]]], *, group: int, state: int, given: Sequence[int]) -> int:
        """Rows with the key that they had before."""
        into = [(name, column) for name, column in zip(self.old.key, self.target.key, strict=True)]
        into += [(f"c{at}", self.target.columns[at]) for at in given]
        return self._load(self.old.name, into, [self._encoded([[*old, *row] for old, row in moves])], group, state)

    def load_blocks(self, blocks: Iterable[bytes]) -> int:
        """COPY text of whole rows into the row table."""
        return self._load(self.new.name, [(f"c{at}", name) for name, at in self.at.items()], blocks, 0, WHOLE)

    def load_keys(
        self,
        keys: Iterable[Sequence[Text]],
        *,
        rows: bool = False,
        group: int = 0,
        state: int = WHOLE,
        encode: Encode | None = None,
    ) -> int:
        """Keys into the key table, or into the row table as rows that have a key only."""
        into = self.new if rows else self.gone
        return self._load(into.name, list(zip(into.key, self.target.key, strict=True)), [self._encoded(keys, encode)], group, state)

    def _encoded(self, rows: Iterable[Sequence[Value]], encode: Encode | None = None) -> bytes:
        with self.stages.encoding():
            return (encode or copytext.encode)(rows)  # type: ignore[arg-type]

    def _load(self, name: str, into: Sequence[tuple[str, str]], blocks: Iterable[bytes], group: int, state: int) -> int:
        self._dirty.add(name)
        if not self.infile:
            return self._insert(name, into, blocks, group, state)
        try:
            statement = self.load_statement(f"INTO TABLE {name}", into, (f"cf_g = {group}", f"cf_w = {state}"))
            loaded = self.data.load(statement, blocks)
        except NotAllowed:
            self.infile = False  # found out before any block was taken
            return self._insert(name, into, blocks, group, state)
        if loaded.warnings:
            self.reject()
        return loaded.rows

    def load_statement(self, into: str, columns: Sequence[tuple[str, str]], sets: Sequence[str] = ()) -> str:
        """LOAD DATA of canonical text into (column, target column it is typed as)."""
        fields, assigned = [], list(sets)
        for at, (name, column) in enumerate(columns):
            value = self._literal(f"@v{at}", column)
            if value == f"@v{at}":
                fields.append(name)
            else:
                fields.append(f"@v{at}")
                assigned.append(f"{name} = {value}")
        sets_sql = f" SET {', '.join(assigned)}" if assigned else ""
        return f"LOAD DATA LOCAL INFILE 'memory' {into} {_FORMAT} ({', '.join(fields)}){sets_sql}"

    def _insert(self, name: str, into: Sequence[tuple[str, str]], blocks: Iterable[bytes], group: int, state: int) -> int:
        """The same where the server refuses LOCAL INFILE."""
        count = 0
        names = ", ".join(column for column, _ in into)
        with self.connection.cursor() as cursor:
            for block in blocks:
                rows = copytext.decode(block)
                for start in range(0, len(rows), _AT_ONCE):
                    values = ", ".join(
                        f"({group}, {state}, "
                        + ", ".join(
                            "NULL" if value is None else self._literal(self.connection.escape(value), column)
                            for value, (_, column) in zip(row, into, strict=True)
                        )
                        + ")"
                        for row in rows[start : start + _AT_ONCE]
                    )
                    cursor.execute(f"INSERT INTO {name} (cf_g, cf_w, {names}) VALUES {values}")
                count += len(rows)
        return count

    def _literal(self, text: str, column: str) -> str:
        return literal_sql(text, self.target.table.column(column).type)

    def reject(self) -> None:
        """Raises `DataRejected` with the first of the server's warnings: nothing is stored other than it was sent."""
        with self.connection.cursor() as cursor:
            cursor.execute("SHOW WARNINGS LIMIT 1")
            found = cursor.fetchone()
        text = str(found[2]) if found else "the server had warnings about the values"
        text = re.sub(r"(?:`?crossfade`?\.)?`?cf_(?:stage|gone)_\d+`?\.", "", text)
        names = self.target.columns
        text = re.sub(r"`?\b[co](\d+)\b`?", lambda m: names[int(m[1])] if int(m[1]) < len(names) else m[0], text)
        raise DataRejected(f"table {self.target.table.id}: {text}")
