"""MySQL and MariaDB sessions in which values are read and written exactly, and the driver's errors in crossfade's terms."""

from __future__ import annotations

import socket
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.connections import Connection
from pymysql.cursors import Cursor

from connectors.base import Address
from pipeline.errors import BadInput, CommitUnknown, CrossfadeError, DataRejected, Transient

# Strict: a value that does not fit is an error, never cut. Zero and impossible dates, and 0 in an auto-increment column, go in as they are,
# for the source had them. Nothing here changes quoting: backticks for names, backslash escapes in strings.
SQL_MODE = "STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO,ALLOW_INVALID_DATES,NO_ENGINE_SUBSTITUTION"
_INIT = "SET time_zone = '+00:00', net_write_timeout = 600, net_read_timeout = 600, sql_safe_updates = 0, sql_big_selects = 1"
_PASS = {"ssl_ca", "ssl_cert", "ssl_key", "ssl_key_password", "unix_socket", "bind_address"}
_FLAGS = {"ssl_disabled", "ssl_verify_cert", "ssl_verify_identity"}
_NUMBERS = {"connect_timeout", "read_timeout", "write_timeout"}
_IGNORED = {"charset", "collation"}  # ours is utf8mb4 whatever the application uses


def _options(address: Address) -> dict[str, Any]:
    parts = urlsplit(address.url)
    given = {**dict(parse_qsl(parts.query, keep_blank_values=True)), **address.options}
    found: dict[str, Any] = {}
    for name, value in given.items():
        plain = name.replace("-", "_").lower()
        if plain in _PASS:
            found[plain] = value
        elif plain in _FLAGS:
            found[plain] = value.lower() in {"1", "true", "yes", "on"}
        elif plain in _NUMBERS:
            found[plain] = int(value)
        elif plain in {"ssl_mode", "sslmode"}:
            found.update(_ssl_mode(value))
        elif plain not in _IGNORED:
            raise BadInput(f"unknown option {name!r} in the MySQL URL")
    if found.get("ssl_ca") and "ssl_verify_cert" not in found and "ssl" not in found:
        found["ssl_verify_cert"] = True  # a CA is named so that it is checked
    if found.get("ssl_verify_cert") or found.get("ssl_verify_identity"):
        found.pop("ssl", None)
        if found.get("ssl_verify_identity"):
            found["ssl_verify_cert"] = True
    return found


def _ssl_mode(value: str) -> dict[str, Any]:
    match value.upper().replace("-", "_"):
        case "DISABLED" | "DISABLE":
            return {"ssl_disabled": True}
        case "PREFERRED" | "PREFER":
            return {}
        case "REQUIRED" | "REQUIRE":
            return {"ssl": {"verify_mode": False}}
        case "VERIFY_CA":
            return {"ssl_verify_cert": True}
        case "VERIFY_IDENTITY" | "VERIFY_FULL":
            return {"ssl_verify_cert": True, "ssl_verify_identity": True}
    raise BadInput(f"unknown ssl_mode {value!r}", hint="DISABLED, PREFERRED, REQUIRED, VERIFY_CA or VERIFY_IDENTITY")


def connect(
    address: Address,
    *,
    autocommit: bool = False,
    application_name: str = "crossfade",
    local_infile: bool = False,
    cursorclass: type[Cursor] | None = None,
    database: str | None = None,
) -> Connection[Any]:
    """A session with exact settings, READ COMMITTED, UTC. Raises Transient (cannot be reached now) or CrossfadeError (refused).

    `local_infile` stays off unless asked for: a server could otherwise ask for any file of this machine.
    """
    parts = urlsplit(address.url)
    password = address.password if address.password is not None else unquote(parts.password or "")
    try:
        options = _options(address) | ({"cursorclass": cursorclass} if cursorclass else {})
        connection: Connection[Any] = Connection(
            user=unquote(parts.username or "") or None,
            password=password.encode(),  # pymysql encodes str as Latin-1; the server hashes bytes
            host=parts.hostname or "localhost",
            port=parts.port or 3306,
            database=database if database is not None else (unquote(parts.path.lstrip("/")) or None),
            charset="utf8mb4",
            collation="utf8mb4_bin",
            sql_mode=SQL_MODE,
            init_command=_INIT,
            autocommit=autocommit,
            local_infile=local_infile,
            max_allowed_packet=1 << 30,
            program_name=application_name,
            defer_connect=True,
            **options,
        )
    except (ValueError, OSError) as error:
        raise BadInput(f"the MySQL URL or its TLS files cannot be used ({type(error).__name__})") from None
    try:
        connection.connect(None if options.get("unix_socket") else _socket(connection))
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
    except (pymysql.Error, OSError) as error:
        raise mapped(error, f"cannot connect to {where(address)}", connecting=True) from None
    return connection


def _socket(connection: Any) -> socket.socket:
    """A socket that notices within a minute that the other machine is gone; pymysql's own waits for the system's two hours."""
    found = socket.create_connection((connection.host, connection.port), connection.connect_timeout)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3), ("TCP_USER_TIMEOUT", 60000)):
        if hasattr(socket, name):
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return found


def where(address: Address) -> str:
    """host:port/database, for messages."""
    parts = urlsplit(address.url)
    return f"{(parts.netloc.rpartition('@')[2]) or 'localhost'}{parts.path}"


_LOST = {1053, 1077, 1078, 1079, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 2002, 2003, 2006, 2013, 2014, 2027, 2055, 4031}
# too many connections, disk full (1021, 1114), lock wait and deadlock, query killed or timed out (1317, 1969, 3024), record changed (1020),
# read-only server after failover (1290, 1836), prepared XA state
_TRANSIENT = {1020, 1021, 1040, 1041, 1114, 1135, 1180, 1203, 1205, 1206, 1213, 1226, 1290, 1317, 1412, 1614, 1836, 1969, 3024, 3572}
_REFUSED = {1044, 1045, 1049, 1129, 1130, 1131, 1251, 1698, 2026, 2059, 2061}
_DATA = {
    1022, 1048, 1062, 1106, 1118, 1153, 1169, 1216, 1217, 1264, 1265, 1292, 1300, 1364, 1366, 1367, 1406, 1411, 1416, 1441, 1451,
    1452, 1525, 1557, 1586, 1644, 1690, 1712, 1748, 1761, 1762, 1859, 1918, 1977, 2025, 3140, 3141, 3156, 3819, 3854, 3988, 4025,
    4037, 4038, 4161,
}  # fmt: skip


def mapped(error: BaseException, what: str, *, committing: bool = False, connecting: bool = False) -> CrossfadeError:
    """The driver's error as Transient, CommitUnknown, DataRejected or CrossfadeError; one line."""
    if isinstance(error, CrossfadeError):
        return error
    arguments: tuple[Any, ...] = getattr(error, "args", ())
    code = arguments[0] if arguments and isinstance(arguments[0], int) else 0
    text = str(arguments[1]) if len(arguments) > 1 else str(error)
    message = f"{what}: {' '.join(text.split()) or type(error).__name__}" + (f" ({code})" if code else "")
    if connecting:
        refused = code in _REFUSED or "certificate" in text or "doesn't support SSL" in text or "not known" in text
        return CrossfadeError(message) if refused else Transient(message)
    if code in _LOST or isinstance(error, (pymysql.InterfaceError, OSError)) or (code == 0 and isinstance(error, pymysql.OperationalError)):
        return CommitUnknown(message) if committing else Transient(message)
    if code in _TRANSIENT:
        return Transient(message)
    if code in _DATA or isinstance(error, (pymysql.DataError, pymysql.IntegrityError)):
        return DataRejected(message)
    return CrossfadeError(message)
