"""Scenario 20: writes that the binary log does not hold as whole rows. `plan` refuses a server that is set so; what one session does all the
same is found by verify and healed by repair."""

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


def session(database: TestDatabase) -> pymysql.Connection[Any]:
    port = int(database.url.rpartition(":")[2].partition("/")[0])
    return pymysql.connect(host="127.0.0.1", port=port, user="root", password=database.password, database=database.name, autocommit=True)


def run(database: TestDatabase, *statements: str) -> None:
    with session(database) as db, db.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def test_s20_a_server_that_logs_statements_or_parts_of_rows_is_refused(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    run(source, "CREATE TABLE item (id int PRIMARY KEY, v int)")
    one = move("unseen", source, target, tables=[{"from": f"{source.name}.item"}])
    for setting, value, usual in (
        ("binlog_format", "STATEMENT", "ROW"),
        ("binlog_format", "MIXED", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_image", "NOBLOB", "FULL"),
    ):
        run(source, f"SET GLOBAL {setting} = {value}")
        try:
            findings = {f["id"]: f for f in one.plan()["findings"] if f["severity"] == "error"}
            assert list(findings) == [f"server.{setting}"] and value in findings[f"server.{setting}"]["message"]
        finally:
            run(source, f"SET GLOBAL {setting} = {usual}")
    assert [f for f in one.plan()["findings"] if f["severity"] == "error"] == []


def test_s20_what_a_session_hides_from_the_binary_log_is_found_and_healed(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    run(
        source,
        "CREATE TABLE item (id int PRIMARY KEY, v int, note varchar(40), big longtext)",
        "INSERT INTO item SELECT seq, seq, concat('n', seq), repeat('b', 3000) FROM seq_1_to_1000",
    )
    one = move("unseen", source, target, tables=[{"from": f"{source.name}.item"}])
    one.begin()
    one.wait("following")
    run(
        source,
        "SET SESSION binlog_format = STATEMENT",
        "INSERT INTO item VALUES (2001, 1, 'statement', 'x')",
        "UPDATE item SET v = -1 WHERE id = 11",
        "DELETE FROM item WHERE id = 12",
    )
    run(
        source,
        "SET SESSION sql_log_bin = 0",
        "INSERT INTO item VALUES (2002, 1, 'unlogged', 'x')",
        "UPDATE item SET note = 'unlogged' WHERE id IN (13, 14)",
        "DELETE FROM item WHERE id = 15",
    )
    run(source, "UPDATE item SET v = v + 1 WHERE id = 14")  # the event has the whole row: this one heals by itself
    report = one.verify()
    found = {(d["kind"], d["key"][0]) for d in report["found"]}
    assert found == {("missing", "2001"), ("different", "11"), ("extra", "12"), ("missing", "2002"), ("different", "13"), ("extra", "15")}
    healed = one.ask("repair", str(one.file))
    assert healed["left"] == 0 and healed["repaired"] == len(found)
    report = one.verify()
    assert report["differences"] == 0 and report["complete"], report["found"]
    with psycopg.connect(target.url, password=target.password) as db:
        assert db.execute("SELECT id, v, note FROM item WHERE id IN (11, 12, 13, 14, 15, 2001, 2002) ORDER BY id").fetchall() == [
            (11, -1, "n11"),
            (13, 13, "unlogged"),
            (14, 15, "unlogged"),
            (2001, 1, "statement"),
            (2002, 1, "unlogged"),
        ]
        assert db.execute("SELECT count(*) FROM item WHERE length(big) <> 3000 AND id < 2000").fetchone() == (0,)
    # Part of a row never passes for a row: it ends the migration, with what was wrong and what there is to do.
    run(source, "SET SESSION binlog_row_image = MINIMAL", "UPDATE item SET v = -2 WHERE id = 16")
    deadline = time.monotonic() + 120
    while one.status()["phase"] != "failed":
        assert time.monotonic() < deadline, (one.status(), one.logs())
        time.sleep(0.3)
    reason = one.status()["reason"]
    assert "binlog_row_image" in reason and "cancel" in reason and "\n" not in reason, reason
    done = one.run("verify", str(one.file), "--full", check=False, timeout=120)
    assert done.returncode == 1 and "binlog_row_image" in done.stderr, done.stderr
