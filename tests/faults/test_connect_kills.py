"""Scenario 3: rows that share an LSN or an event (multi-row INSERT, COPY), and kill -9 of Connect in the middle of them, again and again.

One session writes. Debezium before 3.7 may leave out the first rows of a transaction when it comes back while several sessions write
(debezium/dbz#76); `test_resend.py` is about that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest

from connectors.topics import offsets_of
from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.background import Background
from tests.system.harness import Move

pytestmark = pytest.mark.system

KILLS = 2
ROWS = 4_000


class Load(Background):
    """Writes large transactions, one after the other, and keeps what was acknowledged. `write(n)` writes rows n … n + ROWS - 1."""

    def __init__(self, write: Callable[[int], None]) -> None:
        super().__init__()
        self._write = write
        self.rows = self.transactions = 0

    def work(self) -> None:
        while not self.halt.is_set():
            self._write(self.rows)
            self.rows += ROWS
            self.transactions += 1
            self.halt.wait(0.2)


def kill_in_the_middle(stack: Stack, one: Move, load: Load) -> None:
    """Kills Connect while it sends, KILLS times; each time what was written before gets through."""
    topic = f"crossfade.{one.name}.main"
    deadline = time.monotonic() + 400
    for kill in range(KILLS):
        _, begun = offsets_of(stack.kafka_bootstrap, topic)
        while offsets_of(stack.kafka_bootstrap, topic)[1] < begun + ROWS // 2 + kill * 1000:
            assert time.monotonic() < deadline and load.error is None, (load.error, one.logs())
            time.sleep(0.02)
        stack.connect.kill()
        stack.connect.start()
        done, wanted = load.transactions, one.status()["streams"][0]["transactions"]
        while (now := one.status())["streams"][0]["transactions"] < wanted + 2:
            assert now["phase"] != "failed", now["reason"]
            assert time.monotonic() < deadline, (done, now, one.logs())
            time.sleep(0.3)


def finish(one: Move, load: Load, target: TestDatabase) -> None:
    load.stop()
    report = one.verify()
    assert report["complete"] and report["differences"] == 0, report["found"][:5]
    with psycopg.connect(target.url, password=target.password) as db:
        assert db.execute("SELECT count(*), sum(v) FROM item").fetchone() == (load.rows, sum(range(load.rows)))
        assert db.execute("SELECT count(*) FROM ledger").fetchone() == (load.transactions,)
        assert db.execute("SELECT count(*) FROM crossfade.audit WHERE action = 'sent-again'").fetchone() == (0,)
    assert load.transactions > KILLS
    print(f"{load.transactions} transactions of {ROWS} rows, {KILLS} kills")


def test_s3_copy_and_multi_row_inserts_of_postgresql(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    source, target = pg_database("source"), pg_database("target")
    db = psycopg.connect(source.url, password=source.password)
    db.execute("CREATE TABLE item (id int PRIMARY KEY, v bigint NOT NULL)")
    db.execute("CREATE TABLE ledger (n int PRIMARY KEY)")
    db.commit()

    def write(first: int) -> None:
        db.execute("INSERT INTO ledger VALUES (%s)", (first,))
        with db.cursor().copy("COPY item FROM STDIN") as copy:  # rows of one page share a WAL record, and with it their LSN
            copy.write("".join(f"{n}\t{n}\n" for n in range(first, first + ROWS - 1000)))
        db.execute("INSERT INTO item SELECT g, g FROM generate_series(%s::int, %s) g", (first + ROWS - 1000, first + ROWS - 1))
        db.commit()

    one = move("shared", source, target, tables=[{"from": "public.*"}])
    one.begin()
    one.wait("following")
    load = Load(write)
    load.start()
    kill_in_the_middle(stack, one, load)
    finish(one, load, target)
    db.close()


def test_s3_multi_row_inserts_of_mariadb(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    db: pymysql.Connection[Any] = pymysql.connect(
        host="127.0.0.1", port=stack.mariadb["source"].port, user="root", password=source.password, database=source.name
    )
    cursor = db.cursor()
    cursor.execute("CREATE TABLE item (id int PRIMARY KEY, v bigint NOT NULL)")
    cursor.execute("CREATE TABLE ledger (n int PRIMARY KEY)")

    def write(first: int) -> None:
        cursor.execute("INSERT INTO ledger VALUES (%s)", (first,))
        for start in range(first, first + ROWS, 2000):  # one statement, few events with many rows each
            cursor.execute("INSERT INTO item VALUES " + ", ".join(f"({n}, {n})" for n in range(start, start + 2000)))
        db.commit()

    one = move("shared", source, target, tables=[{"from": f"{source.name}.*"}])
    one.begin()
    one.wait("following")
    load = Load(write)
    load.start()
    kill_in_the_middle(stack, one, load)
    finish(one, load, target)
    db.close()
