"""Side tables on a PostgreSQL target: recorded deletes and the re-read list, one table for each migrated table.

`crossfade.keys_…` has the target's own key columns (types and collations included, so equality is the target's own),
`deleted` (the stream deleted this key while the table was being copied) and `listed` (on the re-read list, with the
sequence it was put there by). Why both are needed: `docs/decisions/backfill-rules.md`.
"""

from __future__ import annotations

from typing import Any

import psycopg

from connectors.base import TargetTable, side_table
from connectors.postgres.ddl import qualified, quote

Connection = psycopg.Connection[Any]
Cursor = psycopg.Cursor[Any]

GATE_CLASS = 0x63660000  # "cf" in the high half: crossfade's own advisory lock class


def gate_class(migration: str) -> int:
    """The advisory lock class of a migration: 16 bits of its name behind crossfade's own prefix."""
    checksum = 0
    for byte in migration.encode():
        checksum = (checksum * 31 + byte) & 0xFFFF
    return GATE_CLASS | checksum


class SideTables:
    """The statements on one table's side table. Every method runs inside the caller's transaction."""

    def __init__(self, migration: str, target: TargetTable) -> None:
        self.migration = migration
        self.target = target
        self.table = qualified(target.table.id)
        self.name = f"crossfade.{quote(side_table(migration, target.number))}"
        self.key = [quote(column) for column in target.key]
        self.key_list = ", ".join(self.key)

    def match(self, left: str, right: str) -> str:
        """`left.k1 = right.k1 AND …`"""
        return " AND ".join(f"{left}.{k} = {right}.{k}" for k in self.key)

    def create(self, connection: Connection) -> None:
        """Makes it; safe to run twice."""
        if connection.execute("SELECT to_regclass(%s)", (self.name,)).fetchone() != (None,):
            return
        connection.execute(
            f"CREATE TABLE {self.name} AS SELECT {self.key_list}, NULL::bigint AS cf_listed, false AS cf_deleted "
            f"FROM {self.table} WITH NO DATA"
        )
        connection.execute(f"ALTER TABLE {self.name} ADD PRIMARY KEY ({self.key_list})")

    def record_deleted(self, connection: Connection, keys_from: str) -> None:
        """Every key in relation `keys_from` was deleted by the stream while copying; that also takes it off the list."""
        connection.execute(
            f"INSERT INTO {self.name} AS k ({self.key_list}, cf_listed, cf_deleted) SELECT {self.key_list}, NULL, true FROM {keys_from} "
            f"ON CONFLICT ({self.key_list}) DO UPDATE SET cf_listed = NULL, cf_deleted = true"
        )

    def unlist(self, connection: Connection, keys_from: str) -> None:
        """These keys have whole rows (or are gone): nothing is left to be re-read."""
        connection.execute(
            f"UPDATE {self.name} k SET cf_listed = NULL FROM {keys_from} s WHERE {self.match('k', 's')} AND k.cf_listed IS NOT NULL"
        )

    def renew(self, connection: Connection, keys_from: str) -> None:
        """A part of these rows changed: a row that was read for them before is not to be merged over it."""
        row = connection.execute(
            "UPDATE crossfade.table_state SET list_seq = list_seq + 1 WHERE migration = %s AND number = %s RETURNING list_seq",
            (self.migration, self.target.number),
        ).fetchone()
        if row is not None:
            # No parameters beside names: a per cent sign in a name would be taken for one.
            connection.execute(
                f"UPDATE {self.name} k SET cf_listed = {int(row[0])} FROM {keys_from} s "
                f"WHERE {self.match('k', 's')} AND k.cf_listed IS NOT NULL"
            )

    def relist(self, connection: Connection, select_keys: str) -> int:
        """Puts the keys that `select_keys` yields on the list under a new sequence; answers how many."""
        sequence = connection.execute(
            "UPDATE crossfade.table_state SET list_seq = list_seq + 1, tracked = true "
            "WHERE migration = %s AND number = %s RETURNING list_seq",
            (self.migration, self.target.number),
        ).fetchone()
        if sequence is None:
            raise LookupError(f"table {self.target.table.id} has no state row in migration {self.migration}")
        return connection.execute(
            f"INSERT INTO {self.name} AS k ({self.key_list}, cf_listed, cf_deleted) "
            f"SELECT {self.key_list}, {int(sequence[0])}, false FROM ({select_keys}) x "
            f"ON CONFLICT ({self.key_list}) DO UPDATE SET cf_listed = excluded.cf_listed"
        ).rowcount

    def clear(self, connection: Connection) -> None:
        """A truncate: nothing recorded before it matters."""
        connection.execute(f"DELETE FROM {self.name}")
        connection.execute(
            "UPDATE crossfade.chunk SET state = 'void' WHERE migration = %s AND number = %s AND state IN ('todo', 'taken')",
            (self.migration, self.target.number),
        )
        connection.execute(
            "UPDATE crossfade.table_state SET planned = true WHERE migration = %s AND number = %s", (self.migration, self.target.number)
        )

    def skipped(self, alias: str) -> str:
        """A condition: the row `alias` must not be written by a chunk."""
        return f"EXISTS (SELECT FROM {self.name} k WHERE {self.match('k', alias)} AND (k.cf_deleted OR k.cf_listed IS NOT NULL))"
