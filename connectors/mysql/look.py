"""A read-only look at a MySQL or MariaDB database: the session of the preflight checks, what it was granted, and the findings."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

import pymysql
from pymysql.cursors import DictCursor

from connectors.base import Address
from connectors.mysql.connection import connect, mapped, where
from connectors.mysql.ddl import quote
from pipeline.errors import CrossfadeError
from pipeline.model import Finding, Severity

_LOCAL = {None, "", "localhost", "127.0.0.1", "::1"}
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON (?:TABLE |FUNCTION |PROCEDURE )?(?P<object>\S.*?) TO ", re.IGNORECASE)
_NAME = r"(`(?:[^`]|``)*`|[^.`\s]+|\*)"
_OBJECT = re.compile(rf"{_NAME}\.{_NAME}")
_OLDEST = {"mariadb": (10, 5), "mysql": (8, 0)}
_SAME = {
    "BINLOG MONITOR": "REPLICATION CLIENT",
    "REPLICATION REPLICA": "REPLICATION SLAVE",
    "DELETE HISTORY": "DELETE VERSIONING ROWS",
    "CONNECTION_ADMIN": "CONNECTION ADMIN",
}


class Grants:
    """What `SHOW GRANTS` says, as a question: may this session do that there?"""

    def __init__(self, lines: Iterable[str]) -> None:
        self._held: list[tuple[str, str, frozenset[str]]] = []
        for line in lines:
            match = _GRANT.match(line)
            target = _OBJECT.fullmatch(match["object"]) if match else None
            if match is None or target is None:
                continue  # a role, or a proxy
            # rights on single columns do not let a table be copied: they are left out with their list
            words = re.sub(r"\w+ \([^)]*\)", "", match["what"].upper()).split(",")
            rights = frozenset(_SAME.get(word.strip(), word.strip()) for word in words)
            self._held.append((_plain(target[1]), _plain(target[2]), rights))

    def may(self, right: str, database: str = "*", table: str = "*") -> bool:
        """Whether the right is held globally, on the database, or on the table."""
        right = _SAME.get(right, right)
        for of_database, of_table, rights in self._held:
            if right not in rights and not rights & {"ALL", "ALL PRIVILEGES"}:
                continue
            covers = of_database == "*" or (database != "*" and (of_database == database or _like(of_database, database)))
            if covers and (of_table == "*" or (table != "*" and of_table == table)):
                return True
        return False


def _plain(name: str) -> str:
    return name[1:-1].replace("``", "`") if name.startswith("`") else name


def _like(pattern: str, name: str) -> bool:
    """Database names in grants are LIKE patterns."""
    parts = re.findall(r"\\.|%|_|[^\\%_]+", pattern)
    text = "".join(".*" if p == "%" else "." if p == "_" else re.escape(p[1:] if p.startswith("\\") else p) for p in parts)
    return re.fullmatch(text, name, re.DOTALL) is not None


class Look:
    """A read-only session and the findings so far."""

    def __init__(self, db: pymysql.connections.Connection[Any], side: str, object_: str) -> None:
        self._db = db
        self.side = side
        self.object = object_
        self.found: list[Finding] = []
        self.server = str(self.one("SELECT VERSION()"))
        self.flavour = "mariadb" if "mariadb" in self.server.lower() else "mysql"
        numbers = re.search(r"(\d+)\.(\d+)", self.server.removeprefix("5.5.5-"))
        self.version = (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)
        user, _, host = str(self.one("SELECT CURRENT_USER()")).rpartition("@")
        self.role = f"{quote(user)}@{quote(host)}"
        self.grants = Grants(self._grants())

    def _grants(self) -> list[str]:
        lines = [str(next(iter(row.values()))) for row in self.rows("SHOW GRANTS")]
        if self.flavour == "mysql":
            roles = self.one("SELECT CURRENT_ROLE()")
            if roles and roles != "NONE":
                lines += [str(next(iter(row.values()))) for row in self.rows(f"SHOW GRANTS FOR CURRENT_USER() USING {roles}")]
        return lines

    def rows(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        """All rows by name."""
        with self._db.cursor(DictCursor) as cursor:
            cursor.execute(query, arguments or None)
            return list(cursor.fetchall())

    def one(self, query: str, *arguments: object) -> Any:
        """The one value of a query, or None."""
        rows = self.rows(query, *arguments)
        return next(iter(rows[0].values())) if rows else None

    def setting(self, name: str) -> str:
        """A server variable in upper case; "" where this server has none of that name."""
        rows = self.rows("SHOW GLOBAL VARIABLES LIKE %s", name.replace("_", "\\_"))
        return str(rows[0]["Value"]).upper() if rows else ""

    def say(self, id_: str, severity: Severity, object_: str, message: str, fix: str = "") -> None:
        """One more finding."""
        self.found.append(Finding(id_, severity, object_, message, fix))

    def need(self, right: str, on: str, database: str = "*", table: str = "*", *, id_: str = "", why: str = "") -> None:
        """A finding when the right is not held. `on` is the object as the GRANT statement takes it."""
        if self.grants.may(right, database, table):
            return
        message = f"user {self.role} lacks {right}{f': {why}' if why else ''}"
        object_ = self.object if database == "*" else database if table == "*" else f"{database}.{table}"
        id_ = id_ or right.lower().replace(" ", "_")
        self.say(f"grant.{id_}", "error", object_, message, f"GRANT {right} ON {on} TO {self.role}")


def every(database: str) -> str:
    """All tables of a database as GRANT takes it: there the name is a LIKE pattern."""
    return quote(database.replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%")) + ".*"


def looked(address: Address, side: str, look: Callable[[Look], None]) -> list[Finding]:
    """Runs checks in a read-only transaction; a database that cannot be reached is the one finding. Raises CrossfadeError."""
    try:
        db = connect(address, autocommit=True)
    except CrossfadeError as error:
        return [Finding(f"connection.{side}", "error", where(address), str(error), f"check url, password and TLS of `{side}`")]
    try:
        with db:
            with db.cursor() as cursor:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")
                cursor.execute("START TRANSACTION READ ONLY")
            seen = Look(db, side, where(address))
            look(seen)
            db.rollback()
    except pymysql.MySQLError as error:
        raise mapped(error, f"a look at {where(address)}") from None
    return seen.found


def connection(seen: Look, address: Address) -> None:
    """Version and encryption, which both sides need."""
    oldest = _OLDEST[seen.flavour]
    if seen.version < oldest:
        message = f"{seen.server} is older than {seen.flavour} {oldest[0]}.{oldest[1]}"
        seen.say(f"version.{seen.side}", "error", seen.object, message, "upgrade it first")
    cipher = seen.rows("SHOW SESSION STATUS LIKE 'Ssl\\_cipher'")
    if not (cipher and cipher[0]["Value"]) and urlsplit(address.url).hostname not in _LOCAL:
        seen.say(f"tls.{seen.side}", "warning", seen.object, "the connection is not encrypted", f"set {seen.side}.tls.mode to verify-full")
