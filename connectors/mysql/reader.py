"""Reads a MySQL-family database in bulk: COPY text lines made by the server, ranges and keys compared in the columns' own order."""

from __future__ import annotations

import contextlib
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import pymysql
from pymysql.cursors import SSCursor

from connectors.base import Address, Projection, Range
from connectors.mysql import position
from connectors.mysql.connection import connect, mapped
from connectors.mysql.ddl import qualified, quote
from connectors.mysql.events import MARKER_TABLE
from connectors.mysql.rawrows import raw_rows
from connectors.mysql.types import canonical_sql
from pipeline.errors import CrossfadeError, DataRejected
from pipeline.model import Key, Kind, LogicalType, Table

_KEYS_AT_ONCE = 1000
_MARKER = f"INSERT INTO {MARKER_TABLE} (id, token) VALUES (1, %s) ON DUPLICATE KEY UPDATE token = VALUES(token)"
_PLAIN = frozenset(
    {Kind.BOOL, Kind.INT, Kind.DECIMAL, Kind.FLOAT, Kind.DATE, Kind.TIME, Kind.TIMESTAMP, Kind.TIMESTAMPTZ, Kind.UUID, Kind.BITS, Kind.YEAR}
)
"""Kinds whose canonical text never has a character that COPY text escapes."""
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


class MysqlReader:
    """See `connectors.base.Reader`."""

    def __init__(self, address: Address, *, application: str = "crossfade read") -> None:
        self._address = address
        self._application = application
        self._connection: Any = None

    @property
    def _db(self) -> Any:
        if self._connection is None or not self._connection.open:
            self._connection = connect(self._address, autocommit=True, application_name=self._application)
        return self._connection

    def close(self) -> None:
        """Closes the session; the reader may be used again and then opens a new one."""
        if self._connection is not None:
            with contextlib.suppress(pymysql.Error):
                self._connection.close()
            self._connection = None

    def boundaries(self, table: Table, key: Sequence[str], rows: int, after: Key | None = None) -> Iterator[Key]:
        names = ", ".join(quote(column) for column in key)
        texts = ", ".join(canonical_sql(quote(column), table.column(column).type) for column in key)
        lower = after
        while True:
            where = "" if lower is None else f"WHERE {self._compare(table, key, lower, '>')}"
            query = f"SELECT {texts} FROM {qualified(table.id)}{_index(table, key)} {where} ORDER BY {names} LIMIT 1 OFFSET {rows - 1}"
            try:
                with self._db.cursor() as cursor:
                    cursor.execute(query)
                    row = cursor.fetchone()
            except (pymysql.Error, OSError) as error:
                raise mapped(error, f"chunk boundaries of table {table.id}") from None
            if row is None:
                return
            found = tuple(str(value) for value in row)
            if found == lower:
                raise CrossfadeError(f"table {table.id}: chunk boundaries do not get past key {found}")
            yield (lower := found)

    def extent(self, table: Table, column: str) -> tuple[str, str] | None:
        name = quote(column)
        try:
            with self._db.cursor() as cursor:
                cursor.execute(f"SELECT MIN({name}), MAX({name}) FROM {qualified(table.id)}{_index(table, [column])}")
                row = cursor.fetchone()
        except (pymysql.Error, OSError) as error:
            raise mapped(error, f"the first and the last key of table {table.id}") from None
        return None if row is None or row[0] is None else (str(row[0]), str(row[1]))

    def copy(self, table: Table, key: Sequence[str], what: Projection, within: Range) -> Iterator[bytes]:
        conditions = [f"({what.where})"] if what.where else []
        if within.lower is not None:
            conditions.append(self._compare(table, key, within.lower, ">"))
        if within.upper is not None:
            conditions.append(self._compare(table, key, within.upper, "<="))
        yield from self._copy_out(table, what, conditions)

    def by_keys(self, table: Table, key: Sequence[str], what: Projection, keys: Sequence[Key]) -> Iterator[bytes]:
        for start in range(0, len(keys), _KEYS_AT_ONCE):
            part = keys[start : start + _KEYS_AT_ONCE]
            if len(key) == 1:
                kind = table.column(key[0]).type
                wanted = f"{quote(key[0])} IN ({', '.join(self._bound(kind, values[0]) for values in part)})"
            else:
                # a list of row values would not use the index on every server
                wanted = " OR ".join(
                    "("
                    + " AND ".join(f"{quote(c)} = {self._bound(table.column(c).type, v)}" for c, v in zip(key, values, strict=True))
                    + ")"
                    for values in part
                )
            yield from self._copy_out(table, what, [f"({wanted})"] + ([f"({what.where})"] if what.where else []))

    def marker(self, token: str) -> None:
        try:
            with self._db.cursor() as cursor:
                cursor.execute(_MARKER, (token,))
        except (pymysql.Error, OSError) as error:
            self.close()
            raise mapped(error, "a marker on the source") from None

    def position(self) -> str:
        try:
            return position.now(self._db)
        except (pymysql.Error, OSError) as error:
            raise mapped(error, "the source's position") from None

    # -- pieces ----------------------------------------------------------------------------------------------------------------------

    def _bound(self, kind: LogicalType, text: str) -> str:
        """A key value as a literal that the column's own type and collation compares with, and its index can be searched by."""
        match kind.kind:
            case Kind.INT | Kind.DECIMAL | Kind.YEAR:
                if not _NUMBER.fullmatch(text):
                    raise DataRejected(f"key value {text[:60]!r} is no number")
                return text
            case Kind.FLOAT:
                # single precision widened exactly, as the server does to compare
                return repr(struct.unpack("f", struct.pack("f", float(text)))[0] if kind.bits == 32 else float(text))
            case Kind.BYTES:
                return f"X'{bytes.fromhex(text.removeprefix(chr(92) + 'x')).hex()}'"
            case Kind.BITS:
                return str(int(text, 2))
            # ENUM and SET are ordered by number, and compared by text only when it is text that they are compared with
            case Kind.ENUM:
                return str(kind.labels.index(text) + 1 if text in kind.labels else 0)
            case Kind.SET:
                return str(sum(1 << kind.labels.index(label) for label in text.split(",") if label in kind.labels))
            case Kind.TIMESTAMPTZ:
                return str(self._db.escape(text.removesuffix("+00")))
        return str(self._db.escape(text))

    def _compare(self, table: Table, key: Sequence[str], bound: Key, operator: str) -> str:
        """`(k1, k2) > (…)` or `<=`, spelled out so that an index on the key is used."""
        pairs = [(quote(column), self._bound(table.column(column).type, value)) for column, value in zip(key, bound, strict=True)]
        strict = operator[0]
        column, value = pairs[-1]
        condition = f"{column} {operator} {value}"
        for column, value in reversed(pairs[:-1]):
            condition = f"({column} {strict}= {value} AND ({column} {strict} {value} OR {condition}))"
        return condition

    def _copy_out(self, table: Table, what: Projection, conditions: Sequence[str]) -> Iterator[bytes]:
        kinds = {canonical_sql(quote(c.name), c.type): c.type.kind for c in table.columns}
        fields = ", ".join(_field(expression, kinds.get(expression)) for expression in what.expressions)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT CONCAT_WS('\\t', {fields}) FROM {qualified(what.table)}{where}"
        connection = self._db
        cursor: Any = SSCursor(connection)
        finished = False
        try:
            cursor.execute(query)
            warnings = yield from raw_rows(connection, cursor)
            finished = True
            if warnings:
                self._check(table)
        except (pymysql.Error, OSError) as error:
            raise mapped(error, f"table {table.id}") from None
        finally:
            if not finished:
                # The rest of the rows is on its way: this session is of no more use, and reading on to the end none either.
                if cursor._result is not None:
                    cursor._result.unbuffered_active = False
                connection._force_close()

    def _check(self, table: Table) -> None:
        """A text too long for the server comes as NULL with a warning: that is not to go unnoticed."""
        with self._db.cursor() as cursor:
            cursor.execute("SHOW WARNINGS")
            for _, code, text in cursor.fetchall():
                if int(code) == 1301:
                    raise CrossfadeError(f"table {table.id}: {text}", hint="raise max_allowed_packet on the source: a row's text is longer")


def _field(expression: str, kind: Kind | None) -> str:
    """One field of COPY text. `kind` when the expression is a column's own canonical text."""
    if kind in _PLAIN:
        return f"IFNULL({expression}, '\\\\N')"
    if kind is Kind.BYTES:  # the one backslash that there is stands first
        return f"IFNULL(CONCAT('\\\\', {expression}), '\\\\N')"
    text = expression
    for character, letter in (("\\\\", "\\\\\\\\"), ("\\t", "\\\\t"), ("\\n", "\\\\n"), ("\\r", "\\\\r")):
        text = f"REPLACE({text}, '{character}', '{letter}')"
    return f"IFNULL({text}, '\\\\N')"


def _index(table: Table, key: Sequence[str]) -> str:
    """A hint to walk the key's own index: with OFFSET the optimiser is tempted by others."""
    if tuple(key) == table.primary_key:
        return " FORCE INDEX (PRIMARY)"
    name = next((index.name for index in table.indexes if index.unique and index.columns == tuple(key)), None)
    return f" FORCE INDEX ({quote(name)})" if name else ""
