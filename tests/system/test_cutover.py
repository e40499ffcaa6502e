"""Crossing over and back on real servers, the application writing all the while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deploy.local import pgbouncer
from deploy.local.place import write_private
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


def test_s28_s29_over_and_back_without_a_pooler(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move], app_role: str) -> None:
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute(SCHEMA)
    one = move(
        "crossing",
        source,
        target,
        tables=[{"from": "public.*"}],
        cutover={"fence": {"roles": [app_role]}, "pause_budget": 20, "max_lag": 10},
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
    there = one.ask("cutover", str(one.file), timeout=200)
    assert there["crossed"], (there, one.logs())
    wait_for(lambda: sum(a.written["target"] for a in applications) > 50, applications)
    assert one.ask("verify", str(one.file), "--full")["differences"] == 0
    back = one.ask("rollback", str(one.file), timeout=200)
    assert back["crossed"], (back, one.logs())
    before = sum(a.written["source"] for a in applications)
    wait_for(lambda: sum(a.written["source"] for a in applications) > before + 50, applications)
    for application in applications:
        application.halt.set()
    for application in applications:
        application.join(60)
        assert application.error is None, application.error
    assert one.ask("verify", str(one.file), "--full")["differences"] == 0
    here = contents(target)
    assert contents(source) == here
    assert len(here["entry"]) == sum(a.entries for a in applications)
    balances = {row[0]: row[2] for row in here["account"]}
    for application in applications:
        for account, total in application.sums.items():
            assert balances[account] >= total
    assert sum(balances.values()) == len(here["entry"])
    assert set(there["step_ms"]) == set(back["step_ms"]) and there["pause_ms"] > 0
    assert one.status()["phase"] == "rolled-back"


class Client(threading.Thread):
    """An application behind a pooler: it knows one address and never tries anything twice."""

    def __init__(self, url: str, seed: int) -> None:
        super().__init__(daemon=True)
        self.url, self.seed, self.dice = url, seed, random.Random(seed)
        self.halt = threading.Event()
        self.error: BaseException | None = None
        self.queries = self.transactions = 0
        self.slowest = 0.0
        self.keys: list[int] = []

    def run(self) -> None:
        try:
            with psycopg.connect(self.url, autocommit=False, prepare_threshold=None) as db:
                while not self.halt.is_set():
                    begun = time.monotonic()
                    account = self.dice.randint(1, 500) * 4 - self.seed % 4
                    db.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (account,))
                    row = db.execute("INSERT INTO entry (account, amount) VALUES (%s, 1) RETURNING id", (account,)).fetchone()
                    db.commit()
                    assert row is not None
                    self.keys.append(row[0])
                    self.queries += 3
                    self.transactions += 1
                    self.slowest = max(self.slowest, time.monotonic() - begun)
                    self.halt.wait(0.01)
        except BaseException as error:
            self.error = error


@pytest.mark.skipif(pgbouncer.installed() is None, reason="PGBOUNCER IS NOT INSTALLED: crossings through it are not tested")
def test_s29_no_query_fails_through_pgbouncer(
    stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move], app_role: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two PgBouncers, eight clients in a tight loop that try nothing twice; over and back and over."""
    monkeypatch.setenv("BOUNCER_PW", "bouncer-of-the-door")
    monkeypatch.setenv("SHOPKEEPER_PW", "over-the-counter")
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute(SCHEMA)
    granted(source, app_role)
    where = {
        name: f"host=127.0.0.1 port={stack.postgres[name].url().rpartition(':')[2].partition('/')[0]} dbname={database.name}"
        for name, database in (("source", source), ("target", target))
    }

    def bouncer(number: int, **more: Path) -> pgbouncer.PgBouncer:
        users = {app_role: "over-the-counter"}
        return pgbouncer.PgBouncer.beside(stack, f"cut-{number}", database="shop", where=where["source"], users=users, **more)

    first = bouncer(1)
    bouncers = [first, bouncer(2, databases=first.databases)]
    for at in bouncers:
        at.password_file.parent.mkdir(exist_ok=True)
        write_private(at.password_file, "bouncer-of-the-door")
        at.start()
    one = move(
        "pooled",
        source,
        target,
        tables=[{"from": "public.*"}],
        cutover={"driver": "pgbouncer", "fence": {"roles": [app_role]}, "pause_budget": 20, "max_lag": 10},
        drivers={
            "pgbouncer": {
                "admin": [at.console_url for at in bouncers],
                "password": {"env": "BOUNCER_PW"},
                "database": "shop",
                "file": str(first.databases),
                "probe": {"user": app_role, "password": {"env": "SHOPKEEPER_PW"}},
                **where,
            }
        },
    )
    try:
        one.begin()
        one.wait("following")
        granted(target, app_role)
        clients = [Client(bouncers[n % 2].url(app_role, with_password=True), n) for n in range(8)]
        for client in clients:
            client.start()
        outcomes = []
        for command in ("cutover", "rollback", "cutover"):
            assert one.ask("verify", str(one.file), "--full")["differences"] == 0  # in the direction that applies
            before = sum(client.transactions for client in clients)
            outcomes.append(one.ask(command, str(one.file), timeout=200))
            assert outcomes[-1]["crossed"], (outcomes[-1], one.logs())
            steps = {step: round(ms) for step, ms in outcomes[-1]["step_ms"].items()}
            print(f"{command}: writes waited {outcomes[-1]['pause_ms']:.0f} ms: {steps}")
            wait_for(lambda before=before: sum(client.transactions for client in clients) > before + 100, clients)
        assert one.ask("verify", str(one.file), "--full")["differences"] == 0
        for client in clients:
            client.halt.set()
        for client in clients:
            client.join(60)
            assert client.error is None, client.error
        assert one.ask("verify", str(one.file), "--full")["differences"] == 0
        there, here = contents(source), contents(target)
        assert there == here
        keys = [key for client in clients for key in client.keys]
        assert len(keys) == len(set(keys)) == len(here["entry"])  # every acknowledged insert is there once, under a key of its own
        assert set(keys) == {row[0] for row in here["entry"]}
        one.run("complete", str(one.file))
        with psycopg.connect(source.url, password=source.password) as db:
            assert db.execute("SELECT count(*) FROM pg_replication_slots WHERE database = current_database()").fetchone() == (0,)
            assert db.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'crossfade'").fetchone() == (0,)
            assert db.execute("SELECT count(*) FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole").fetchone() == (0,)
    finally:
        one.end()
        for at in bouncers:
            at.stop()


def wait_for(done: Callable[[], bool], applications: Sequence[Application | Client], timeout: float = 60) -> None:
    deadline = time.monotonic() + timeout
    while not done():
        for application in applications:
            assert application.error is None, application.error
        assert time.monotonic() < deadline
        time.sleep(0.05)
