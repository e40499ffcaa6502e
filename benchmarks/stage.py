"""What a benchmark runs on: fresh databases of the embedded stack, durable as in production, gone at the end whatever happens."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from connectors.base import Address
from connectors.engine import connect
from deploy.local.stack import Stack

_numbers = itertools.count(1)
SHORT = {"postgresql": "PG", "mariadb": "MariaDB"}


@dataclasses.dataclass(frozen=True, slots=True)
class Database:
    """A fresh database on one of the stack's servers."""

    engine: str  # postgresql | mariadb
    address: Address

    def run(self, *statements: str) -> None:
        """Runs statements, each in a transaction of its own."""
        with self.session() as cursor:
            for statement in statements:
                cursor.execute(statement)

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        """A cursor of a connection of its own, in autocommit."""
        connection = connect(self.address, autocommit=True)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


class Stage:
    """The embedded stack for the time of a run. `sinks`: Connect can run the JDBC sink, and stores offsets five times a second, by which it
    is seen how far the sink is; else once a second, as set up for production."""

    def __init__(self, root: Path, *, sinks: bool) -> None:
        self.root = root
        both = ("source", "target")
        self.stack = Stack(root / "stack", postgres=both, mariadb=both, durable=True, jdbc_sink=sinks, roomy=True)

    def database(self, engine: str, server: str) -> Database:
        """A new empty database on the product's server of that name."""
        name = f"bench_{next(_numbers)}"
        if engine == "postgresql":
            postgres = self.stack.postgres[server]
            with psycopg.connect(postgres.url(), password=postgres.password, autocommit=True) as db:
                db.execute(f'CREATE DATABASE "{name}"'.encode())
            return Database(engine, Address(postgres.url(name), postgres.password))
        mariadb = self.stack.mariadb[server]
        Database(engine, Address(mariadb.url("mysql"), mariadb.password)).run(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return Database(engine, Address(mariadb.url(name), mariadb.password))

    def drop(self, database: Database) -> None:
        """Takes a database away, so that the next run does not share disk and cache with it. Nobody is connected to it any more."""
        name = database.address.url.rsplit("/", 1)[1]
        if database.engine == "postgresql":
            servers = {s.port: s for s in self.stack.postgres.values()}
            server = next(s for port, s in servers.items() if f":{port}/" in database.address.url)
            with psycopg.connect(server.url(), password=server.password, autocommit=True) as db:
                db.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())
        else:
            database.run(f"DROP DATABASE `{name}`")


@contextlib.contextmanager
def stage(*, sinks: bool) -> Iterator[Stage]:
    """A stack that is gone at the end, its folder and logs too."""
    root = Path(tempfile.mkdtemp(prefix="crossfade-bench-", dir="/var/tmp"))
    root.chmod(0o755 if os.geteuid() == 0 else 0o700)
    made = Stage(root, sinks=sinks)
    try:
        made.stack.up()
        yield made
    finally:
        made.stack.down(wipe=True)
        shutil.rmtree(root, ignore_errors=True)
