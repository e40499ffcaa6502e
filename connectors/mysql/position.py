"""MySQL-family stream positions: MariaDB GTIDs, MySQL GTIDs, or binlog file and offset, compared in commit order.

Text forms: `0-1-123` and sets of it, one part a domain (`0-1-123,1-1-5`); `uuid:123` and sets of it (`uuid:1-123`); `binlog.000003:4711`.
Within one domain, or one server UUID, sequence numbers grow in the order of the binlog.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pipeline.errors import CrossfadeError

_MARIADB = re.compile(r"(\d+)-(\d+)-(\d+)")
_MYSQL = re.compile(r"([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}(?::[A-Za-z_]\w*)?):([\d:-]+)")
_FILE = re.compile(r"(.+)\.(\d+):(\d+)")
_DEBEZIUM_FILE = re.compile(r"file=(.*),pos=(\d+)")

Marks = Mapping[str, tuple[int, ...]]
"""How far each independent sequence has come: a MariaDB domain, a MySQL server, the one binlog."""


_remembered = lru_cache(maxsize=64)
"""Each transaction's position is looked at five times on its way, beside the same one that is applied."""


@_remembered
def _marks(position: str) -> Marks:
    found: dict[str, tuple[int, ...]] = {}
    if not position:
        return found
    if file := _FILE.fullmatch(position):
        return {f"file {file[1]}": (int(file[2]), int(file[3]))}
    for part in position.replace("\n", "").split(","):
        text = part.strip()
        if gtid := _MARIADB.fullmatch(text):
            name, mark = f"domain {gtid[1]}", int(gtid[3])
        elif gtid := _MYSQL.fullmatch(text):
            name, mark = gtid[1].lower(), max(int(number) for number in re.findall(r"\d+", gtid[2]))
        else:
            raise CrossfadeError(f"{text[:80]!r} is no MySQL or MariaDB stream position")
        found[name] = max(found.get(name, (0,)), (mark,))
    return found


@_remembered
def beyond(position: str, than: str) -> bool:
    """Whether `position` comes after `than` in commit order; "" is before everything. What `than` says nothing of is after it."""
    there = _marks(than)
    marks = _marks(position)
    if marks and there and _is_file(marks) != _is_file(there):
        raise CrossfadeError(
            f"position {position} cannot be compared with {than}", hint="GTIDs were switched on or off on the source: start the stream anew"
        )
    return any(mark > there.get(name, ()) for name, mark in marks.items())


def _is_file(marks: Marks) -> bool:
    return next(iter(marks)).startswith("file ")


@_remembered
def joined(applied: str, position: str) -> str:
    """`applied` moved on by `position`: other domains (or servers) keep their mark. One domain alone stays a plain GTID."""
    if not applied:
        return position
    marks, before = _marks(position), _marks(applied)
    if _is_file(marks):
        return position
    if "," not in position and all(marks.get(name, ()) >= mark for name, mark in before.items()):
        return position.strip()  # nowhere behind: it takes the place of all that is applied
    parts: dict[str, str] = {}
    for text in (applied, position):
        for part in text.replace("\n", "").split(","):
            (name, mark), *_ = _marks(part.strip()).items()
            if name not in parts or mark >= _marks(parts[name])[name]:
                parts[name] = part.strip()
    return ",".join(parts[name] for name in sorted(parts))


def of_id(identity: str) -> str:
    """The position of a transaction by its id: its GTID, or `file=…,pos=…` where the source has none."""
    if file := _DEBEZIUM_FILE.fullmatch(identity):
        return f"{file[1]}:{file[2]}"
    return identity


def now(connection: Any) -> str:
    """Where the binlog of this server ends now, in the form of the stream's own positions; "" when it has no transaction yet."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        if "mariadb" in str(cursor.fetchone()[0]).lower():
            cursor.execute("SELECT @@GLOBAL.gtid_binlog_pos")
            return str(cursor.fetchone()[0] or "")
        cursor.execute("SELECT @@GLOBAL.gtid_mode, @@GLOBAL.gtid_executed")
        mode, executed = cursor.fetchone()
        if str(mode).upper() == "ON":
            return "".join(str(executed).split())
        try:
            cursor.execute("SHOW BINARY LOG STATUS")
        except Exception:  # before 8.2 it had another name
            cursor.execute("SHOW MASTER STATUS")
        row = cursor.fetchone()
        return f"{row[0]}:{row[1]}" if row else ""
