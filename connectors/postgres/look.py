"""A read-only look at a PostgreSQL database: the session of the preflight checks, and the findings it collects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg.rows import dict_row

from connectors.base import Address
from connectors.postgres.connection import connect, mapped, where
from pipeline.errors import CrossfadeError
from pipeline.model import Finding, Severity

_OLDEST = 120000
_LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}


class Look:
    """A read-only session and the findings so far."""

    def __init__(self, db: psycopg.Connection[Any], side: str, object_: str) -> None:
        self.db = db
        self.side = side
        self.object = object_
        self.found: list[Finding] = []
        self.role = str(self.one("SELECT current_user"))
        self.version = int(self.one("SELECT current_setting('server_version_num')::int"))
        self.superuser = bool(self.one("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"))

    def one(self, query: str, *arguments: object) -> Any:
        """The one value of a query, or None."""
        row = self.db.execute(query.encode(), arguments or None).fetchone()
        return None if row is None else row[0]

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """All rows by name."""
        with self.db.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query.encode(), arguments or None).fetchall()

    def setting(self, name: str) -> str:
        """A server setting; "" where this version has none of that name."""
        return str(self.one("SELECT current_setting(%s, true)", name) or "")

    def say(self, id_: str, severity: Severity, object_: str, message: str, fix: str = "") -> None:
        """One more finding."""
        self.found.append(Finding(id_, severity, object_, message, fix))

    def grant(self, id_: str, object_: str, message: str, fix: str) -> None:
        """A right that the role lacks."""
        self.say(f"grant.{id_}", "error", object_, f"role {self.role} {message}", fix)


def looked(address: Address, side: str, look: Callable[[Look], None]) -> list[Finding]:
    """Runs checks in a read-only transaction; a database that cannot be reached is the one finding. Raises CrossfadeError."""
    try:
        db = connect(address, application_name="crossfade plan")
    except CrossfadeError as error:
        return [Finding(f"connection.{side}", "error", where(address), str(error), f"check url, password and TLS of `{side}`")]
    try:
        with db:
            db.read_only = True
            seen = Look(db, side, where(address))
            look(seen)
            db.rollback()
    except psycopg.Error as error:
        raise mapped(error, f"a look at {where(address)}") from None
    return seen.found


def connection(seen: Look, address: Address) -> None:
    if seen.version < _OLDEST:
        seen.say(
            f"version.{seen.side}",
            "error",
            seen.object,
            f"PostgreSQL {seen.setting('server_version')} is older than 12",
            "upgrade it first",
        )
    encrypted = seen.one("SELECT ssl FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid()")
    if not encrypted and urlsplit(address.url).hostname not in _LOCAL:
        seen.say(f"tls.{seen.side}", "warning", seen.object, "the connection is not encrypted", f"set {seen.side}.tls.mode to verify-full")
