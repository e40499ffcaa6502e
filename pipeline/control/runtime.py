"""A migration made ready to run: addresses with their secrets, catalogs, table pairs, and what reads and writes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Set
from functools import cached_property
from typing import Any

import structlog

from connectors.base import Address, Events, Reader, ShapedTable, Writer
from connectors.engine import module
from pipeline.apply.collapse import Route
from pipeline.backfill.worker import CopyTable
from pipeline.errors import CrossfadeError, Transient
from pipeline.model import Catalog, Engine, Finding, TableId
from pipeline.spec.migration import Endpoint, Migration
from pipeline.store.store import Store
from transforms.pairing import Pair, resolve

log = structlog.get_logger("runtime")


def address_of(endpoint: Endpoint) -> Address:
    """An endpoint's address, its password read now."""
    secret = endpoint.secret()
    return Address(endpoint.url, None if secret is None else secret.get_secret_value(), tls_options(endpoint) | dict(endpoint.options))


def tls_options(endpoint: Endpoint) -> dict[str, str]:
    """TLS settings in libpq's words, which both products' `connection.py` understand."""
    tls = endpoint.tls
    given = {"sslmode": tls.mode, "sslrootcert": tls.ca, "sslcert": tls.cert, "sslkey": tls.key}
    if tls.mode == "prefer" and not (tls.ca or tls.cert):
        return {}
    return {key: value for key, value in given.items() if value}


class Runtime:
    """Everything a process of this migration needs. Catalogs are read once, when first asked for."""

    def __init__(self, migration: Migration) -> None:
        self.migration = migration
        self.name = migration.name
        self.source = address_of(migration.source)
        self.target = address_of(migration.target)
        self.source_engine: Engine = migration.source.engine
        self.target_engine: Engine = migration.target.engine
        self._added: dict[str, dict[str, dict[str, Any]]] = {}

    @cached_property
    def store(self) -> Store:
        """The control store on the target."""
        return Store(self.target, self.name)

    @cached_property
    def source_catalog(self) -> Catalog:
        """What the source told about itself."""
        catalog: Catalog = module(self.source_engine, "catalog").reflect(self.source)
        return catalog

    @cached_property
    def _target(self) -> tuple[Catalog, Set[TableId]]:
        """The target's catalog, in which tables that get their key later have it already, and which tables these are."""
        catalog: Catalog = module(self.target_engine, "catalog").reflect(self.target)
        bare = {table.id for table in catalog.tables.values() if not table.key and not any(index.unique for index in table.indexes)}
        if not self.keys_after or not bare:
            return catalog, frozenset()
        later_key: Callable[[ShapedTable], tuple[str, ...] | None] = module(self.target_engine, "ddl").later_key
        shapes = [pair.shaped() for pair in resolve(self.migration, self.source_catalog, None)[0] if pair.target_id in bare]
        keys = {shape.target: key for shape in shapes if (key := later_key(shape)) is not None}
        made = {id: dataclasses.replace(catalog.tables[id], primary_key=key, key=key) for id, key in keys.items()}
        return dataclasses.replace(catalog, tables={**catalog.tables, **made}), keys.keys()

    @property
    def target_catalog(self) -> Catalog:
        """What the target told about itself; read after its tables are there."""
        return self._target[0]

    @property
    def keyless(self) -> Set[TableId]:
        """Target tables that had no key when the catalog was read, and that get one once they are filled; in the catalog they have it."""
        return self._target[1]

    @property
    def keys_after(self) -> bool:
        """Whether tables are made here without their key, which is then built over the copied rows."""
        return self.migration.schema_ == "create" and self.migration.indexes == "after"

    @cached_property
    def resolved(self) -> tuple[list[Pair], list[Finding]]:
        """Table pairs and what resolving them found."""
        return resolve(self.migration, self.source_catalog, self.target_catalog)

    @cached_property
    def pairs(self) -> Mapping[int, Pair]:
        """Pairs by number, with their targets. Raises CrossfadeError when a target table is missing."""
        pairs = self._numbered(self.resolved[0])
        for pair in pairs:
            if pair.target is None:
                raise CrossfadeError(f"target table {pair.target_id} is not there", hint="crossfade start makes it with schema: create")
        return {pair.number: pair for pair in pairs}

    def _numbered(self, pairs: list[Pair]) -> list[Pair]:
        """Numbers name gates and side tables: they mean the same tables for the whole migration. A table that the source got since
        the start is left out."""
        known = {(row.source, row.target): int(row.number) for row in self.store.tables()} if self.store.exists() else {}
        if not known:
            return pairs
        found = []
        for pair in pairs:
            number = known.pop((str(pair.source.id), str(pair.target_id)), None)
            if number is None:
                log.warning(
                    "table was not part of the migration when it started and is left out: start another migration for it",
                    table=str(pair.source.id),
                )
            else:
                found.append(dataclasses.replace(pair, number=number))
        if known:
            source, target = next(iter(known))
            raise CrossfadeError(
                f"table {source} (to {target}) is part of migration {self.name} and is not there any more",
                hint="put it back, or cancel and start again",
            )
        return found

    # -- columns that the source got since the start ---------------------------------------------------------------------------------

    def refresh(self) -> bool:
        """Looks whether columns were added to the target meanwhile, by whichever process; answers whether tables are others now."""
        added = self.store.added_columns()
        if added == self._added:
            return False
        self._added = added
        self.reload()
        return True

    def current(self) -> bool:
        """Whether what this process knows of the tables' columns is what the streams write by now."""
        return self.store.added_columns() == self._added

    def reload(self) -> None:
        """Both catalogs are read again when next asked for."""
        for name in ("source_catalog", "_target", "resolved", "pairs"):
            self.__dict__.pop(name, None)

    def as_made(self, table: TableId) -> list[Pair]:
        """The pairs of a source table as they would be if crossfade made their targets now."""
        return [pair for pair in resolve(self.migration, self.source_catalog, None)[0] if pair.source.id == table]

    def uncarried(self, table: TableId) -> set[str]:
        """Source columns that the mapping carries, but that have no column on the target yet (of some pair of the table)."""
        now = {pair.target_id: set(pair.source_columns) for pair in self.pairs.values() if pair.source.id == table}
        made = [(set(pair.source_columns), now.get(pair.target_id)) for pair in self.as_made(table)]
        return {name for columns, there in made if there is not None for name in columns - there}

    def all_uncarried(self) -> list[str]:
        """The same of all tables, as `schema.table.column`."""
        now = {(pair.source.id, pair.target_id): set(pair.source_columns) for pair in self.pairs.values()}
        made = resolve(self.migration, self.source_catalog, None)[0]
        found = {
            (pair.source.id, name)
            for pair in made
            for name in pair.source_columns
            if name not in now.get((pair.source.id, pair.target_id), {name})
        }
        return sorted(f"{table}.{name}" for table, name in found)

    def reader(self, application: str = "crossfade read") -> Reader:
        """A new session on the source."""
        return make_reader(self.source_engine, self.source, application)

    def target_reader(self, application: str = "crossfade verify") -> Reader:
        """A new reading session on the target."""
        return make_reader(self.target_engine, self.target, application)

    def writer(self, application: str = "crossfade apply") -> Writer:
        """A new session on the target."""
        return make_writer(self.target_engine, self.target, self.name, application, durable=self.migration.apply.synchronous_commit)

    def end_holders(self, streams: Iterable[str]) -> None:
        """Ends, where the target can, the session of whoever is in the middle of a batch of these streams and does not end it."""
        writer = self.writer()
        try:
            for stream in streams:
                if writer.end_holder(self.name, stream):
                    log.warning("ended the session of a worker that holds the stream", stream=stream)
        finally:
            writer.close()

    @cached_property
    def events(self) -> Events:
        """How the source's connector speaks."""
        events: Any = module(self.source_engine, "events")
        found: Events = (
            events.PostgresEvents(begin_tells=self._begin_tells()) if self.source_engine == "postgresql" else events.MysqlEvents()
        )
        return found

    def _begin_tells(self) -> bool:
        """Whether a transaction that lacks its first events can be told by its BEGIN. A publication of the user's own may have more
        tables in it than migrate."""
        if any(stream.publication for stream in self.migration.streams):
            return False
        reader: Any = self.reader("crossfade look")
        try:
            return bool(reader.version() >= 150000)
        except Transient:
            return False  # the source is away: what is in Kafka is applied all the same
        finally:
            reader.close()

    def routes(self, known: Callable[[TableId], Set[str]] | None = None) -> dict[TableId, list[Route]]:
        """Where each source table's changes go, compiled. `known`: the columns that events of a table may have, where one more is to be
        told; None: whatever they have."""
        decode = module(self.source_engine, "decode").decoder
        out: dict[TableId, list[Route]] = {}
        for pair in self.pairs.values():
            decoders: dict[str, Callable[[object], str | None] | None] = {c.name: decode(c.type) for c in pair.source.columns}
            added = {name: of["old"] for name, of in self._added.get(str(pair.source.id), {}).items() if name in decoders}
            shape = pair.shape_events(decoders, added=added, known=known(pair.source.id) if known else None)
            out.setdefault(pair.source.id, []).append(Route(pair.target_table(), shape, pair.filtered))
        return out

    def copies(self) -> dict[int, CopyTable]:
        """How each table is copied."""
        return {number: copy_table(pair, self.source_engine) for number, pair in self.pairs.items()}


def copy_table(pair: Pair, engine: Engine) -> CopyTable:
    """Shaped in SQL on the source when the mapping can be, else in Python."""
    projection = pair.source_projection(engine, bulk=True)
    target = pair.target_table()
    if projection is not None:
        return CopyTable(pair.source, pair.source_key, target, projection)
    return CopyTable(pair.source, pair.source_key, target, pair.raw_projection(engine, bulk=True), pair.shape_text())


def make_reader(engine: Engine, address: Address, application: str) -> Reader:
    """The product's reader."""
    reader = module(engine, "reader")
    made: Reader = (reader.PostgresReader if engine == "postgresql" else reader.MysqlReader)(address, application=application)
    return made


def make_writer(engine: Engine, address: Address, migration: str, application: str, *, durable: bool = False) -> Writer:
    """The product's writer. `durable` is PostgreSQL's alone: MySQL's is a setting of the server."""
    writer = module(engine, "writer")
    made: Writer
    if engine == "postgresql":
        made = writer.PostgresWriter(address, migration, application=application, durable=durable)
    else:
        made = writer.MysqlWriter(address, migration, application=application)
    return made
