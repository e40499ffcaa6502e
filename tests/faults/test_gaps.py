"""Scenario 6, I9: what the stream needs is gone. The migration ends in `failed` with one line that says which, or has it sent again;
nothing is lost in silence."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
from confluent_kafka.admin import AdminClient

from connectors.topics import ensure_topic, offsets_of
from deploy.local.stack import Stack
from tests.conftest import MakeDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system


def until(true: Callable[[], Any], what: Callable[[], object], timeout: float = 150) -> Any:
    """Asks until it is so, and answers what it was."""
    deadline = time.monotonic() + timeout
    while not (found := true()):
        assert time.monotonic() < deadline, what()
        time.sleep(0.3)
    return found


def failed(one: Move) -> str:
    """The reason, which is one line, once it has failed; every command says it."""
    until(lambda: one.status()["phase"] == "failed", lambda: (one.status(), one.logs()))
    reason = str(one.status()["reason"])
    assert "\n" not in reason and len(reason) > 20
    done = one.run("wait", str(one.file), "--for", "following", "--timeout", "5", check=False)
    assert done.returncode == 1 and reason[:40] in done.stderr + done.stdout
    return reason


def purged(cursor: Any, name: str) -> bool:
    cursor.execute(f"PURGE BINARY LOGS TO '{name}'")
    cursor.execute("SHOW BINARY LOGS")
    return bool(cursor.fetchall()[0][0] == name)


class Postgres:
    """A migration of one table that follows, and the two sides of it."""

    def __init__(self, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
        self.source, self.target = pg_database("source"), pg_database("target")
        self.on = psycopg.connect(self.source.url, password=self.source.password, autocommit=True)
        self.on.execute("CREATE TABLE item (id bigserial PRIMARY KEY, v int)")
        self.write(100)
        self.one = move("gaps", self.source, self.target, tables=[{"from": "public.item"}])
        self.one.begin()
        self.one.wait("following")
        self.write(100)
        until(self.same, self.one.logs)

    def write(self, rows: int) -> None:
        for _ in range(rows // 10):
            self.on.execute("INSERT INTO item (v) SELECT 1 FROM generate_series(1, 10)")

    def same(self) -> bool:
        with psycopg.connect(self.target.url, password=self.target.password) as db:
            query = "SELECT count(*), sum(id) FROM item"
            return db.execute(query).fetchone() == self.on.execute(query).fetchone()

    def slots(self) -> list[str]:
        rows = self.on.execute("SELECT slot_name FROM pg_replication_slots WHERE database = current_database() ORDER BY slot_name")
        return [name for (name,) in rows.fetchall()]

    def drop(self, slot: str) -> None:
        self.on.execute("SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE slot_name = %s AND active", (slot,))
        self.on.execute("SELECT pg_drop_replication_slot(%s)", (slot,))


@pytest.fixture
def postgres(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> Any:
    made = Postgres(pg_database, move)
    yield made
    stack.connect.start()
    made.on.close()


@pytest.mark.parametrize("kept", [False, True], ids=["without-the-kept-slot", "with-the-kept-slot"])
def test_s6_a_slot_dropped_while_connect_was_away(stack: Stack, postgres: Postgres, kept: bool) -> None:
    """A connector that makes itself a new slot goes on at a later place: what was committed in between is never sent."""
    stack.connect.kill()
    for slot in postgres.slots():
        if not kept or not slot.endswith("_kept"):
            postgres.drop(slot)
    postgres.write(100)
    stack.connect.start()
    postgres.write(100)
    if kept:
        until(postgres.same, lambda: (postgres.one.status(), postgres.one.logs()))
        report = postgres.one.verify()
        assert report["differences"] == 0 and postgres.one.status()["phase"] == "following"
        assert len(postgres.slots()) == 2
    else:
        assert "no longer available" in failed(postgres.one)
        assert not postgres.same()


@pytest.mark.parametrize("found", ["shorter", "longer", "while-it-is-read"])
def test_s6_a_topic_that_was_made_again_is_sent_again(stack: Stack, postgres: Postgres, found: str) -> None:
    """Everything Kafka had of the stream is gone, part of it not applied yet. A topic that is longer than the old one by the time somebody
    looks has a record at the very offset that comes next."""
    topic = "crossfade.gaps.main"

    def end() -> int:
        return offsets_of(stack.kafka_bootstrap, topic)[1]

    reader = found == "while-it-is-read"
    if reader:
        postgres.write(1000)  # the new one is not as long so soon
        until(postgres.same, postgres.one.logs)
    else:
        postgres.one.kill("worker")
    old = end()
    postgres.write(200)
    until(lambda: end() > old + 60, postgres.one.logs)
    client = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    client.delete_topics([topic])[topic].result(60)
    until(lambda: topic not in client.list_topics(timeout=30).topics, postgres.one.logs)
    postgres.write(100)
    ensure_topic(stack.kafka_bootstrap, topic)
    postgres.write(100)
    if found == "longer":
        postgres.write(5000)
        until(lambda: end() > old + 500, postgres.one.logs)
    if not reader:
        postgres.one.worker()
    until(lambda: sent_again(postgres), lambda: (postgres.one.status(), postgres.one.logs()))
    until(postgres.same, lambda: (postgres.one.status(), postgres.one.logs()))
    assert postgres.one.verify()["differences"] == 0


def sent_again(postgres: Postgres) -> bool:
    with psycopg.connect(postgres.target.url, password=postgres.target.password) as db:
        found = db.execute("SELECT count(*) > 0 FROM crossfade.audit WHERE action = 'sent-again'").fetchone()
        return found == (True,)


def test_s6_a_binary_log_that_is_purged(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    with pymysql.connect(host="127.0.0.1", port=stack.mariadb["source"].port, user="root", password=source.password, autocommit=True) as db:
        cursor = db.cursor()
        cursor.execute(f"CREATE TABLE {source.name}.item (id int PRIMARY KEY, v int)")
        one = move("gaps", source, target, tables=[{"from": f"{source.name}.item"}])
        one.begin()
        one.wait("following")
        stack.connect.kill()
        try:
            cursor.execute(f"INSERT INTO {source.name}.item VALUES (1, 1)")
            cursor.execute("FLUSH BINARY LOGS")
            # what a connection that is gone was reading is not purged
            cursor.execute("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'")
            for (dump,) in cursor.fetchall():
                cursor.execute(f"KILL {dump}")
            cursor.execute("SHOW MASTER STATUS")
            (name, *_) = cursor.fetchone() or ("",)
            until(lambda: purged(cursor, name), lambda: "the log is not purged")
            cursor.execute(f"INSERT INTO {source.name}.item VALUES (2, 2)")
        finally:
            stack.connect.start()
        reason = failed(one)
        assert "purged" in reason or "no longer available" in reason, reason
        with psycopg.connect(target.url, password=target.password) as to:
            assert to.execute("SELECT * FROM item").fetchall() == []  # nothing of what comes after the gap
