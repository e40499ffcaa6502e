"""The Debezium connector of a PostgreSQL source: its configuration, and what it needs on the source.

`events.py` reads what it sends.

Shapes, as Debezium 3.5.0 writes them with these settings (key → value; one topic, one partition, commit order):

BEGIN     {"id":"775:32933264"} → {"status":"BEGIN","id":"775:32933264","event_count":null,"data_collections":null,"ts_ms":…}
row       {"id":1} → {"before":null,"after":{"id":1,"name":"b2","big":"__debezium_unavailable_value"},
          "source":{…,"db":"shop","schema":"public","table":"t","txId":775,"lsn":32933264,"sequence":"[\\"32933096\\",\\"32933264\\"]","origin":null},
          "transaction":{"id":"775:32933264","total_order":1,"data_collection_order":1},"op":"u","ts_ms":…}
END       {"id":"775:32933936"} → {"status":"END","id":"775:32933936","event_count":5,"data_collections":[…],"ts_ms":…}
marker    {"prefix":"crossfade"} → {"op":"m","source":{…,"schema":"","table":""},"transaction":{…},
          "message":{"prefix":"crossfade","content":"<base64 of the token>"}}; it counts in total_order and event_count
truncate  null → {"before":null,"after":null,…,"op":"t"}: one for each table, between one BEGIN and its END
heartbeat {"serverName":…} → {"ts_ms":…}

The id is `<transaction>:<LSN of this very event>`: only the part before the colon is the same throughout. END's LSN is where the
transaction ends; it grows in commit order, on the scale of `pg_current_wal_lsn() - '0/0'`. A delete's `before` has the key only
(others null) unless the replica identity is full. An update of the primary key is a `d` with header `__debezium.newkey`, then a `c`
with header `__debezium.oldkey`, in which TOAST columns may be unavailable. A table without a primary key (unique index as replica
identity) yields record key null and one `u` whose `before` has the old key. A message outside transactions has `transaction` null.
There is no DDL event: an added column is simply there in the next row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import psycopg

from connectors import streams
from connectors.base import Address
from connectors.postgres import slots
from connectors.postgres.connection import connect, mapped
from connectors.postgres.ddl import qualified, quote
from pipeline.errors import BadInput, GapInStream
from pipeline.model import TableId

CONNECTOR = "io.debezium.connector.postgresql.PostgresConnector"
_PORT = 5432
_TLS = {
    "sslmode": "database.sslmode",
    "sslrootcert": "database.sslrootcert",
    "sslcert": "database.sslcert",
    "sslkey": "database.sslkey",
    "sslpassword": "database.sslpassword",
}
_ROWS_OF = "insert, update, delete, truncate"


def source_config(
    *,
    migration: str,
    stream: str,
    address: Address,
    tables: Iterable[TableId],
    password: str | None,
    bootstrap: str = "",
    flavour: str = "postgresql",
    overrides: Mapping[str, str] | None = None,
    slot: str | None = None,
    publication: str | None = None,
    server_id: int | None = None,
    kafka: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The connector's settings. `password` is a reference (`${file:…}`) that Connect resolves, never the password itself.

    The slot and the publication are made by `prepare_source` beforehand: with `no_data` the connector starts from the slot's own
    position, so what was written between `prepare_source` and its first start is streamed too.
    """
    parts = urlsplit(address.url)
    if not parts.hostname or not parts.path.strip("/"):
        raise BadInput(f"source url {address.url}: host and database name are needed")
    config = streams.base_config(migration=migration, stream=stream)
    name = streams.slot_name(migration, stream)
    config |= {
        "connector.class": CONNECTOR,
        "database.hostname": parts.hostname,
        "database.port": str(parts.port or _PORT),
        "database.user": unquote(parts.username or ""),
        "database.dbname": unquote(parts.path.lstrip("/")),
        "plugin.name": "pgoutput",
        "slot.name": slot or name,
        "slot.drop.on.stop": "false",
        "publication.name": publication or name,
        "publication.autocreate.mode": "disabled",
        "table.include.list": streams.table_list(tables),
        "time.precision.mode": "microseconds",
        "interval.handling.mode": "string",
        "hstore.handling.mode": "json",
        "include.unknown.datatypes": "true",
        "status.update.interval.ms": "1000",
        # a slot still held by a connection that just died is not an error for the first minutes
        "slot.max.retries": "60",
        "slot.retry.delay.ms": "2000",
    }
    if password is not None:
        config["database.password"] = password
    for name, value in {**dict(parse_qsl(parts.query)), **address.options}.items():
        if name in _TLS:
            config[_TLS[name]] = value
    return streams.finished(config, overrides or {})


# -- what a stream needs on the source ---------------------------------------------------------------------------------------------------


def create_publication_sql(name: str, tables: Sequence[TableId]) -> str:
    """The publication of a stream. Partitions publish as their root: the migration maps the root, whatever leaves come and go."""
    listed = ", ".join(qualified(table) for table in sorted(tables))
    return f"CREATE PUBLICATION {quote(name)} FOR TABLE {listed} WITH (publish = '{_ROWS_OF}', publish_via_partition_root = true)"


def prepare_source(
    address: Address,
    *,
    migration: str,
    stream: str,
    tables: Sequence[TableId],
    flavour: str = "postgresql",
    slot: str | None = None,
    publication: str | None = None,
) -> str:
    """Makes publication and slot; answers the slot's position (decimal LSN). Safe to run twice.

    The publication comes first: the slot decodes with the catalog as of its own position, and a publication made later is not in it.
    Raises `GapInStream` when the slot is there but has lost WAL that the stream still needs.
    """
    name = streams.slot_name(migration, stream)
    with connect(address, autocommit=True, application_name="crossfade prepare") as db:
        try:
            _publication(db, publication or name, tables)
            position = _slot(db, slot or name)
            slots.keep(db, slot or name)
            return position
        except psycopg.Error as error:
            raise mapped(error, f"source: slot and publication of stream {stream}") from None


def _publication(db: psycopg.Connection[Any], name: str, tables: Sequence[TableId]) -> None:
    row = db.execute(
        "SELECT pubviaroot AND pubinsert AND pubupdate AND pubdelete AND pubtruncate, puballtables"
        " FROM pg_catalog.pg_publication WHERE pubname = %s",
        (name,),
    ).fetchone()
    if row is None:
        db.execute(create_publication_sql(name, tables).encode())
        return
    complete, everything = row
    there = published(db, name)
    if complete and (everything or there >= set(tables)):
        return
    listed = ", ".join(qualified(table) for table in sorted(set(tables) | there))
    db.execute(f"ALTER PUBLICATION {quote(name)} SET (publish = '{_ROWS_OF}', publish_via_partition_root = true)".encode())
    db.execute(f"ALTER PUBLICATION {quote(name)} SET TABLE {listed}".encode())


def published(db: psycopg.Connection[Any], name: str) -> set[TableId]:
    """Tables that a publication names itself (a partitioned table as itself, not as its leaves)."""
    rows = db.execute(
        "SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid"
        " JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE p.pubname = %s",
        (name,),
    ).fetchall()
    return {TableId(schema, table) for schema, table in rows}


def _slot(db: psycopg.Connection[Any], name: str) -> str:
    row = db.execute(
        "SELECT plugin, database = current_database(), coalesce(wal_status, '') = 'lost', (confirmed_flush_lsn - '0/0'::pg_lsn)::text"
        " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
        (name,),
    ).fetchone()
    if row is None:
        made = db.execute(
            "SELECT (lsn - '0/0'::pg_lsn)::text FROM pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", (name,)
        ).fetchone()
        assert made is not None
        return str(made[0])
    plugin, here, lost, position = row
    if plugin != "pgoutput" or not here:
        raise BadInput(f"replication slot {name} exists and is not ours (plugin {plugin}): drop it or rename the migration")
    if lost:
        raise GapInStream(
            f"replication slot {name} has lost WAL that it needed (max_slot_wal_keep_size)", hint="cancel the migration and start it again"
        )
    return str(position)


def cleanup_source(
    address: Address,
    *,
    migration: str,
    stream: str,
    flavour: str = "postgresql",
    slot: str | None = None,
    publication: str | None = None,
    timeout: float = 30.0,
) -> None:
    """Drops slot and publication; what is not there is fine. The connector must be stopped: an active slot is waited for.

    A publication of another owner (made by a DBA for a role that may not) is left to them.
    """
    name = streams.slot_name(migration, stream)
    publication = publication or name
    with connect(address, autocommit=True, application_name="crossfade clean-up") as db:
        try:
            slots.drop(db, slot or name, timeout)
            slots.drop(db, streams.kept_name(slot or name), timeout)
            ours = db.execute(
                "SELECT pg_has_role(pubowner, 'USAGE') FROM pg_catalog.pg_publication WHERE pubname = %s", (publication,)
            ).fetchone()
            if ours is not None and ours[0]:
                db.execute(f"DROP PUBLICATION IF EXISTS {quote(publication)}".encode())
        except psycopg.Error as error:
            raise mapped(error, f"source: removing slot and publication of stream {stream}") from None
