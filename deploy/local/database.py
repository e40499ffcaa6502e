"""One application-side connection to PostgreSQL or MariaDB: the demo's data, load and ledger speak to both through it.

An application has its own driver code, so this is deliberately not crossfade's: what the ledger finds must not depend on what it checks.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import json
import types
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, Self, TypeAlias

import psycopg
import pymysql
import sqlalchemy as sa
from psycopg.types.string import TextLoader

from connectors.base import Address
from deploy.local.meter import Meter
from pipeline.errors import BadInput

Dialect: TypeAlias = Literal["postgresql", "mariadb"]
Plain: TypeAlias = str | None
"""A value in the one form that both drivers' answers are brought to before they are compared."""
Record: TypeAlias = dict[str, Plain]

_LOST_MYSQL = frozenset({0, 1053, 1077, 1080, 1152, 1158, 1159, 1160, 1161, 1927, 2002, 2003, 2006, 2013, 2014, 2055, 4031})
_PASSING_MYSQL = frozenset({1020, 1205, 1213, 1412})
_DUPLICATE_MYSQL = frozenset({1062, 1169, 1586})
_REFUSED_MYSQL = frozenset({1290, 1792, 3118, 4151})  # read-only server or transaction, locked account


def dialect_of(address: Address) -> Dialect:
    """Which of the two the URL names. Raises BadInput."""
    scheme = sa.make_url(address.url).get_backend_name()
    if scheme in ("postgresql", "postgres"):
        return "postgresql"
    if scheme in ("mariadb", "mysql"):
        return "mariadb"
    raise BadInput(f"url scheme {scheme!r} is neither postgresql nor mariadb")


def plain(value: object) -> Plain:
    """A driver's value as text that is the same for equal values of either product."""
    match value:
        case None | str():
            return value
        case bool():
            return "t" if value else "f"
        case int():
            return str(value)
        case decimal.Decimal():
            return format(value, "f")
        case datetime.datetime():
            utc = value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)
            return utc.isoformat(sep=" ", timespec="microseconds")
        case datetime.timedelta():
            seconds, sign = (int(value.total_seconds()), "") if value >= datetime.timedelta() else (-int(value.total_seconds()), "-")
            return f"{sign}{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        case uuid.UUID():
            return str(value)
        case dict() | list():
            return json.dumps(value, sort_keys=True)
        case bytes():
            return "\\x" + value.hex()
        case _:
            return str(value)


def same(one: Plain, other: Plain) -> bool:
    """Equal, or JSON documents that say the same: PostgreSQL normalises the text of jsonb, MariaDB keeps it as written."""
    if one == other:
        return True
    if one is None or other is None or one[:1] not in ("{", "[") or other[:1] not in ("{", "["):
        return False
    try:
        return bool(json.loads(one) == json.loads(other))
    except ValueError:
        return False


class _Cursor(Protocol):
    """What both drivers' cursors have in common."""

    description: Any
    rowcount: int

    def execute(self, query: Any, params: Any = None) -> Any: ...
    def fetchall(self) -> Any: ...
    def close(self) -> None: ...


@dataclasses.dataclass(slots=True)
class Database:
    """One open connection; a transaction begins with the first statement. Belongs to one thread."""

    dialect: Dialect
    raw: Any  # psycopg.Connection or pymysql.Connection
    meter: Meter | None = None  # what every statement is timed by

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self.close()

    def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Runs one statement; answers how many rows it touched."""
        cursor: _Cursor = self.raw.cursor()
        try:
            self._timed(lambda: cursor.execute(sql, params or None))
            return cursor.rowcount
        finally:
            cursor.close()

    def records(self, sql: str, params: Sequence[object] = ()) -> list[Record]:
        """Runs one query; rows as {column: plain value}."""
        cursor: _Cursor = self.raw.cursor()
        try:
            self._timed(lambda: cursor.execute(sql, params or None))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, map(plain, row), strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()

    def value(self, sql: str, params: Sequence[object] = ()) -> Plain:
        """The first column of the first row, None without one."""
        for record in self.records(sql, params):
            return next(iter(record.values()))
        return None

    def script(self, text: str) -> None:
        """Runs a script of statements that end in `;` at the end of a line, in one transaction where the product can."""
        for statement in text.split(";\n"):
            if sql := "\n".join(line for line in statement.splitlines() if not line.startswith("--")).strip():
                self.execute(sql)
        self.commit()

    def fill(self, table: str, columns: Sequence[str], lines: Iterable[bytes], scratch: Path) -> None:
        """Loads COPY text into a table, not committed. MariaDB takes it from a file, written to `scratch` and removed."""
        names = ", ".join(columns)
        if self.dialect == "postgresql":
            cursor = self.raw.cursor()
            with cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for block in lines:
                    copy.write(block)
            return
        path = scratch / f"{table}.tsv"
        with path.open("wb") as file:
            file.writelines(lines)
        try:
            self.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE {table} CHARACTER SET utf8mb4 ({names})")
        finally:
            path.unlink()

    def commit(self) -> None:
        self._timed(self.raw.commit)

    def rollback(self) -> None:
        self._timed(self.raw.rollback)

    def _timed(self, act: Callable[[], Any]) -> None:
        if self.meter is None:
            act()
        else:
            self.meter.time(act)

    def close(self) -> None:
        """Closes without complaint: a connection that is already gone is closed."""
        try:
            self.raw.close()
        except (psycopg.Error, pymysql.Error, OSError):
            return


def connect(address: Address, *, infile: bool = False, timeout: int = 10, meter: Meter | None = None) -> Database:
    """Opens a connection: UTC, READ COMMITTED, transactions by hand. `infile` lets `fill` send files to MariaDB."""
    url = sa.make_url(address.url)
    if dialect_of(address) == "postgresql":
        connection = psycopg.connect(
            host=url.host,
            port=url.port,
            user=url.username,
            password=address.password,
            dbname=url.database,
            connect_timeout=timeout,
            prepare_threshold=None,  # a transaction pooler may stand in between
            application_name="flight-desk",
        )
        connection.adapters.register_loader("time", TextLoader)  # 24:00:00 is a time to PostgreSQL, not to Python
        connection.execute("SET TIME ZONE 'UTC'")
        connection.commit()
        return Database("postgresql", connection, meter)
    mariadb = pymysql.connect(
        host=url.host or "127.0.0.1",
        port=url.port or 3306,
        user=url.username,
        password=address.password or "",
        database=url.database,
        charset="utf8mb4",
        connect_timeout=timeout,
        read_timeout=120,
        local_infile=infile,
        autocommit=False,
        init_command="SET time_zone = '+00:00'",
    )
    with mariadb.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    return Database("mariadb", mariadb, meter)


def is_lost(error: BaseException) -> bool:
    """The connection is gone (or could not be made): what was not committed is not."""
    if isinstance(error, pymysql.Error):
        return isinstance(error, pymysql.InterfaceError) or (bool(error.args) and error.args[0] in _LOST_MYSQL)
    if isinstance(error, psycopg.Error):
        state = error.sqlstate or ""
        return (state == "" and isinstance(error, (psycopg.OperationalError, psycopg.InterfaceError))) or state[:2] in ("08", "57")
    return isinstance(error, OSError)


def is_refused(error: BaseException) -> bool:
    """This side does not take the application's writes: read-only, or its account is locked."""
    if isinstance(error, pymysql.Error):
        return bool(error.args) and error.args[0] in _REFUSED_MYSQL
    return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)


def is_passing(error: BaseException) -> bool:
    """Deadlock, lock timeout, serialization: the server undid the transaction, another try is fine."""
    if isinstance(error, pymysql.Error):
        return bool(error.args) and error.args[0] in _PASSING_MYSQL
    return isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] in ("40", "55")


def is_duplicate(error: BaseException) -> bool:
    """A unique key is taken."""
    if isinstance(error, pymysql.Error):
        return bool(error.args) and error.args[0] in _DUPLICATE_MYSQL
    return isinstance(error, psycopg.errors.UniqueViolation)
