"""The whole flow with names that try to break out, under roles with only the documented grants, and passwords that show up nowhere."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from deploy.local.stack import Stack
from tests.conftest import MakeDatabase, TestDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system

HOSTILE = [
    'plain "quoted" name',
    'o\'clock; drop table "x"; --',
    "dots.in.it",
    "line\nbreak",
    "Ünïcödé 😀",
    "MixedCase",
    "mixedcase",
    "comma, separated (and) [more] *",
    "x" * 63,
    "back\\slash %s {0} $1",
]
SENTINEL = "s3ntinel-Pa55word"


def _as(database: TestDatabase, role: str, password: str) -> TestDatabase:
    """The same database under another role."""
    url = database.url.replace("postgres@", f"{role}@")
    return dataclasses.replace(database, url=url, password=password)


@pytest.fixture
def roles(stack: Stack, pg_database: MakeDatabase) -> tuple[TestDatabase, TestDatabase, TestDatabase, TestDatabase]:
    """Source and target as superuser, and the same two under ordinary roles with what docs/grants.md says."""
    source, target = pg_database("source"), pg_database("target")
    made = []
    for database, role in ((source, "stranger_source"), (target, "stranger_target")):
        password = f"{SENTINEL}-{role}"
        with psycopg.connect(database.url, password=database.password, autocommit=True) as db:
            if db.execute("SELECT FROM pg_roles WHERE rolname = %s", (role,)).fetchone() is None:
                db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(role), sql.Literal(password)))
        made.append(_as(database, role, password))
    return source, target, made[0], made[1]


def _secret_places(stack: Stack, one: Move) -> dict[str, str]:
    """Everything a password could have got into."""
    import httpx

    places = {f"log {p.name}": p.read_text(errors="replace") for p in one.folder.glob("*.log")}
    places |= {f"file {p.name}": p.read_text() for p in (one.file,)}
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            places[str(process)] = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    for name in httpx.get(f"{stack.connect_url}/connectors").json():
        places[f"connector {name}"] = httpx.get(f"{stack.connect_url}/connectors/{name}/config").text
    for command in ("status", "events"):
        places[command] = one.run(command, str(one.file), "--json").stdout
    places["plan"] = one.run("plan", str(one.file), "--json", check=False).stdout
    places["render"] = one.run("connectors", "render", str(one.file), check=False).stdout
    return places


def test_s23_hostile_names_under_ordinary_roles_and_no_secret_anywhere(
    stack: Stack, roles: tuple[TestDatabase, TestDatabase, TestDatabase, TestDatabase], move: Callable[..., Move]
) -> None:
    source, target, plain_source, plain_target = roles
    on = psycopg.connect(source.url, password=source.password, autocommit=True)
    to = psycopg.connect(target.url, password=target.password, autocommit=True)
    on.execute("CREATE ROLE stranger_owner")
    on.execute("CREATE SCHEMA app AUTHORIZATION stranger_owner")
    for at, name in enumerate(HOSTILE):
        table, column = sql.Identifier("app", name), sql.Identifier(HOSTILE[(at + 1) % len(HOSTILE)])
        on.execute(sql.SQL("CREATE TABLE {} (id int, {} text, PRIMARY KEY (id, {}))").format(table, column, column))
        on.execute(sql.SQL("INSERT INTO {} SELECT g, {} || g FROM generate_series(1, 50) g").format(table, sql.Literal(name)))
        on.execute(sql.SQL("ALTER TABLE {} OWNER TO stranger_owner").format(table))
    on.execute("ALTER ROLE stranger_source REPLICATION")
    on.execute("GRANT USAGE ON SCHEMA app TO stranger_source")
    on.execute("GRANT SELECT ON ALL TABLES IN SCHEMA app TO stranger_source")
    on.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO stranger_source").format(sql.Identifier(source.name)))
    on.execute("GRANT stranger_owner TO stranger_source")
    to.execute(sql.SQL("GRANT CREATE, TEMPORARY ON DATABASE {} TO stranger_target").format(sql.Identifier(target.name)))
    to.execute("GRANT SET ON PARAMETER session_replication_role TO stranger_target")
    to.execute("GRANT USAGE, CREATE ON SCHEMA public TO stranger_target")
    try:
        one = move("strangers", plain_source, plain_target, tables=[{"from": "app.*"}])
        plan = one.plan()
        assert not [f for f in plan["findings"] if f["severity"] == "error"], plan["findings"]
        one.begin()
        one.wait("following")
        for at, name in enumerate(HOSTILE):
            table, column = sql.Identifier("app", name), sql.Identifier(HOSTILE[(at + 1) % len(HOSTILE)])
            on.execute(sql.SQL("INSERT INTO {} VALUES (1000, {})").format(table, sql.Literal(name)))
            on.execute(sql.SQL("UPDATE {} SET {} = {} WHERE id = 7").format(table, column, sql.Literal(f"changed {name}")))
            on.execute(sql.SQL("DELETE FROM {} WHERE id = 8").format(table))
        report = one.verify()
        assert report["complete"] and report["differences"] == 0, report
        assert len(report["tables"]) == len(HOSTILE)
        assert sum(t["rows_compared"] for t in report["tables"]) == 50 * len(HOSTILE)
        places = _secret_places(stack, one)
        assert len(places) > 8
        assert [place for place, text in places.items() if SENTINEL in text] == []
        one.end()
        left = on.execute("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()").fetchall()
        assert left == [] and on.execute("SELECT pubname FROM pg_publication").fetchall() == []
        assert one.ask("status", str(one.file))["phase"] == "cancelled"
    finally:
        on.execute("REASSIGN OWNED BY stranger_source TO postgres")
        on.execute("DROP OWNED BY stranger_source, stranger_owner CASCADE")
        on.execute("DROP ROLE stranger_source, stranger_owner")
        to.execute("REVOKE SET ON PARAMETER session_replication_role FROM stranger_target")
        to.execute("REASSIGN OWNED BY stranger_target TO postgres")
        to.execute("DROP OWNED BY stranger_target CASCADE")
        to.execute("DROP ROLE stranger_target")
        on.close()
        to.close()


def test_throttle_pause_quarantine_and_replay(stack: Stack, pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    """s24: what the target refuses waits in quarantine with everything later of its key, and goes in when the target is mended."""
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as on:
        on.execute("CREATE TABLE item (id int PRIMARY KEY, size int)")
        on.execute("INSERT INTO item SELECT g, g FROM generate_series(1, 1000) g")
    with psycopg.connect(target.url, password=target.password, autocommit=True) as to:
        to.execute("CREATE TABLE item (id int PRIMARY KEY, size int, CONSTRAINT small CHECK (size < 5000))")
    one = move("held", source, target, tables=[{"from": "public.item"}], schema="existing", on_error="quarantine")
    one.begin()
    one.wait("following")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as on:
        on.execute("UPDATE item SET size = 9000 WHERE id = 5")
        on.execute("UPDATE item SET size = -6 WHERE id = 6")
        assert [d["key"] for d in one.verify()["found"]] == [["5"]]
        on.execute("UPDATE item SET size = 50 WHERE id = 5")  # fits, but must not overtake
    report = one.verify()
    assert [(d["kind"], d["key"]) for d in report["found"]] == [("different", ["5"])]
    held = one.ask("quarantine", "list", str(one.file))
    assert [h["state"] for h in held] == ["held", "waiting"] and {tuple(h["key"]) for h in held} == {("5",)}
    assert "small" in held[0]["error"]
    with psycopg.connect(target.url, password=target.password, autocommit=True) as to:
        assert to.execute("SELECT size FROM item WHERE id IN (5, 6) ORDER BY id").fetchall() == [(5,), (-6,)]
        to.execute("ALTER TABLE item DROP CONSTRAINT small")
    assert one.ask("quarantine", "retry", str(one.file), "--all")["refused"] == []
    assert one.verify()["differences"] == 0
    assert one.ask("quarantine", "list", str(one.file)) == []
    # replay: the whole topic once more over the target that is ahead of it
    offsets = one.ask("replay", str(one.file), "--from", "offset:0", check=False)
    assert offsets["offsets"]["main"] >= 0
    one.wait("following")
    report = one.verify()
    assert report["differences"] == 0, report["found"][:5]
    # copy again under a throttle, after rows were lost on the target
    with psycopg.connect(target.url, password=target.password, autocommit=True) as to:
        to.execute("DELETE FROM item WHERE id > 900")
    one.run("throttle", str(one.file), "100000")
    one.run("backfill", str(one.file), "--table", "public.item", "--where", "id > 900")
    _until(lambda: one.status()["phase"] == "following" and all(t["phase"] == "copied" for t in one.status()["tables"]))
    assert one.verify()["differences"] == 0


def _until(true: Callable[[], bool], seconds: float = 90) -> None:
    """Asks until it is so; the command under test is the clock."""
    done = threading.Event()
    deadline = threading.Timer(seconds, done.set)
    deadline.start()
    while not true():
        assert not done.is_set(), "never came true"
    deadline.cancel()
