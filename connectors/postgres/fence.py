"""Keeps an application's roles from writing to one database: read-only by role for every session to come, and the sessions of now ended.

Works for owners of tables too, is undone by one statement a role, and needs no lock on any table. A client could switch its session back
to read-write by hand; drivers and ORMs do not. What the role that does it needs: `crossrights.py`.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from connectors.base import Address
from connectors.postgres.connection import connect, mapped
from connectors.postgres.names import literal, quote
from pipeline.errors import BadInput, CrossfadeError, TimedOut

_SETTING = "default_transaction_read_only"
_END = (
    "SELECT pid, CASE WHEN pg_catalog.clock_timestamp() < %s THEN pg_catalog.pg_terminate_backend(pid) END "
    "FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND usename = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()"
)
# A session that is being opened has read its role's settings long before it is seen in pg_stat_activity; all that time, and until after it
# is seen there, it holds this lock on the database.
_STARTING = (
    "SELECT pid FROM pg_catalog.pg_locks WHERE locktype = 'object' AND classid = 'pg_catalog.pg_database'::regclass "
    "AND objid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) AND mode = 'RowExclusiveLock' AND granted "
    "AND pid <> pg_catalog.pg_backend_pid()"
)
_OWN = (
    "SELECT (SELECT split_part(c, '=', 2) FROM unnest(s.setconfig) c WHERE c LIKE %s) FROM pg_catalog.pg_roles r "
    "LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid "
    "AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) WHERE r.rolname = %s"
)
_LATE = "57CF1"  # of our own: raised where a statement comes after its deadline
_PREPARED = "SELECT gid, owner FROM pg_catalog.pg_prepared_xacts WHERE database = current_database() ORDER BY prepared"
_LOOK_AGAIN = 0.001  # told to end they are gone in no time; the server's own wait looks every 100 ms only


class Fence:
    """The fence of one database for some roles. Holds a session, since opening one takes longer than raising the fence."""

    def __init__(self, address: Address, roles: Sequence[str]) -> None:
        self._address, self._roles = address, tuple(roles)
        self._connection: psycopg.Connection[Any] | None = None
        self._zero: datetime | None = None  # the server's clock when the monotonic one stood at 0; rather too early than too late

    @property
    def _db(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = _session(self._address)
            row = self._connection.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
            assert row is not None
            self._zero = row[0] - timedelta(seconds=time.monotonic())
        return self._connection

    def close(self) -> None:
        """Closes the session; the next act opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def plan(self, raised: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What raising it changes: each role's own setting as it is now, or was when it was raised. Raises BadInput for a role that is not
        there."""
        try:
            database = self._db.execute("SELECT current_database()").fetchone()
            assert database is not None
            before: dict[str, str | None] = {}
            for role in self._roles:
                before[role] = self._setting(role)
            return {"product": "postgresql", "database": database[0], "before": before | (raised["before"] if raised else {})}
        except psycopg.Error as error:
            raise mapped(error, "the fence") from None

    def raise_(self, record: Mapping[str, Any], deadline: float) -> None:
        """When it returns, no session of these roles that may write is left, and whatever was open in one is rolled back. Raises `TimedOut`
        at the deadline (monotonic seconds), CrossfadeError for a prepared transaction."""
        roles = list(record["before"])
        try:
            limit = self._limit(deadline)
            for role in roles:
                self._set(role, record["database"], "on", limit)
            starting = {pid for (pid,) in self._db.execute(_STARTING).fetchall()}
            row = self._db.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
            assert row is not None
            while True:
                # In this order: one that is through with its start is seen by the second look.
                starting &= {pid for (pid,) in self._db.execute(_STARTING).fetchall()} if starting else set()
                # Not to know when a session began is to have no right to see it: then to end it is refused, and said.
                since = " AND (backend_start IS NULL OR backend_start <= %s)"
                left = self._db.execute(_END + since, (limit, roles, row[0])).fetchall()
                if not left and not starting:
                    break
                if time.monotonic() > deadline:
                    raise TimedOut(f"sessions of {', '.join(roles)} do not end (pid {left[0][0] if left else min(starting)})")
                time.sleep(_LOOK_AGAIN)
            prepared = self._db.execute(_PREPARED).fetchone()
            if prepared is not None:
                # It is no session's any more: a read-only one may commit it too.
                raise CrossfadeError(f"transaction {prepared[0]!r} of {prepared[1]} is prepared: COMMIT PREPARED or ROLLBACK PREPARED it")
        except psycopg.Error as error:
            raise _mapped(error) from None

    def lower(self, record: Mapping[str, Any], deadline: float, *, again: bool = False) -> None:
        """Gives the roles back what they had. Sessions opened meanwhile are read-only and are ended, so that poolers open new ones.

        `again`: that was done before, and those who have come since are not to be ended: nothing is done unless it was raised since.
        Raises `TimedOut` at the deadline (monotonic seconds).
        """
        try:
            if again and all(self._setting(role) == before for role, before in record["before"].items()):
                return
            limit = self._limit(deadline)
            for role, before in record["before"].items():
                self._set(role, record["database"], before, limit)
            self._db.execute(_END, (limit, list(record["before"])))
        except psycopg.Error as error:
            raise _mapped(error) from None

    def _setting(self, role: str) -> str | None:
        """What the role has of its own in this database."""
        row = self._db.execute(_OWN, (_SETTING + "=%", role)).fetchone()
        if row is None:
            raise BadInput(f"cutover.fence.roles: there is no role {role} on {self._address.url}")
        return None if row[0] is None else str(row[0])

    def _set(self, role: str, database: str, value: str | None, limit: datetime) -> None:
        """In one statement with a look at the server's clock: one that was frozen on its way here does not change it."""
        what = f"RESET {_SETTING}" if value is None else f"SET {_SETTING} = {quote(value)}"
        body = (
            f"BEGIN IF pg_catalog.clock_timestamp() >= {literal(limit.isoformat())}::timestamptz "
            f"THEN RAISE EXCEPTION 'too late' USING ERRCODE = '{_LATE}'; END IF; "
            f"ALTER ROLE {quote(role)} IN DATABASE {quote(database)} {what}; END"
        )
        self._db.execute(f"DO {literal(body)}".encode())

    def _limit(self, deadline: float) -> datetime:
        """A moment of ours (monotonic seconds) by the server's clock, at the latest."""
        _ = self._db
        assert self._zero is not None
        return self._zero + timedelta(seconds=deadline)


def _mapped(error: psycopg.Error) -> CrossfadeError:
    return TimedOut("the fence: it came too late and was not touched") if error.sqlstate == _LATE else mapped(error, "the fence")


def writers(address: Address, older: float) -> list[str]:
    """Transactions open for longer than so many seconds, as "role pid 4711 (application), 12 s", and all that are prepared; crossfade's own
    left out."""
    with _session(address) as db:
        try:
            rows = db.execute(
                "SELECT coalesce(usename, '?'), pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int "
                "FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
                "AND xact_start < clock_timestamp() - make_interval(secs => %s) AND application_name NOT LIKE 'crossfade%%' "
                "ORDER BY xact_start",
                (older,),
            ).fetchall()
            prepared = db.execute(_PREPARED).fetchall()
        except psycopg.Error as error:
            raise mapped(error, "long transactions") from None
    open_ = [f"{role} pid {pid} ({application or 'no name'}), {age} s" for role, pid, application, age in rows]
    return open_ + [f"{owner}, prepared as {gid!r}" for gid, owner in prepared]


def read_only(address: Address) -> str | None:
    """Why this server takes no writes; None when it does."""
    with _session(address) as db:
        row = db.execute("SELECT pg_catalog.pg_is_in_recovery(), current_setting('default_transaction_read_only')").fetchone()
    assert row is not None
    return "it is a standby" if row[0] else "default_transaction_read_only is on" if row[1] == "on" else None


def _session(address: Address) -> psycopg.Connection[Any]:
    return connect(address, autocommit=True, application_name="crossfade fence")
