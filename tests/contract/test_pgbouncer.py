"""The PgBouncer driver on real processes in front of two real servers: nothing fails, nothing waits for ever, every row on one side."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from deploy.local import pgbouncer, place
from deploy.local.stack import Stack
from pipeline.errors import CrossfadeError, TimedOut
from pipeline.traffic.pgbouncer import PgBouncer, Settings
from tests.conftest import MakeDatabase, TestDatabase

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(pgbouncer.installed() is None, reason="PGBOUNCER IS NOT INSTALLED: nothing is known about the driver"),
]
ROLE, WORD = "pooled_app", "over the counter, please"
NAME = "my-shop.1"  # a name that its console takes only quoted


@dataclasses.dataclass(slots=True)
class Door:
    """Two PgBouncers with one file, and the driver that commands them."""

    bouncers: list[pgbouncer.PgBouncer]
    settings: Settings
    driver: PgBouncer
    sides: dict[str, TestDatabase]

    def url(self, at: int = 0) -> str:
        return self.bouncers[at].url(ROLE).replace("@", f":{WORD.replace(' ', '%20').replace(',', '%2C')}@")

    def client(self, at: int = 0, *, autocommit: bool = True) -> psycopg.Connection:
        return psycopg.connect(self.url(at), autocommit=autocommit, prepare_threshold=None, application_name="till")

    def sql(self, side: str, statement: str) -> list[tuple]:
        with psycopg.connect(self.sides[side].url, password=self.sides[side].password, autocommit=True) as db:
            done = db.execute(statement)
            return done.fetchall() if done.description else []


@pytest.fixture
def door(stack: Stack, pg_database: MakeDatabase, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Door]:
    sides, where = {}, {}
    for side in ("source", "target"):
        sides[side] = pg_database(side)
        with psycopg.connect(sides[side].url, password=sides[side].password, autocommit=True) as db:
            if db.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None:
                db.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{WORD}'")
            db.execute(f"CREATE TABLE entry (id text PRIMARY KEY, seq bigserial); GRANT ALL ON entry, entry_seq_seq TO {ROLE}")
        where[side] = f"host=127.0.0.1 port={stack.postgres[side].port} dbname={sides[side].name}"
    pool_mode = getattr(request, "param", "transaction")
    one = pgbouncer.PgBouncer.beside(stack, "door-1", database=NAME, where=where["source"], users={ROLE: WORD}, pool_mode=pool_mode)
    two = pgbouncer.PgBouncer.beside(
        stack, "door-2", database=NAME, where=where["source"], users={ROLE: WORD}, databases=one.databases, pool_mode=pool_mode
    )
    one.databases.unlink(missing_ok=True)
    for bouncer in (one, two):
        place.write_private(bouncer.password_file, "keeper-of-the-door")
    monkeypatch.setenv("DOOR_WORD", "keeper-of-the-door")
    monkeypatch.setenv("PROBE_WORD", WORD)
    try:
        for bouncer in (one, two):
            bouncer.start()
        settings = Settings.model_validate(
            {
                "admin": [one.console_url, two.console_url],
                "password": {"env": "DOOR_WORD"},
                "database": NAME,
                "file": str(one.databases),
                **where,
                "probe": {"user": ROLE, "password": {"env": "PROBE_WORD"}},
            }
        )
        driver = PgBouncer(settings)
        yield Door([one, two], settings, driver, sides)
        driver.close()
    finally:
        for bouncer in (one, two):
            bouncer.kill()


class Till(threading.Thread):
    """Writes through the pooler and tries nothing twice; remembers what was acknowledged."""

    def __init__(self, door: Door, number: int) -> None:
        super().__init__(daemon=True)
        self.door, self.number = door, number
        self.written: list[str] = []
        self.halt = threading.Event()
        self.error: BaseException | None = None
        self.slowest = 0.0

    def run(self) -> None:
        try:
            with self.door.client(self.number % 2, autocommit=False) as db:
                while not self.halt.is_set():
                    begun, key = time.monotonic(), f"{self.number}-{len(self.written)}"
                    db.execute("INSERT INTO entry (id) VALUES (%s)", (key,))
                    db.execute("SELECT count(*) FROM (SELECT 1 FROM entry LIMIT 10) x")
                    db.commit()
                    self.written.append(key)
                    self.slowest = max(self.slowest, time.monotonic() - begun)
        except BaseException as error:
            self.error = error


def until(true: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.005)


def test_twenty_switches_under_load_fail_no_query(door: Door) -> None:
    """8 clients, 2 processes; while paused both servers stand still; each row is on the side that was pointed to, and nowhere else."""
    assert door.driver.check() == []
    tills = [Till(door, number) for number in range(8)]
    for till in tills:
        till.start()
    until(lambda: all(len(till.written) > 5 for till in tills), "clients run")
    pauses, counts = [], {"source": 0, "target": 0}
    side = "source"
    for _ in range(20):
        other = "target" if side == "source" else "source"
        begun = time.monotonic()
        door.driver.pause(begun + 10)
        acknowledged = sum(len(till.written) for till in tills)
        (here,) = door.sql(side, "SELECT count(*) FROM entry")[0]
        assert door.sql(side, f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}' AND xact_start IS NOT NULL") == [(0,)]
        door.driver.repoint(other)
        door.driver.verify(other)
        assert door.sql(side, "SELECT count(*) FROM entry")[0] == (here,)
        counts[side] = here
        assert sum(counts.values()) >= acknowledged  # a client may not have been told yet
        assert [(place.side, place.paused) for place in door.driver.state()] == [(other, True)] * 2
        door.driver.resume()
        pauses.append(time.monotonic() - begun)
        before = sum(len(till.written) for till in tills)
        until(lambda before=before: sum(len(till.written) for till in tills) > before + 20 or any(till.error for till in tills), "goes on")
        assert door.sql(side, "SELECT count(*) FROM entry")[0] == (here,)
        side = other
    for till in tills:
        till.halt.set()
    for till in tills:
        till.join(30)
        assert till.error is None, till.error
    there = {name: {row[0] for row in door.sql(name, "SELECT id FROM entry")} for name in ("source", "target")}
    assert not there["source"] & there["target"]
    assert there["source"] | there["target"] == {key for till in tills for key in till.written}
    print(
        f"pauses {min(pauses) * 1000:.0f}..{max(pauses) * 1000:.0f} ms, {sum(len(t.written) for t in tills)} transactions,"
        f" slowest {max(till.slowest for till in tills) * 1000:.0f} ms"
    )


@pytest.mark.parametrize("closed", [False, True], ids=["", "after-somebody-used-wait-close"])
def test_s31_a_long_transaction_spends_the_deadline(door: Door, closed: bool) -> None:
    """Both are resumed, also the one that had paused at once; the error names who held it; queries go on where they went. After a
    WAIT_CLOSE PgBouncer answers PAUSE at once, whatever is open: its answer is not believed."""
    for bouncer in door.bouncers if closed else ():
        with psycopg.connect(bouncer.console_url, password="keeper-of-the-door", autocommit=True) as console:
            console.pgconn.exec_(f'WAIT_CLOSE "{NAME}"'.encode())
    with door.client(1, autocommit=False) as slow, door.client(0) as quick:
        slow.execute("INSERT INTO entry (id) VALUES ('slow')")
        begun = time.monotonic()
        with pytest.raises(TimedOut, match=rf"{ROLE} \(127\.0\.0\.1:\d+, till\) at .*{door.bouncers[1].port} holds server session \d+"):
            door.driver.pause(begun + 0.4)
        assert 0.4 <= time.monotonic() - begun < 3
        assert [(place.side, place.paused) for place in door.driver.state()] == [("source", False)] * 2
        quick.execute("INSERT INTO entry (id) VALUES ('quick')")
        slow.commit()
    assert door.sql("source", "SELECT id FROM entry ORDER BY id") == [("quick",), ("slow",)]


def test_a_pause_begun_by_one_that_died_is_waited_for(door: Door) -> None:
    """`PAUSE` says "already paused" while a transaction is still open: that is not paused yet."""
    with door.client(0, autocommit=False) as slow:
        slow.execute("INSERT INTO entry (id) VALUES ('slow')")
        dead = psycopg.connect(door.bouncers[0].console_url, password="keeper-of-the-door", autocommit=True)
        dead.pgconn.send_query(f'PAUSE "{NAME}"'.encode())
        until(lambda: door.driver.state()[0].paused, "paused by the first one")
        dead.close()
        with pytest.raises(TimedOut, match="not paused in time"):
            door.driver.pause(time.monotonic() + 0.3)
        paused = threading.Thread(target=lambda: door.driver.pause(time.monotonic() + 20), daemon=True)
        paused.start()
        slow.commit()
        paused.join(20)
        assert not paused.is_alive()
    assert [place.paused for place in door.driver.state()] == [True, True]
    for _ in range(2):
        door.driver.pause(time.monotonic() + 5)  # again, as after a crash
        door.driver.repoint("target")
    for _ in range(2):
        door.driver.resume()
    with door.client(0) as db, door.client(1) as other:
        db.execute("INSERT INTO entry (id) VALUES ('there')")
        assert other.execute("SELECT id FROM entry").fetchall() == [("there",)]
    with pytest.raises(CrossfadeError, match="does not point to the source"):
        door.driver.verify("source")


def test_one_process_that_is_away_pauses_none(door: Door) -> None:
    with door.client(0) as db:
        door.bouncers[1].kill()
        with pytest.raises(CrossfadeError, match=str(door.bouncers[1].port)):
            door.driver.pause(time.monotonic() + 3)
        db.execute("INSERT INTO entry (id) VALUES ('goes on')")
        assert any(str(door.bouncers[1].port) in problem for problem in door.driver.check())


def test_s26_one_that_died_while_paused_does_not_hold_up_the_clients_of_the_other(door: Door) -> None:
    door.driver.pause(time.monotonic() + 10)
    door.bouncers[1].kill()
    with pytest.raises(CrossfadeError):
        door.driver.resume()
    with pytest.raises(CrossfadeError, match=f":{door.bouncers[1].port}"):
        door.driver.release("target")
    with door.client(0) as db:
        db.execute("INSERT INTO entry (id) VALUES ('served')")
    assert door.sql("target", "SELECT id FROM entry") == [("served",)]


def test_what_a_resume_turns_off_is_on_again_even_if_one_died_in_the_middle_of_it(door: Door) -> None:
    def retries() -> list[str]:
        return [row[1] for answer in each("SHOW CONFIG") for row in answer if row[0] == "server_login_retry"]

    def each(command: str) -> list[list[tuple]]:
        answers = []
        for bouncer in door.bouncers:
            with psycopg.connect(bouncer.console_url, password="keeper-of-the-door", autocommit=True, prepare_threshold=None) as console:
                done = psycopg.ClientCursor(console).execute(command)
                answers.append(done.fetchall() if done.description else [])
        return answers

    each("SET server_login_retry = '7'")
    door.driver.pause(time.monotonic() + 10)
    door.driver.resume()
    assert retries() == ["7", "7"]
    each("SET server_login_retry = '0.001'")  # as one leaves it that died before its last step
    door.driver.pause(time.monotonic() + 10)
    door.driver.resume()
    assert retries() == ["15", "15"]


def test_repoint_without_pause_waits_for_the_old_side(door: Door) -> None:
    """What a successor does that finds a crossing decided: nothing is left on the old server when it returns."""
    with door.client(0, autocommit=False) as slow:
        slow.execute("INSERT INTO entry (id) VALUES ('old')")
        with pytest.raises(TimedOut, match="till"):
            door.driver.repoint("target", time.monotonic() + 0.5)
        slow.commit()
        door.driver.repoint("target")
        slow.execute("INSERT INTO entry (id) VALUES ('new')")
        slow.commit()
    door.driver.verify("target")
    assert door.sql("source", "SELECT id FROM entry") == [("old",)] and door.sql("target", "SELECT id FROM entry") == [("new",)]
    assert door.sql("source", f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{ROLE}'") == [(0,)]


@pytest.mark.parametrize("door", ["session"], indirect=True)
def test_check_names_what_would_not_hold(door: Door, stack: Stack, tmp_path: Path) -> None:
    found = door.driver.check()
    assert len(found) == 2 and all("pools sessions" in problem for problem in found)
    odd = door.settings.model_copy(update={"database": "nothing", "file": tmp_path / "other.ini"})
    assert ["has no database nothing" in problem for problem in PgBouncer(odd).check()] == [True, True, False]
    elsewhere = door.settings.model_copy(update={"file": tmp_path / "other.ini"})
    (tmp_path / "other.ini").write_text(f"[databases]\n{NAME} = host=h port=1 dbname=d\n")
    assert any("does not %include" in problem for problem in PgBouncer(elsewhere).check())
    users = door.bouncers[0].folder / "users.txt"
    users.write_text(users.read_text() + '"looker" "keeper-of-the-door"\n')
    with psycopg.connect(door.bouncers[0].console_url, password="keeper-of-the-door", autocommit=True) as console:
        console.execute("SET stats_users = 'looker'")
        console.execute("RELOAD")
    looker = door.settings.model_copy(update={"admin": (door.bouncers[0].console_url.replace("crossfade@", "looker@"),)})
    with contextlib.closing(PgBouncer(looker)) as driver:
        until(lambda: "cannot" not in str(driver.check()), "the role is known")
        assert any("may look but not command" in problem or "not allowed" in problem for problem in driver.check()), driver.check()
