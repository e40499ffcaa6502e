"""One application transaction that remembers what it changes, row by row, as it was and as it will be."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from deploy.local.database import Database, Plain, Record
from deploy.local.ledger import Effect, RowKey
from deploy.local.shapes import HOME, Shapes

KEYS: dict[str, tuple[str, ...]] = {
    "flights": ("id",),
    "passenger": ("id",),
    "booking": ("id",),
    "payment": ("id",),
    "seat": ("flight_id", "seat"),
    "request": ("token",),
}
"""The tables that the load writes, with their keys: the same columns on both sides."""
_NUMBERS = frozenset({"id", "flight_id"})


class NothingThere(Exception):
    """No row to work on (taken by another connection, or none left): do something else."""


@dataclasses.dataclass(slots=True)
class Row:
    """A row that this transaction holds the lock of."""

    table: str
    key: RowKey
    record: Record

    def __getitem__(self, column: str) -> Plain:
        return self.record[column]

    def number(self, column: str) -> int:
        """An integer column's value; NULL is 0."""
        return int(self.record[column] or 0)


class Transaction:
    """Statements of one transaction, in the words of the side it is on; rows come and go in the application's own. Every row is locked
    before it is changed and read back after it, so `effects` are facts."""

    def __init__(self, database: Database, token: str, shapes: Shapes = HOME) -> None:
        self.database = database
        self.token = token
        self._shapes = shapes
        self._before: dict[tuple[str, RowKey], Record | None] = {}
        self._after: dict[tuple[str, RowKey], Record | None] = {}

    @property
    def effects(self) -> list[Effect]:
        """Each key that was changed, with its row at the end of the transaction."""
        return [(table, key, row) for (table, key), row in self._after.items()]

    @property
    def before(self) -> list[Effect]:
        """The same keys, with the rows as they were before the transaction."""
        return [(table, key, self._before[table, key]) for table, key in self._after]

    def insert(self, table: str, values: Mapping[str, object]) -> Row:
        """Inserts one row; the key may come from the database."""
        shape = self._shapes[table]
        written = shape.write(values)
        columns, marks = ", ".join(written), ", ".join(["%s"] * len(written))
        sql = f"INSERT INTO {shape.table} ({columns}) VALUES ({marks}) RETURNING *"
        record = shape.read(self.database.records(sql, list(written.values()))[0])
        row = Row(table, key_of(table, record), record)
        self._changed(row.table, row.key, None, record)
        return row

    def update(self, row: Row, changes: Mapping[str, object]) -> Row:
        """Updates a locked row; `changes` may move its key."""
        shape = self._shapes[row.table]
        written = shape.write(changes)
        where = " AND ".join(f"{column} = %s" for column in KEYS[row.table])
        sets = ", ".join(f"{column} = %s" for column in written)
        self.database.execute(f"UPDATE {shape.table} SET {sets} WHERE {where}", [*written.values(), *row.key])
        key = tuple(_part(column, changes.get(column, part)) for column, part in zip(KEYS[row.table], row.key, strict=True))
        record = shape.read(self.database.records(f"SELECT * FROM {shape.table} WHERE {where}", key)[0])
        if key != row.key:
            self._changed(row.table, row.key, row.record, None)
            self._changed(row.table, key, None, record)
        else:
            self._changed(row.table, key, row.record, record)
        return Row(row.table, key, record)

    def delete(self, row: Row) -> None:
        """Deletes a locked row."""
        where = " AND ".join(f"{column} = %s" for column in KEYS[row.table])
        self.database.execute(f"DELETE FROM {self._shapes[row.table].table} WHERE {where}", row.key)
        self._changed(row.table, row.key, row.record, None)

    def lock_from(self, table: str, start: int, condition: str = "", count: int = 1) -> list[Row]:
        """Locks up to `count` rows that nobody else holds, by key order from `start` on. Raises NothingThere when there is none.
        `condition` is of columns that both sides have under one name."""
        key, extra = KEYS[table][0], f" AND {condition}" if condition else ""
        sql = f"SELECT * FROM {self._shapes[table].table} WHERE {key} >= %s{extra} ORDER BY {key} LIMIT {count:d} FOR UPDATE SKIP LOCKED"
        rows = self._rows(table, sql, [start])
        if not rows:
            raise NothingThere(table)
        return rows

    def find_from(self, table: str, start: int) -> int:
        """The first id from `start` on, not locked: ids have gaps where transactions were rolled back."""
        found = self.database.value(f"SELECT id FROM {self._shapes[table].table} WHERE id >= %s ORDER BY id LIMIT 1", [start])
        if found is None:
            raise NothingThere(table)
        return int(found)

    def lock_where(self, table: str, column: str, value: object) -> list[Row]:
        """Locks every row with that value, in key order; none is fine."""
        shape, order = self._shapes[table], ", ".join(KEYS[table])
        return self._rows(table, f"SELECT * FROM {shape.table} WHERE {shape.column(column)} = %s ORDER BY {order} FOR UPDATE", [value])

    def _rows(self, table: str, sql: str, params: Sequence[object]) -> list[Row]:
        records = map(self._shapes[table].read, self.database.records(sql, params))
        return [Row(table, key_of(table, record), record) for record in records]

    def _changed(self, table: str, key: RowKey, before: Record | None, after: Record | None) -> None:
        self._before.setdefault((table, key), before)
        self._after[table, key] = after


def key_of(table: str, record: Record) -> RowKey:
    """The row's key, numbers as numbers."""
    return tuple(_part(column, record[column]) for column in KEYS[table])


def _part(column: str, value: object) -> int | str:
    text = str(value)
    return int(text) if column in _NUMBERS else text
