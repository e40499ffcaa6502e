"""The load and its ledger on real servers: they agree with the source, whatever happens to connections, and see what is tampered with."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pymysql
import pytest

from connectors.base import Address
from deploy.local import flights
from deploy.local.database import Database, connect
from deploy.local.ledger import Account, Ledger
from deploy.local.load import Load
from deploy.local.operations import OPERATIONS
from deploy.local.reach import Link, ask
from deploy.local.reckoning import Reckoning, SqlRows, identity, reckon
from deploy.local.scene import schema_of
from deploy.local.shapes import HOME
from deploy.local.transaction import KEYS

pytestmark = pytest.mark.system


@pytest.fixture(params=["postgresql", "mariadb"])
def source(request: pytest.FixtureRequest) -> Address:
    """A small source database of the demo's application."""
    made = request.getfixturevalue("pg_database" if request.param == "postgresql" else "mariadb_database")("source")
    address = Address(made.url, made.password)
    assert flights.load(address, rows=400).rows["flights"] == 400
    return address


@pytest.fixture
def load(source: Address, tmp_path: Path) -> Iterator[Load]:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    load = Load(source, ledger, rate=400, connections=3, seed=1, rollbacks=0.1)
    yield load
    ledger.close()


def until(load: Load, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert load.failed is None and time.monotonic() < deadline, (load.failed, load.counts())
        time.sleep(0.01)


def reckoned(source: Address, load: Load) -> Reckoning:
    account = Account.read(load.ledger.path)
    with SqlRows(source, schema_of(source)) as rows:
        return reckon(account, rows, identity(KEYS), [("request", ("token",))])


def test_the_ledger_agrees_with_the_source_and_sees_one_changed_column_one_lost_and_one_extra_row(source: Address, load: Load) -> None:
    load.start()
    until(load, lambda: load.counts().committed >= 600 and load.counts().rolled_back >= 20)
    load.stop()
    counts = load.counts()
    assert (counts.failed, counts.unknown, counts.first_error) == (0, 0, "")
    found = reckoned(source, load)
    assert found.clean and found.acknowledged == counts.committed + 1, found.details
    assert found.rolled_back == counts.rolled_back + counts.abandoned

    account = Account.read(load.ledger.path)
    bookings = [key[0] for (table, key), row in account.state.items() if table == "booking" and row is not None]
    with connect(source) as database:
        database.execute("UPDATE booking SET fare = fare + 0.01 WHERE id = %s", [bookings[0]])
        database.execute("DELETE FROM payment WHERE booking_id = %s", [bookings[1]])
        database.execute("DELETE FROM seat WHERE booking_id = %s", [bookings[1]])
        database.execute("DELETE FROM booking WHERE id = %s", [bookings[1]])
        database.execute("INSERT INTO request VALUES ('00000000-0000-4000-8000-000000000000', 1, '2024-01-01')")
        database.commit()
    wrong = reckoned(source, load)
    assert {str(fault) for fault in wrong.details if fault.table in ("booking", "request")} == {
        f"stale: booking {bookings[0]} (fare)",
        f"missing: booking {bookings[1]}",
        "unexpected: request 00000000-0000-4000-8000-000000000000",
    }


def test_connections_killed_again_and_again_lose_nothing_that_was_acknowledged(source: Address, load: Load) -> None:
    load.start()
    until(load, lambda: load.counts().committed >= 50)
    struck = 0
    while struck < 60:
        with connect(source) as database:
            struck += _kill_one(database)
        committed = load.counts().committed
        until(load, lambda committed=committed: load.counts().committed > committed)  # type: ignore[misc]
    load.stop()
    counts = load.counts()
    assert counts.reconnects >= 20 and counts.failed == 0, counts
    found = reckoned(source, load)
    assert found.clean and found.acknowledged == counts.committed + 1, found.details


def test_a_transaction_still_open_is_asked_about_until_it_has_ended(source: Address) -> None:
    """COMMIT got no answer and the server is slow: reading the token would find nothing although it commits a moment later."""
    token = "00000000-0000-4000-8000-000000000001"
    with connect(source) as slow:
        slow.execute("INSERT INTO request VALUES (%s, 1, '2024-01-01')", [token])
        with connect(source) as other:
            assert other.value("SELECT count(*) FROM request WHERE token = %s", [token]) == "0"
            _give_up_soon(other)
            with pytest.raises((psycopg.Error, pymysql.Error)):
                other.execute("INSERT INTO request VALUES (%s, 0, '2000-01-01')", [token])
        slow.commit()
    assert ask(source, token)
    assert not ask(source, "00000000-0000-4000-8000-000000000002")


def test_every_operation_happens(source: Address, load: Load) -> None:
    """The mix is what the scenarios need: each operation by itself does what it says on real tables."""
    from deploy.local.transaction import NothingThere, Transaction

    with connect(source) as database:
        surroundings = load.clients[0].survey(Link(database, 0, HOME))
        for operation in OPERATIONS:
            for _ in range(20):
                transaction = Transaction(database, flights.reference(int(time.time_ns())))
                try:
                    operation(transaction, surroundings)
                except NothingThere:
                    continue
                finally:
                    effects = transaction.effects
                    database.rollback()
                if effects:
                    break
            assert effects, operation.__name__


def test_the_process_ends_cleanly_on_term_and_shows_no_password(source: Address, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    command = [sys.executable, "-m", "deploy.local.load", "--url", source.url, "--ledger", str(ledger), "--rate", "100"]
    env = {**os.environ, "LOAD_PASSWORD": source.password or ""}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None and not (ledger.exists() and ledger.stat().st_size > 20_000):
            time.sleep(0.01)
        assert source.password and source.password not in Path(f"/proc/{process.pid}/cmdline").read_text()
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    said = json.loads(out)
    account = Account.read(ledger)
    assert account.acknowledged == said["committed"] + 1 and account.state["request", (said["fence"],)] is not None
    with SqlRows(source, schema_of(source)) as rows:
        assert reckon(account, rows, identity(KEYS), [("request", ("token",))]).clean


def _kill_one(database: Database) -> int:
    """Ends one of the load's connections on the server."""
    if database.dialect == "postgresql":
        return database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'flight-desk' AND pid <> pg_backend_pid() "
            "AND datname = current_database() ORDER BY random() LIMIT 1"
        )
    ids = database.records(
        "SELECT id FROM information_schema.processlist WHERE db = database() AND id <> connection_id() ORDER BY rand() LIMIT 1"
    )
    for record in ids:
        try:
            database.execute(f"KILL {record['id']}")
        except pymysql.Error:
            return 0  # it has ended by itself
    return len(ids)


def _give_up_soon(database: Database) -> None:
    database.execute("SET lock_timeout = '300ms'" if database.dialect == "postgresql" else "SET innodb_lock_wait_timeout = 1")
