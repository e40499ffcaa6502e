"""The embedded stack that all tests of a run share, and fresh databases on it. Started by the first test that asks for it."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import psycopg
import pymysql
import pytest
from psycopg import sql

from deploy.local.stack import Stack
from tests.system.harness import Move

SERVERS = ("source", "target")
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class TestDatabase:
    """A database of its own for one test. `url` has no password in it."""

    __test__ = False

    server: str
    name: str
    url: str
    password: str
    url_with_password: str


MakeDatabase: TypeAlias = Callable[..., TestDatabase]


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """PostgreSQL and MariaDB "source" and "target", Kafka, Connect; not durable; gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="crossfade-test-", dir="/var/tmp"))
    root.chmod(0o755 if os.geteuid() == 0 else 0o700)
    embedded = Stack(root, postgres=SERVERS, mariadb=SERVERS, durable=False)
    try:
        embedded.up()
        yield embedded
    finally:
        embedded.down(wipe=True)


def _postgres_databases(stack: Stack) -> Iterator[MakeDatabase]:
    """`pg_database("source")` makes an empty database; it is dropped at the end, with its replication slots."""
    made: list[TestDatabase] = []

    def make(server: str = "source", name: str | None = None) -> TestDatabase:
        postgres = stack.postgres[server]
        name = name or f"test_{next(_numbers)}"
        with psycopg.connect(postgres.url(), password=postgres.password, autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        made.append(TestDatabase(server, name, postgres.url(name), postgres.password, postgres.url(name, with_password=True)))
        return made[-1]

    yield make
    for database in made:
        _drop_postgres(stack, database)


pg_database = pytest.fixture(_postgres_databases, name="pg_database")
shared_pg_database = pytest.fixture(_postgres_databases, name="shared_pg_database", scope="module")


def _drop_postgres(stack: Stack, database: TestDatabase) -> None:
    """Slots go first, and whoever reads them is ended; a server that a test has left dead is started for it."""
    server = stack.postgres[database.server]
    server.start()
    with psycopg.connect(server.url(), password=server.password, autocommit=True) as connection:
        slots = connection.execute(
            "SELECT slot_name, pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE database = %s", [database.name]
        ).fetchall()
        for slot, _ in slots:
            connection.execute("SELECT pg_drop_replication_slot(%s)", [slot])
        connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))


@pytest.fixture
def mariadb_database(stack: Stack) -> Iterator[MakeDatabase]:
    """`mariadb_database("source")` makes an empty database (utf8mb4); it is dropped at the end."""
    made: list[TestDatabase] = []

    def make(server: str = "source", name: str | None = None) -> TestDatabase:
        mariadb = stack.mariadb[server]
        name = name or f"test_{next(_numbers)}"
        _run_mariadb(stack, server, f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        made.append(TestDatabase(server, name, mariadb.url(name), mariadb.password, mariadb.url(name, with_password=True)))
        return made[-1]

    yield make
    for database in made:
        stack.mariadb[database.server].start()
        _run_mariadb(stack, database.server, f"DROP DATABASE IF EXISTS `{database.name}`")


def _run_mariadb(stack: Stack, server: str, statement: str) -> None:
    mariadb = stack.mariadb[server]
    with pymysql.connect(host="127.0.0.1", port=mariadb.port, user=mariadb.superuser, password=mariadb.password) as connection:
        connection.cursor().execute(statement)


@pytest.fixture
def move(stack: Stack, tmp_path: Path) -> Iterator[Callable[..., Move]]:
    """`move(name, source, target, **spec)` makes a migration of two test databases; it is ended and called off at the end."""
    yield from _moves(stack, tmp_path)


@pytest.fixture(scope="module")
def shared_move(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Move]]:
    """The same for a migration that the tests of a module share."""
    yield from _moves(stack, tmp_path_factory.mktemp("shared"))


def _moves(stack: Stack, at: Path) -> Iterator[Callable[..., Move]]:
    made: list[Move] = []

    def make(name: str, source: TestDatabase, target: TestDatabase, **spec: object) -> Move:
        folder = at / name
        folder.mkdir()
        made.append(Move(stack, folder, name, source, target, **spec))
        return made[-1]

    yield make
    for one in made:
        one.end()
