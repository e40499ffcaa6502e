"""Scenario 25: when the fence is raised nothing of the application's is open there and nothing it does can commit; lowered, all is as it was."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pymysql
import pytest

from connectors.base import Address
from connectors.engine import module
from deploy.local.stack import Stack
from pipeline.errors import BadInput, CrossfadeError, TimedOut
from pipeline.model import TableId
from tests.conftest import MakeDatabase, TestDatabase

pytestmark = pytest.mark.system
ROLE, WORD = "fenced_app", "behind-the-fence"
REFUSED = (psycopg.errors.ReadOnlySqlTransaction, psycopg.OperationalError)


class Postgres:
    """A database with a table, a role that owns it, and the fence for that role."""

    def __init__(self, database: TestDatabase) -> None:
        self.database = database
        self.admin = psycopg.connect(database.url, password=database.password, autocommit=True)
        if self.admin.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None:
            self.admin.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{WORD}'")
        self.admin.execute(f"CREATE TABLE t (id text PRIMARY KEY); ALTER TABLE t OWNER TO {ROLE}")
        self.fence = module("postgresql", "fence").Fence(Address(database.url, database.password, {}), (ROLE,))

    def client(self, **more: Any) -> psycopg.Connection[Any]:
        return psycopg.connect(self.database.url.replace("postgres@", f"{ROLE}@"), password=WORD, **more)

    def rows(self) -> set[str]:
        return {row[0] for row in self.admin.execute("SELECT id FROM t").fetchall()}

    def close(self) -> None:
        self.fence.close()
        self.admin.execute(f"ALTER ROLE {ROLE} IN DATABASE {self.database.name} RESET ALL")
        self.admin.close()


@pytest.fixture
def postgres(pg_database: MakeDatabase) -> Iterator[Postgres]:
    made = Postgres(pg_database("source"))
    yield made
    made.close()


def test_s25_open_transactions_are_ended_and_nothing_writes_until_it_is_lowered(postgres: Postgres) -> None:
    record = postgres.fence.plan()
    open_ = postgres.client()
    open_.execute("INSERT INTO t VALUES ('open')")
    for _ in range(2):  # raised again by a successor
        postgres.fence.raise_(record, time.monotonic() + 20)
    with pytest.raises(psycopg.OperationalError):
        open_.commit()
    with postgres.client() as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)  # it may look
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            db.execute("INSERT INTO t VALUES ('fenced')")
    for _ in range(2):
        postgres.fence.lower(record, time.monotonic() + 20)
    with postgres.client() as db:
        postgres.fence.lower(record, time.monotonic() + 20, again=True)  # who has come since is not ended
        db.execute("INSERT INTO t VALUES ('after')")
    assert postgres.rows() == {"after"} and postgres.fence.plan() == record
    postgres.fence.raise_(record, time.monotonic() + 20)
    postgres.fence.lower(record, time.monotonic() + 20, again=True)  # raised since
    with postgres.client() as db:
        db.execute("INSERT INTO t VALUES ('again')")


def test_s25_what_is_raised_already_is_remembered_as_it_was_and_who_was_added_since_is_shut_out_too(postgres: Postgres) -> None:
    record = postgres.fence.plan()
    postgres.fence.raise_(record, time.monotonic() + 20)
    assert postgres.fence.plan() != record and postgres.fence.plan(record) == record
    postgres.admin.execute("DROP ROLE IF EXISTS added_app")
    postgres.admin.execute("CREATE ROLE added_app")
    both = module("postgresql", "fence").Fence(Address(postgres.database.url, postgres.database.password, {}), (ROLE, "added_app"))
    assert both.plan(record)["before"] == {ROLE: None, "added_app": None}
    both.close()
    postgres.fence.lower(record, time.monotonic() + 20)
    postgres.admin.execute("DROP ROLE added_app")


def test_s27_what_comes_after_its_deadline_changes_nothing(postgres: Postgres) -> None:
    """By the server's own clock: a process that was frozen just before it spoke looks at no clock of its own."""
    record = postgres.fence.plan()
    with postgres.client() as db:
        with pytest.raises(TimedOut, match="too late"):
            postgres.fence.raise_(record, time.monotonic())
        db.execute("INSERT INTO t VALUES ('goes on')")
    assert postgres.fence.plan() == record
    postgres.fence.raise_(record, time.monotonic() + 20)
    with pytest.raises(TimedOut, match="too late"):
        postgres.fence.lower(record, time.monotonic())
    with postgres.client() as db, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        db.execute("INSERT INTO t VALUES ('fenced')")


def test_s25_a_session_that_is_just_being_opened_does_not_slip_through(postgres: Postgres) -> None:
    """Its settings are read, but it is not yet seen among the sessions: the server is told to dawdle there."""
    opened: list[psycopg.Connection[Any]] = []
    errors: list[Exception] = []

    def slowly() -> None:
        try:
            opened.append(postgres.client(options="-c post_auth_delay=2"))
        except psycopg.OperationalError as error:
            errors.append(error)  # ended as soon as it was seen

    thread = threading.Thread(target=slowly)
    thread.start()
    starting = "SELECT count(*) FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND mode = 'RowExclusiveLock'"
    deadline = time.monotonic() + 20
    while postgres.admin.execute(starting).fetchone() == (0,):
        assert time.monotonic() < deadline
    record = postgres.fence.plan()
    postgres.fence.raise_(record, time.monotonic() + 20)
    thread.join(20)
    with contextlib.suppress(*REFUSED):
        for db in opened:
            db.execute("INSERT INTO t VALUES ('slipped')")
            db.commit()
    assert len(opened) + len(errors) == 1 and postgres.rows() == set()


def test_s25_no_write_of_a_storm_of_sessions_comes_after_the_fence(postgres: Postgres) -> None:
    """Eight clients that open a session for each row; what is there when the fence holds stays all there is."""
    halt = threading.Event()

    def storm(number: int) -> None:
        n = 0
        while not halt.is_set():
            n += 1
            with contextlib.suppress(*REFUSED), postgres.client() as db:
                db.execute("INSERT INTO t VALUES (%s)", (f"{number}-{n}",))

    threads = [threading.Thread(target=storm, args=(number,), daemon=True) for number in range(8)]
    for thread in threads:
        thread.start()
    record = postgres.fence.plan()
    try:
        for _ in range(5):
            before = len(postgres.rows())
            deadline = time.monotonic() + 30
            while len(postgres.rows()) < before + 20:
                assert time.monotonic() < deadline
            postgres.fence.raise_(record, time.monotonic() + 30)
            held = postgres.rows()
            attempts = postgres.admin.execute("SELECT sessions FROM pg_stat_database WHERE datname = current_database()").fetchone()
            time.sleep(0.3)
            assert postgres.rows() == held and attempts is not None
            postgres.fence.lower(record, time.monotonic() + 20)
    finally:
        halt.set()
        for thread in threads:
            thread.join(20)


def test_s25_a_prepared_transaction_is_named_and_nothing_is_promised(postgres: Postgres) -> None:
    with postgres.client(autocommit=True) as db:
        db.execute("BEGIN; INSERT INTO t VALUES ('prepared'); PREPARE TRANSACTION 'till 4'")
    address = Address(postgres.database.url, postgres.database.password, {})
    assert any("till 4" in one for one in module("postgresql", "fence").writers(address, 60))
    with pytest.raises(CrossfadeError, match="'till 4' of fenced_app is prepared"):
        postgres.fence.raise_(postgres.fence.plan(), time.monotonic() + 10)
    postgres.admin.execute("ROLLBACK PREPARED 'till 4'")
    postgres.fence.raise_(postgres.fence.plan(), time.monotonic() + 10)


def test_a_role_that_is_not_there_is_named(postgres: Postgres) -> None:
    with pytest.raises(BadInput, match="there is no role nobody_here"):
        module("postgresql", "fence").Fence(Address(postgres.database.url, postgres.database.password, {}), ("nobody_here",)).plan()


def test_s25_the_rights_of_docs_grants_will_do_and_each_that_is_missing_is_named(postgres: Postgres) -> None:
    """Whoever may not see a session cannot end it either: that is said, and never taken for a session that is not there."""
    admin, keeper = postgres.admin, "fence_keeper"
    admin.execute(f"DROP ROLE IF EXISTS {keeper}")
    admin.execute(f"CREATE ROLE {keeper} LOGIN PASSWORD '{WORD}'")
    admin.execute(f"ALTER ROLE {keeper} CREATEROLE")
    admin.execute(f"GRANT {ROLE} TO {keeper} WITH ADMIN OPTION")
    address = Address(postgres.database.url.replace("postgres@", f"{keeper}@"), WORD, {})
    fence = module("postgresql", "fence").Fence(address, (ROLE,))

    def lacking() -> list[tuple[str, str]]:
        return [(found.id, found.fix) for found in module("postgresql", "crossrights").lacks(address, (ROLE,), [], moves=True)]

    assert lacking() == []
    record = fence.plan()
    with postgres.client() as open_:
        open_.execute("INSERT INTO t VALUES ('open')")
        fence.raise_(record, time.monotonic() + 20)
        with pytest.raises(psycopg.OperationalError):
            open_.commit()
    with postgres.client() as db, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
        db.execute("INSERT INTO t VALUES ('fenced')")
    fence.lower(record, time.monotonic() + 20)
    for taken in (f"ALTER ROLE {keeper} NOCREATEROLE", f"REVOKE {ROLE} FROM {keeper}"):
        admin.execute(taken)
        ((id_, fix),) = lacking()
        assert id_ == "grant.fence"
        admin.execute(fix)
        assert lacking() == []
    admin.execute(f"GRANT {ROLE} TO {keeper} WITH INHERIT FALSE")
    ((_, fix),) = lacking()
    admin.execute(fix.partition("; or ")[0])
    assert lacking() == []
    admin.execute(f"GRANT {ROLE} TO {keeper} WITH INHERIT FALSE")
    with postgres.client() as open_:
        open_.execute("INSERT INTO t VALUES ('not seen')")
        with pytest.raises(CrossfadeError, match="permission denied"):
            fence.raise_(record, time.monotonic() + 20)
        open_.rollback()
    admin.execute(f"ALTER ROLE {ROLE} IN DATABASE {postgres.database.name} RESET ALL")
    admin.execute(fix.rpartition("; or ")[2])
    assert lacking() == []
    with postgres.client() as open_:
        open_.execute("INSERT INTO t VALUES ('seen')")
        fence.raise_(record, time.monotonic() + 20)
        with pytest.raises(psycopg.OperationalError):
            open_.commit()
    fence.lower(record, time.monotonic() + 20)
    fence.close()
    lacks = module("postgresql", "crossrights").lacks
    assert [found.id for found in lacks(address, ("nobody_here", "postgres"), [], moves=True)] == ["fence.role", "grant.fence"]
    assert postgres.rows() == set()
    admin.execute(f"DROP OWNED BY {keeper}")
    admin.execute(f"DROP ROLE {keeper}")


def test_s25_mariadb_the_rights_of_docs_grants_will_do_and_each_that_is_missing_is_named(
    stack: Stack, mariadb_database: MakeDatabase
) -> None:
    database, keeper, app = mariadb_database("source"), "fence_keeper", "seen_app"
    port = stack.mariadb["source"].port

    def connect(user: str, password: str, name: str = "") -> pymysql.Connection[Any]:
        return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, database=name or None, autocommit=False)

    address = Address(database.url.replace("root@", f"{keeper}@").replace(f"/{database.name}", "/"), WORD, {})

    def lacking() -> list[tuple[str, str]]:
        return [(found.id, found.fix) for found in module("mysql", "crossrights").lacks(address, (app,), [], moves=True)]

    with connect("root", database.password, database.name) as root, root.cursor() as admin:
        root.autocommit(True)
        admin.execute("CREATE TABLE t (id varchar(40) PRIMARY KEY)")
        for user in (keeper, app):
            admin.execute(f"CREATE OR REPLACE USER '{user}'@'%' IDENTIFIED BY '{WORD}'")
        admin.execute(f"GRANT ALL ON {database.name}.* TO '{app}'@'%'")
        admin.execute(f"GRANT CREATE USER, CONNECTION ADMIN, PROCESS ON *.* TO '{keeper}'@'%'")
        admin.execute(f"GRANT SELECT ON mysql.* TO '{keeper}'@'%'")
        assert lacking() == []
        fence = module("mysql", "fence").Fence(address, (app,))
        record = fence.plan()
        open_ = connect(app, WORD, database.name)
        open_.cursor().execute("INSERT INTO t VALUES ('open')")
        fence.raise_(record, time.monotonic() + 20)
        with pytest.raises(pymysql.MySQLError):
            open_.commit()
        fence.lower(record, time.monotonic() + 20)
        with connect(app, WORD, database.name) as db:
            for statement in ("XA START 'till 5'", "INSERT INTO t VALUES ('prepared')", "XA END 'till 5'", "XA PREPARE 'till 5'"):
                db.cursor().execute(statement)
        with pytest.raises(CrossfadeError, match="till 5"):
            fence.raise_(record, time.monotonic() + 20)
        admin.execute("XA ROLLBACK 'till 5'")
        fence.lower(record, time.monotonic() + 20)
        for right in ("CREATE USER", "CONNECTION ADMIN", "PROCESS"):
            admin.execute(f"REVOKE {right} ON *.* FROM '{keeper}'@'%'")
            ((id_, fix),) = lacking()
            assert id_ == "grant.fence" and right in fix
            admin.execute(fix)
            assert lacking() == []
        admin.execute(f"CREATE EVENT {database.name}.nightly ON SCHEDULE EVERY 1 DAY DO DELETE FROM t")
        scheduler = "SET GLOBAL event_scheduler = "
        for on, told in (("ON", ["fence.event"]), ("OFF", [])):
            admin.execute(scheduler + on)
            found = module("mysql", "crossrights").lacks(address, (app,), [TableId(database.name, "t")], moves=False)
            assert [one.id for one in found] == told
        admin.execute(f"REVOKE SELECT ON mysql.* FROM '{keeper}'@'%'")
        ((_, fix),) = lacking()
        admin.execute(fix)
        admin.execute(f"DROP USER '{app}'@'%'")
        assert [id_ for id_, _ in lacking()] == ["fence.role"]
        admin.execute("SELECT id FROM t")
        assert admin.fetchall() == ()
        admin.execute(f"DROP USER '{keeper}'@'%'")


def test_s25_mariadb_accounts_are_locked_and_their_sessions_end(stack: Stack, mariadb_database: MakeDatabase) -> None:
    database = mariadb_database("source")
    port = stack.mariadb["source"].port

    def connect(user: str, password: str) -> pymysql.Connection[Any]:
        return pymysql.connect(host="127.0.0.1", port=port, user=user, password=password, database=database.name)

    with connect("root", database.password) as root, root.cursor() as admin:
        root.autocommit(True)
        admin.execute("CREATE TABLE t (id varchar(40) PRIMARY KEY)")
        admin.execute(f"CREATE OR REPLACE USER '{ROLE}'@'%' IDENTIFIED BY '{WORD}'")
        admin.execute(f"CREATE OR REPLACE USER '{ROLE}'@'127.0.0.1' IDENTIFIED BY '{WORD}'")
        admin.execute(f"GRANT ALL ON {database.name}.* TO '{ROLE}'@'%', '{ROLE}'@'127.0.0.1'")
        fence = module("mysql", "fence").Fence(Address(database.url, database.password, {}), (ROLE,))
        record = fence.plan()
        assert len(record["before"]) == 2
        open_ = connect(ROLE, WORD)
        open_.cursor().execute("INSERT INTO t VALUES ('open')")
        for _ in range(2):
            fence.raise_(record, time.monotonic() + 20)
        with pytest.raises(pymysql.MySQLError):
            open_.commit()
        with pytest.raises(pymysql.MySQLError):
            connect(ROLE, WORD)
        for _ in range(2):
            fence.lower(record, time.monotonic() + 20)
        with connect(ROLE, WORD) as db:
            with pytest.raises(TimedOut, match="too late"):
                fence.raise_(record, time.monotonic())
            db.cursor().execute("INSERT INTO t VALUES ('goes on')")
            db.rollback()
        with connect(ROLE, WORD) as db:
            db.cursor().execute("XA START 'till 4'")
            db.cursor().execute("INSERT INTO t VALUES ('prepared')")
            db.cursor().execute("XA END 'till 4'")
            db.cursor().execute("XA PREPARE 'till 4'")
        with pytest.raises(CrossfadeError, match="till 4"):
            fence.raise_(record, time.monotonic() + 20)
        admin.execute("XA ROLLBACK 'till 4'")
        fence.lower(record, time.monotonic() + 20)
        with connect(ROLE, WORD) as db:
            db.cursor().execute("INSERT INTO t VALUES ('after')")
            db.commit()
        admin.execute("SELECT id FROM t")
        assert admin.fetchall() == (("after",),) and fence.plan() == record
        admin.execute(f"DROP USER '{ROLE}'@'%', '{ROLE}'@'127.0.0.1'")
