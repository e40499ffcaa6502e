"""Scenario 30: a row that is not on both sides what it should be, changed since the last verify, keeps a cutover from happening."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import psycopg
import pytest

from deploy.local.stack import Stack
from pipeline.control.finalverify import FinalVerify
from pipeline.control.markers import settle
from pipeline.control.registry import find
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError, TimedOut
from tests.conftest import MakeDatabase
from tests.system.harness import Move
from tests.system.test_cutover_engines import Side

pytestmark = pytest.mark.system
ROLE, WORD = "final_app", "at-the-last-moment"


def test_s30_what_changed_since_the_verify_is_looked_at_again(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    source, target = pg_database("source"), pg_database("target")
    on = psycopg.connect(source.url, password=source.password, autocommit=True)
    to = psycopg.connect(target.url, password=target.password, autocommit=True)
    for side in (on, to):
        side.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{WORD}'")
    on.execute("CREATE TABLE item (id int PRIMARY KEY, v int); INSERT INTO item SELECT g, g FROM generate_series(1, 1000) g")
    on.execute(f"GRANT ALL ON item TO {ROLE}")
    one = move(
        "final", source, target, tables=[{"from": "public.item"}], cutover={"fence": {"roles": [ROLE]}, "pause_budget": 20, "max_lag": 10}
    )
    try:
        one.begin()
        one.wait("following")
        before = one.run("cutover", str(one.file), check=False, timeout=200)
        assert before.returncode == 4 and "verified" in before.stdout + before.stderr, before  # never verified
        assert one.verify()["differences"] == 0
        on.execute("UPDATE item SET v = -1 WHERE id IN (7, 8)")
        deadline = time.monotonic() + 60
        while to.execute("SELECT count(*) FROM item WHERE v = -1").fetchone() != (2,):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        to.execute("UPDATE item SET v = 0 WHERE id = 8")  # somebody else writes there
        done = one.run("cutover", str(one.file), "--json", check=False, timeout=200)
        assert done.returncode == 5, done
        assert one.status()["phase"] == "following" and "row id=8 differs in v" in one.status()["reason"], one.status()
        with psycopg.connect(source.url.replace("postgres@", f"{ROLE}@"), password=WORD) as app:
            app.execute("UPDATE item SET v = 5 WHERE id = 5")  # as if nothing had happened
        assert one.ask("repair", str(one.file))["left"] == 0
        there = one.ask("cutover", str(one.file), timeout=200)
        assert there["crossed"], (there, one.logs())
        assert to.execute("SELECT v FROM item WHERE id IN (5, 7, 8) ORDER BY id").fetchall() == [(5,), (-1,), (-1,)]
        print({step: round(ms, 1) for step, ms in there["step_ms"].items()})
        one.run("complete", str(one.file))
    finally:
        one.end()
        on.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
        to.execute(f"DROP OWNED BY {ROLE}; DROP ROLE {ROLE}")
        on.close()
        to.close()


@pytest.mark.parametrize("kinds", ["pg-to-pg", "mariadb-to-pg", "pg-to-mariadb"])
def test_s30_within_the_pause_only_what_changed_since_is_compared(
    stack: Stack,
    pg_database: MakeDatabase,
    mariadb_database: MakeDatabase,
    move: Callable[..., Move],
    monkeypatch: pytest.MonkeyPatch,
    kinds: str,
) -> None:
    make = {"pg": pg_database, "mariadb": mariadb_database}
    first, _, second = kinds.partition("-to-")
    source, target = Side(stack, make[first]("source")), Side(stack, make[second]("target"))
    tables = ["item", "line", "note"]
    for table in tables:
        source.admin(f"CREATE TABLE {table} (id int PRIMARY KEY, v int)")
        source.admin(f"INSERT INTO {table} VALUES " + ", ".join(f"({number}, 0)" for number in range(1, 501)))
    everything = "public.*" if source.postgres else f"{source.database.name}.*"
    one = move(f"pause-{first}-{second}", source.database, target.database, tables=[{"from": everything}])
    one.begin()
    one.wait("following")
    assert one.verify()["differences"] == 0
    for name in ("SOURCE_PW", "TARGET_PW"):
        monkeypatch.setenv(name, one.env[name])
    runtime = Runtime(find(str(one.file)))
    with contextlib.closing(FinalVerify(runtime)) as check, contextlib.closing(runtime.reader()) as marker:
        source.admin(*(f"UPDATE {table} SET v = 1 WHERE id <= 200" for table in tables))
        check.open()
        source.admin(*(f"UPDATE {table} SET v = 2 WHERE id BETWEEN 100 AND 250" for table in tables))
        source.admin("UPDATE item SET id = 1001 WHERE id = 1", "DELETE FROM line WHERE id = 2", "INSERT INTO note VALUES (1002, 3)")
        token = settle(runtime.store, marker, 1)
        begun = time.monotonic()
        check.now(token, begun + 30)
        print(f"{kinds}: 455 keys of 3 tables in {(time.monotonic() - begun) * 1000:.1f} ms")
        source.admin("UPDATE note SET v = 7 WHERE id = 300", "UPDATE line SET v = 7 WHERE id = 400")
        settle(runtime.store, marker, 1)
        target.admin("UPDATE note SET v = 8 WHERE id IN (300, 301)")  # somebody else writes there
        token = settle(runtime.store, marker, 1)
        with pytest.raises(CrossfadeError, match=r"note: row id=300 differs in v"):
            check.now(token, time.monotonic() + 30)
        check.now(settle(runtime.store, marker, 1), time.monotonic() + 30)  # nothing has changed since
        with pytest.raises(TimedOut):
            check.now("m:never", time.monotonic() + 0.1)
