"""PostgreSQL sessions whose text is canonical, and the driver's errors in crossfade's terms."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import conninfo, sql

from connectors.base import Address
from pipeline.errors import BadInput, CommitUnknown, CrossfadeError, DataRejected, Transient

# What the text form of a value depends on. The search path stays the role's own: operators of extension types (citext, hstore, PostGIS)
# live in schemas of their own, and triggers and functions of the application expect theirs. All our names are qualified.
SESSION = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "standard_conforming_strings": "on",
    "xmloption": "content",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "row_security": "off",  # a policy that would hide rows is an error, not a silent loss
}
_DEFAULTS = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
}
_SET = sql.SQL("SELECT {}").format(
    sql.SQL(", ").join(sql.SQL("pg_catalog.set_config({}, {}, false)").format(sql.Literal(k), sql.Literal(v)) for k, v in SESSION.items())
)


def parameters(address: Address) -> dict[str, Any]:
    """libpq's parameters for an address, password included: never to be logged."""
    parts = urlsplit(address.url)
    try:
        given = conninfo.conninfo_to_dict(parts._replace(scheme="postgresql").geturl())
    except psycopg.Error:
        raise BadInput("the PostgreSQL URL cannot be read", hint="postgresql://user@host:port/database?sslmode=…") from None
    found: dict[str, Any] = {**_DEFAULTS, **{k: v for k, v in given.items() if v is not None}, **address.options}
    if address.password is not None:
        found["password"] = address.password
    return found


def connect(
    address: Address, *, autocommit: bool = False, application_name: str = "crossfade", replication: bool = False
) -> psycopg.Connection[Any]:
    """A session with `SESSION` set. Raises Transient when the server cannot be reached now, CrossfadeError when it refuses.

    Settings are sent after the start-up packet, not in it, since poolers refuse start-up options. Statements are never prepared on
    the server by themselves, for the same reason and because tables change under us.
    """
    given = parameters(address)
    given.setdefault("application_name", application_name)
    if replication:
        given["replication"] = "database"
    try:
        connection: psycopg.Connection[Any] = psycopg.connect(**given, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise mapped(error, f"cannot connect to {where(address)}", connecting=True) from None
    try:
        connection.execute(_SET)
        connection.autocommit = autocommit
    except psycopg.Error as error:
        connection.close()
        raise mapped(error, f"session settings on {where(address)}") from None
    return connection


def where(address: Address) -> str:
    """host:port/database, for messages."""
    parts = urlsplit(address.url)
    return f"{(parts.netloc.rpartition('@')[2]) or 'localhost'}{parts.path}"


# Classes: 08 connection, 40 rollback (deadlock, serialization), 53 resources (disk, memory, connections), 57 operator intervention
# (shutdown, cancel, cannot connect now), 58 system error. 55P03 lock not available, 55006 object in use, 25006 read-only (a standby
# after failover), 25P03/25P04 a session timeout.
_TRANSIENT = re.compile(r"08|40|53|57|58|55P03|55006|25006|25P0[34]|25P02")
# 22 data, 23 integrity, 54 program limits (index row too large), 44 check option, P0001 raised by a trigger, 21 cardinality
_DATA = re.compile(r"22|23|54|44|P0001")
_REFUSED = re.compile(
    r"authentication failed|no pg_hba\.conf entry|role \".*\" does not exist|database \".*\" does not exist|certificate|"
    r"does not support SSL|is not permitted to log in|no password supplied|not known|invalid (sslmode|port|connection option)|"
    r"could not (read|open|load) .*(file|key|certificate)|permission denied for database",
    re.IGNORECASE,
)


def mapped(error: BaseException, what: str, *, committing: bool = False, connecting: bool = False) -> CrossfadeError:
    """The driver's error as Transient, CommitUnknown, DataRejected or CrossfadeError; one line, without the row."""
    if isinstance(error, CrossfadeError):
        return error
    state = getattr(error, "sqlstate", None) or ""
    diag = getattr(error, "diag", None)
    text = (getattr(diag, "message_primary", None) if diag is not None else None) or str(error).strip() or type(error).__name__
    place = ".".join(x for x in (getattr(diag, "schema_name", None), getattr(diag, "table_name", None)) if x)
    message = (
        f"{what}: {' '.join(text.split())}" + (f" [{place}]" if place and place not in text else "") + (f" ({state})" if state else "")
    )
    if connecting:
        return CrossfadeError(message) if _REFUSED.search(text) or state.startswith("28") else Transient(message)
    lost = isinstance(error, psycopg.OperationalError) and (not state or state.startswith(("08", "57P0")))
    if lost or isinstance(error, (psycopg.InterfaceError, OSError)):
        return CommitUnknown(message) if committing else Transient(message)
    if _TRANSIENT.match(state):
        return Transient(message)
    if _DATA.match(state) or (isinstance(error, psycopg.DataError) and not state):
        return DataRejected(message)
    return CrossfadeError(message)
