"""Reads a PostgreSQL database in bulk: key boundaries, ranges as COPY text, rows by key, in-band markers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import sql

from connectors.base import Address, Projection, Range
from connectors.postgres.connection import connect, mapped
from connectors.postgres.copyout import copy_out
from connectors.postgres.ddl import qualified, quote
from pipeline import copytext
from pipeline.model import Key, Table

MARKER_PREFIX = "crossfade"
_KEYS_AT_ONCE = 1000
# A walsender sends only what is flushed. With synchronous_commit = off that is up to three times wal_writer_delay (200 ms) later.
_MARKER = """
SELECT pg_catalog.pg_logical_emit_message(true, %s, %s),
  CASE WHEN pg_catalog.current_setting('synchronous_commit') = 'off' THEN pg_catalog.set_config('synchronous_commit', 'local', true) END
"""


class PostgresReader:
    """See `connectors.base.Reader`."""

    def __init__(self, address: Address, *, application: str = "crossfade read") -> None:
        self._address = address
        self._application = application
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def _db(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._address, autocommit=True, application_name=self._application)
        return self._connection

    def close(self) -> None:
        """Closes the session; the reader may be used again and then opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def boundaries(self, table: Table, key: Sequence[str], rows: int, after: Key | None = None) -> Iterator[Key]:
        # Qualified: a bare name in ORDER BY means the output column, which is text and has no index.
        names = ", ".join(f"t.{quote(c)}" for c in key)
        texts = ", ".join(f"t.{quote(c)}::text" for c in key)
        lower = after
        while True:
            where = "" if lower is None else f"WHERE ({names}) > ({self._bound(table, key, lower)})"
            query = f"SELECT {texts} FROM {qualified(table.id)} t {where} ORDER BY {names} LIMIT 1 OFFSET {rows - 1}"
            try:
                row = self._db.execute(query.encode()).fetchone()
            except psycopg.Error as error:
                raise mapped(error, f"chunk boundaries of table {table.id}") from None
            if row is None:
                return
            lower = tuple(row)
            yield lower

    def extent(self, table: Table, column: str) -> tuple[str, str] | None:
        name = quote(column)
        try:
            row = self._db.execute(
                f"SELECT pg_catalog.min({name})::text, pg_catalog.max({name})::text FROM {qualified(table.id)}".encode()
            ).fetchone()
        except psycopg.Error as error:
            raise mapped(error, f"the first and the last key of table {table.id}") from None
        return None if row is None or row[0] is None else (row[0], row[1])

    def copy(self, table: Table, key: Sequence[str], what: Projection, within: Range) -> Iterator[bytes]:
        names = ", ".join(quote(c) for c in key)
        conditions = [f"({what.where})"] if what.where else []
        if within.lower is not None:
            conditions.append(f"({names}) > ({self._bound(table, key, within.lower)})")
        if within.upper is not None:
            conditions.append(f"({names}) <= ({self._bound(table, key, within.upper)})")
        yield from self._copy_out(what, conditions, table)

    def by_keys(self, table: Table, key: Sequence[str], what: Projection, keys: Sequence[Key]) -> Iterator[bytes]:
        names = ", ".join(quote(c) for c in key)
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            wanted = ", ".join(f"({self._bound(table, key, k)})" for k in keys[start : start + _KEYS_AT_ONCE])
            conditions = [f"({names}) IN ({wanted})"] + ([f"({what.where})"] if what.where else [])
            yield from self._copy_out(what, conditions, table)

    def marker(self, token: str) -> None:
        try:
            self._db.execute(_MARKER, (MARKER_PREFIX, token))
        except psycopg.Error as error:
            self.close()
            raise mapped(error, "a marker on the source") from None

    def version(self) -> int:
        """The server's version as a number, such as 180001. Raises `Transient` when it cannot be reached."""
        return int(self._db.info.server_version)

    def position(self) -> str:
        try:
            row = self._db.execute("SELECT (pg_catalog.pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::text").fetchone()
        except psycopg.Error as error:
            raise mapped(error, "the source's position") from None
        assert row is not None
        return str(row[0])

    # -- pieces ----------------------------------------------------------------------------------------------------------------------

    def _bound(self, table: Table, key: Sequence[str], bound: Key) -> str:
        """A key as typed literals. COPY takes no parameters, so the driver's own literal quoting is used everywhere."""
        return ", ".join(
            f"{sql.Literal(value).as_string(self._db)}::{table.column(column).type.native or 'text'}"
            for column, value in zip(key, bound, strict=True)
        )

    def _copy_out(self, what: Projection, conditions: Sequence[str], table: Table) -> Iterator[bytes]:
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"COPY (SELECT {', '.join(what.expressions)} FROM {qualified(what.table)}{where}) TO STDOUT"
        try:
            yield from copytext.lines(copy_out(self._db, query))
        except psycopg.Error as error:
            raise mapped(error, f"table {table.id}") from None
