"""Side tables on a MySQL-family target: recorded deletes and the re-read list, one table for each migrated table.

`crossfade.keys_…` has the target's own key columns and types, `cf_deleted` (the stream deleted this key while the table was being
copied) and `cf_listed` (on the re-read list, with the sequence it was put there by). Text is compared byte for byte, whatever the
target's collation: to the stream `a` and `A` are two keys, each with a life of its own. That they cannot both be in a target whose
collation ignores case is a clash on a unique key like any other.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from connectors.base import TargetTable, side_table
from connectors.mysql.ddl import quote
from pipeline.errors import CrossfadeError

_TEXT = {"char", "varchar", "tinytext", "text", "mediumtext", "longtext"}


@dataclasses.dataclass(frozen=True, slots=True)
class TargetColumn:
    """A target column as the server declares it."""

    name: str
    declared: str  # type, character set and collation, as in CREATE TABLE
    exact: str  # the same with the byte-by-byte collation
    exact_collation: str | None  # None: not text, equality is exact as it is
    on_update: bool  # ON UPDATE CURRENT_TIMESTAMP


@dataclasses.dataclass(frozen=True, slots=True)
class Relation:
    """A temporary table, and the columns of it in which a key stands."""

    name: str
    key: tuple[str, ...]


def target_columns(cursor: Any, target: TargetTable) -> dict[str, TargetColumn]:
    """What the server declares for the columns that rows carry. Raises CrossfadeError for a column that is not there."""
    cursor.execute(
        "SELECT column_name, data_type, column_type, character_set_name, collation_name, extra FROM information_schema.columns "
        "WHERE table_schema = %s AND table_name = %s",
        (target.table.id.schema, target.table.id.name),
    )
    rows = {str(row[0]): row for row in cursor.fetchall()}
    cursor.execute("SELECT collation_name FROM information_schema.collations WHERE collation_name LIKE '%%\\_bin'")
    collations = {str(row[0]) for row in cursor.fetchall()}
    found: dict[str, TargetColumn] = {}
    for name in target.columns:
        if name not in rows:
            raise CrossfadeError(f"table {target.table.id}: the target has no column {name}")
        _, kind, declared, charset, collation, extra = rows[name]
        exact, exact_collation = declared, None
        if charset is not None:
            if str(kind).lower() in _TEXT:
                # trailing spaces count, where the server has such a collation
                wanted = (f"{charset}_nopad_bin", f"{charset}_0900_bin", f"{charset}_bin")
                exact_collation = next((c for c in wanted if c in collations), wanted[-1])
            exact = f"{declared} CHARACTER SET {charset} COLLATE {exact_collation or collation}"
            declared = f"{declared} CHARACTER SET {charset} COLLATE {collation}"
        found[name] = TargetColumn(name, declared, exact, exact_collation, "on update" in str(extra).lower())
    return found


class SideTables:
    """The statements on one table's side table. Every method runs inside the caller's transaction."""

    def __init__(self, cursor: Any, migration: str, target: TargetTable, columns: dict[str, TargetColumn]) -> None:
        self.cursor = cursor
        self.migration = migration
        self.target = target
        self.name = f"`crossfade`.{quote(side_table(migration, target.number))}"
        self.key = [columns[column] for column in target.key]
        self.key_list = ", ".join(quote(column) for column in target.key)

    def match(self, side: str, other: str, names: tuple[str, ...]) -> str:
        """`side` has the key that stands in columns `names` of `other`, exactly."""
        return " AND ".join(
            f"{side}.{quote(column.name)} = {other}.{name}" + (f" COLLATE {column.exact_collation}" if column.exact_collation else "")
            for column, name in zip(self.key, names, strict=True)
        )

    def create(self) -> None:
        """Makes it; safe to run twice. Commits, as DDL does here."""
        columns = ", ".join(f"{quote(column.name)} {column.exact} NOT NULL" for column in self.key)
        self.cursor.execute(
            f"CREATE TABLE IF NOT EXISTS {self.name} ({columns}, cf_listed BIGINT NULL, cf_deleted BOOLEAN NOT NULL DEFAULT FALSE, "
            f"PRIMARY KEY ({self.key_list}), KEY cf_listed (cf_listed)) ENGINE = InnoDB"
        )

    def record_deleted(self, keys: Relation) -> None:
        """The stream deleted every key in `keys`; that also takes it off the list."""
        self.cursor.execute(
            f"INSERT INTO {self.name} ({self.key_list}, cf_listed, cf_deleted) SELECT {', '.join(keys.key)}, NULL, TRUE FROM {keys.name} s "
            "ON DUPLICATE KEY UPDATE cf_listed = NULL, cf_deleted = TRUE"
        )

    def unlist(self, keys: Relation, where: str) -> None:
        """These keys have whole rows: nothing is left to be re-read."""
        self.cursor.execute(
            f"UPDATE {keys.name} s STRAIGHT_JOIN {self.name} k ON {self.match('k', 's', keys.key)} SET k.cf_listed = NULL "
            f"WHERE {where} AND k.cf_listed IS NOT NULL"
        )

    def relist(self, keys: Relation, where: str) -> int:
        """Puts these keys on the list under a new sequence and makes the table tracked; answers how many. The gate is the caller's."""
        self.cursor.execute(f"SELECT COUNT(*) FROM {keys.name} s WHERE {where}")
        count = int(self.cursor.fetchone()[0])
        if count:
            sequence = self._sequence()
            self.cursor.execute(
                f"INSERT INTO {self.name} ({self.key_list}, cf_listed, cf_deleted) SELECT {', '.join(keys.key)}, {sequence}, FALSE "
                f"FROM {keys.name} s WHERE {where} ON DUPLICATE KEY UPDATE cf_listed = {sequence}"
            )
        return count

    def renew(self, keys: Relation, where: str) -> None:
        """Keys that are on the list and were written in part: a row read for the old entry may be older than that."""
        joined = f"{keys.name} s STRAIGHT_JOIN {self.name} k ON {self.match('k', 's', keys.key)}"
        self.cursor.execute(f"SELECT 1 FROM {joined} WHERE {where} AND k.cf_listed IS NOT NULL LIMIT 1")
        if self.cursor.fetchone() is not None:
            self.cursor.execute(f"UPDATE {joined} SET k.cf_listed = {self._sequence()} WHERE {where} AND k.cf_listed IS NOT NULL")

    def clear(self) -> None:
        """A truncate: nothing recorded before it matters, and chunks not merged yet are not to be merged any more."""
        self.cursor.execute(f"DELETE FROM {self.name}")
        self.cursor.execute(
            "UPDATE crossfade.chunk SET state = 'void' WHERE migration = %s AND number = %s AND state IN ('todo', 'taken')",
            (self.migration, self.target.number),
        )
        self.cursor.execute(
            "UPDATE crossfade.table_state SET planned = TRUE WHERE migration = %s AND number = %s", (self.migration, self.target.number)
        )

    def skipped(self, stage: Relation) -> str:
        """LEFT JOIN, to rows `s` of `stage`, of what a chunk must skip: keys recorded as deleted, keys listed."""
        return f"LEFT JOIN {self.name} k ON {self.match('k', 's', stage.key)} AND (k.cf_deleted OR k.cf_listed IS NOT NULL)"

    @property
    def unrecorded(self) -> str:
        """After `skipped`: the row is not one to be skipped."""
        return f"k.{quote(self.target.key[0])} IS NULL"

    def _sequence(self) -> int:
        self.cursor.execute(
            "UPDATE crossfade.table_state SET list_seq = list_seq + 1, tracked = TRUE WHERE migration = %s AND number = %s",
            (self.migration, self.target.number),
        )
        self.cursor.execute(
            "SELECT list_seq FROM crossfade.table_state WHERE migration = %s AND number = %s", (self.migration, self.target.number)
        )
        row = self.cursor.fetchone()
        if row is None:
            raise CrossfadeError(f"table {self.target.table.id} has no state row in migration {self.migration}")
        return int(row[0])


def unique_keys(cursor: Any, target: TargetTable) -> list[tuple[tuple[str, int | None], ...] | None]:
    """The unique indexes beside the key's own: (column, prefix length) each; None for one over an expression."""
    cursor.execute(
        "SELECT index_name, column_name, sub_part FROM information_schema.statistics "
        "WHERE table_schema = %s AND table_name = %s AND non_unique = 0 ORDER BY index_name, seq_in_index",
        (target.table.id.schema, target.table.id.name),
    )
    indexes: dict[str, list[tuple[str | None, int | None]]] = {}
    for index, column, prefix in cursor.fetchall():
        indexes.setdefault(str(index), []).append((None if column is None else str(column), None if prefix is None else int(prefix)))
    found: list[tuple[tuple[str, int | None], ...] | None] = []
    for parts in indexes.values():
        if sorted(str(column) for column, _ in parts) == sorted(target.key) and all(prefix is None for _, prefix in parts):
            continue
        plain = tuple((column, prefix) for column, prefix in parts if column is not None)
        found.append(plain if len(plain) == len(parts) else None)
    return found
