"""What Debezium or Kafka lost is sent again by the source, from the slot that was kept for it: many writers at once, Connect killed."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import psycopg
import pytest

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.background import Background
from tests.system.harness import Move

pytestmark = pytest.mark.system

WRITERS = 8


class Writer(Background):
    """Owns the rows whose id is its number modulo WRITERS, and knows what it was told is committed."""

    def __init__(self, database: TestDatabase, number: int) -> None:
        super().__init__()
        self.database, self.number = database, number
        self.rows: dict[int, int] = {}

    def work(self) -> None:
        dice, fresh = random.Random(self.number), self.number
        with psycopg.connect(self.database.url, password=self.database.password) as db:
            while not self.halt.is_set():
                rows = dict(self.rows)
                for _ in range(dice.randint(2, 8)):
                    if rows and dice.random() < 0.6:
                        key = dice.choice(list(rows))
                        rows[key] += 1
                        db.execute("UPDATE item SET v = %s WHERE id = %s", (rows[key], key))
                    elif rows and dice.random() < 0.2:
                        key = dice.choice(list(rows))
                        del rows[key]
                        db.execute("DELETE FROM item WHERE id = %s", (key,))
                    else:
                        fresh += WRITERS
                        rows[fresh] = 0
                        db.execute("INSERT INTO item VALUES (%s, 0)", (fresh,))
                    self.halt.wait(dice.random() / 100)  # transactions of several sessions lie across each other in the log
                db.commit()
                self.rows = rows


@pytest.fixture
def crowd(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> tuple[Move, list[Writer], TestDatabase]:
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute("CREATE TABLE item (id bigint PRIMARY KEY, v bigint NOT NULL)")
    one = move("crowd", source, target, tables=[{"from": "public.*"}])
    writers = [Writer(source, n) for n in range(WRITERS)]
    for writer in writers:
        writer.start()
    one.begin()
    one.wait("following")
    return one, writers, target


def finish(one: Move, writers: list[Writer], target: TestDatabase) -> None:
    for writer in writers:
        writer.halt.set()
    expected: dict[int, int] = {}
    for writer in writers:
        writer.stop()
        expected |= writer.rows
    report = one.verify()
    assert report["differences"] == 0 and report["complete"], report["found"][:5]
    with psycopg.connect(target.url, password=target.password) as db:
        found = dict(db.execute("SELECT id, v FROM item").fetchall())
    assert found == expected and len(found) > 100


def until(one: Move, done: Callable[[dict], bool], what: str, timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not done(now := one.status()):
        assert now["phase"] != "failed", now["reason"]
        assert time.monotonic() < deadline, (what, now, one.logs())
        time.sleep(0.3)


def test_s2_s6_connect_killed_while_many_write_loses_nothing(stack: Stack, crowd: tuple[Move, list[Writer], TestDatabase]) -> None:
    """Debezium may leave the first rows of a transaction out when it comes back (debezium/dbz#76). Then they are sent again."""
    one, writers, target = crowd
    for _ in range(4):
        stack.connect.kill()
        stack.connect.start()
        begun = one.status()["streams"][0]["transactions"]
        until(one, lambda now, begun=begun: now["streams"][0]["transactions"] > begun + 100, "transactions come again")
    finish(one, writers, target)


def test_s6_records_that_kafka_dropped_before_they_were_applied_are_sent_again(
    stack: Stack, crowd: tuple[Move, list[Writer], TestDatabase]
) -> None:
    """The topic's retention was shorter than the lag."""
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    from connectors.topics import offsets_of

    one, writers, target = crowd
    one.kill("worker")
    topic = "crossfade.crowd.main"
    _, before = offsets_of(stack.kafka_bootstrap, topic)
    deadline = time.monotonic() + 60
    while (high := offsets_of(stack.kafka_bootstrap, topic)[1]) < before + 500:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    admin.delete_records([TopicPartition(topic, 0, high)])[TopicPartition(topic, 0, high)].result(30)
    begun = one.status()["streams"][0]["transactions"]
    one.worker()
    until(one, lambda now: now["streams"][0]["transactions"] > begun + 100, "transactions come again")
    with psycopg.connect(target.url, password=target.password) as db:
        assert db.execute("SELECT count(*) FROM crossfade.audit WHERE action = 'sent-again'").fetchone() == (1,)
    finish(one, writers, target)
