"""One lab for every database product: a database of its own on a real server, a control store, tables, chunks, a writer and a reader."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec import structs

from connectors import engine
from connectors.base import Address, ApplyNotes, ApplyOutcome, Projection, Range, TableBatch, TargetTable, side_table
from pipeline import copytext
from pipeline.model import Applied, Column, Engine, LogicalType, Table, TableId, Text
from pipeline.store import tables as t
from pipeline.store.store import Store

WRITERS = {"postgresql": "PostgresWriter", "mysql": "MysqlWriter"}
READERS = {"postgresql": "PostgresReader", "mysql": "MysqlReader"}
STREAM = "main"
_numbers = itertools.count(1)


@dataclasses.dataclass(frozen=True, slots=True)
class Product:
    """A database of the test run's own on one server."""

    engine: Engine
    address: Address
    schema: str

    def module(self, name: str) -> Any:
        return engine.module(self.engine, name)

    def connect(self) -> Any:
        return engine.connect(self.address, autocommit=True)

    def pick(self, postgresql: str, mysql: str) -> str:
        """What one product spells so and the other so."""
        return postgresql if self.engine == "postgresql" else mysql


@pytest.fixture(scope="session", params=["postgresql", "mysql"])
def product(request: pytest.FixtureRequest, stack: Any) -> Iterator[Product]:
    server = (stack.postgres if request.param == "postgresql" else stack.mariadb)["target"]
    name = f"contract_{secrets.token_hex(4)}"
    address = Address(server.url("postgres" if request.param == "postgresql" else ""), server.password)

    def administer(statement: str) -> None:
        # a session of its own each time: other tests kill the servers meanwhile
        with contextlib.closing(engine.connect(address, autocommit=True)) as admin, contextlib.closing(admin.cursor()) as cursor:
            cursor.execute(statement)

    administer(f"CREATE DATABASE {name}")
    try:
        yield Product(request.param, Address(server.url(name), server.password), "public" if request.param == "postgresql" else name)
    finally:
        administer(f"DROP DATABASE {name}" + (" WITH (FORCE)" if request.param == "postgresql" else ""))


class Lab:
    """One migration with one stream, and what a test does to it."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.migration = f"contract-{secrets.token_hex(4)}"
        self.store = Store(product.address, self.migration)
        self.store.create()
        self.db = product.connect()
        self.tables: list[TargetTable] = []
        self._open: list[Any] = []
        with self.store.begin() as db:
            db.execute(t.stream.insert().values(migration=self.migration, name=STREAM, position=""))
        self.position = Applied(STREAM, 0, "")
        self._transactions = itertools.count(1)
        self.writer = self.new_writer()
        self.reader = self.new_reader()

    def close(self) -> None:
        for thing in self._open:
            thing.close()
        with contextlib.closing(self.db.cursor()) as cursor:
            for target in self.tables:
                cursor.execute(f"DROP TABLE IF EXISTS {self.name_of(target)}")
                cursor.execute(f"DROP TABLE IF EXISTS crossfade.{side_table(self.migration, target.number)}")
        with self.store.begin() as db:
            for table in (t.stream, t.table_state, t.chunk, t.marker, t.quarantine):
                db.execute(table.delete().where(table.c.migration == self.migration))
        self.store.close()
        self.db.close()

    # -- sessions --------------------------------------------------------------------------------------------------------------------

    def new_writer(self) -> Any:
        writer = getattr(self.product.module("writer"), WRITERS[self.product.engine])(self.product.address, self.migration)
        self._open.append(writer)
        return writer

    def new_reader(self) -> Any:
        reader = getattr(self.product.module("reader"), READERS[self.product.engine])(self.product.address)
        self._open.append(reader)
        return reader

    def session(self) -> Any:
        """A plain session that commits when told to."""
        session = engine.connect(self.product.address, autocommit=False)
        self._open.append(session)
        return session

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with contextlib.closing(self.db.cursor()) as cursor:
            cursor.execute(statement, values or None)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []

    # -- tables ----------------------------------------------------------------------------------------------------------------------

    def quote(self, name: str) -> str:
        return str(self.product.module("ddl").quote(name))

    def name_of(self, target: TargetTable) -> str:
        return str(self.product.module("ddl").qualified(target.table.id))

    def side_of(self, target: TargetTable) -> str:
        return side_table(self.migration, target.number)

    def type(self, native: str, **more: Any) -> LogicalType:
        logical: LogicalType = self.product.module("types").logical(native, **more)
        return logical

    def table(
        self,
        columns: dict[str, LogicalType],
        key: Sequence[str],
        *,
        extra: Sequence[str] = (),
        name: str | None = None,
        phase: str = "copied",
        tracked: bool = False,
        declared: dict[str, str] | None = None,
        keyless: bool = False,
    ) -> TargetTable:
        """Makes a table, its row in `table_state` and its side table. `declared`: a column's DDL where its type alone does not say.
        `keyless`: it gets its key later."""
        number = next(_numbers)
        id_ = TableId(self.product.schema, name or f"t{number}")
        parts = [
            f"{self.quote(c)} {(declared or {}).get(c, type_.native)}{' NOT NULL' if c in key else ''}" for c, type_ in columns.items()
        ]
        parts += [*([] if keyless else [f"PRIMARY KEY ({', '.join(self.quote(c) for c in key)})"]), *extra]
        table = Table(id_, tuple(Column(c, type_, c not in key) for c, type_ in columns.items()), tuple(key), tuple(key))
        target = TargetTable(number, table, tuple(columns), tuple(key))
        self.sql(f"CREATE TABLE {self.name_of(target)} ({', '.join(parts)})")
        self.tables.append(target)
        self.store.add_tables([{"number": number, "source": str(id_), "target": str(id_), "keyless": keyless}])
        self.store.set_table(number, phase=phase, tracked=tracked)
        self.writer.prepare([target])
        return target

    def people(self, *, phase: str = "copied", tracked: bool = False, keyless: bool = False) -> TargetTable:
        """id, name, a big column that events may leave out, a unique email (a plain one where the key comes later, as its index does)."""
        big = self.type(self.product.pick("text", "longtext"), collation="utf8mb4_bin")
        number, text = (
            self.type(self.product.pick("integer", "int(11)")),
            self.type(self.product.pick("character varying(100)", "varchar(100)")),
        )
        return self.table(
            {"id": number, "name": text, "big": big, "email": text},
            ["id"],
            extra=[] if keyless else ["UNIQUE (email)"],
            phase=phase,
            tracked=tracked,
            keyless=keyless,
        )

    def copying(self) -> TargetTable:
        return self.people(phase="copying", tracked=True)

    def rows(self, target: TargetTable) -> list[tuple[Text, ...]]:
        """The table as it is, in canonical text, sorted."""
        found = self.read(target, Range(None, None))
        return sorted(found, key=lambda row: [value or "" for value in row])

    def projection(self, target: TargetTable) -> Projection:
        canonical = self.product.module("types").canonical_sql
        return Projection(target.table.id, tuple(canonical(self.quote(c), target.table.column(c).type) for c in target.columns))

    def read(self, target: TargetTable, within: Range) -> list[tuple[Text, ...]]:
        blocks = list(self.reader.copy(target.table, target.key, self.projection(target), within))
        return [tuple(row) for block in blocks for row in copytext.decode(block)]

    def state(self, target: TargetTable) -> Any:
        return next(row for row in self.store.tables() if row.number == target.number)

    def set_state(self, target: TargetTable, **values: object) -> None:
        self.store.set_table(target.number, **values)

    def listed(self, target: TargetTable) -> list[str]:
        """First key columns on the re-read list."""
        return sorted(key[0] for key, _ in self.writer.listed(target, 1000))

    # -- stream and chunks -----------------------------------------------------------------------------------------------------------

    def apply(self, *batches: TableBatch, writer: Any = None, notes: ApplyNotes | None = None) -> ApplyOutcome:
        """The next batch of the stream."""
        before = self.position
        after = structs.replace(before, position=str(next(self._transactions)), offset=before.offset + 10)
        outcome: ApplyOutcome = (writer or self.writer).apply(
            self.migration, [*batches], before, after, **({"notes": notes} if notes is not None else {})
        )
        self.position = after
        return outcome

    def chunk(self, target: TargetTable, state: str = "taken") -> int:
        with self.store.begin() as db:
            key = db.execute(t.chunk.insert().values(migration=self.migration, number=target.number, state=state)).inserted_primary_key
            assert key is not None
            return int(key[0])

    def chunk_state(self, chunk: int) -> str:
        with self.store.begin() as db:
            return str(db.execute(sa.select(t.chunk.c.state).where(t.chunk.c.id == chunk)).scalar_one())

    def merge(self, target: TargetTable, *rows: Sequence[Text], writer: Any = None) -> Any:
        return (writer or self.writer).merge(target, self.chunk(target), [copytext.encode([row]) for row in rows])

    def reread(self, target: TargetTable, source: dict[str, tuple[Text, ...]], **options: bool) -> int:
        """One round of the re-read list against what the source has by first key column."""
        listed = self.writer.listed(target, 1000)
        return int(self.writer.merge_listed(target, {key: (sequence, source.get(key[0])) for key, sequence in listed}, **options))

    # -- waiting ---------------------------------------------------------------------------------------------------------------------

    def waiting(self) -> int:
        """Sessions of this database that wait for a lock."""
        if self.product.engine == "postgresql":
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        else:
            query = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        return int(self.sql(query)[0][0])

    def kill_waiting(self) -> None:
        """Ends the sessions that wait for a lock, as an administrator or a broken network would."""
        if self.product.engine == "postgresql":
            self.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        else:
            for (session,) in self.sql("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"):
                self.sql(f"KILL {session}")

    def kill(self, session: Any) -> None:
        """Ends one session from outside."""
        if self.product.engine == "postgresql":
            self.sql("SELECT pg_terminate_backend(%s, 5000)", session.info.backend_pid)
        else:
            self.sql(f"KILL {session.thread_id()}")

    def wait_until_waiting(self, sessions: int) -> None:
        # InnoDB's list is made anew only when nobody has looked for a tenth of a second
        wait_for(lambda: self.waiting() >= sessions, f"{sessions} sessions waiting for a lock", every=0.15)


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 20.0, every: float = 0.02) -> None:
    """Polls until it is true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(every)


class Running(threading.Thread):
    """Something that goes on in a thread of its own; `result` waits for it and answers or raises what it did."""

    def __init__(self, what: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._what = what
        self._answer: Any = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._answer = self._what()
        except BaseException as error:
            self._error = error

    def result(self, seconds: float = 30.0) -> Any:
        self.join(seconds)
        assert not self.is_alive(), "still running"
        if self._error is not None:
            raise self._error
        return self._answer


@pytest.fixture
def lab(product: Product) -> Iterator[Lab]:
    lab = Lab(product)
    try:
        yield lab
    finally:
        lab.close()
