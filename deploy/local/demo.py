"""The whole migration on this machine: real servers, live traffic, `crossfade` as anybody would run it, and a ledger that must add up."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
import string
import sys
import tempfile
import time
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import psycopg
import pymysql
import yaml

from connectors.base import Address
from deploy.local import flights, report
from deploy.local.crossings import Crossed, Crossing
from deploy.local.database import Dialect, connect
from deploy.local.expected import Travel
from deploy.local.frontdoor import FrontDoor
from deploy.local.ledger import Account
from deploy.local.load import ask
from deploy.local.mariadb import MariaDB
from deploy.local.postgres import Postgres
from deploy.local.process import Process
from deploy.local.reckoning import Reckoning, SqlRows, identity, reckon
from deploy.local.runner import Runner
from deploy.local.screen import Screen
from deploy.local.stack import Stack
from deploy.local.timeline import Observer, Span, read_lag, read_load, read_spans
from deploy.local.transaction import KEYS
from pipeline.control.status import status
from pipeline.errors import BadInput
from pipeline.store.store import Store

SCENARIOS: Final[Mapping[str, tuple[Dialect, Dialect]]] = {
    "pg-to-pg": ("postgresql", "postgresql"),
    "mariadb-to-pg": ("mariadb", "postgresql"),
    "pg-to-mariadb": ("postgresql", "mariadb"),
    "mariadb-to-mariadb": ("mariadb", "mariadb"),
}
NAME: Final = "flight-desk"
BACK: Final = f"{NAME}-back"
"""What crossfade calls the way back."""
CROSSINGS: Final[Mapping[str, int]] = {"pg-to-pg": 3}
"""How often the application is taken across, unless told: an odd number ends on the target."""
_CLOSED: Final = {"source": (("request", ("token",)),), "target": (("request_log", ("token",)),)}
_WAITING, _UNDONE = 4, 5  # exit codes: nothing happened


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What the demo was asked for."""

    scenario: str = "pg-to-pg"
    rows: int = flights.FLIGHTS
    seconds: float = 20.0  # of load after the copy
    rate: float = 200.0
    connections: int = 4
    crossings: int | None = None  # None: as CROSSINGS says
    keep: bool = False
    folder: Path = Path("demo-report")
    durable: bool = True
    base: Path = Path("/var/tmp")  # where servers keep their data meanwhile


def run(wish: Wish, screen: Screen) -> dict[str, Any]:
    """Runs it and answers the report's document. Raises CrossfadeError; whatever happens, nothing is left running."""
    if wish.scenario not in SCENARIOS:
        raise BadInput(f"unknown demo {wish.scenario!r}", hint=", ".join(SCENARIOS))
    if wish.crossings and wish.scenario not in CROSSINGS:
        raise BadInput(f"demo {wish.scenario} has no crossings yet", hint=f"--crossings 0, or one of: {', '.join(CROSSINGS)}")
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
        self._crossings = CROSSINGS.get(wish.scenario, 0) if wish.crossings is None else wish.crossings
        self._work = root / "work"
        self._work.mkdir(mode=0o700)
        self._stack = Stack(root / "stack", postgres=self._sides("postgresql"), mariadb=self._sides("mariadb"), durable=wish.durable)
        self._ledger, self._stats, self._file = self._work / "ledger.jsonl", self._work / "load.jsonl", self._work / "migration.yaml"
        self._runner = Runner(self._work, self._stack)
        self._door: FrontDoor | None = None
        self._crossed: list[Crossing] = []

    def run(self) -> dict[str, Any]:
        step = self._screen.step
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._stop_everything)
            step(f"starting servers for {self._wish.scenario}")
            self._stack.up()
            step("loading nycflights13 and bookings into the source")
            self._source, self._target = source, target = self._address("source", "air"), self._address("target", "travel")
            loaded = flights.load(source, self._wish.rows)
            with connect(target) as database:
                database.script(flights.schema("target", target))
            self._open_door()
            self._file.write_text(self._migration(), encoding="utf-8")
            self._runner.env = self._environment()
            step(f"{loaded.total:,} rows are in; the application starts to write")
            load = self._start_load()
            self._runner.until(self._load_is_writing, "the load does not write", timeout=60)
            began = time.time()
            for service in ("controller", "worker"):
                self._runner.service(service, self._file)
            with self._screen.live():
                self._runner.crossfade("start", str(self._file))
                step("crossfade has it: both sides prepared, streaming and copying under load")
                observer = Observer(target, NAME, self._screen.show)
                observer.start()
                at_end.callback(observer.end)
                self._runner.crossfade("wait", NAME, "--for", "following")
                step(f"every table is copied; following for {self._share:g} s more")
                self._runner.hold(self._share)
                self._cross_over()
                load_ended, fence = self._stop_load(load)
                step("the application has stopped writing; waiting for its last transaction on the other side")
                self._wait_for(fence)
                compared = time.time()
                verify = self._verify("comparing every row of both sides")
                ended = time.time()
                observer.end()
            step("holding the ledger against the side that leads")
            reckoning = self._reckon()
            store, back = Store(target, NAME), Store(source, BACK)
            at_end.callback(store.close)
            at_end.callback(back.close)
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
                crossed=Crossed(
                    pooler=self._door.pooler if self._door is not None else None,
                    wanted=self._crossings,
                    crossings=self._crossed,
                    lag_back=[lag for lag in read_lag(back, began) if lag.at <= load_ended] if back.exists() else [],
                ),
            )
            found = report.write(facts, self._wish.folder)
            shutil.copy(self._file, self._wish.folder / "migration.yaml")
            step(f"the report is in {self._wish.folder}/report.md")
            if self._wish.keep:
                self._stay()
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

    @property
    def _share(self) -> float:
        """Seconds of load after the copy, and after each crossing."""
        return self._wish.seconds / (self._crossings + 1)

    @property
    def _leads(self) -> Literal["source", "target"]:
        return "target" if sum(crossing.crossed for crossing in self._crossed) % 2 else "source"

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

    def _open_door(self) -> None:
        """Where there are crossings, the application comes in by a role of its own."""
        if self._crossings:
            self._door = FrontDoor(self._stack, self._source, self._target)
            self._door.admit()
            self._door.open()

    def _migration(self) -> str:
        return migration_yaml(
            self._source,
            self._target,
            kafka=self._stack.kafka_bootstrap,
            connect=self._stack.connect_url,
            secrets_dir=self._stack.secrets_dir,
            crossings=None if self._door is None else self._door.cutover(),
        )

    def _environment(self) -> dict[str, str]:
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
        return {
            **theirs,
            "CROSSFADE_HOME": str(self._work),
            "SOURCE_PASSWORD": self._source.password or "",
            "TARGET_PASSWORD": self._target.password or "",
            **({} if self._door is None else self._door.environment()),
        }

    def _start_load(self) -> Process:
        address, *others = [self._source] if self._door is None else self._door.addresses()
        options = {
            "--url": address.url,
            "--ledger": str(self._ledger),
            "--stats": str(self._stats),
            "--rate": str(self._wish.rate),
            "--connections": str(self._wish.connections),
            "--seed": "7",
        }
        options |= {"--other": others[0].url} if others else {}
        command = [sys.executable, "-m", "deploy.local.load", *(word for option in options.items() for word in option)]
        return self._runner.start("load", command, {**os.environ, "LOAD_PASSWORD": address.password or ""})

    def _cross_over(self) -> None:
        """Over and back and over, as often as was asked for, with a comparison before each; ends at the first that does not happen."""
        for number in range(self._crossings):
            command = "rollback" if number % 2 else "cutover"
            verify = self._verify(f"comparing every row of both sides before {command} {number // 2 + 1}, under load")
            if self._crossed:
                self._crossed[-1].verify = verify
            asked = time.time()
            outcome = orjson.loads(self._runner.crossfade(command, NAME, "--json", accept=(0, _WAITING, _UNDONE)))
            crossing = Crossing(command, asked, time.time(), outcome)
            self._crossed.append(crossing)
            if not crossing.crossed:
                self._screen.step(f"{command} did not happen; see the report")
                return
            self._screen.step(f"the application is on the {self._leads}: writes waited {outcome['pause_ms']:.0f} ms")
            self._runner.hold(self._share)

    def _verify(self, what: str) -> dict[str, Any]:
        self._screen.step(what)
        found: dict[str, Any] = orjson.loads(self._runner.crossfade("verify", NAME, "--full", "--json", accept=(0, 1)))
        return found

    def _load_is_writing(self) -> bool:
        return self._ledger.exists() and self._ledger.stat().st_size > 0

    def _stop_load(self, load: Process) -> tuple[float, str]:
        """When the load stopped, and the token of its last transaction."""
        self._runner.running.remove(load)
        ended = time.time()
        load.stop(signal.SIGTERM, 90.0)
        last = (read_load(self._stats) or [{}])[-1]
        if "fence" not in last:
            raise load.death()
        return ended, str(last["fence"])

    def _wait_for(self, fence: str) -> None:
        """Until the last transaction is on the side that does not lead."""
        address, table = (self._target, "request_log") if self._leads == "source" else (self._source, "request")
        with SqlRows(address, schema_of(address)) as rows:
            self._runner.until(lambda: bool(list(rows.fetch(table, ("token",), [(fence,)]))), "the load's last transaction is not there")

    def _reckon(self) -> Reckoning:
        """The ledger against the target; with crossings against the side where the application is."""
        side: Literal["source", "target"] = self._leads if self._crossings else "target"
        leader, address = (self._source, self._target)[self._leads == "target"], (self._source, self._target)[side == "target"]
        account = Account.read(self._ledger, ask=lambda token: ask(leader, token))
        mapping = Travel(self._target_dialect, masked=not self._crossings) if side == "target" else identity(KEYS)
        with SqlRows(address, schema_of(address)) as rows:
            return reckon(account, rows, mapping, _CLOSED[side])

    def _stay(self) -> None:
        """With --keep: everything stays up until Ctrl-C."""
        self._screen.step(f"source {self._source.url}, target {self._target.url}; passwords in {self._stack.root / 'passwords'}")
        self._screen.step(f"CROSSFADE_HOME={self._work} crossfade status {NAME}; Ctrl-C stops and removes everything")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                self._runner.hold(3600)

    def _stop_everything(self) -> None:
        self._runner.stop_everything(lambda: None if self._door is None else self._door.close())


def migration_yaml(
    source: Address,
    target: Address,
    *,
    kafka: str,
    connect: str,
    secrets_dir: Path,
    name: str = NAME,
    crossings: Mapping[str, Any] | None = None,
) -> str:
    """The demo's migration.yaml for these servers. Passwords are expected in SOURCE_PASSWORD and TARGET_PASSWORD.

    `crossings`: what the file says about them. With them nothing is masked, since a masked value cannot be given back.
    """
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
        card="card: {mask: card, method: partial, keep_last: 4}" if crossings is None else "card: card",
        ending="reverse: none" if crossings is None else yaml.safe_dump(dict(crossings), sort_keys=False),
    )


def schema_of(address: Address) -> str:
    """Where the application's tables are: PostgreSQL's schema, MariaDB's database."""
    return "public" if address.url.startswith("postgresql") else address.url.rpartition("/")[2]


def _at(server: Postgres | MariaDB, database: str) -> Address:
    return Address(server.url(database), server.password)
