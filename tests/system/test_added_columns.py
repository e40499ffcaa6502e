"""s21: columns are added on the source while it is copied and followed, by each policy; other DDL stops the stream and lets it go on."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system
APPLY = {"additive": "apply"}


def pg(database: TestDatabase) -> psycopg.Connection[Any]:
    return psycopg.connect(database.url, password=database.password, autocommit=True)


def until(condition: Callable[[], Any], one: Move, seconds: float = 60) -> Any:
    """What the condition answers once it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, one.logs()
        time.sleep(0.1)
    return found


def has_columns(target: psycopg.Connection[Any], table: str, *names: str) -> bool:
    query = "SELECT count(*) FROM information_schema.columns WHERE table_name = %s AND column_name = ANY (%s)"
    return target.execute(query, (table, list(names))).fetchone() == (len(names),)


def same(one: Move) -> None:
    report = one.verify()
    assert report["complete"]
    assert report["differences"] == 0, f"{report[chr(102) + chr(111) + chr(117) + chr(110) + chr(100)][:3]} {one.logs()}"


def rows(connection: Any, query: str) -> list[tuple[Any, ...]]:
    cursor = connection.cursor()
    cursor.execute(query)
    return list(cursor.fetchall())


def test_s21_postgresql_columns_added_while_copying_and_following_go_over(pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    """Each way in which old rows get their values: none, a constant, a default set later, a value of their own for each."""
    source, target = pg_database("source"), pg_database("target")
    db, there = pg(source), pg(target)
    db.execute("CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL, body text)")
    db.execute("CREATE TABLE quiet (id int PRIMARY KEY, name text)")
    db.execute("INSERT INTO item SELECT g, 'item ' || g, repeat(md5(g::text), 200) FROM generate_series(1, 30000) g")
    db.execute("INSERT INTO quiet SELECT g, 'x' FROM generate_series(1, 100) g")
    db.execute("ALTER TABLE item ALTER body SET STORAGE EXTERNAL")
    one = move("added", source, target, tables=[{"from": "public.*"}], on_schema_change=APPLY,
               backfill={"chunk_rows": 1000, "max_rate": 1500})  # fmt: skip
    assert not [f for f in one.plan()["findings"] if f["severity"] == "error"]
    one.begin()
    one.wait("copying")
    until(lambda: has_columns(there, "item", "id") and rows(there, "SELECT 1 FROM item LIMIT 1"), one)

    db.execute("ALTER TABLE item ADD COLUMN state text NOT NULL DEFAULT 'o''ld \\'")
    db.execute("INSERT INTO item (id, name, body) SELECT g, 'copying', 'b' FROM generate_series(30001, 30100) g")
    db.execute("UPDATE item SET state = 'seen' WHERE id % 7 = 0")  # partial: the large body is not in these events
    db.execute("UPDATE item SET id = id + 1000000 WHERE id % 501 = 0")
    until(lambda: has_columns(there, "item", "state"), one)
    assert rows(there, "SELECT phase FROM crossfade.migration") == [("copying",)], one.logs()
    one.wait("following")
    one.run("throttle", str(one.file), "off", check=False)
    same(one)

    # DDL and rows in one transaction, and two statements in a row before any of them is seen
    with db.transaction():
        db.execute("INSERT INTO item (id, name) VALUES (50001, 'before')")
        db.execute("ALTER TABLE item ADD COLUMN price numeric(10,2) DEFAULT 1.5, ADD COLUMN note text")
        db.execute("INSERT INTO item (id, name, price, note) VALUES (50002, 'between', 2, 'n')")
        db.execute("ALTER TABLE item ADD COLUMN at timestamptz DEFAULT now()")
        db.execute("UPDATE item SET note = 'updated', price = NULL WHERE id IN (3, 50001)")
    db.execute("ALTER TABLE item ALTER price SET DEFAULT 9, ALTER note SET DEFAULT 'later'")
    db.execute("INSERT INTO item (id, name) VALUES (50003, 'after')")
    until(lambda: has_columns(there, "item", "price", "note", "at"), one)
    until(lambda: rows(there, "SELECT 1 FROM item WHERE id = 50003"), one)
    same(one)

    # every row has its own value: read again, the rows of a table that nothing was written to before too
    db.execute("ALTER TABLE quiet ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()")
    db.execute("INSERT INTO quiet VALUES (101, 'y')")
    until(lambda: has_columns(there, "quiet", "token"), one)
    until(lambda: rows(there, "SELECT 1 WHERE (SELECT count(token) FROM quiet) = 101"), one)
    same(one)
    for query in ("SELECT * FROM item ORDER BY id", "SELECT * FROM quiet ORDER BY id"):
        assert rows(db, query) == rows(there, query)
    defaults = "SELECT column_name, column_default FROM information_schema.columns WHERE table_name = 'item' ORDER BY 1"
    assert rows(db, defaults) == rows(there, defaults)
    assert one.processes["worker"].poll() is None

    # a fresh worker knows the same, and a replay from before the columns goes through
    one.kill("worker")
    db.execute("UPDATE item SET note = 'again' WHERE id < 100")
    one.worker()
    one.run("replay", str(one.file), "--from", "offset:0")
    one.wait("following")
    same(one)


def test_s21_postgresql_policies_stop_and_ignore_and_a_dropped_column(pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    source, target = pg_database("source"), pg_database("target")
    db, there = pg(source), pg(target)
    db.execute("CREATE TABLE item (id int PRIMARY KEY, name text, old text)")
    db.execute("INSERT INTO item SELECT g, 'item', 'o' FROM generate_series(1, 100) g")
    db.execute("CREATE INDEX by_name ON item (name)")
    one = move("stopped", source, target, tables=[{"from": "public.item"}], on_schema_change={"additive": "stop"}, indexes="before",
               verify={"continuous": False, "max_rate": 100, "max_differences": 5}, apply={"batch_ms": 7})  # fmt: skip
    plan = one.plan()
    assert any("by_name" in sql for sql in plan["ddl"]["before"]) and not any("by_name" in sql for sql in plan["ddl"]["after"])
    assert [f["object"] for f in plan["findings"] if f["id"] == "spec.unused"] == ["apply.batch_ms"]
    one.begin()
    one.wait("following")
    with db.transaction():
        db.execute("UPDATE item SET name = 'in the same transaction' WHERE id = 1")
        db.execute("ALTER TABLE item ADD COLUMN state text")
        db.execute("UPDATE item SET state = 's' WHERE id = 2")
    reason = until(lambda: one.status()["phase"] == "failed" and one.status()["reason"], one)
    assert "new columns that the target lacks: state" in reason
    assert rows(there, "SELECT name FROM item WHERE id = 1") == [("item",)]  # nothing of the transaction
    one.kill("worker")
    log = one.folder / "worker.log"
    before = log.read_text().count('"stream opened"')
    one.worker()  # it looks at the target's tables before they have the column, and again when it may go on
    until(lambda: log.read_text().count('"stream opened"') > before, one)
    there.execute("ALTER TABLE item ADD COLUMN state text")
    one.run("start", str(one.file), "--detach")
    until(lambda: rows(there, "SELECT 1 FROM item WHERE state = 's'"), one)
    one.wait("following")
    same(one)

    db.execute("ALTER TABLE item DROP COLUMN old")
    db.execute("UPDATE item SET name = 'n' WHERE id = 3")
    reason = until(lambda: one.status()["phase"] == "failed" and one.status()["reason"], one)
    assert "has no column 'old'" in reason
    one.run("start", str(one.file), "--detach")
    until(lambda: rows(there, "SELECT 1 FROM item WHERE name = 'n'"), one)
    one.wait("following")

    document = one.file.read_text().replace("additive: stop", "additive: ignore")
    one.file.write_text(document)
    one.kill("worker")
    one.worker()
    db.execute("ALTER TABLE item ADD COLUMN unwanted int DEFAULT 3")
    db.execute("INSERT INTO item VALUES (101, 'last', 's', 4)")
    until(lambda: rows(there, "SELECT 1 FROM item WHERE id = 101"), one)
    assert not has_columns(there, "item", "unwanted")
    same(one)


def test_s21_mariadb_columns_added_go_over_and_other_ddl_stops(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    there = pg(target)
    db = pymysql.connect(
        host="127.0.0.1", port=stack.mariadb["source"].port, user="root", password=source.password, database=source.name, autocommit=True
    )
    run = db.cursor().execute
    run("CREATE TABLE item (id int PRIMARY KEY, name varchar(40) NOT NULL)")
    run("INSERT INTO item SELECT seq, CONCAT('item ', seq) FROM seq_1_to_20000")
    one = move("maria", source, target, tables=[{"from": f"{source.name}.*"}], on_schema_change=APPLY,
               backfill={"chunk_rows": 1000, "max_rate": 1500})  # fmt: skip
    one.begin()
    one.wait("copying")
    until(lambda: has_columns(there, "item", "id") and rows(there, "SELECT 1 FROM item LIMIT 1"), one)
    run("ALTER TABLE item ADD COLUMN state varchar(20) NOT NULL DEFAULT 'o''ld \\\\' AFTER id, ADD COLUMN amount decimal(10,2) DEFAULT 1.5")
    run("UPDATE item SET state = 'seen', amount = NULL WHERE id % 7 = 0")
    run("INSERT INTO item (id, name) VALUES (20001, 'copying')")
    until(lambda: has_columns(there, "item", "state", "amount"), one)
    one.wait("following")
    same(one)

    run("INSERT INTO item (id, name) VALUES (20002, 'before')")
    run("ALTER TABLE item ADD COLUMN n int NOT NULL, ADD COLUMN kind enum('a','b') DEFAULT 'b', ADD INDEX by_name (name)")
    run("INSERT INTO item (id, name, n, kind) VALUES (20003, 'between', 3, 'a')")
    run("ALTER TABLE item ADD COLUMN token uuid DEFAULT uuid(), ADD COLUMN raw varbinary(10) DEFAULT 'ab'")
    run("ALTER TABLE item ALTER n SET DEFAULT 5")  # not an added column: stops, with everything before it applied
    run("INSERT INTO item (id, name) VALUES (20004, 'after')")
    reason = until(lambda: one.status()["phase"] == "failed" and one.status()["reason"], one)
    assert "the source's schema changed: ALTER TABLE item ALTER n SET DEFAULT 5" in reason
    assert has_columns(there, "item", "n", "kind", "token", "raw")
    assert rows(there, "SELECT n, kind::text FROM item WHERE id IN (20002, 20003) ORDER BY id") == [(0, "b"), (3, "a")]
    assert rows(there, "SELECT FROM item WHERE id = 20004") == []
    one.run("start", str(one.file), "--detach")
    until(lambda: rows(there, "SELECT 1 FROM item WHERE id = 20004"), one)
    one.wait("following")
    until(lambda: rows(there, "SELECT 1 FROM item HAVING count(*) = count(token)"), one)
    same(one)
    assert one.processes["worker"].poll() is None


def test_s21_mariadb_targets_get_columns_of_every_type_and_every_uuid(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = pg_database("source"), mariadb_database("target")
    db = pg(source)
    there = pymysql.connect(
        host="127.0.0.1", port=stack.mariadb["target"].port, user="root", password=target.password, database=target.name, autocommit=True
    )
    db.execute("CREATE TABLE item (id uuid PRIMARY KEY, other uuid)")
    # every version and variant there could be, which MariaDB's own type does not take
    db.execute(
        "INSERT INTO item SELECT overlay(overlay(md5(v::text || r) placing to_hex(v) from 13) placing to_hex(r) from 17)::uuid,"
        " md5(r::text || v)::uuid FROM generate_series(0, 15) v, generate_series(0, 15) r"
    )
    one = move("uuids", source, target, tables=[{"from": "public.item"}], on_schema_change=APPLY)
    one.begin()
    one.wait("following")
    same(one)
    db.execute(
        "ALTER TABLE item ADD COLUMN t text NOT NULL DEFAULT E'o''ld \\\\ \\n', ADD COLUMN v varchar(20) DEFAULT 'v',"
        " ADD COLUMN n numeric(10,2) DEFAULT 1.5, ADD COLUMN b boolean NOT NULL DEFAULT true, ADD COLUMN y bytea DEFAULT '\\x00ff',"
        " ADD COLUMN z timestamptz DEFAULT '2024-01-31 23:59:59.5+00', ADD COLUMN d date, ADD COLUMN j jsonb DEFAULT '{\"a\": 1}',"
        " ADD COLUMN bits bit(9) DEFAULT B'100000001', ADD COLUMN u uuid DEFAULT '00000000-0000-0000-0000-000000000001'"
    )
    db.execute("INSERT INTO item (id, t, v, n, b, y, z, d, j, bits, u) VALUES (gen_random_uuid(), '', NULL, NULL, false, NULL, NULL,"
               " '2024-02-29', NULL, NULL, NULL)")  # fmt: skip
    db.execute("UPDATE item SET d = '2024-01-01' WHERE id < '80000000-0000-0000-0000-000000000000'")
    columns = f"SELECT count(*) FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = '{target.name}' AND TABLE_NAME = 'item'"
    until(lambda: rows(there, columns) == [(12,)], one)
    until(lambda: rows(there, "SELECT count(*) FROM item") == [(257,)], one)
    same(one)
    assert rows(there, "SELECT count(*) FROM item WHERE z = '2024-01-31 23:59:59.5' AND n = 1.50 AND v = 'v'") == [(256,)]
