"""The whole migration on this machine: real servers, live traffic, `crossfade` as anybody would run it, and a ledger that must add up."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import string
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final

import orjson
import psycopg
import pymysql

from connectors.base import Address
from deploy.local import flights, process, report
from deploy.local.database import Dialect, connect
from deploy.local.expected import Travel
from deploy.local.ledger import Account
from deploy.local.load import ask
from deploy.local.mariadb import MariaDB
from deploy.local.postgres import Postgres
from deploy.local.process import Process
from deploy.local.reckoning import Reckoning, SqlRows, reckon
from deploy.local.screen import Screen
from deploy.local.stack import Stack
from deploy.local.timeline import Observer, Span, read_lag, read_load, read_spans
from pipeline.control.status import status
from pipeline.errors import BadInput, CrossfadeError, StackError, TimedOut
from pipeline.store.store import Store

SCENARIOS: Final[Mapping[str, tuple[Dialect, Dialect]]] = {
    "pg-to-pg": ("postgresql", "postgresql"),
    "mariadb-to-pg": ("mariadb", "postgresql"),
    "pg-to-mariadb": ("postgresql", "mariadb"),
    "mariadb-to-mariadb": ("mariadb", "mariadb"),
}
NAME: Final = "flight-desk"
_CROSSFADE = (sys.executable, "-c", "from pipeline.cli import main; main()")
_LOOK_EVERY = 0.2
_LAST_WORD_S = 120.0
_CLOSED: Final = (("request_log", ("token",)),)


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What the demo was asked for."""

    scenario: str = "pg-to-pg"
    rows: int = flights.FLIGHTS
    seconds: float = 20.0  # of load after the copy
    rate: float = 200.0
    connections: int = 4
    keep: bool = False
    folder: Path = Path("demo-report")
    durable: bool = True
    base: Path = Path("/var/tmp")  # where servers keep their data meanwhile


def run(wish: Wish, screen: Screen) -> dict[str, Any]:
    """Runs it and answers the report's document. Raises CrossfadeError; whatever happens, nothing is left running."""
    if wish.scenario not in SCENARIOS:
        raise BadInput(f"unknown demo {wish.scenario!r}", hint=", ".join(SCENARIOS))
    if not wish.base.is_dir():
        raise BadInput(f"--dir: {wish.base} is no folder")
    root = Path(tempfile.mkdtemp(prefix="crossfade-demo-", dir=wish.base))
    root.chmod(0o755 if os.geteuid() == 0 else 0o700)  # root's servers run as somebody else, who must get to their data
    demo = _Demo(wish, root, screen)
    try:
        return demo.run()
    except BaseException:
        demo.save_logs()
        raise
    finally:
        shutil.rmtree(root, ignore_errors=True)


class _Demo:
    """One run, in a folder of its own."""

    def __init__(self, wish: Wish, root: Path, screen: Screen) -> None:
        self._wish = wish
        self._screen = screen
        self._source_dialect, self._target_dialect = SCENARIOS[wish.scenario]
        self._work = root / "work"
        self._work.mkdir(mode=0o700)
        self._stack = Stack(root / "stack", postgres=self._sides("postgresql"), mariadb=self._sides("mariadb"), durable=wish.durable)
        self._ledger, self._stats, self._file = self._work / "ledger.jsonl", self._work / "load.jsonl", self._work / "migration.yaml"
        self._running: list[Process] = []

    def run(self) -> dict[str, Any]:
        step = self._screen.step
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._stop_everything)
            step(f"starting servers for {self._wish.scenario}")
            self._stack.up()
            step("loading nycflights13 and bookings into the source")
            source, target = self._address("source", "air"), self._address("target", "travel")
            self._target = target
            loaded = flights.load(source, self._wish.rows)
            with connect(target) as database:
                database.script(flights.schema("target", target))
            self._file.write_text(self._migration(source, target), encoding="utf-8")
            self._env = self._environment(source, target)
            step(f"{loaded.total:,} rows are in; the application starts to write")
            load = self._start_load(source)
            self._until(self._load_is_writing, "the load does not write", timeout=60)
            began = time.time()
            self._start_service("controller")
            self._start_service("worker")
            with self._screen.live():
                self._crossfade("start", str(self._file))
                step("crossfade has it: both sides prepared, streaming and copying under load")
                observer = Observer(target, NAME, self._screen.show)
                observer.start()
                at_end.callback(observer.end)
                self._crossfade("wait", NAME, "--for", "following")
                step(f"every table is copied; following for {self._wish.seconds:g} s more")
                self._hold(self._wish.seconds)
                load_ended, fence = self._stop_load(load)
                step("the application has stopped writing; waiting for its last transaction on the target")
                with SqlRows(target, schema_of(target)) as rows:
                    self._until(
                        lambda: bool(list(rows.fetch("request_log", ("token",), [(fence,)]))), "the load's last transaction is not there"
                    )
                step("comparing every row of both sides")
                compared = time.time()
                verify = orjson.loads(self._crossfade("verify", NAME, "--full", "--json", accept=(0, 1)))
                ended = time.time()
                observer.end()
            step("holding the ledger against the target")
            reckoning = self._reckon(source, target)
            store = Store(target, NAME)
            at_end.callback(store.close)
            state = status(store)
            facts = report.Facts(
                scenario=self._wish.scenario,
                rows_loaded=loaded.total,
                began=began,
                spans=[*read_spans(store, began, compared), Span("verifying", compared, ended)],
                tables=state["tables"],
                streams=state["streams"],
                verify=verify,
                reckoning=reckoning,
                load=read_load(self._stats),
                lag=[lag for lag in read_lag(store, began) if lag.at <= load_ended],
                copied=observer.copied,
                load_seconds=load_ended - began,
                rate_wanted=self._wish.rate,
            )
            found = report.write(facts, self._wish.folder)
            shutil.copy(self._file, self._wish.folder / "migration.yaml")
            step(f"the report is in {self._wish.folder}/report.md")
            if self._wish.keep:
                self._stay(source, target)
            step("stopping everything")
        return found

    def save_logs(self) -> None:
        """What failed can be looked into after everything is gone."""
        folder = self._wish.folder / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        for log in (*self._work.glob("*.log"), *self._work.glob("*.yaml")):
            shutil.copy(log, folder)
        self._screen.step(f"logs of what failed are in {folder}")

    # its parts

    def _sides(self, dialect: Dialect) -> tuple[str, ...]:
        """The servers of that product which the scenario needs."""
        return tuple(side for side, its in (("source", self._source_dialect), ("target", self._target_dialect)) if its == dialect)

    def _address(self, side: str, database: str) -> Address:
        """The side's server, with a new empty database."""
        if (self._source_dialect if side == "source" else self._target_dialect) == "postgresql":
            postgres = self._stack.postgres[side]
            with psycopg.connect(postgres.url(), password=postgres.password, autocommit=True) as connection:
                connection.execute(f"CREATE DATABASE {database}")
            return _at(postgres, database)
        mariadb = self._stack.mariadb[side]
        with pymysql.connect(host="127.0.0.1", port=mariadb.port, user=mariadb.superuser, password=mariadb.password) as connection:
            connection.cursor().execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")
        return _at(mariadb, database)

    def _migration(self, source: Address, target: Address) -> str:
        return migration_yaml(
            source, target, kafka=self._stack.kafka_bootstrap, connect=self._stack.connect_url, secrets_dir=self._stack.secrets_dir
        )

    def _environment(self, source: Address, target: Address) -> dict[str, str]:
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
        return {
            **theirs,
            "CROSSFADE_HOME": str(self._work),
            "SOURCE_PASSWORD": source.password or "",
            "TARGET_PASSWORD": target.password or "",
        }

    def _start_load(self, source: Address) -> Process:
        options = {
            "--url": source.url,
            "--ledger": str(self._ledger),
            "--stats": str(self._stats),
            "--rate": str(self._wish.rate),
            "--connections": str(self._wish.connections),
            "--seed": "7",
        }
        command = [sys.executable, "-m", "deploy.local.load", *(word for option in options.items() for word in option)]
        return self._start("load", command, {**os.environ, "LOAD_PASSWORD": source.password or ""})

    def _start_service(self, name: str) -> None:
        self._start(name, [*_CROSSFADE, name, str(self._file)], self._env)

    def _start(self, name: str, command: list[str], env: Mapping[str, str]) -> Process:
        started = process.start(name, command, folder=self._work, log=self._work / f"{name}.log", env=env, dies_with_us=signal.SIGTERM)
        self._running.append(started)
        return started

    def _crossfade(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Runs a crossfade command to its end; answers its stdout. Raises CrossfadeError with its error line."""
        command = subprocess.Popen(
            [*_CROSSFADE, *arguments],
            cwd=self._work,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo to pass on
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = command.communicate(timeout=_LOOK_EVERY)
                    break
                self._check()
        finally:
            if command.poll() is None:
                command.terminate()
                command.communicate()
        if command.returncode not in accept:
            last = (err.strip().splitlines() or ["(nothing)"])[-1]
            raise CrossfadeError(f"crossfade {arguments[0]} ended with {command.returncode}: {last.removeprefix('crossfade: ')}")
        return out

    def _check(self) -> None:
        """Raises StackError when a server or one of our processes has died."""
        self._stack.check()
        for one in self._running:
            if not one.is_alive():
                raise one.death()

    def _until(self, condition: Callable[[], bool], otherwise: str, timeout: float = _LAST_WORD_S) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            self._check()
            if time.monotonic() > deadline:
                raise TimedOut(f"{otherwise} after {timeout:.0f} s")
            time.sleep(0.02)

    def _load_is_writing(self) -> bool:
        return self._ledger.exists() and self._ledger.stat().st_size > 0

    def _hold(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._check()
            time.sleep(min(_LOOK_EVERY, left))

    def _stop_load(self, load: Process) -> tuple[float, str]:
        """When the load stopped, and the token of its last transaction."""
        self._running.remove(load)
        ended = time.time()
        load.stop(signal.SIGTERM, 90.0)
        last = (read_load(self._stats) or [{}])[-1]
        if "fence" not in last:
            raise load.death()
        return ended, str(last["fence"])

    def _reckon(self, source: Address, target: Address) -> Reckoning:
        account = Account.read(self._ledger, ask=lambda token: ask(source, token))
        with SqlRows(target, schema_of(target)) as rows:
            return reckon(account, rows, Travel(self._target_dialect), _CLOSED)

    def _stay(self, source: Address, target: Address) -> None:
        """With --keep: everything stays up until Ctrl-C."""
        self._screen.step(f"source {source.url}, target {target.url}; passwords in {self._stack.root / 'passwords'}")
        self._screen.step(f"CROSSFADE_HOME={self._work} crossfade status {NAME}; Ctrl-C stops and removes everything")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self._hold(3600)

    def _stop_everything(self) -> None:
        """In the order in which nobody loses what it needs. Ctrl-C is not heard meanwhile: it would leave something running."""
        with _deaf():
            for one in self._running:
                with contextlib.suppress(StackError):
                    one.stop(signal.SIGTERM, 30.0)
            self._running.clear()
            self._stack.down(wipe=True)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)


def migration_yaml(source: Address, target: Address, *, kafka: str, connect: str, secrets_dir: Path, name: str = NAME) -> str:
    """The demo's migration.yaml for these servers. Passwords are expected in SOURCE_PASSWORD and TARGET_PASSWORD."""
    template = (resources.files("deploy.local") / "schema" / "migration.yaml").read_text(encoding="utf-8")
    return string.Template(template).substitute(
        name=name,
        source_url=source.url,
        target_url=target.url,
        source=schema_of(source),
        target=schema_of(target),
        kafka=kafka,
        connect=connect,
        secrets_dir=secrets_dir,
    )


def schema_of(address: Address) -> str:
    """Where the application's tables are: PostgreSQL's schema, MariaDB's database."""
    return "public" if address.url.startswith("postgresql") else address.url.rpartition("/")[2]


def _at(server: Postgres | MariaDB, database: str) -> Address:
    return Address(server.url(database), server.password)
