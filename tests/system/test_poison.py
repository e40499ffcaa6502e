"""Scenario 24 on real servers: values that the target cannot hold stop the stream or go to quarantine, by policy; nothing overtakes them,
and retry, drop and repair bring the row over once it is mended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
import pymysql
import pytest
import yaml

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system


def mysql(database: TestDatabase) -> pymysql.Connection[Any]:
    port = int(database.url.rpartition(":")[2].partition("/")[0])
    return pymysql.connect(host="127.0.0.1", port=port, user="root", password=database.password, database=database.name, autocommit=True)


def on_maria(database: TestDatabase, *statements: str) -> list[tuple[Any, ...]]:
    with mysql(database) as db, db.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return list(cursor.fetchall())


def until(true: Callable[[], Any], what: Callable[[], object], timeout: float = 120) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.3)


def failed(one: Move) -> str:
    until(lambda: one.status()["phase"] == "failed", lambda: (one.status(), one.logs()))
    return str(one.status()["reason"])


def found(one: Move) -> list[tuple[str, str]]:
    report = one.verify()
    assert report["complete"]
    return sorted((d["kind"], d["key"][0]) for d in report["found"])


def again(one: Move, **changes: object) -> None:
    """The same migration with other settings: its services started anew."""
    for name in ("worker", "controller"):
        one.kill(name)
    one.file.write_text(yaml.safe_dump(yaml.safe_load(one.file.read_text()) | changes))
    one.run("resume", str(one.file))
    one.controller()
    one.worker()


def test_s24_nul_in_text_stops_or_waits_in_quarantine(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = mariadb_database("source"), pg_database("target")
    on_maria(
        source,
        "CREATE TABLE item (id int PRIMARY KEY, name varchar(50))",
        "INSERT INTO item SELECT seq, concat('n', seq) FROM seq_1_to_100",
        "INSERT INTO item VALUES (101, concat('a', char(0), 'b'))",
    )
    to = psycopg.connect(target.url, password=target.password, autocommit=True)
    one = move("poison", source, target, tables=[{"from": f"{source.name}.item"}], on_error="stop")
    one.begin()
    reason = failed(one)  # the copy comes to it first
    assert "item: the target refuses a chunk" in reason and "0x00" in reason
    on_maria(source, "UPDATE item SET name = 'mended' WHERE id = 101")
    one.run("resume", str(one.file))
    one.wait("following")
    assert found(one) == []

    on_maria(
        source,
        "INSERT INTO item VALUES (201, 'before')",
        "INSERT INTO item VALUES (202, concat(char(0), 'poison'))",
        "UPDATE item SET name = 'after' WHERE id = 1",
    )
    reason = failed(one)
    assert "item, key id=202: " in reason and "0x00" in reason and "\n" not in reason
    query = "SELECT id, name FROM item WHERE id IN (1, 201, 202) ORDER BY id"
    assert to.execute(query).fetchall() == [(1, "n1"), (201, "before")]  # all that came before it, nothing that came after

    again(one, on_error="quarantine")
    one.wait("following")
    until(lambda: to.execute(query).fetchall() == [(1, "after"), (201, "before")], one.logs)
    held = one.ask("quarantine", "list", str(one.file))
    assert [(h["state"], h["key"]) for h in held] == [("held", ["202"])] and "0x00" in held[0]["error"]
    assert held[0]["event"]["row"] == {"id": "202", "name": "\0poison"}
    assert found(one) == [("missing", "202")]

    for count, name in enumerate(("mended", "twice"), 2):  # one by one: of two in one batch only the last would be held
        on_maria(source, f"UPDATE item SET name = '{name}' WHERE id = 202")
        until(lambda count=count: len(one.ask("quarantine", "list", str(one.file))) == count, one.logs)
    assert to.execute(query).fetchall() == [(1, "after"), (201, "before")]  # nothing overtakes
    retried = one.ask("quarantine", "retry", str(one.file), "--all")
    assert retried["applied"] == 0 and len(retried["refused"]) == 1 and "0x00" in retried["refused"][0]
    assert len(one.ask("quarantine", "list", str(one.file))) == 3
    assert one.ask("quarantine", "drop", str(one.file), "--all") == {"dropped": 3}
    assert found(one) == [("missing", "202")]  # dropped, and said so
    assert one.ask("repair", str(one.file))["repaired"] == 1
    assert found(one) == [] and to.execute(query).fetchall()[-1] == (202, "twice")
    on_maria(source, "UPDATE item SET name = 'thrice' WHERE id = 202")
    assert found(one) == [] and to.execute(query).fetchall()[-1] == (202, "thrice")  # the key is free again
    to.close()


BAD = {
    2: ("n", "'NaN'"),
    3: ("f", "'NaN'"),
    4: ("f", "'Infinity'"),
    5: ("f", "'-Infinity'"),
    6: ("ts", "'infinity'"),
    7: ("d", "'-infinity'"),
}
BAD |= {8: ("d", "'0044-03-15 BC'"), 9: ("ts", "'10000-01-01'"), 10: ("n", "'Infinity'"), 11: ("r", "'-Infinity'")}


def test_s24_nan_and_infinity_to_mariadb_wait_in_quarantine(
    stack: Stack, mariadb_database: MakeDatabase, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = pg_database("source"), mariadb_database("target")
    on = psycopg.connect(source.url, password=source.password, autocommit=True)
    on.execute("CREATE TABLE item (id int PRIMARY KEY, n numeric, f float8, r real, ts timestamp, d date)")
    on.execute("INSERT INTO item SELECT g, g, g, g, '2024-01-01', '2024-01-01' FROM generate_series(1, 20) g")
    one = move("poison", source, target, tables=[{"from": "public.item"}], on_error="quarantine")
    assert [f for f in one.plan()["findings"] if f["severity"] == "error"] == []
    one.begin()
    one.wait("following")
    with on.transaction():  # one transaction with good and bad in it
        for key, (column, value) in BAD.items():
            on.execute(f"UPDATE item SET {column} = {value} WHERE id = {key}".encode())
        on.execute("UPDATE item SET n = -1 WHERE id IN (1, 20)")
    until(lambda: on_maria(target, "SELECT id FROM item WHERE n = -1 ORDER BY id") == [(1,), (20,)], one.logs)
    held = one.ask("quarantine", "list", str(one.file))
    assert {int(h["key"][0]) for h in held} == set(BAD) and {h["state"] for h in held} == {"held"}
    assert found(one) == sorted(("different", str(key)) for key in BAD)
    on.execute("UPDATE item SET n = 7, f = 7, r = 7, ts = '2024-02-29 23:59:59.999999', d = '9999-12-31'")
    until(lambda: len(one.ask("quarantine", "list", str(one.file))) == 2 * len(BAD), one.logs)
    assert found(one) == sorted(("different", str(key)) for key in BAD)
    one.run("quarantine", "drop", str(one.file), "--all")
    assert one.ask("repair", str(one.file))["repaired"] == len(BAD)
    assert found(one) == []
    assert on_maria(target, "SELECT count(*), sum(f), min(d) FROM item")[0][:2] == (20, 140.0)
    on.close()


def test_s24_a_source_without_an_encoding_is_refused(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    """Bytes that are no UTF-8 would come through the stream as something else, and nobody would notice."""
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute("CREATE DATABASE ascii_source ENCODING 'SQL_ASCII' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    url = source.url.replace(source.name, "ascii_source")
    raw = TestDatabase("source", "ascii_source", url, source.password, source.url_with_password.replace(source.name, "ascii_source"))
    try:
        with psycopg.connect(url, password=source.password, autocommit=True) as on:
            on.execute("CREATE TABLE item (id int PRIMARY KEY, name text)")
            on.execute("INSERT INTO item VALUES (7, E'caf\\xe9')")
        findings = [f for f in move("poison", raw, target, tables=[{"from": "public.item"}]).plan()["findings"] if f["severity"] == "error"]
        assert [f["id"] for f in findings] == ["server.encoding"] and "SQL_ASCII" in findings[0]["message"]
    finally:
        with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
            db.execute("DROP DATABASE ascii_source WITH (FORCE)")
