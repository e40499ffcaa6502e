"""Keeps an application's accounts from writing to a MariaDB or MySQL server: the accounts are locked, their sessions of now ended.

Accounts are of the whole server: the application loses its other databases there for the time of the crossing too. What the account that
does it needs: `crossrights.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import pymysql

from connectors.base import Address
from connectors.mysql.connection import connect, mapped
from pipeline.errors import BadInput, CrossfadeError, TimedOut

_FAILS, _FAILED = (
    "SET @late = (SELECT 1 UNION SELECT 2)",
    1242,
)  # an error that no other statement of ours can have; SIGNAL cannot be prepared before 10.6
_LOOK_AGAIN = 0.005  # the server tells nobody that a killed session is gone


class Fence:
    """The fence of one server for some accounts."""

    def __init__(self, address: Address, roles: Sequence[str]) -> None:
        self._address, self._roles = address, tuple(roles)

    def close(self) -> None:
        """Nothing is held."""

    def plan(self, raised: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What raising the fence changes: which accounts of these names (`app` or `app@10.%`) are not locked now, or were not when it was
        raised. Raises BadInput."""
        accounts: dict[str, bool] = {}
        with _Session(self._address) as cursor:
            for role in self._roles:
                name, _, host = role.partition("@")
                cursor.execute(
                    "SELECT User, Host FROM mysql.user WHERE User = %s" + (" AND Host = %s" if host else ""),
                    (name, host) if host else (name,),
                )
                found = cursor.fetchall()
                if not found:
                    raise BadInput(f"cutover.fence.roles: there is no account {role} on {self._address.url}")
                for user, at in found:
                    cursor.execute(f"SHOW CREATE USER {_account(user, at)}")
                    accounts[_account(user, at)] = "ACCOUNT LOCK" in str(cursor.fetchone()[0]).upper()
        users = {role.partition("@")[0] for role in self._roles}
        if raised is not None:
            accounts |= raised["before"]
            users.update(raised["users"])
        return {"product": "mysql", "before": accounts, "users": sorted(users)}

    def raise_(self, record: Mapping[str, Any], deadline: float) -> None:
        """When it returns, no session of these accounts is left, and whatever was open in one is rolled back. Raises `TimedOut`."""
        with _Session(self._address) as cursor:
            act = _InTime(cursor, deadline)
            for account in record["before"]:
                act(f"ALTER USER {account} ACCOUNT LOCK")
            while True:
                slots = ", ".join(["%s"] * len(record["users"]))
                cursor.execute(
                    f"SELECT id FROM information_schema.processlist WHERE user IN ({slots}) AND id <> connection_id()",
                    tuple(record["users"]),
                )
                sessions = [int(row[0]) for row in cursor.fetchall()]
                if not sessions:
                    if (prepared := _prepared(cursor)) is not None:
                        raise CrossfadeError(f"transaction {prepared} is prepared: XA COMMIT or XA ROLLBACK it")
                    return
                if time.monotonic() > deadline:
                    raise TimedOut(f"sessions of {', '.join(record['users'])} do not end (id {sessions[0]})")
                for session in sessions:
                    try:
                        act(f"KILL CONNECTION {session}")
                    except pymysql.MySQLError as error:
                        if error.args[0] != 1094:  # it has gone by itself
                            raise
                time.sleep(_LOOK_AGAIN)

    def lower(self, record: Mapping[str, Any], deadline: float, *, again: bool = False) -> None:
        """Unlocks the accounts that were not locked before; no session is ended, so it can be done any number of times. Raises `TimedOut`
        at the deadline (monotonic seconds)."""
        with _Session(self._address) as cursor:
            act = _InTime(cursor, deadline)
            for account, locked in record["before"].items():
                if not locked:
                    act(f"ALTER USER {account} ACCOUNT UNLOCK")


def writers(address: Address, older: float) -> list[str]:
    """Transactions open for longer than so many seconds, as "app id 47, 12 s", and one that is prepared."""
    with _Session(address) as cursor:
        cursor.execute(
            "SELECT p.user, p.id, TIMESTAMPDIFF(SECOND, t.trx_started, NOW()) FROM information_schema.innodb_trx t "
            "JOIN information_schema.processlist p ON p.id = t.trx_mysql_thread_id "
            "WHERE t.trx_started < NOW() - INTERVAL %s SECOND AND p.id <> connection_id()",
            (older,),
        )
        open_ = [f"{user} id {session}, {age} s" for user, session, age in cursor.fetchall()]
        prepared = _prepared(cursor)
        return open_ if prepared is None else [*open_, f"prepared as {prepared}"]


def read_only(address: Address) -> str | None:
    """Why this server takes no writes; None when it does."""
    with _Session(address) as cursor:
        cursor.execute("SELECT @@global.read_only")
        return "read_only is on" if int(cursor.fetchone()[0]) else None


def _prepared(cursor: Any) -> str | None:
    """A prepared XA transaction, which is no session's any more. Accounts that may not ask (MySQL 8: XA_RECOVER_ADMIN) see none."""
    try:
        cursor.execute("XA RECOVER")
    except pymysql.MySQLError:
        return None
    row = cursor.fetchone()
    return None if row is None else repr(row[3])


def _account(user: str, host: str) -> str:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"

    return f"{quoted(user)}@{quoted(host)}"


class _InTime:
    """Statements that the server itself leaves out when they come after a deadline (monotonic seconds): whoever was frozen on the way comes
    too late to do harm. Only MariaDB can look at the clock in the same statement; for MySQL it is looked at just before."""

    def __init__(self, cursor: Any, deadline: float) -> None:
        self._cursor, self._deadline = cursor, deadline
        cursor.execute("SELECT version(), sysdate(6)")
        version, now = cursor.fetchone()
        self._atomic = "mariadb" in str(version).lower()
        self._limit = now + timedelta(seconds=deadline - time.monotonic())

    def __call__(self, statement: str) -> None:
        if not self._atomic and time.monotonic() > self._deadline:
            raise TimedOut("the fence: it came too late and was not touched")
        if self._atomic:
            quoted = statement.replace("\\", "\\\\").replace("'", "''")
            statement = f"EXECUTE IMMEDIATE IF(sysdate(6) < '{self._limit:%Y-%m-%d %H:%M:%S.%f}', '{quoted}', '{_FAILS}')"
        try:
            self._cursor.execute(statement)
        except pymysql.MySQLError as error:
            if error.args[0] == _FAILED:
                raise TimedOut("the fence: it came too late and was not touched") from None
            raise


class _Session:
    """A session for a moment; the driver's errors come out in crossfade's terms."""

    def __init__(self, address: Address) -> None:
        self._connection = connect(address, autocommit=True)

    def __enter__(self) -> Any:
        return self._connection.cursor()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._connection.close()
        if isinstance(error, pymysql.MySQLError):
            raise mapped(error, "the fence") from None
