"""What keeps a cutover from happening, or undoes it: scenarios 25, 30 and 31, `abort` and `promote`. One migration through its whole life,
in the order of the file, an application without a pooler writing all the while."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
import yaml

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase
from tests.system.harness import Move
from tests.system.test_cutover_engines import POSTGRES, ROLE, WORD, Side
from tests.system.till import Till, alive, close, until_written

pytestmark = pytest.mark.system
BUDGET, GENEROUS = 3.0, 10.0


@dataclasses.dataclass
class Held:
    """The migration, its sides, and who writes."""

    one: Move
    source: Side
    target: Side
    tills: list[Till]

    def cutover(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.one.run("cutover", str(self.one.file), "--json", *options, check=False, timeout=200)

    @contextlib.contextmanager
    def limits(self, **limits: object) -> Iterator[None]:
        """For the commands that are run meanwhile; the controller keeps its own."""
        before = self.one.file.read_text()
        document = yaml.safe_load(before)
        document["cutover"] |= limits
        self.one.file.write_text(yaml.safe_dump(document))
        try:
            yield
        finally:
            self.one.file.write_text(before)

    def phase(self) -> str:
        return str(self.target.admin("SELECT phase FROM crossfade.migration WHERE name = 'held'")[0][0])

    def begun(self) -> str:
        """The step that the crossing under way has begun."""
        rows = self.source.admin("SELECT steps FROM crossfade.crossing WHERE migration = 'held-back' ORDER BY id DESC LIMIT 1")
        return str(list(json.loads(rows[0][0]))[-1]) if rows else "none"

    @contextlib.contextmanager
    def without_drain(self) -> Iterator[None]:
        """From the fence of the next crossing on no worker applies anything."""
        controller, worker = self.one.processes["controller"], self.one.processes["worker"]
        until(lambda: controller.stopped(), "the controller stands before the fence", 120)
        worker.send_signal(signal.SIGSTOP)
        controller.send_signal(signal.SIGCONT)
        try:
            yield
        finally:
            worker.send_signal(signal.SIGCONT)


def until(true: Callable[[], object], what: str, timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}"
        time.sleep(0.02)


def why(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """The gates that are shut, and why."""
    return {gate["id"]: gate["why"] for gate in json.loads(done.stdout)["gates"] if not gate["ok"]}


@pytest.fixture(scope="module")
def held(stack: Stack, shared_pg_database: MakeDatabase, shared_move: Callable[..., Move]) -> Iterator[Held]:
    source, target = (Side(stack, shared_pg_database(side)) for side in ("source", "target"))
    source.admin(*POSTGRES.strip().split(";\n"))
    one = shared_move(
        "held",
        source.database,
        target.database,
        tables=[{"from": "public.*"}],
        verify={"continuous": True, "interval": 1},
        cutover={"fence": {"roles": [ROLE]}, "pause_budget": 60, "max_lag": 10, "max_transaction_age": 60},
        complete={"old_tables": "rename", "suffix": "_before"},
    )
    one.run("start", str(one.file), "--detach")
    one.env["CROSSFADE_FAILPOINTS"] = "crossing.fence.begun=stop,crossing.fence.begun:2=stop"
    one.controller()
    one.env.pop("CROSSFADE_FAILPOINTS")
    source.hire()
    sides = {name: (lambda side=side: side.connect(ROLE, WORD)) for name, side in (("source", source), ("target", target))}
    tills = [Till(sides, number) for number in range(2)]
    for till in tills:
        till.start()
    yield Held(one, source, target, tills)
    close(tills)


def test_s30_before_the_copy_is_complete(held: Held) -> None:
    done = held.cutover()  # no worker: nothing is copied
    assert done.returncode == 1 and "a cutover begins from following" in done.stderr, done
    held.one.worker()
    held.one.wait("following")
    held.target.hire()
    until(lambda: (held.one.status()["verify"] or {}).get("finished_at"), "the continuous verify has been round once")


def test_s30_with_a_verify_that_is_old_or_found_something(held: Held) -> None:
    with held.limits(max_verify_age=0.001):
        done = held.cutover()
        assert done.returncode == 4 and why(done) == {"verified": "run crossfade verify --full"}, done
    held.target.admin("UPDATE account SET owner = 'another' WHERE id = 1999")
    assert held.one.run("verify", str(held.one.file), check=False).returncode == 1
    done = held.cutover()
    assert done.returncode == 4 and why(done) == {"verified": "run crossfade repair"}, done
    assert held.one.ask("repair", str(held.one.file))["left"] == 0
    assert held.one.verify()["differences"] == 0


def test_s30_behind_a_transaction_that_is_open_for_long_or_a_stream_that_lags(held: Held) -> None:
    with held.source.connect(ROLE, WORD) as db:
        db.execute("UPDATE account SET balance = balance WHERE id = 1998")
        pid = db.info.backend_pid
        with held.limits(max_transaction_age=0.001):
            done = held.cutover()
        assert done.returncode == 4 and str(pid) in why(done)["transactions"], done
        db.rollback()
    worker = held.one.processes["worker"]
    worker.send_signal(signal.SIGSTOP)
    try:
        with held.limits(max_lag=0.5):
            until(lambda: "lag" in why(held.cutover("--dry-run")), "the lag is seen")
    finally:
        worker.send_signal(signal.SIGCONT)
    assert held.phase() == "following"
    assert "complete" not in held.one.run("complete", str(held.one.file), check=False).stdout  # only what has switched


def test_s31_the_pause_budget_is_spent(held: Held) -> None:
    """No worker applies what was committed before the fence: writes are on the source again within the budget."""
    until(lambda: not why(held.cutover("--dry-run")), "all gates are open")
    assert 0 < json.loads(held.cutover("--dry-run").stdout)["pause_estimate_ms"] < 10_000
    outcome: list[subprocess.CompletedProcess[str]] = []
    asking = threading.Thread(target=lambda: outcome.append(held.cutover("--pause-budget", str(BUDGET))))
    asking.start()
    for till in held.tills:
        till.slowest = 0.0
    with held.without_drain():
        asking.join(120)
        assert outcome and outcome[0].returncode == 5 and not json.loads(outcome[0].stdout)["crossed"], outcome
        until_written(held.tills, "source", 20)
        assert held.phase() == "following"
    assert max(till.slowest for till in held.tills) < BUDGET + GENEROUS
    assert sum(till.written["target"] for till in held.tills) == 0
    assert held.one.verify()["differences"] == 0


def test_abort_in_the_middle_of_the_pause(held: Held) -> None:
    """It wins as long as the target is not opened."""
    until(lambda: not why(held.cutover("--dry-run")), "all gates are open")
    outcome: list[subprocess.CompletedProcess[str]] = []
    asking = threading.Thread(target=lambda: outcome.append(held.cutover()))
    asking.start()
    with held.without_drain():
        until(lambda: held.begun() == "drain", "it drains")
        assert held.one.ask("abort", str(held.one.file))["aborted"] == "the cutover is undone"
        until_written(held.tills, "source", 20)
        asking.join(120)
        assert outcome and outcome[0].returncode == 5, outcome
    assert held.phase() == "following"
    assert held.one.ask("abort", str(held.one.file))["aborted"] == "nothing was under way"
    actions = [row[0] for row in held.target.admin("SELECT action FROM crossfade.audit WHERE migration = 'held' ORDER BY id")]
    assert "abort" in actions and actions.count("cutover") >= 4  # two began, two came to nothing


def test_s25_a_transaction_held_open_across_the_cutover(held: Held) -> None:
    """It is ended and nowhere; what was committed just before the fence is on the target. `promote` is what asks for the cutover."""
    lost, kept = held.source.connect(ROLE, WORD), held.source.connect(ROLE, WORD)
    lost.execute("UPDATE account SET owner = 'lost' WHERE id = 1997")
    lost.execute("INSERT INTO account (owner, balance) VALUES ('lost', 0)")
    kept.execute("UPDATE account SET owner = 'kept' WHERE id = 1996")
    until(lambda: not why(held.cutover("--dry-run")), "all gates are open")
    crossing = threading.Thread(target=lambda: held.one.run("promote", str(held.one.file), timeout=200), daemon=True)
    crossing.start()
    until(lambda: held.phase() == "cutting-over", "it has begun")
    kept.commit()
    crossing.join(200)
    assert held.phase() == "switched", held.one.logs()
    with pytest.raises(psycopg.OperationalError):
        lost.commit()
    until_written(held.tills, "target", 20)
    for side in (held.target, held.source):
        until(lambda side=side: side.admin("SELECT owner FROM account WHERE id = 1996") == [("kept",)], "what was committed is there")
        assert side.admin("SELECT count(*) FROM account WHERE owner = 'lost'") == [(0,)]
    for db in (lost, kept):
        db.close()


def test_verify_and_repair_go_on_while_switched(held: Held) -> None:
    """In the direction that applies now: from the target to the source."""
    at = time.time()
    until(lambda: (held.one.status()["verify"] or {}).get("started_at", 0) > at, "the continuous verify goes round")
    held.source.admin("UPDATE account SET owner = 'another' WHERE id = 1995", "DELETE FROM entry WHERE id = 1")
    found = held.one.verify()
    assert found["differences"] == 2, found
    assert held.one.ask("repair", str(held.one.file))["left"] == 0
    assert held.one.verify()["differences"] == 0
    assert held.source.admin("SELECT owner FROM account WHERE id = 1995") == [("o1995",)]


def test_pause_resume_and_the_connectors_while_switched(held: Held) -> None:
    """Commands are about the direction that applies now."""

    def states() -> list[str]:
        return [stream["state"] for stream in held.one.status()["streams"]]

    connectors = [one["connector"] for one in held.one.ask("connectors", "status", str(held.one.file))["connectors"]]
    assert sorted("-back" in name for name in connectors) == [False, True], connectors
    held.one.run("pause", str(held.one.file))
    assert states() == ["paused"]
    held.target.admin("UPDATE account SET owner = 'later' WHERE id = 1994")
    held.one.run("resume", str(held.one.file))
    assert states() == ["running"]
    until(lambda: held.source.admin("SELECT owner FROM account WHERE id = 1994") == [("later",)], "the way back goes on")
    held.one.run("connectors", "restart", str(held.one.file))
    assert held.one.ask("quarantine", "list", str(held.one.file)) == []
    done = [event["action"] for event in held.one.ask("events", str(held.one.file))]
    assert "connector restart" in done, done


def test_complete_renames_the_old_tables(held: Held) -> None:
    held.source.admin("CREATE TABLE account_before (id int)")
    done = held.one.run("complete", str(held.one.file), check=False)
    assert done.returncode == 1 and "public.account_before is there already" in done.stderr, done
    assert held.phase() == "switched"
    held.source.admin("DROP TABLE account_before")
    held.one.run("complete", str(held.one.file))
    close(held.tills)
    tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
    assert held.source.admin(tables) == [("account_before",), ("entry_before",)]
    assert held.target.admin(tables) == [("account",), ("entry",)]
    for side in (held.source, held.target):
        assert side.admin("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == [(0,)]
        assert side.admin("SELECT count(*) FROM pg_publication") == [(0,)]
    assert held.source.admin("SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'") == [(0,)]
    held.one.run("complete", str(held.one.file))  # again: nothing is left to do
    alive(held.tills)


def test_reverse_none(stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    """A mapping that has no inverse is refused at `plan` unless the file says that there is no way back; then there is none, and the
    old tables may go. `manual: false`: the controller asks for the cutover when every gate is open."""
    source, target = Side(stack, mariadb_database("source")), Side(stack, pg_database("target"))
    source.admin(
        "CREATE TABLE person (id bigint AUTO_INCREMENT PRIMARY KEY, email varchar(80) NOT NULL)",
        "CREATE TABLE visit (id int AUTO_INCREMENT PRIMARY KEY, person bigint NOT NULL, FOREIGN KEY (person) REFERENCES person (id))",
        "INSERT INTO person (email) VALUES ('a@x'), ('b@x')",
        "INSERT INTO visit (person) VALUES (1), (2), (2)",
    )
    name = source.database.name
    one = move(
        "one-way",
        source.database,
        target.database,
        tables=[
            {"from": f"{name}.*"},
            {"from": f"{name}.person", "columns": {"email": {"mask": "email", "method": "partial", "keep_last": 2}}},
        ],
        cutover={"fence": {"roles": [ROLE]}, "pause_budget": 30, "max_lag": 10, "manual": False},
        complete={"old_tables": "drop"},
    )
    refused = {finding["id"]: finding for finding in one.plan()["findings"] if finding["severity"] == "error"}
    assert set(refused) == {"inverse.none"} and refused["inverse.none"]["object"] == f"{name}.person.email", refused
    assert one.run("start", str(one.file), "--detach", check=False).returncode == 1
    one.file.write_text(yaml.safe_dump(yaml.safe_load(one.file.read_text()) | {"reverse": "none"}))
    source.hire()
    one.begin()
    one.wait("following")
    target.hire()
    assert one.verify()["differences"] == 0
    one.wait("switched")  # nobody has to ask for it
    assert one.status()["gate"] == "ready: crossfade complete (reverse: none)"
    with pytest.raises(Exception, match=r"denied|locked|Access"):
        source.connect(ROLE, WORD)
    with target.connect(ROLE, WORD) as db:
        assert db.execute("INSERT INTO visit (person) VALUES (1) RETURNING id").fetchone()[0] > 3
    back: Any = one.run("rollback", str(one.file), "--json", check=False)
    assert back.returncode == 4 and "reverse" in why(back), back
    source.admin("CREATE TABLE note (person bigint, FOREIGN KEY (person) REFERENCES person (id))")
    done = one.run("complete", str(one.file), check=False)
    assert done.returncode == 1 and "note" in done.stderr, done
    source.admin("DROP TABLE note")
    one.run("complete", str(one.file))
    assert source.admin("SHOW TABLES") == []
    assert source.admin("SELECT count(*) FROM information_schema.schemata WHERE schema_name = 'crossfade'") == [(0,)]
    assert target.admin("SELECT count(*) FROM visit") == [(4,)]
