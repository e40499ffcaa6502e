"""Scenario 30: a row that is not on both sides what it should be, changed since the last verify, keeps a cutover from happening."""

from __future__ import annotations

import time
from collections.abc import Callable

import psycopg
import pytest

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase
from tests.system.harness import Move

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
        assert one.status()["phase"] == "following" and "key id=8: the sides differ" in one.status()["reason"], one.status()
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
