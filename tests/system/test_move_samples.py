"""Real databases move whole, under a write load, with no hand-made schema; what cannot be carried is a finding."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase
from tests.system.background import Background
from tests.system.harness import Move

pytestmark = pytest.mark.system
SAMPLES = Path(__file__).parents[3] / "shared" / "data"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the sample databases (pagila, sakila) are not on this machine")


class Writes(Background):
    """Runs statements one after the other until told to stop; each is one transaction."""

    def __init__(self, execute: Callable[[int], None]) -> None:
        super().__init__()
        self.execute, self.count = execute, 0

    def work(self) -> None:
        while not self.halt.is_set():
            self.execute(self.count)
            self.count += 1


def equal(report: dict[str, Any]) -> None:
    assert report["complete"]
    assert report["differences"] == 0, report["found"][:5]


@needs_samples
def test_pagila_moves_whole_under_load(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    source, target = pg_database("source"), pg_database("target")
    psql = stack.postgres["source"].program.with_name("psql")
    subprocess.run([psql, "-qX", "-d", source.url_with_password, "-f", str(SAMPLES / "pagila/pagila.sql")], check=True, capture_output=True)
    one = move("pagila", source, target, tables=[{"from": "public.*"}])
    plan = one.plan()
    assert not [f for f in plan["findings"] if f["severity"] == "error"], plan["findings"]
    for f in plan["findings"]:
        print(f["severity"], f["id"], f["object"], f["message"][:150])
    connection = psycopg.connect(source.url, password=source.password, autocommit=True)

    def write(n: int) -> None:
        with connection.transaction():
            connection.execute("UPDATE film SET length = length + 1, rental_rate = rental_rate + 0.01 WHERE film_id = %s", (1 + n % 1000,))
            connection.execute("INSERT INTO actor (first_name, last_name) VALUES (%s, 'LOAD')", (f"A{n}",))
            connection.execute(
                "INSERT INTO payment (customer_id, staff_id, rental_id, amount, payment_date) "
                "SELECT customer_id, staff_id, rental_id, amount, payment_date FROM payment ORDER BY payment_id DESC LIMIT 1"
            )
            if n % 3 == 0:
                connection.execute("DELETE FROM actor WHERE actor_id = (SELECT max(actor_id) FROM actor)")
            if n % 7 == 0:
                connection.execute(
                    "UPDATE rental SET rental_id = rental_id + 1000000 WHERE rental_id = %s AND NOT EXISTS "
                    "(SELECT FROM payment p WHERE p.rental_id = rental.rental_id)",
                    (n,),
                )

    load = Writes(write)
    load.start()
    one.begin()
    one.wait("following")
    load.stop()
    assert load.count > 0
    equal(one.verify())
    with psycopg.connect(target.url, password=target.password) as there:
        # pagila's payment is partitioned with foreign keys on its leaves: those have no counterpart, and plan says so
        keys = (
            "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace AND conparentid = 0 "
            "AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = conrelid)"
        )
        assert there.execute(keys).fetchone() == connection.execute(keys).fetchone()
        unvalidated = there.execute("SELECT conname FROM pg_constraint WHERE NOT convalidated").fetchall()
        assert unvalidated == []


@needs_samples
def test_sakila_moves_whole_to_postgresql_under_load(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    load_sakila(stack, source)
    tables = [{"from": f"{source.name}.*"}]
    # s19: what ON DELETE SET NULL of payment → rental changes is not in the binlog. Nothing here deletes a rental, so it is accepted.
    assert {f["id"] for f in move("refused", source, target, tables=tables).plan()["findings"] if f["severity"] == "error"} == {
        "fk.cascade"
    }
    one = move("sakila", source, target, tables=tables, accept=["fk.cascade"])
    plan = one.plan()
    refused = [f for f in plan["findings"] if f["severity"] == "error"]
    assert not refused, refused
    server = stack.mariadb["source"]
    connection = pymysql.connect(
        host="127.0.0.1", port=server.port, user="root", password=source.password, database=source.name, autocommit=False
    )

    def write(n: int) -> None:
        with connection.cursor() as cursor:
            cursor.execute("UPDATE film SET length = length + 1, special_features = 'Trailers' WHERE film_id = %s", (1 + n % 1000,))
            cursor.execute("INSERT INTO actor (first_name, last_name) VALUES (%s, 'LOAD')", (f"A{n}",))
            if n % 3 == 0:
                cursor.execute("DELETE FROM actor WHERE last_name = 'LOAD' ORDER BY actor_id DESC LIMIT 1")
        connection.commit()

    load = Writes(write)
    load.start()
    one.begin()
    one.wait("following")
    load.stop()
    assert load.count > 0
    equal(one.verify())


def load_sakila(stack: Stack, source: Any) -> None:
    """The sample into the test's own database. The dump names its database and its triggers use DELIMITER: the client knows both."""
    server = stack.mariadb["source"]
    connection = pymysql.connect(
        host="127.0.0.1", port=server.port, user="root", password=source.password, database=source.name, charset="latin1", autocommit=True
    )
    with connection, connection.cursor() as cursor:
        for part in ("schema", "data"):
            text = (SAMPLES / f"sakila/sakila-{part}.sql").read_text(errors="surrogateescape").replace("sakila", source.name)
            for statement in statements(text):
                cursor.execute(statement.encode(errors="surrogateescape"))


def statements(text: str) -> Iterator[str]:
    """The statements of a dump for the client program, which alone knows DELIMITER."""
    delimiter, held = ";", ""
    for line in text.split("\n"):  # not splitlines: the picture of a member of staff holds form feeds
        if line.strip().upper().startswith("DELIMITER "):
            delimiter = line.split()[1]
            continue
        held += line + "\n"
        if line.rstrip().endswith(delimiter):
            statement = held.strip().removesuffix(delimiter).strip()
            held = ""
            if statement and not all(part.startswith("--") or not part.strip() for part in statement.splitlines()):
                yield statement
