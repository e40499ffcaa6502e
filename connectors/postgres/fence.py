"""Keeps an application's roles from writing to one database: read-only by role for every session to come, and the sessions of now ended.

Works for owners of tables too, is undone by one statement a role, and needs no lock on any table. A client could switch its session back
to read-write by hand; drivers and ORMs do not. The role that does it must be a superuser, or have ADMIN OPTION on those roles and
membership in pg_signal_backend.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg

from connectors.base import Address
from connectors.postgres.connection import connect, mapped
from connectors.postgres.names import quote
from pipeline.errors import BadInput, TimedOut

_SETTING = "default_transaction_read_only"


def plan(address: Address, roles: Sequence[str]) -> dict[str, Any]:
    """What raising the fence changes: each role's own setting as it is now. Raises BadInput for a role that is not there."""
    with _session(address) as db:
        try:
            database = db.execute("SELECT current_database()").fetchone()
            assert database is not None
            before: dict[str, str | None] = {}
            for role in roles:
                row = db.execute(
                    "SELECT (SELECT split_part(c, '=', 2) FROM unnest(s.setconfig) c WHERE c LIKE %s) FROM pg_catalog.pg_roles r "
                    "LEFT JOIN pg_catalog.pg_db_role_setting s ON s.setrole = r.oid "
                    "AND s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database()) WHERE r.rolname = %s",
                    (_SETTING + "=%", role),
                ).fetchone()
                if row is None:
                    raise BadInput(f"cutover.fence.roles: there is no role {role} on {address.url}")
                before[role] = row[0]
            return {"product": "postgresql", "database": database[0], "before": before}
        except psycopg.Error as error:
            raise mapped(error, "the fence") from None


def raise_(address: Address, record: Mapping[str, Any], deadline: float) -> None:
    """When it returns, no session of these roles that may write is left, and whatever was open in one is rolled back.
    Raises `TimedOut` at the deadline (monotonic seconds)."""
    with _session(address) as db:
        try:
            for role in record["before"]:
                db.execute(f"ALTER ROLE {quote(role)} IN DATABASE {quote(record['database'])} SET {_SETTING} = on".encode())
            row = db.execute("SELECT pg_catalog.clock_timestamp()").fetchone()
            assert row is not None
            quiet = 0
            while quiet < 2:  # a session that was just being opened shows up in the second look
                left = max(1, int((deadline - time.monotonic()) * 1000))
                # Waits for each of them to be gone.
                ended = db.execute(
                    "SELECT pid, pg_catalog.pg_terminate_backend(pid, %s) FROM pg_catalog.pg_stat_activity "
                    "WHERE datname = current_database() AND usename = ANY (%s) AND pid <> pg_catalog.pg_backend_pid() "
                    "AND backend_start <= %s",
                    (left, list(record["before"]), row[0]),
                ).fetchall()
                quiet = 0 if ended else quiet + 1
                if ended and time.monotonic() > deadline:
                    raise TimedOut(f"sessions of {', '.join(record['before'])} do not end (pid {ended[0][0]})")
        except psycopg.Error as error:
            raise mapped(error, "the fence") from None


def lower(address: Address, record: Mapping[str, Any]) -> None:
    """Gives the roles back what they had. Sessions opened meanwhile stay read-only and are ended, so that poolers open new ones."""
    with _session(address) as db:
        try:
            for role, before in record["before"].items():
                at = f"ALTER ROLE {quote(role)} IN DATABASE {quote(record['database'])}"
                db.execute(f"{at} RESET {_SETTING}".encode() if before is None else f"{at} SET {_SETTING} = {quote(before)}".encode())
            db.execute(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity "
                "WHERE datname = current_database() AND usename = ANY (%s) AND pid <> pg_catalog.pg_backend_pid()",
                (list(record["before"]),),
            )
        except psycopg.Error as error:
            raise mapped(error, "the fence") from None


def writers(address: Address, older: float) -> list[str]:
    """Transactions open for longer than so many seconds, as "role pid 4711 (application), 12 s"; crossfade's own left out."""
    with _session(address) as db:
        try:
            rows = db.execute(
                "SELECT coalesce(usename, '?'), pid, application_name, extract(epoch FROM clock_timestamp() - xact_start)::int "
                "FROM pg_catalog.pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' "
                "AND xact_start < clock_timestamp() - make_interval(secs => %s) AND application_name NOT LIKE 'crossfade%%' "
                "ORDER BY xact_start",
                (older,),
            ).fetchall()
        except psycopg.Error as error:
            raise mapped(error, "long transactions") from None
    return [f"{role} pid {pid} ({application or 'no name'}), {age} s" for role, pid, application, age in rows]


def _session(address: Address) -> psycopg.Connection[Any]:
    return connect(address, autocommit=True, application_name="crossfade fence")
