"""kill -9 under load: worker, Kafka Connect, broker, controller, target; a worker frozen past its session timeout. The ledger is clean."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.background import Background
from tests.system.harness import Move

pytestmark = pytest.mark.system

SCHEMA = """
CREATE TABLE account (id bigint PRIMARY KEY, balance bigint NOT NULL, email text UNIQUE, note text);
CREATE TABLE entry (account bigint NOT NULL, n bigint NOT NULL, amount numeric(12,2) NOT NULL, PRIMARY KEY (account, n));
INSERT INTO account SELECT g, 0, 'a' || g || '@x', repeat(md5(g::text), 100) FROM generate_series(1, 4000) g;
ALTER TABLE account ALTER note SET STORAGE EXTERNAL;
"""


class Ledger(Background):
    """Writes to the source and keeps, outside every database, what was acknowledged: I1 and I2 are judged by it."""

    def __init__(self, database: TestDatabase) -> None:
        super().__init__()
        self.database = database
        self.accounts: dict[int, tuple[int, str | None]] = {g: (0, f"a{g}@x") for g in range(1, 4001)}
        self.entries: dict[tuple[int, int], str] = {}
        self.transactions = 0

    def work(self) -> None:
        dice, fresh = random.Random(7), 10_000
        with psycopg.connect(self.database.url, password=self.database.password) as db:
            while not self.halt.is_set():
                accounts, entries = dict(self.accounts), dict(self.entries)
                for _ in range(dice.randint(1, 5)):
                    key = dice.choice(list(accounts))
                    balance, email = accounts[key]
                    what = dice.random()
                    if what < 0.5:
                        db.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (key,))  # note stays out of the event (TOAST)
                        accounts[key] = (balance + 1, email)
                        n = len(entries)
                        while (key, n) in entries:
                            n += 1
                        db.execute("INSERT INTO entry VALUES (%s, %s, %s)", (key, n, "1.50"))
                        entries[key, n] = "1.50"
                    elif what < 0.6:
                        fresh += 1
                        db.execute("INSERT INTO account VALUES (%s, 5, %s, 'new')", (fresh, f"n{fresh}@x"))
                        accounts[fresh] = (5, f"n{fresh}@x")
                    elif what < 0.7:
                        db.execute("DELETE FROM account WHERE id = %s", (key,))
                        del accounts[key]
                    elif what < 0.8:
                        fresh += 1
                        db.execute("UPDATE account SET id = %s WHERE id = %s", (fresh, key))  # s9, with a TOAST column left out
                        accounts[fresh] = accounts.pop(key)
                    elif what < 0.95:  # s11: a unique value is handed over
                        other = dice.choice(list(accounts))
                        if other != key:
                            db.execute("UPDATE account SET email = NULL WHERE id = %s", (key,))
                            db.execute("UPDATE account SET email = %s WHERE id = %s", (email, other))
                            accounts[key], accounts[other] = (balance, None), (accounts[other][0], email)
                    elif entries:
                        gone = dice.choice(list(entries))
                        db.execute("DELETE FROM entry WHERE account = %s AND n = %s", gone)
                        del entries[gone]
                if dice.random() < 0.1:
                    db.rollback()
                else:
                    db.commit()
                    self.accounts, self.entries = accounts, entries
                    self.transactions += 1
                time.sleep(0.005)  # a rate that leaves the machine to the servers; nothing waits for it

    def check(self, target: TestDatabase) -> None:
        """Lost or unexpected rows on the target."""
        with psycopg.connect(target.url, password=target.password) as db:
            accounts = {i: (b, e) for i, b, e in db.execute("SELECT id, balance, email FROM account").fetchall()}
            entries = {(a, n): str(v) for a, n, v in db.execute("SELECT account, n, amount FROM entry").fetchall()}
        assert _apart(self.accounts, accounts) == ([], [], [])
        assert _apart(self.entries, entries) == ([], [], [])


def _apart(expected: dict, found: dict) -> tuple[list, list, list]:
    lost = [k for k in expected if k not in found][:5]
    unexpected = [k for k in found if k not in expected][:5]
    stale = [(k, expected[k], found[k]) for k in expected if k in found and found[k] != expected[k]][:5]
    return lost, unexpected, stale


def begun(pg_database: MakeDatabase, move: Callable[..., Move], **backfill: int) -> tuple[Move, Ledger, TestDatabase]:
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute(SCHEMA)
    one = move("kills", source, target, tables=[{"from": "public.*"}], backfill={"chunk_rows": 500, "workers": 2, **backfill})
    ledger = Ledger(source)
    ledger.start()
    one.begin()
    return one, ledger, target


@pytest.fixture
def running(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> tuple[Move, Ledger, TestDatabase]:
    return begun(pg_database, move)


def finish(one: Move, ledger: Ledger, target: TestDatabase) -> None:
    ledger.stop()
    report = one.verify()
    assert report["differences"] == 0 and report["complete"], report["found"][:5]
    ledger.check(target)
    assert ledger.transactions > 100


def progress(one: Move, more: int = 200, timeout: float = 120) -> None:
    """Waits until so many more transactions are applied: what was struck is at work again."""
    begun = one.status()["streams"][0]["transactions"]
    deadline = time.monotonic() + timeout
    while True:
        now = one.status()
        assert now["phase"] != "failed", now["reason"]
        if now["streams"][0]["transactions"] >= begun + more:
            return
        assert time.monotonic() < deadline, (now["streams"], one.logs())
        time.sleep(0.3)


def test_kill_9_of_worker_and_controller_while_copying_and_following(running: tuple[Move, Ledger, TestDatabase]) -> None:
    """I1, I2, I5, I7; s1, s3, s7: the worker dies in the middle of chunks and batches, several times."""
    one, ledger, target = running
    one.wait("copying")
    for _ in range(2):
        one.kill("worker")
        one.kill("controller")
        one.worker()
        one.controller()
        progress(one)
    one.wait("following")
    one.kill("worker")
    one.worker()
    progress(one)
    finish(one, ledger, target)


def test_s26_kill_9_of_the_target_while_it_is_copied(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    """What COMMIT did not wait for the disk for is gone with the server: rows of chunks, that they are done, that they were taken."""
    one, ledger, target = begun(pg_database, move, max_rate=40, chunk_rows=100)  # slow: it is still at it after three kills
    one.wait("copying")

    def copied() -> int:
        return sum(table["rows_copied"] for table in one.status()["tables"])

    for _ in range(3):
        done, deadline = copied(), time.monotonic() + 120
        while copied() <= done:
            assert time.monotonic() < deadline, one.logs()
        stack.postgres["target"].kill()
        stack.postgres["target"].start()
        assert one.status()["phase"] == "copying"
    one.run("throttle", str(one.file), "100000")
    one.wait("following")
    finish(one, ledger, target)


def test_kill_9_of_connect_broker_and_target(stack: Stack, running: tuple[Move, Ledger, TestDatabase]) -> None:
    """s2, s3: replays after a crash of Connect are recognised by position; the broker and the target come back and it goes on."""
    one, ledger, target = running
    one.wait("following")
    stack.connect.kill()
    stack.connect.start()
    progress(one)
    stack.kafka.kill()
    stack.kafka.start()
    progress(one)
    stack.postgres["target"].kill()
    stack.postgres["target"].start()
    progress(one)
    finish(one, ledger, target)


def test_a_worker_stops_when_it_is_told_though_kafka_and_target_are_away(stack: Stack, running: tuple[Move, Ledger, TestDatabase]) -> None:
    """Kafka's answer is waited for only so long; what is applied stands in the target, and the next worker goes on from there."""
    one, ledger, target = running
    one.wait("following")
    progress(one)
    for away in (stack.kafka, stack.postgres["target"]):
        worker = one.processes["worker"]
        away.kill()
        worker.send_signal(signal.SIGTERM)
        try:
            assert worker.wait(90) == 0, one.logs()
        finally:
            worker.kill()
            away.start()
        one.worker()
        progress(one)
    finish(one, ledger, target)


def test_s27_worker_frozen_past_its_session_changes_nothing_when_it_thaws(running: tuple[Move, Ledger, TestDatabase]) -> None:
    """Frozen in the middle of a batch it holds the stream's row. Its session is ended, the stream taken over under a new epoch; thawed, the
    old one is fenced."""
    one, ledger, target = running
    one.wait("following")
    old = one.processes["worker"]
    busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'crossfade apply' AND datname = current_database() AND xact_start < now()"
    with psycopg.connect(target.url_with_password, autocommit=True) as db:
        deadline = time.monotonic() + 60
        while True:
            old.send_signal(signal.SIGSTOP)
            while Path(f"/proc/{old.pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
                pass
            if db.execute(busy).fetchone() != (0,):
                break
            old.send_signal(signal.SIGCONT)
            assert time.monotonic() < deadline, "it is never in the middle of a batch"
            time.sleep(random.uniform(0, 0.05))
    one.worker("second")
    progress(one, timeout=180)
    old.send_signal(signal.SIGCONT)
    progress(one)
    finish(one, ledger, target)
