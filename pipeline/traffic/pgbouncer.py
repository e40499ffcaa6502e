"""PgBouncer, one process or several: PAUSE, another `[databases]` file, RELOAD, RESUME. No client connection is ever ended.

The file is ours alone and is included by each pgbouncer.ini (`%include /etc/pgbouncer/crossfade.ini`). Beside the application's database it
names a second one, `crossfade_<database>`, with the same server: PAUSE does not touch that one, so where the application is going to land
can be looked at while it waits.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
from psycopg import conninfo
from pydantic import BaseModel, ConfigDict, Field, field_validator

from pipeline.errors import BadInput, CrossfadeError, TimedOut
from pipeline.spec.secret import Secret
from pipeline.traffic import databasesfile
from pipeline.traffic.base import SECONDS, SIDES, Place, Side
from pipeline.traffic.consoles import Answer, Consoles, label, settings

_LOOK_AGAIN = 0.002  # RELOAD and a pause begun by somebody else tell nobody when they are through
_SERVED_SECONDS = 2.0
_LOGIN_RETRY = "15"
_AT_ONCE = "0.001"  # in no file: who finds it knows that it is another crossfade's
_OLDEST = (1, 18)
_IDENTITY = (
    "SELECT system_identifier::text || ' ' || pg_catalog.pg_postmaster_start_time()::text || ' ' || "
    "(SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::text FROM pg_catalog.pg_control_system()"
)


class Probe(BaseModel):
    """Who looks where connections land: any role that may log in on both sides and through the pooler."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str = Field(min_length=1)
    password: Secret | None = None


class Settings(BaseModel):
    """`drivers.pgbouncer` of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    admin: tuple[str, ...] = Field(min_length=1)  # postgresql://crossfade@127.0.0.1:6432/pgbouncer, one a process
    password: Secret | None = None
    database: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,50}$")  # as clients name it; other names do not go into PgBouncer's file
    file: Path  # the included file that crossfade writes
    source: str  # what stands in it for the source: "host=db1 port=5432 dbname=shop"
    target: str
    probe: Probe | None = None

    @field_validator("source", "target")
    @classmethod
    def _readable(cls, value: str) -> str:
        databasesfile.parse(value)
        return value

    @property
    def alias(self) -> str:
        """The second name, which is never paused."""
        return f"crossfade_{self.database}"

    def where(self, side: Side) -> Mapping[str, str]:
        """Host, port, dbname and what else stands in the file for a side."""
        return databasesfile.parse(self.source if side == "source" else self.target)


class PgBouncer:
    """See `pipeline.traffic.base.Traffic`. Belongs to one thread.

    Holds its consoles open, since opening one takes longer than PAUSE.
    """

    name = "pgbouncer"

    def __init__(self, given: Settings) -> None:
        self._settings = given
        self._consoles: Consoles | None = None

    def close(self) -> None:
        if self._consoles is not None:
            self._consoles.close()
            self._consoles = None

    # -- what the protocol has ---------------------------------------------------------------------------------------------------------

    def check(self) -> list[str]:
        found: list[str] = []
        for admin in self._settings.admin:
            try:
                with contextlib.closing(Consoles([admin], self._password(), _after(None))) as console:
                    found += [f"pgbouncer at {console.names[0]}: {problem}" for problem in self._problems(console, admin)]
            except CrossfadeError as error:
                found.append(str(error))
        return [*found, *databasesfile.problems(self._settings.file, self._settings.database)]

    def open(self) -> None:
        with self._session(_after(None)):
            pass

    def pause(self, deadline: float) -> None:
        try:
            with self._session(deadline) as consoles:
                late = self._unpaused(consoles, consoles.ask(f"PAUSE {self._quoted}", deadline), deadline)
        except CrossfadeError as error:
            raise type(error)(f"{error}{self._unpause()}") from None
        except BaseException:
            self._unpause()
            raise
        if late is None:
            return
        self.close()  # the consoles still wait for PAUSE
        holders = self._holders()
        raise TimedOut(f"pgbouncer at {late} is not paused in time: {holders or 'a transaction is still open'}{self._unpause()}")

    def repoint(self, side: Side, deadline: float | None = None) -> None:
        self._write(side)
        self._reload(side, _after(deadline))

    def _write(self, side: Side) -> None:
        given = self._settings
        databasesfile.write(given.file, {given.database: given.where(side), given.alias: given.where(side)})

    def _reload(self, side: Side, deadline: float) -> None:
        given = self._settings
        with self._session(deadline) as consoles:
            consoles.every("RELOAD", deadline)
            while not all(self._points(rows, side) for rows in consoles.every("SHOW DATABASES", deadline)):
                if time.monotonic() > deadline:
                    raise TimedOut(f"pgbouncer does not take up {given.file}: is it included by its pgbouncer.ini?")
                time.sleep(_LOOK_AGAIN)
            # A server connection that was opened before belongs to the old side. No WAIT_CLOSE: PgBouncer never forgets it (up to 1.25 at
            # least), and from then on answers every PAUSE as soon as nothing is to be closed, transactions or not.
            self._refused(consoles, "RECONNECT", consoles.ask(f"RECONNECT {self._quoted}", deadline))
            while any(server["close_needed"] == "1" for servers in self._servers(consoles) for server in servers):
                if time.monotonic() > deadline:
                    raise TimedOut(f"pgbouncer keeps a connection to the old side: {self._holders() or 'a transaction is still open'}")
                time.sleep(_LOOK_AGAIN)

    def verify(self, side: Side, deadline: float | None = None) -> None:
        deadline, given = _after(deadline), self._settings
        with self._session(deadline) as consoles:
            for name, rows in zip(consoles.names, consoles.every("SHOW DATABASES", deadline), strict=True):
                if not self._points(rows, side):
                    raise CrossfadeError(f"pgbouncer at {name}: database {given.database} does not point to the {side}")
        if given.probe is None:
            return
        password = given.probe.password.read("drivers.pgbouncer.probe.password").get_secret_value() if given.probe.password else None
        who = {"user": given.probe.user, **({"password": password} if password is not None else {})}
        there = {key: value for key, value in given.where(side).items() if key in ("host", "port", "dbname")}
        ways = [(f"the {side}", {**there, **who})]
        for admin in given.admin:
            through = {key: value for key, value in settings(admin).items() if key not in ("user", "password", "dbname")}
            ways.append((f"the {side} through pgbouncer at {label(admin)}", {**through, **who, "dbname": given.alias}))
        with ThreadPoolExecutor(len(ways)) as pool:  # each takes a log-in, and clients wait
            wanted, *found = pool.map(lambda way: _identity(way[1], way[0], deadline), ways)
        for admin, landed in zip(given.admin, found, strict=True):
            if landed != wanted:
                raise CrossfadeError(f"a connection through pgbouncer at {label(admin)} does not land on the {side}")

    def resume(self, deadline: float | None = None) -> None:
        deadline = _after(deadline)
        with self._session(deadline) as consoles:
            errors = _resume(consoles, self._settings.database, deadline)
        if errors:
            raise CrossfadeError(errors[0])

    def release(self, side: Side) -> None:
        given = self._settings
        self._write(side)

        def one(admin: str) -> str | None:
            with contextlib.closing(PgBouncer(given.model_copy(update={"admin": (admin,)}))) as alone:
                try:
                    (now,) = alone.state()
                    if now.side == side and not now.paused:
                        return None  # it was let go before: to reconnect again and again would only cost
                    alone._reload(side, _after(None))
                    alone.verify(side)
                    alone.resume()
                except CrossfadeError as error:
                    return str(error)
            return None

        with ThreadPoolExecutor(len(given.admin)) as pool:  # one that does not even answer takes its time
            errors = [error for error in pool.map(one, given.admin) if error is not None]
        if errors:
            raise CrossfadeError(errors[0])

    def state(self) -> list[Place]:
        deadline, out = _after(None), []
        with self._session(deadline) as consoles:
            databases, pools = (consoles.every(f"SHOW {what}", deadline) for what in ("DATABASES", "POOLS"))
            for name, rows, waiting in zip(consoles.names, databases, pools, strict=True):
                row = self._row(rows)
                clients = sum(int(pool["cl_waiting"]) for pool in waiting if pool["database"] == self._settings.database)
                side = next((side for side in SIDES if self._points(rows, side)), None)
                out.append(Place(name, side, row is not None and row["paused"] == "1", clients))
        return out

    # -- consoles ----------------------------------------------------------------------------------------------------------------------

    @property
    def _quoted(self) -> str:
        return f'"{self._settings.database}"'

    def _password(self) -> str | None:
        secret = self._settings.password
        return secret.read("drivers.pgbouncer.password").get_secret_value() if secret is not None else None

    @contextlib.contextmanager
    def _session(self, deadline: float) -> Iterator[Consoles]:
        """The consoles, open and alive. After any error they are closed: one may be in the middle of an answer."""
        if self._consoles is not None and any(answer.error or not answer.done for answer in self._consoles.ask("SHOW VERSION", deadline)):
            self.close()
        if self._consoles is None:
            self._consoles = Consoles(self._settings.admin, self._password(), deadline)
        try:
            yield self._consoles
        except BaseException:
            self.close()
            raise

    def _unpause(self) -> str:
        """Each process by itself: the one that made trouble may be away. What to add to a message: where that did not work."""
        errors = _resume_everywhere(self._settings.admin, self._password(), self._settings.database, _after(None))
        return f"; it may still be paused: {errors[0]}" if errors else ""

    def _unpaused(self, consoles: Consoles, answers: Sequence[Answer], deadline: float) -> str | None:
        """The first process that is not paused in time. Its answer alone says too little: it comes too early where somebody has used
        WAIT_CLOSE, and it is an error where one that has died had begun to pause. It is through when no connection to a server is left."""
        for name, answer in zip(consoles.names, answers, strict=True):
            if not answer.done:
                return name
        while True:
            for name, answer, rows in zip(consoles.names, answers, consoles.every("SHOW DATABASES", _after(None)), strict=True):
                row = self._row(rows)
                if row is None or row["paused"] != "1":
                    raise CrossfadeError(f"pgbouncer at {name}, PAUSE: {answer.error or 'it is not paused'}")
            left = [name for name, servers in zip(consoles.names, self._servers(consoles), strict=True) if servers]
            if not left:
                return None
            if time.monotonic() > deadline:
                return left[0]
            time.sleep(_LOOK_AGAIN)

    def _servers(self, consoles: Consoles) -> list[list[dict[str, str]]]:
        """Each process's connections to servers for the database."""
        every = consoles.every("SHOW SERVERS", _after(None))
        return [[server for server in servers if server["database"] == self._settings.database] for servers in every]

    def _holders(self) -> str:
        """Which client is in the middle of something, as far as it can be told."""
        try:
            with self._session(_after(None)) as consoles:
                for name, servers, clients in zip(
                    consoles.names, *(consoles.every(f"SHOW {what}", _after(None)) for what in ("SERVERS", "CLIENTS")), strict=True
                ):
                    for server in servers:
                        if server["database"] == self._settings.database and server["state"] == "active":
                            client = next((row for row in clients if row["ptr"] == server["link"]), None)
                            at = f"{client['addr']}:{client['port']}, " if client is not None else ""
                            what = server.get("application_name") or "no application name"
                            return f"{server['user']} ({at}{what}) at {name} holds server session {server['remote_pid']} in a transaction"
        except CrossfadeError as error:
            return str(error)
        return ""

    def _refused(self, consoles: Consoles, command: str, answers: Sequence[Answer]) -> None:
        for name, answer in zip(consoles.names, answers, strict=True):
            if answer.error:
                raise CrossfadeError(f"pgbouncer at {name}, {command}: {answer.error}")

    def _row(self, rows: Sequence[Mapping[str, str]]) -> Mapping[str, str] | None:
        return next((row for row in rows if row["name"] == self._settings.database), None)

    def _points(self, rows: Sequence[Mapping[str, str]], side: Side) -> bool:
        row, wanted = self._row(rows), self._settings.where(side)
        columns = {"host": "host", "port": "port", "dbname": "database"}
        return row is not None and all(row[columns[key]] == value for key, value in wanted.items() if key in columns)

    # -- check ---------------------------------------------------------------------------------------------------------------------------

    def _problems(self, console: Consoles, admin: str) -> Iterator[str]:
        deadline, database = _after(None), self._settings.database
        version = " ".join(" ".join(row.values()) for row in console.every("SHOW VERSION", deadline)[0])
        numbers = re.search(r"(\d+)\.(\d+)", version)
        if numbers is None or (int(numbers[1]), int(numbers[2])) < _OLDEST:
            yield f"{version or 'it'} is too old: {_OLDEST[0]}.{_OLDEST[1]} or later is needed"
        if "admin" in (console.ask('RESUME "crossfade has no such database"', deadline)[0].error or ""):
            yield "the role may look but not command: put it into admin_users"
        config = {row["key"]: row["value"] for row in console.every("SHOW CONFIG", deadline)[0]}
        row = self._row(console.every("SHOW DATABASES", deadline)[0])
        if row is None:
            yield f"it has no database {database}"
            return
        if row["disabled"] == "1":
            yield f"database {database} is disabled"
        if not any(self._points([row], side) for side in SIDES):
            yield f"database {database} points to {row['host']}:{row['port']}/{row['database']}, which is neither source nor target"
        if (row["pool_mode"] or config.get("pool_mode")) == "session":
            yield f"database {database} pools sessions: PAUSE would wait for every client to leave; use pool_mode = transaction"
        for user in console.every("SHOW USERS", deadline)[0]:
            if user.get("pool_mode") == "session":
                yield f"role {user['name']} pools sessions: PAUSE would wait for its clients to leave"
        if config.get("so_reuseport") == "1" and not str(settings(admin).get("host", "")).startswith("/"):
            yield "it shares its port (so_reuseport): commands would reach one of the processes by chance; name the socket of each"
        yield from databasesfile.inclusion(config.get("conffile", ""), self._settings.file)


def _resume_everywhere(admins: Sequence[str], password: str | None, database: str, deadline: float) -> list[str]:
    """Resumes each process by itself, so that a dead one does not hold up the others; what went wrong, a line each."""
    errors = []
    for admin in admins:
        try:
            with contextlib.closing(Consoles([admin], password, deadline)) as console:
                errors += _resume(console, database, deadline)
        except CrossfadeError as error:
            errors.append(str(error))
    return errors


def _resume(consoles: Consoles, database: str, deadline: float) -> list[str]:
    """Answers what went wrong, a line each.

    PAUSE cuts connections to the server that are just being opened, and PgBouncer takes that for a failed log-in, after which it opens none
    for `server_login_retry` seconds (15, unless set): clients would wait for those. So that is next to nothing until one is open again.
    """
    before = [_login_retry(rows) for rows in consoles.every("SHOW CONFIG", deadline)]
    consoles.ask(f"SET server_login_retry = '{_AT_ONCE}'", deadline)
    errors = []
    answers = consoles.ask(f'RESUME "{database}"', deadline)
    if any(answer.error or not answer.done for answer in answers):  # "not paused" is fine, whatever it is worded like
        for name, answer, rows in zip(consoles.names, answers, consoles.every("SHOW DATABASES", deadline), strict=True):
            row = next((row for row in rows if row["name"] == database), None)
            if row is None or row["paused"] != "0":
                errors.append(f"pgbouncer at {name}, RESUME: {answer.error or 'no answer in time'}")
    served = time.monotonic() + _SERVED_SECONDS
    while not all(_served(rows, database) for rows in consoles.every("SHOW POOLS", deadline)) and time.monotonic() < served:
        time.sleep(_LOOK_AGAIN)
    known = [value for value, _ in before if value != _AT_ONCE]
    if not known:  # another crossfade's value: it puts back what was there, unless it died meanwhile
        known = [usual for value, usual in map(_login_retry, consoles.every("SHOW CONFIG", deadline)) if value == _AT_ONCE]
    if known:
        consoles.ask(f"SET server_login_retry = '{max(known, key=float)}'", deadline)
    return errors


def _login_retry(config: Sequence[Mapping[str, str]]) -> tuple[str, str]:
    """`server_login_retry` as it is, and as it is where no file says anything: seconds, as PgBouncer writes them."""
    row: Mapping[str, str] = next((row for row in config if row["key"] == "server_login_retry"), {})
    return row.get("value", _LOGIN_RETRY), row.get("default", _LOGIN_RETRY)


def _served(pools: Sequence[Mapping[str, str]], database: str) -> bool:
    """Whether no client waits for a server, or at least one is there."""
    mine = [pool for pool in pools if pool["database"] == database and int(pool["cl_waiting"])]
    return all(any(int(pool[state]) for state in ("sv_active", "sv_idle", "sv_used")) for pool in mine)


def _after(deadline: float | None) -> float:
    return time.monotonic() + SECONDS if deadline is None else deadline


def _identity(parameters: Mapping[str, Any], what: str, deadline: float) -> str:
    """What no two databases share: cluster, start of the server, database. Standbys and clones have the cluster in common."""
    seconds = max(2, int(deadline - time.monotonic()))
    try:
        with psycopg.connect(
            conninfo.make_conninfo("", **{**parameters, "connect_timeout": seconds}), autocommit=True, prepare_threshold=None
        ) as db:
            row = db.execute(_IDENTITY).fetchone()
    except psycopg.Error as error:
        raise CrossfadeError(f"{what}: {' '.join(str(error).split())}") from None
    if row is None:
        raise BadInput(f"{what}: it does not say who it is")
    return str(row[0])
