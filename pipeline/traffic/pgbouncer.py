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
        deadline, given = _after(deadline), self._settings
        databasesfile.write(given.file, {given.database: given.where(side), given.alias: given.where(side)})
        with self._session(deadline) as consoles:
            consoles.every("RELOAD", deadline)
            while not all(self._points(rows, side) for rows in consoles.every("SHOW DATABASES", deadline)):
                if time.monotonic() > deadline:
                    raise TimedOut(f"pgbouncer does not take up {given.file}: is it included by its pgbouncer.ini?")
                time.sleep(_LOOK_AGAIN)
            # A server connection that was opened before belongs to the old side; idle ones go at once, others when their transaction ends.
            for command in ("RECONNECT", "WAIT_CLOSE"):
                answers = consoles.ask(f"{command} {self._quoted}", deadline)
                self._refused(consoles, command, answers)
                if not all(answer.done for answer in answers):
                    self.close()
                    raise TimedOut(f"pgbouncer keeps a connection to the old side: {self._holders() or 'a transaction is still open'}")

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
        wanted = _identity({**there, **who}, f"the {side}", deadline)
        for admin in given.admin:
            through = {key: value for key, value in settings(admin).items() if key not in ("user", "password", "dbname")}
            if _identity({**through, **who, "dbname": given.alias}, f"the {side} through pgbouncer at {label(admin)}", deadline) != wanted:
                raise CrossfadeError(f"a connection through pgbouncer at {label(admin)} does not land on the {side}")

    def resume(self, deadline: float | None = None) -> None:
        deadline = _after(deadline)
        with self._session(deadline) as consoles:
            answers = consoles.ask(f"RESUME {self._quoted}", deadline)
            if any(answer.error or not answer.done for answer in answers):  # "not paused" is fine, whatever it is worded like
                for name, answer, rows in zip(consoles.names, answers, consoles.every("SHOW DATABASES", deadline), strict=True):
                    if (row := self._row(rows)) is None or row["paused"] != "0":
                        raise CrossfadeError(f"pgbouncer at {name}, RESUME: {answer.error or 'no answer in time'}")

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
        """The first process that is not paused in time. One that was paused already, by a controller that has died, may still be waiting
        for a transaction: it is through when no connection to a server is left."""
        for name, answer in zip(consoles.names, answers, strict=True):
            if not answer.done:
                return name
        already = [at for at, answer in enumerate(answers) if answer.error]
        while already:
            databases, servers = (consoles.every(f"SHOW {what}", deadline) for what in ("DATABASES", "SERVERS"))
            for at in already:
                row = self._row(databases[at])
                if row is None or row["paused"] != "1":
                    raise CrossfadeError(f"pgbouncer at {consoles.names[at]}, PAUSE: {answers[at].error}")
            already = [at for at in already if any(server["database"] == self._settings.database for server in servers[at])]
            if already and time.monotonic() > deadline:
                return consoles.names[already[0]]
            if already:
                time.sleep(_LOOK_AGAIN)
        return None

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
    """Sends RESUME to each process by itself, so that a dead one does not hold up the others; what went wrong, a line each."""
    errors = []
    for admin in admins:
        try:
            with contextlib.closing(Consoles([admin], password, deadline)) as console:
                answer = console.ask(f'RESUME "{database}"', deadline)[0]
                if not answer.done or (answer.error and _paused(console, database, deadline)):
                    errors.append(f"pgbouncer at {console.names[0]}, RESUME: {answer.error or 'no answer in time'}")
        except CrossfadeError as error:
            errors.append(str(error))
    return errors


def _paused(console: Consoles, database: str, deadline: float) -> bool:
    return any(row["name"] == database and row["paused"] == "1" for row in console.every("SHOW DATABASES", deadline)[0])


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
