"""The Debezium connector of a MySQL or MariaDB source: its configuration, and what it needs on the source.

`events.py` reads what it sends.

Shapes, as Debezium 3.5.0 writes them from MariaDB with these settings (key → value; one topic, one partition, commit order):

BEGIN     {"id":"0-1-69"} → {"status":"BEGIN","id":"0-1-69","event_count":null,"data_collections":null,"ts_ms":…}
row       {"id":1} → {"before":{…},"after":{…},"source":{…,"snapshot":"false","db":"shop","table":"t","server_id":1,"gtid":"0-1-69",
          "file":"bin.000002","pos":12864,"row":0},"transaction":{"id":"0-1-69","total_order":1,…},"op":"u","ts_ms":…}
END       {"id":"0-1-69"} → {"status":"END","id":"0-1-69","event_count":5,"data_collections":[…],"ts_ms":…}
marker    {"id":1} → a row event of table `crossfade_marker`, `c` the first time and `u` later: the token is `after.token`
truncate  null → {"before":null,"after":null,…,"op":"t"}: after a BEGIN, **without an END**
DDL       {"databaseName":"shop"} → {"source":{…,"table":"t","gtid":"0-1-81"},"ts_ms":…,"databaseName":"shop","schemaName":null,
          "ddl":"alter table t …","tableChanges":[{"type":"ALTER","id":"\\"shop\\".\\"t\\"","table":{…}}]}: as well **without an END**
heartbeat {"serverName":…} → {"ts_ms":…}

The id is the GTID (without GTIDs: `file=…,pos=…`). `before` and `after` are whole rows. An update of the primary key is a `d` with header
`__debezium.newkey` and then a `c` with header `__debezium.oldkey`. Statements that concern no captured table leave a BEGIN, with an END of
`event_count` 0 or without any. The connector begins with the structure of the captured tables: DDL records with `source.snapshot` other
than "false", outside of BEGIN and END. XA transactions: the rows come at XA PREPARE and neither PREPARE nor COMMIT has an END.
Not in the stream at all: rows changed by foreign key cascades, and statements written with binlog_format=STATEMENT.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql

from connectors import streams
from connectors.base import Address
from connectors.mysql.connection import connect, mapped
from connectors.mysql.ddl import qualified
from connectors.mysql.events import MARKER_TABLE
from pipeline.errors import BadInput
from pipeline.model import TableId

CONNECTORS = {"mariadb": "io.debezium.connector.mariadb.MariaDbConnector", "mysql": "io.debezium.connector.mysql.MySqlConnector"}
MARKER_SQL = f"INSERT INTO {MARKER_TABLE} (id, token) VALUES (1, %s) ON DUPLICATE KEY UPDATE token = VALUES(token)"
"""How a marker is written: row 1 of a table in the source database, overwritten each time."""
_PORT = 3306


def database_of(address: Address) -> str:
    """The database that the address names."""
    database = unquote(urlsplit(address.url).path.lstrip("/"))
    if not database:
        raise BadInput(f"source url {address.url}: a database name is needed")
    return database


def marker_table(address: Address) -> TableId:
    """The marker table of a source."""
    return TableId(database_of(address), MARKER_TABLE)


def source_config(
    *,
    migration: str,
    stream: str,
    address: Address,
    tables: Iterable[TableId],
    password: str | None,
    bootstrap: str,
    flavour: str = "mariadb",
    overrides: Mapping[str, str] | None = None,
    slot: str | None = None,
    publication: str | None = None,
    server_id: int | None = None,
    kafka: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """The connector's settings. `password` is a reference (`${file:…}`) that Connect resolves, never the password itself. `kafka`: how a
    client gets into Kafka, for the history topic, which the connector reads and writes by itself; secrets in it are references too.

    The structure of the captured tables is read without any lock at the first start, and kept in a history topic afterwards. The
    stream starts where the binlog is at that moment: wait for `ConnectClient.wait_streaming` before anything relies on it.
    """
    parts = urlsplit(address.url)
    if not parts.hostname:
        raise BadInput(f"source url {address.url}: a host is needed")
    wanted = [*tables, marker_table(address)]
    history = streams.history_topic(migration, stream)
    config = streams.base_config(migration=migration, stream=stream)
    config |= {
        "connector.class": CONNECTORS[flavour],
        "database.hostname": parts.hostname,
        "database.port": str(parts.port or _PORT),
        "database.user": unquote(parts.username or ""),
        "database.server.id": str(server_id or streams.server_id(migration, stream)),
        "database.include.list": ",".join(streams.name_pattern(schema) for schema in sorted({table.schema for table in wanted})),
        "table.include.list": streams.table_list(wanted),
        "include.schema.changes": "true",
        "snapshot.locking.mode": "none",
        "schema.history.internal.kafka.topic": history,
        "schema.history.internal.kafka.bootstrap.servers": bootstrap,
        "schema.history.internal.store.only.captured.tables.ddl": "true",
        "schema.history.internal.store.only.captured.databases.ddl": "true",
        "time.precision.mode": "microseconds" if flavour == "mariadb" else "adaptive_time_microseconds",
        "bigint.unsigned.handling.mode": "precise",
        "enable.time.adjuster": "false",
        "event.deserialization.failure.handling.mode": "fail",
        "inconsistent.schema.handling.mode": "fail",
    }
    for client in ("producer", "consumer"):
        config |= {f"schema.history.internal.{client}.{name}": value for name, value in (kafka or {}).items()}
    if password is not None:
        config["database.password"] = password
    config |= _tls({**dict(parse_qsl(parts.query)), **address.options})
    return streams.finished(config, overrides or {})


def _tls(options: Mapping[str, str]) -> dict[str, str]:
    """TLS settings from the driver's. The connectors read Java key stores, not PEM files: where the authority is not one that the JVM
    knows, its store is given as `database.ssl.truststore` in the connector's own settings."""
    plain = {name.replace("-", "_").lower(): value for name, value in options.items()}
    mode = (plain.get("ssl_mode") or plain.get("sslmode") or "").lower().replace("-", "_")
    mode = {"disable": "disabled", "prefer": "preferred", "require": "required", "verify_full": "verify_identity"}.get(mode, mode)
    if not mode and _on(plain.get("ssl_disabled")):
        mode = "disabled"
    elif not mode and _on(plain.get("ssl_verify_identity")):
        mode = "verify_identity"
    elif not mode and (plain.get("ssl_ca") or _on(plain.get("ssl_verify_cert"))):
        mode = "verify_ca"
    return {"database.ssl.mode": mode} if mode else {}


def _on(value: str | None) -> bool:
    return (value or "").lower() in {"1", "true", "yes", "on"}


# -- what a stream needs on the source ---------------------------------------------------------------------------------------------------


def create_marker_sql(address: Address) -> str:
    """The marker table."""
    return (
        f"CREATE TABLE IF NOT EXISTS {qualified(marker_table(address))} (id BIGINT NOT NULL PRIMARY KEY,"
        " token VARCHAR(190) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL) ENGINE=InnoDB"
    )


def prepare_source(
    address: Address,
    *,
    migration: str,
    stream: str,
    tables: Sequence[TableId] = (),
    flavour: str = "mariadb",
    slot: str | None = None,
    publication: str | None = None,
) -> str:
    """Makes the marker table and registers the stream in it; answers the binlog's position. Safe to run twice."""
    table = qualified(marker_table(address))
    with connect(address, autocommit=True) as db, db.cursor() as cursor:
        try:
            cursor.execute(create_marker_sql(address))
            cursor.execute(
                f"INSERT INTO {table} (id, token) VALUES (%s, %s) ON DUPLICATE KEY UPDATE token = VALUES(token)",
                (streams.server_id(migration, stream), f"stream {streams.connector_name(migration, stream)}"),
            )
            if flavour == "mariadb":
                cursor.execute("SELECT @@global.gtid_binlog_pos")
            else:
                cursor.execute("SELECT @@global.gtid_executed")
            row = cursor.fetchone()
            return str(row[0]) if row else ""
        except pymysql.Error as error:
            raise mapped(error, f"source: table {marker_table(address)}") from None


def cleanup_source(
    address: Address,
    *,
    migration: str,
    stream: str,
    flavour: str = "mariadb",
    slot: str | None = None,
    publication: str | None = None,
    timeout: float = 30.0,
) -> None:
    """Takes the stream off the marker table, and drops the table with the last one; what is not there is fine."""
    table = qualified(marker_table(address))
    with connect(address, autocommit=True) as db, db.cursor() as cursor:
        try:
            cursor.execute(
                "SELECT 1 FROM information_schema.tables WHERE table_schema = %s AND table_name = %s",
                (database_of(address), MARKER_TABLE),
            )
            if cursor.fetchone() is None:
                return
            cursor.execute(f"DELETE FROM {table} WHERE id = %s", (streams.server_id(migration, stream),))
            cursor.execute(f"SELECT count(*) FROM {table} WHERE id > 1")
            row = cursor.fetchone()
            if row is not None and row[0] == 0:
                cursor.execute(f"DROP TABLE IF EXISTS {table}")
        except pymysql.Error as error:
            raise mapped(error, f"source: removing table {marker_table(address)}") from None
