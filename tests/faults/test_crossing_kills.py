"""Scenarios 26 and 27, I1–I3, I6, I8: crossings that are killed, cut off or frozen at each of their steps, over and over in one migration,
under an application that goes on writing through PgBouncer and without a pooler."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from confluent_kafka.admin import AdminClient
from psycopg import sql

from connectors.connect import Access, ConnectClient
from deploy.local import pgbouncer
from deploy.local.place import write_private
from deploy.local.stack import Stack
from pipeline.control import crossover, registry
from pipeline.control.crossing import STEPS
from pipeline.control.runtime import Runtime
from tests.conftest import TestDatabase
from tests.faults.shop import SCHEMA, Shop
from tests.faults.wire import Wire
from tests.system.forks import Forked
from tests.system.harness import Move

pytestmark = pytest.mark.system

ROLE, WORD = "stallkeeper", "over-the-counter"
BUDGET = 15.0
EVERY = bool(os.environ.get("CROSSFADE_EVERY_PLACE"))
"""All places at which a crossing is killed, and each step cut off from either side: some ten minutes more."""
GENEROUS = 3.0
"""Seconds more that a client may wait on a machine that is busy."""
BEFORE = STEPS[: STEPS.index("decide")]
AFTER = STEPS[STEPS.index("decide") + 1 :]
ASKED = {"source": "switched", "target": "rolled-back"}
"""What takes the application away from a side."""


class Market:
    """One migration, the shop on it, and controllers that do not live long."""

    def __init__(self, stack: Stack, move: Move, sides: dict[str, TestDatabase], shop: Shop, wires: dict[str, Wire]) -> None:
        self.stack, self.move, self.sides, self.shop, self.wires = stack, move, sides, shop, wires
        self.runtime = Runtime(registry.find(str(move.file)))
        self.controllers = 0
        self.leader = move.processes["controller"]

    # -- the control store, read past the wires ----------------------------------------------------------------------------------------

    def phase(self) -> str:
        return str(self.shop.ask("target", "SELECT phase FROM crossfade.migration WHERE name = %s", self.move.name))

    def reason(self) -> object:
        return self.shop.ask("target", "SELECT reason FROM crossfade.migration WHERE name = %s", self.move.name)

    def settled(self) -> bool:
        query = "SELECT wanted = 'following' AND phase <> 'cutting-over' FROM crossfade.migration WHERE name = %s"
        return bool(self.shop.ask("target", query, self.move.name))

    def journal(self, side: str) -> tuple[int, str]:
        """The newest crossing that left this side: how many there were, and its state."""
        if side == "source" and self.shop.ask(side, "SELECT to_regclass('crossfade.crossing')") is None:
            return (0, "none")  # the way back is not prepared yet
        name = self.move.name + ("-back" if side == "source" else "")
        row = (
            self.shop.admin[side]
            .execute("SELECT count(*) OVER (), state FROM crossfade.crossing WHERE migration = %s ORDER BY id DESC LIMIT 1", (name,))
            .fetchone()
        )
        return (0, "none") if row is None else (row[0], row[1])

    def tell(self) -> str:
        """How it stands, and the last that was said by who leads, who led before and the worker."""
        names = [f"controller-{number}" for number in range(max(1, self.controllers - 2), self.controllers + 1)]
        said = [f"--- {name}\n" + "\n".join(self.lines(name)[-12:]) for name in ("worker", *names)]
        return "\n".join((f"{self.phase()}: {self.reason()}", *said))

    def lines(self, name: str) -> list[str]:
        """A service's log so far."""
        return (self.move.folder / f"{name}.log").read_text().splitlines()

    def lease_runs_out(self, living: str = "nobody") -> None:
        """As if the ten seconds of a controller that died had passed. One that leads already keeps its lease: else whoever is started next
        might be quicker than its renewal."""
        query = "UPDATE crossfade.lease SET expires_at = 0 WHERE name = %s AND position(%s IN holder) = 0"
        self.shop.admin["target"].execute(query, (self.move.name, living))

    # -- acts ------------------------------------------------------------------------------------------------------------------------

    def controller(self, places: str = "", watchdog: str = "") -> Forked:
        """One more, to be killed at some places; it waits until nobody leads."""
        self.controllers += 1
        env = self.move.env
        for name, value in (("CROSSFADE_FAILPOINTS", places), ("CROSSFADE_WATCHDOG_FAILPOINTS", watchdog)):
            env.pop(name, None)
            if value:
                env[name] = value
        return self.move.spawn(f"controller-{self.controllers}", "controller", str(self.move.file))

    def replace(self, places: str = "", watchdog: str = "") -> None:
        """The controller that leads is killed, and another one leads."""
        self.leader.kill()
        self.leader.wait()
        self.follow(self.controller(places, watchdog))

    def follow(self, controller: Forked) -> None:
        """This one leads from now on, and none that is started later."""
        self.leader = controller
        mine = f"-{self.leader.pid}-"
        self.lease_runs_out(mine)
        holder = "SELECT holder FROM crossfade.lease WHERE name = %s"
        self.shop.until(
            lambda: mine in str(self.shop.ask("target", holder, self.move.name)) or self.leader.poll() is not None, "the new one leads"
        )

    def watchdogs(self) -> list[int]:
        """Of this migration's controllers, dead ones too."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes()
                if line.endswith(b"\0watchdog\0") and (entry / "cwd").readlink() == self.move.folder:
                    found.append(int(entry.name))
        return found

    def ask(self, budget: float | None = None) -> int:
        """Asks for the crossing that leaves the side where the application is; answers its number in the journal."""
        closed: list[object] = []

        def asked() -> bool:
            # What was cut off has to come back first: a stream's lag, for one, is known again after a moment.
            closed[:] = [gate for gate in crossover.ask(self.runtime, ASKED[self.shop.side], budget=budget).gates if not gate.ok]
            return not closed

        number = self.journal(self.shop.side)[0] + 1
        self.shop.until(asked, lambda: f"the gates are open: {closed}")
        return number

    def stopped(self, controller: Forked, left: str, number: int) -> bool:
        """Waits until the controller stands still at a place, or the crossing has ended and the phase says so."""

        def so() -> bool:
            return controller.stopped() or (self.settled() and self.journal(left)[1] in ("done", "undone"))

        self.shop.until(so, lambda: f"it stops or ends\n{self.tell()}", 60)
        return controller.stopped()

    def died(self, controller: Forked, where: str) -> int:
        """Waits until it was killed there; answers the crossing's number. One that runs out of time on a busy machine is asked for again."""
        left, asked = self.shop.side, self.ask()

        def so() -> bool:
            nonlocal asked
            if controller.poll() is None and self.settled():
                asked = self.ask()
            return controller.poll() is not None

        self.shop.until(so, lambda: f"the controller gets to {where}\n{self.tell()}", 150)
        assert controller.returncode == -signal.SIGKILL, (where, controller.returncode, self.tell())
        assert asked >= self.journal(left)[0]
        return asked

    def gone(self, where: str) -> None:
        """Waits until the one that leads was killed while it recovers."""
        self.shop.until(lambda: self.leader.poll() is not None, lambda: f"the successor gets to {where}\n{self.tell()}", 150)
        assert self.leader.returncode == -signal.SIGKILL, (where, self.leader.returncode)

    def ended(self, left: str, number: int, crossed: bool, what: str) -> None:
        """The journal says so, and the application is where it should be."""
        wanted = (number, "done" if crossed else "undone")
        self.shop.until(
            lambda: self.journal(left) == wanted,
            lambda: f"{what}: journal {wanted}, is {self.journal(left)}\n{self.tell()}",
        )
        if crossed:
            self.shop.side = "target" if left == "source" else "source"
            self.shop.crossings += 1
        self.shop.sells(self.shop.side)

    def crosses(self, what: str) -> None:
        """Asks, and waits until it has crossed. What is not begun, or runs out of time on a busy machine, is asked for again."""
        left, asked = self.shop.side, self.ask()

        def so() -> bool:
            nonlocal asked
            settled = self.settled()  # before the journal is looked at: between the two it may cross
            if self.journal(left) == (asked, "done"):
                return True
            if settled:
                asked = self.ask()
            return False

        self.shop.until(so, lambda: f"{what}: journal {self.journal(left)}\n{self.tell()}", 150)
        self.ended(left, asked, True, what)

    def settle(self, what: str) -> None:
        """Until the phase says what is so."""
        expected = ("switched",) if self.shop.side == "target" else ("following", "rolled-back")
        self.shop.until(self.settled, lambda: f"{what}: settled, is {self.phase()}\n{self.tell()}", 60)
        assert self.phase() in expected, (what, self.phase(), self.reason())

    def check(self) -> None:
        with self.shop.resting():
            self.shop.check()

    def verify(self) -> None:
        """In the direction that applies."""
        report = self.move.verify()
        assert report["differences"] == 0 and report["complete"], report


@pytest.fixture(scope="module")
def market(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    """A migration that follows, verified in both directions, the application on the source."""
    with contextlib.ExitStack() as after:
        env = after.enter_context(pytest.MonkeyPatch.context())
        env.setenv("BOUNCER_PW", "bouncer-of-the-door")
        sides = {side: after.enter_context(_database(stack, side)) for side in ("source", "target")}
        wires = {side: after.enter_context(Wire(stack.postgres[side].port)) for side in sides}
        one = _move(stack, tmp_path_factory.mktemp("crossings"), sides, wires, _bouncer(stack, sides, after))
        for name in ("SOURCE_PW", "TARGET_PW"):
            env.setenv(name, one.env[name])
        after.callback(one.end)
        one.run("start", str(one.file), "--detach")
        one.controller()
        one.worker()
        one.wait("following")
        _grant(sides["target"])
        shop = Shop(
            {side: _url(database) for side, database in sides.items()},
            {side: database.url_with_password for side, database in sides.items()},
            (f"postgresql://{ROLE}:{WORD}@127.0.0.1:{_port(one)}/shop",) * 2,
        )
        after.callback(shop.end)
        shop.begin()
        market = Market(stack, one, sides, shop, wires)
        market.verify()
        yield market


@contextlib.contextmanager
def _database(stack: Stack, side: str) -> Iterator[TestDatabase]:
    server, name = stack.postgres[side], f"crossings_{side}"
    with psycopg.connect(server.url(), password=server.password, autocommit=True) as db:
        db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        if db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None:
            db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ROLE), sql.Literal(WORD)))
    made = TestDatabase(side, name, server.url(name), server.password, server.url(name, with_password=True))
    if side == "source":
        with psycopg.connect(made.url_with_password, autocommit=True) as db:
            db.execute(SCHEMA)
        _grant(made)
    yield made
    with psycopg.connect(server.url(), password=server.password, autocommit=True) as db:
        slots = "SELECT slot_name, pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = %s"
        for slot, _ in db.execute(slots, (name,)).fetchall():
            db.execute("SELECT pg_drop_replication_slot(%s)", (slot,))
        db.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _grant(database: TestDatabase) -> None:
    with psycopg.connect(database.url_with_password, autocommit=True) as db:
        db.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}")
        db.execute(f"GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {ROLE}")


def _url(database: TestDatabase) -> str:
    return database.url.replace("postgres@", f"{ROLE}:{WORD}@")


def _port(one: Move) -> int:
    return int(one.env["POOLER_PORT"])


def _bouncer(stack: Stack, sides: dict[str, TestDatabase], after: contextlib.ExitStack) -> pgbouncer.PgBouncer | None:
    if pgbouncer.installed() is None:
        return None
    where = f"host=127.0.0.1 port={stack.postgres['source'].port} dbname={sides['source'].name}"
    at = pgbouncer.PgBouncer.beside(stack, "market", database="shop", where=where, users={ROLE: WORD})
    write_private(at.password_file, "bouncer-of-the-door")
    at.start()
    after.callback(at.stop)
    return at


def _move(stack: Stack, folder: Path, sides: dict[str, TestDatabase], wires: dict[str, Wire], at: pgbouncer.PgBouncer | None) -> Move:
    """crossfade's own sessions go through the wires; Kafka Connect, the pooler and the application do not."""
    if at is None:
        pytest.skip("PGBOUNCER IS NOT INSTALLED: crossings that are killed are not tested")
    given = {
        "admin": [at.console_url],
        "password": {"env": "BOUNCER_PW"},
        "database": "shop",
        "file": str(at.databases),
        **{side: f"host=127.0.0.1 port={stack.postgres[side].port} dbname={database.name}" for side, database in sides.items()},
    }
    cutover = {"driver": "pgbouncer", "fence": {"roles": [ROLE]}, "pause_budget": BUDGET, "max_lag": 10, "max_transaction_age": 20}
    spec: dict[str, Any] = {"tables": [{"from": "public.*"}], "cutover": cutover, "drivers": {"pgbouncer": given}}
    one = Move(stack, folder, "market", sides["source"], sides["target"], **spec)
    document = yaml.safe_load(one.file.read_text())
    for side, database in sides.items():
        document[side]["connector_url"] = database.url
        document[side]["url"] = database.url.replace(f":{stack.postgres[side].port}/", f":{wires[side].port}/")
    one.file.write_text(yaml.safe_dump(document))
    one.env["POOLER_PORT"] = str(at.port)
    return one


def _some(places: list[str]) -> list[str]:
    """Each step once, at its beginning and at its end by turns; all of them with CROSSFADE_EVERY_PLACE=1."""
    return places if EVERY else [place for at, place in enumerate(places) if at % 4 in (0, 3)]


def test_s26_killed_at_every_step(market: Market) -> None:
    """The watchdog alone brings the clients back, in no time: what was not decided is undone, what was is finished. The next controller
    finds it so, and is killed in turn. Over and back alternate, and so do the directions in which a step is killed."""
    places = _some([f"crossing.{step}.{when}" for step in BEFORE for when in ("begun", "done")])
    decided = _some(["crossing.decide.done", *(f"crossing.{step}.{when}" for step in AFTER for when in ("begun", "done")), "crossing.done"])
    share = math.ceil(len(places) / len(decided))
    order = [place for n, last in enumerate(decided) for place in (*places[n * share : (n + 1) * share], last)]
    assert sorted(order) == sorted(places + decided)
    market.replace(order[0])
    waits: list[float] = []
    for place, following in zip(order, [*order[1:], ""], strict=True):
        began, left, shop = time.monotonic(), market.shop.side, market.shop
        shop.waited()
        after = market.controller(following)
        number = market.died(market.leader, place)
        if ".close." in place:  # nobody waits yet, so no watchdog is armed
            market.lease_runs_out()
        market.ended(left, number, place in decided, place)
        waits.append(shop.waited())
        market.follow(after)
        market.settle(place)
        market.check()
        if shop.crossings == 1 and place in decided:
            market.verify()
        if place == "crossing.close.done":
            shop.probe()  # before the first crossing nobody closes the target
        print(f"{place}: {left}, {time.monotonic() - began:.1f} s, clients waited {waits[-1]:.2f} s")
    market.verify()
    assert max(waits) < BUDGET + GENEROUS, waits


def test_s26_killed_again_while_undone_or_finished(market: Market) -> None:
    """The controller, then its watchdog, then one successor after another. The last one ends it."""
    for first, watchdog, *successors in (
        ("turn.done", "crossing.turn.undone", "mute.undone", "fence.undone", "pause.undone"),
        ("decide.done", "crossing.open.begun", "open.done", "repoint.begun"),
        ("fence.begun", "watchdog.acts", "fence.undone"),
        ("resume.begun", "watchdog.acts", "resume.done", "done"),
    ):
        began, left, crossed = time.monotonic(), market.shop.side, first.startswith(("decide", *AFTER))
        what = f"{first}, then {watchdog}, then {', '.join(successors)}"
        market.replace(f"crossing.{first}", watchdog)
        number = market.died(market.leader, first)
        market.shop.until(lambda: not market.watchdogs(), f"the watchdog gets to {what}")
        for place in successors:
            market.replace(f"crossing.{place}")
            market.gone(place)
        market.replace()
        market.ended(left, number, crossed, what)
        market.settle(what)
        market.check()
        print(f"{what}: {left}, {time.monotonic() - began:.1f} s")
    market.verify()


def test_s26_cut_off_at_every_step(market: Market) -> None:
    """One database is away for a second when a step has begun, the other one at the next step; then the same the other way round, in the
    other direction: each step with either side away."""
    places = [f"crossing.{step}.begun" for step in (*BEFORE, *AFTER)]
    for turn in range(1 + EVERY):
        market.replace(",".join(f"{place}=stop" for place in places))
        cuts = 0
        while cuts < len(places):
            left, began, was = market.shop.side, time.monotonic(), cuts
            market.shop.waited()
            number = market.ask()
            while market.stopped(market.leader, left, number):
                away = market.wires["source" if cuts % 2 == turn else "target"]
                away.cut()
                market.leader.send_signal(signal.SIGCONT)
                time.sleep(1.0)  # that long it is away
                away.mend()
                cuts += 1
            market.ended(left, number, market.journal(left)[1] == "done", f"{was} to {cuts}")
            market.settle(f"{was} to {cuts}")
            market.check()
            waited = market.shop.waited()
            print(f"cut off at {places[was:cuts]}: {left}, {market.journal(left)}, {time.monotonic() - began:.1f} s, waited {waited:.2f} s")
            assert cuts > was and waited < BUDGET + GENEROUS
    market.verify()


@pytest.mark.parametrize(
    "place", ["fence.begun", "mute.begun", "open.begun", "fence.undone", *(["drain.begun", "open.done"] if EVERY else [])]
)
def test_s27_frozen_through_the_next_crossing(market: Market, place: str) -> None:
    """Frozen in the middle, the controller is deposed; another one ends that crossing and crosses again. Thawed, it changes nothing."""
    worker = market.move.processes["worker"]
    market.replace(f"crossing.{place}=stop")
    frozen, left, log = market.leader, market.shop.side, market.move.folder / f"controller-{market.controllers}.log"
    if place == "fence.undone":
        number = market.ask(budget=3.0)
        market.shop.until(lambda: market.journal(left) == (number, "running"), "it has begun")
        worker.send_signal(signal.SIGSTOP)  # nothing is drained: it undoes by itself
    else:
        number = market.ask(budget=3.0)
    try:
        market.shop.until(lambda: frozen.stopped(), lambda: f"it stops\n{market.tell()}", 90)
    finally:
        worker.send_signal(signal.SIGCONT)
    market.leader = market.controller()
    # What opens has no deadline of the crossing's; it comes too late because the lease is longer than it may take.
    if not place.startswith("open"):
        market.lease_runs_out()
    market.ended(left, number, place.startswith("open"), place)  # the watchdog undoes at the deadline, the successor finishes
    market.settle(place)
    market.crosses("the successor crosses")
    market.settle("the successor crosses")
    frozen.send_signal(signal.SIGCONT)
    market.shop.until(lambda: "leading no more" in log.read_text(), lambda: f"it sees that\n{log.read_text()}")
    market.shop.sells(market.shop.side)
    market.check()
    frozen.kill()
    market.verify()


COMPLETE = (
    "fence.done",
    "phase.done",
    "back.streams.done",
    "back.tables.done",
    "back.forget.done",
    "back.start-over.done",
    "back.done",
    "streams.done",
    "tables.done",
    "done",
)


def test_complete_is_killed_at_every_point(market: Market) -> None:
    """Run again it goes on, and in the end nothing of crossfade's is left on either side, in Kafka or in Connect."""
    if market.shop.side == "source":
        left, number = market.shop.side, market.ask()
        market.ended(left, number, True, "over once more")
        market.settle("over once more")
    one, shop = market.move, market.shop
    with shop.resting():
        shop.check()
        for place in COMPLETE:
            one.env["CROSSFADE_FAILPOINTS"] = f"complete.{place}"
            done = one.run("complete", str(one.file), check=False)
            assert done.returncode == -signal.SIGKILL, (place, done.stderr)
        del one.env["CROSSFADE_FAILPOINTS"]
        for _ in range(2):
            one.run("complete", str(one.file))
        for side in ("source", "target"):
            assert shop.ask(side, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 0
            assert shop.ask(side, "SELECT count(*) FROM pg_publication") == 0
            assert (
                shop.ask(
                    side,
                    "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase AND d.datname = current_database()",
                )
                == 0
            )
            with psycopg.connect(_url(market.sides[side])) as db:
                db.execute("UPDATE account SET balance = balance")
                db.rollback()
        assert shop.ask("source", "SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'") == 0
        for table in ("stream", "table_state", "crossing", "marker", "chunk"):
            assert shop.ask("target", f"SELECT count(*) FROM crossfade.{table}") == 0, table
        topics = AdminClient({"bootstrap.servers": market.stack.kafka_bootstrap}).list_topics(timeout=30).topics
        assert not [topic for topic in topics if "market" in topic]
        with ConnectClient(Access(market.stack.connect_url)) as connect:
            assert connect.names() == []
        assert market.leader.wait(30) == 0
