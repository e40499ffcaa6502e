"""Crossing over and back on real servers, the application writing all the while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import psycopg
import pytest
from psycopg import sql

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system

SCHEMA = """
CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL, email text UNIQUE);
CREATE TABLE entry (id serial PRIMARY KEY, account bigint NOT NULL REFERENCES account, amount bigint NOT NULL);
INSERT INTO account (owner, balance, email) SELECT 'o' || g, 0, 'e' || g || '@x' FROM generate_series(1, 2000) g;
"""


class Application(threading.Thread):
    """Moves amounts between accounts, adds accounts; knows what was acknowledged. Where a write is refused it tries again, on whichever
    side takes it: an application without a pooler."""

    def __init__(self, sides: dict[str, str], seed: int) -> None:
        super().__init__(daemon=True)
        self.sides, self.dice = sides, random.Random(seed)
        self.seed = seed
        self.sums: dict[int, int] = {}
        self.entries = 0
        self.written: dict[str, int] = {"source": 0, "target": 0}
        self.halt = threading.Event()
        self.error: BaseException | None = None
        self.slowest = 0.0

    def run(self) -> None:
        try:
            side, db = "source", None
            while not self.halt.is_set():
                begun = time.monotonic()
                while True:
                    try:
                        if db is None or db.closed:
                            db = psycopg.connect(self.sides[side], autocommit=False)
                        account = self._once(db)
                        break
                    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction):
                        if db is not None:
                            db.close()
                        db = None
                        side = "target" if side == "source" else "source"
                        time.sleep(0.002)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.sums[account] = self.sums.get(account, 0) + 1
                self.entries += 1
                self.written[side] += 1
                time.sleep(0.004)
            if db is not None:
                db.close()
        except BaseException as error:
            self.error = error

    def _once(self, db: psycopg.Connection) -> int:
        if self.dice.random() < 0.1:
            row = db.execute("INSERT INTO account (owner, balance) VALUES ('new', 0) RETURNING id").fetchone()
            assert row is not None
            account = row[0]
        else:
            account = self.dice.randint(1, 500) * 4 - self.seed  # accounts of its own
        db.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (account,))
        db.execute("INSERT INTO entry (account, amount) VALUES (%s, 1)", (account,))
        db.commit()
        return account


def contents(database: TestDatabase) -> dict[str, list]:
    with psycopg.connect(database.url, password=database.password) as db:
        return {
            "account": db.execute("SELECT * FROM account ORDER BY id").fetchall(),
            "entry": db.execute("SELECT * FROM entry ORDER BY id").fetchall(),
        }


@pytest.fixture
def app_role(stack: Stack) -> str:
    """An ordinary role of the application, on both servers."""
    for server in stack.postgres.values():
        with psycopg.connect(server.url(), password=server.password, autocommit=True) as db:
            if db.execute("SELECT 1 FROM pg_roles WHERE rolname = 'shopkeeper'").fetchone() is None:
                db.execute("CREATE ROLE shopkeeper LOGIN PASSWORD 'over-the-counter'")
    return "shopkeeper"


def granted(database: TestDatabase, role: str) -> str:
    """Gives the application its rights; answers the URL that it connects with."""
    with psycopg.connect(database.url, password=database.password, autocommit=True) as db:
        db.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(sql.Identifier(role)))
        db.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(sql.Identifier(role)))
    return database.url.replace("postgres@", f"{role}:over-the-counter@")


def test_s28_s29_over_and_back_and_over_again_without_a_pooler(
    stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move], app_role: str
) -> None:
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute(SCHEMA)
    one = move(
        "crossing", source, target, tables=[{"from": "public.*"}], cutover={"fence": {"roles": [app_role]}, "pause_budget": 20, "max_lag": 10}
    )
    sides = {"source": granted(source, app_role)}
    one.begin()
    one.wait("following")
    sides["target"] = granted(target, app_role)
    applications = [Application(sides, seed) for seed in range(4)]
    for application in applications:
        application.start()
    assert one.ask("verify", str(one.file), "--full")["differences"] == 0
    dry = one.ask("cutover", str(one.file), "--dry-run")
    assert all(gate["ok"] for gate in dry["gates"]), dry
    pauses = []
    for number in range(3):
        there = one.ask("cutover", str(one.file), timeout=200)
        assert there["crossed"], (there, one.logs())
        pauses.append(there["pause_ms"])
        wait_for(lambda: sum(a.written["target"] for a in applications) > 50 * (number + 1), applications)
        if number == 2:
            break
        assert one.ask("verify", str(one.file), "--full")["differences"] == 0
        back = one.ask("rollback", str(one.file), timeout=200)
        assert back["crossed"], (back, one.logs())
        pauses.append(back["pause_ms"])
        before = sum(a.written["source"] for a in applications)
        wait_for(lambda: sum(a.written["source"] for a in applications) > before + 50, applications)
        assert one.ask("verify", str(one.file), "--full")["differences"] == 0
    for application in applications:
        application.halt.set()
    for application in applications:
        application.join(60)
        assert application.error is None, application.error
    assert one.ask("verify", str(one.file), "--full")["differences"] == 0
    there, here = contents(source), contents(target)
    assert there == here
    assert len(here["entry"]) == sum(a.entries for a in applications)
    balances = {row[0]: row[2] for row in here["account"]}
    for application in applications:
        for account, total in application.sums.items():
            assert balances[account] >= total
    assert sum(balances.values()) == len(here["entry"])
    print("pauses", [round(p) for p in pauses], "slowest", [round(a.slowest * 1000) for a in applications])


def wait_for(done: Callable[[], bool], applications: list[Application], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        for application in applications:
            assert application.error is None, application.error
        assert time.monotonic() < deadline
        time.sleep(0.05)
