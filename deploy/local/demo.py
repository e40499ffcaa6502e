"""The whole migration on this machine: real servers, live traffic, `crossfade` as anybody would run it, and a ledger that must add up."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from deploy.local import crossings, flights, report
from deploy.local.commands import Commands
from deploy.local.crossings import Crossing
from deploy.local.database import Dialect
from deploy.local.deaf import deaf
from deploy.local.expected import Travel
from deploy.local.ledger import Account
from deploy.local.process import Process
from deploy.local.reach import ask
from deploy.local.reckoning import Reckoning, SqlRows, identity, reckon
from deploy.local.scene import NAME, SCENARIOS, Scene, clean_environment, schema_of
from deploy.local.screen import Screen
from deploy.local.shapes import HOME, Shapes, moved
from deploy.local.timeline import Observer, Span, one_lag, read_lag, read_load, read_spans
from deploy.local.transaction import KEYS
from pipeline.control.status import status
from pipeline.errors import BadInput
from pipeline.store.store import Store

CROSSINGS: Final = 3
"""How often the application is taken across where nobody says: an odd number ends on the target."""
BACK: Final = f"{NAME}-back"
"""What crossfade calls the way back; it keeps its books in the source."""


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What the demo was asked for."""

    scenario: str = "pg-to-pg"
    rows: int = flights.FLIGHTS
    seconds: float = 20.0  # of load after the copy, in equal parts around the crossings
    rate: float = 200.0
    connections: int = 4
    crossings: int | None = None  # None: CROSSINGS
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
        self._wish, self._screen = wish, screen
        self._work = root / "work"
        self._work.mkdir(mode=0o700)
        self._scene = Scene(wish.scenario, root / "stack", durable=wish.durable)
        self._ledger, self._stats, self._file = self._work / "ledger.jsonl", self._work / "load.jsonl", self._work / "migration.yaml"
        self._commands: Commands | None = None
        self._crossings: list[Crossing] = []
        self._times = CROSSINGS if wish.crossings is None else wish.crossings
        self._share = wish.seconds / (self._times + 1)

    def run(self) -> dict[str, Any]:
        step, wish, scene = self._screen.step, self._wish, self._scene
        with contextlib.ExitStack() as at_end:
            at_end.callback(self._stop_everything)
            step(f"starting servers for {wish.scenario}")
            scene.up()
            step("loading nycflights13 and bookings into the source")
            loaded = scene.furnish(wish.rows)
            self._file.write_text(scene.migration(), encoding="utf-8")
            env = {**clean_environment(), **scene.environment(), "CROSSFADE_HOME": str(self._work)}
            self._commands = commands = Commands(self._work, env, scene.check)
            step(f"{loaded:,} rows are in; the application starts to write{' through PgBouncer' if scene.pooler else ''}")
            load = self._start_load(commands)
            commands.until(self._load_is_writing, "the load does not write", timeout=60)
            began = time.time()
            commands.service("controller", self._file)
            commands.service("worker", self._file)
            with self._screen.live():
                commands.crossfade("start", str(self._file))
                step("crossfade has it: both sides prepared, streaming and copying under load")
                observer = Observer(Store(scene.target, NAME), Store(scene.source, BACK), self._screen.show)
                observer.start()
                at_end.callback(observer.end)
                commands.crossfade("wait", NAME, "--for", "following")
                step(f"every table is copied; following for {self._share:g} s more")
                commands.hold(self._share)
                compare = functools.partial(self._compare, commands)
                self._crossings = crossings.across(commands, NAME, self._times, compare=compare, hold=self._share, say=step)
                load_ended, last = self._stop_load(commands, load)
                step("the application has stopped writing; waiting for its last transaction on the other side")
                self._await(commands, last)
                step("comparing every row of both sides")
                compared = time.time()
                verify = self._compare(commands)
                if self._crossings:
                    self._crossings[-1].verify = verify
                ended = time.time()
                observer.end()
            step("holding the ledger against both sides")
            reckonings = self._reckon()
            store, back = Store(scene.target, NAME), Store(scene.source, BACK)
            at_end.callback(store.close)
            at_end.callback(back.close)
            state = status(store)
            lag = one_lag(read_lag(store, began), read_lag(back, began) if self._crossings else [], self._leads_at)
            facts = report.Facts(
                scenario=wish.scenario,
                rows_loaded=loaded,
                began=began,
                spans=[*read_spans(store, began, compared), Span("verifying", compared, ended)],
                tables=state["tables"],
                streams=[*state["streams"], *(status(back)["streams"] if self._crossings else [])],
                verify=verify,
                reckonings=reckonings,
                load=read_load(self._stats),
                lag=[one for one in lag if one.at <= load_ended],
                copied=observer.copied,
                load_seconds=load_ended - began,
                rate_wanted=wish.rate,
                driver=scene.driver,
                crossings=self._crossings,
            )
            found = report.write(facts, wish.folder)
            shutil.copy(self._file, wish.folder / "migration.yaml")
            step(f"the report is in {wish.folder}/report.md")
            if wish.keep:
                self._stay(commands)
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

    def _compare(self, commands: Commands) -> dict[str, Any]:
        return commands.document("verify", NAME, "--full", accept=(0, 1))

    def _leads_at(self, when: float) -> str:
        return crossings.leading(self._crossings, when)

    @property
    def _sides(self) -> Mapping[str, tuple[Any, Shapes]]:
        """Each side's address, and the application's tables there."""
        home, target = self._dialects
        return {"source": (self._scene.source, HOME), "target": (self._scene.target, moved(target, home))}

    @property
    def _dialects(self) -> tuple[Dialect, Dialect]:
        return SCENARIOS[self._wish.scenario]

    def _start_load(self, commands: Commands) -> Process:
        options = {
            "--ledger": str(self._ledger),
            "--stats": str(self._stats),
            "--rate": str(self._wish.rate),
            "--connections": str(self._wish.connections),
            "--seed": "7",
        }
        words = [word for option in options.items() for word in option]
        return commands.start("load", [sys.executable, "-m", "deploy.local.load", *self._scene.application(), *words])

    def _load_is_writing(self) -> bool:
        return self._ledger.exists() and self._ledger.stat().st_size > 0

    def _stop_load(self, commands: Commands, load: Process) -> tuple[float, str]:
        """When the load stopped, and the token of its last transaction."""
        ended = time.time()
        commands.end(load)
        last = (read_load(self._stats) or [{}])[-1]
        if "fence" not in last:
            raise load.death()
        return ended, str(last["fence"])

    def _await(self, commands: Commands, token: str) -> None:
        """Until that transaction is on the side that follows."""
        leads = self._leads_at(time.time())
        address, shapes = self._sides["source" if leads == "target" else "target"]
        with SqlRows(address, schema_of(address)) as rows:
            table = shapes["request"].table
            commands.until(lambda: bool(list(rows.fetch(table, ("token",), [(token,)]))), "the load's last transaction is not there")

    def _reckon(self) -> dict[str, Reckoning]:
        """The ledger against each side, in that side's own tables."""
        address, shapes = self._sides[self._leads_at(time.time())]
        account = Account.read(self._ledger, ask=lambda token: ask(address, token, shapes["request"].table))
        found = {}
        for side, mapping in (("source", identity(KEYS)), ("target", Travel(self._dialects[1]))):
            address, shapes = self._sides[side]
            with SqlRows(address, schema_of(address)) as rows:
                found[side] = reckon(account, rows, mapping, [(shapes["request"].table, ("token",))])
        return found

    def _stay(self, commands: Commands) -> None:
        """With --keep: everything stays up until Ctrl-C."""
        scene = self._scene
        self._screen.step(f"source {scene.source.url}, target {scene.target.url}; passwords in {scene.stack.root / 'passwords'}")
        self._screen.step(f"CROSSFADE_HOME={self._work} crossfade status {NAME}; Ctrl-C stops and removes everything")
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                commands.hold(3600)

    def _stop_everything(self) -> None:
        """In the order in which nobody loses what it needs. Ctrl-C is not heard meanwhile: it would leave something running."""
        with _deaf():
            if self._commands is not None:
                self._commands.end_all()
            self._scene.down()


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    before = deaf()
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)
