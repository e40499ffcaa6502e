"""Scenario 22: a transaction of a million rows, rows of many megabytes: everything arrives and the worker's memory stays bounded."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system

MANY = 1_000_000
ROWS_MIB, BYTES_MIB = 300, 500


def peak_mib(pid: int) -> float:
    """The most memory a process has had at once (VmHWM)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def arrived(target: TestDatabase, query: str, expected: object, one: Move, timeout: float = 240) -> float:
    """Waits until a query on the target answers so; how long it took."""
    begun = time.monotonic()
    with psycopg.connect(target.url, password=target.password, autocommit=True) as db:
        while (found := db.execute(query.encode()).fetchone()) != expected:
            assert time.monotonic() - begun < timeout, (found, expected, one.status(), one.logs())
            assert one.status()["phase"] != "failed", one.status()["reason"]
            time.sleep(0.3)
    return time.monotonic() - begun


def test_s22_a_million_rows_in_one_transaction_and_rows_of_20_mb(
    stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]
) -> None:
    source, target = pg_database("source"), pg_database("target")
    on = psycopg.connect(source.url, password=source.password, autocommit=True)
    on.execute("CREATE TABLE narrow (id int PRIMARY KEY)")
    on.execute("CREATE TABLE wide (id int PRIMARY KEY, note text, data text)")
    on.execute("INSERT INTO narrow VALUES (0), (-1)")
    one = move(
        "large",
        source,
        target,
        tables=[{"from": "public.*"}],
        apply={"transaction_memory_rows": 20_000, "transaction_memory_bytes": "16MB"},
    )
    one.begin()
    one.wait("following")
    worker = one.processes["worker"].pid
    before = peak_mib(worker)
    with on.transaction():
        on.execute("DELETE FROM narrow WHERE id = 0")
        on.execute("INSERT INTO narrow SELECT generate_series(1, %s::int)", (MANY,))
        on.execute("DELETE FROM narrow WHERE id = 500000")
    on.execute("INSERT INTO narrow VALUES (-2)")
    took = arrived(target, "SELECT count(*), min(id) FROM narrow", (MANY + 1, -2), one)
    after_rows = peak_mib(worker)
    # one row of 20 MB, changed without and with its long column; then 100 MB in small transactions, which batches must not pile up
    on.execute("INSERT INTO wide SELECT 1, 'a', string_agg(md5(g::text), '') FROM generate_series(1, 655360) g")
    on.execute("UPDATE wide SET note = 'b' WHERE id = 1")
    on.execute("UPDATE wide SET data = data || 'z' WHERE id = 1")
    for n in range(2, 102):
        on.execute("INSERT INTO wide SELECT %s, 'c', string_agg(md5((g * %s)::text), '') FROM generate_series(1, 32768) g", (n, n))
    long = arrived(target, "SELECT count(*), max(length(data)), min(note) FROM wide", (101, (20 << 20) + 1, "b"), one)
    peak = peak_mib(worker)
    print(f"{MANY} rows in one transaction: {took:.1f} s; rows of 20 MB and 100 x 1 MB: {long:.1f} s")
    print(f"worker's memory: {before:.0f} MiB before, {after_rows:.0f} MiB at most with the rows, {peak:.0f} MiB in the end")
    assert one.status()["streams"][0]["transactions"] < 1000
    assert after_rows < ROWS_MIB and peak < BYTES_MIB
    report = one.verify()
    assert report["complete"] and report["differences"] == 0, report["found"][:5]
    assert sum(t["rows_compared"] for t in report["tables"]) == MANY + 1 + 101
    on.close()
