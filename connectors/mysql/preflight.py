"""What a MySQL or MariaDB source or target lacks before a migration starts: findings with the exact statement that puts each right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pymysql

from connectors import streams
from connectors.base import Address
from connectors.mysql.ddl import qualified, quote
from connectors.mysql.debezium import marker_table
from connectors.mysql.look import Look, connection, every, looked
from connectors.mysql.types import debezium_loses, debezium_refuses
from pipeline.model import Finding, Table, TableId

_DAY = 86400
_PACKET = 64 * 1024 * 1024
_CASCADES = {"CASCADE", "SET NULL", "SET DEFAULT"}
_WRITES = ("SELECT", "INSERT", "UPDATE", "DELETE", "DROP")  # TRUNCATE takes DROP
_MARKER_RIGHTS = ("CREATE", "SELECT", "INSERT", "UPDATE", "DELETE", "DROP")


def source_findings(
    address: Address,
    tables: Sequence[Table],
    *,
    migration: str,
    stream_tables: Mapping[str, Sequence[TableId]],
    slots: Mapping[str, str] | None = None,
    publications: Mapping[str, str] | None = None,
    server_ids: Mapping[str, int] | None = None,
) -> list[Finding]:
    """What stands between this source and streaming. `tables` as the catalog tells them; `stream_tables` which stream has which."""

    def look(seen: Look) -> None:
        connection(seen, address)
        _binlog(seen, sorted({table.id.schema for table in tables}))
        _source_role(seen, tables, marker_table(address))
        for stream in stream_tables:
            _server_id(seen, (server_ids or {}).get(stream) or streams.server_id(migration, stream))
        _tables(seen, tables)

    return looked(address, "source", look)


def target_findings(
    address: Address, tables: Sequence[TableId], *, create: bool, truncates: bool = True, reverse: bool = True
) -> list[Finding]:
    """What stands between this target and being written. `tables` are the target's names, which may not be there yet with `create`."""

    def look(seen: Look) -> None:
        connection(seen, address)
        if seen.setting("read_only") in {"ON", "1"} or seen.setting("super_read_only") == "ON":
            seen.say(
                "target.read_only", "error", seen.object, "the target takes no writes", "SET GLOBAL read_only = OFF, or name the primary"
            )
        there = _there(seen, tables)
        _target_role(seen, tables, there, create)
        if seen.setting("local_infile") not in {"ON", "1"}:
            message = "local_infile is off: rows go in by INSERT, which is several times slower than LOAD DATA"
            seen.say("target.local_infile", "warning", seen.object, message, "SET GLOBAL local_infile = ON")
        if int(seen.setting("max_allowed_packet") or 0) < _PACKET:
            message = f"max_allowed_packet is {seen.setting('max_allowed_packet')}: larger rows cannot be written"
            seen.say("target.max_allowed_packet", "warning", seen.object, message, f"SET GLOBAL max_allowed_packet = {_PACKET}")
        _contents(seen, there, create)
        if not create:
            for table in sorted(set(tables) - there):
                seen.say("target.missing", "error", str(table), "there is no such table", "make it, or write schema: create")
        if reverse and seen.setting("log_bin") not in {"ON", "1"}:
            message = "log_bin is off: the way back after the cutover cannot be streamed"
            seen.say("reverse.log_bin", "error", seen.object, message, "start the target with --log-bin, or write reverse: none")

    return looked(address, "target", look)


# -- source ------------------------------------------------------------------------------------------------------------------------------


def _binlog(seen: Look, databases: Sequence[str]) -> None:
    if seen.setting("log_bin") not in {"ON", "1"}:
        seen.say("server.log_bin", "error", seen.object, "log_bin is off: there is no binary log", "start the server with --log-bin")
        return
    for name, wanted in (("binlog_format", "ROW"), ("binlog_row_image", "FULL")):
        if (value := seen.setting(name)) not in {wanted, ""}:
            fix = f"SET GLOBAL {name} = {wanted}, and reconnect the application's sessions"
            seen.say(f"server.{name}", "error", seen.object, f"{name} is {value}, not {wanted}", fix)
    if "PARTIAL_JSON" in seen.setting("binlog_row_value_options"):
        message = "binlog_row_value_options has PARTIAL_JSON: updates of JSON columns are not whole"
        seen.say("server.partial_json", "error", seen.object, message, "SET GLOBAL binlog_row_value_options = ''")
    if seen.flavour == "mysql" and seen.setting("gtid_mode") != "ON":
        message = f"gtid_mode is {seen.setting('gtid_mode')}: positions are file names and offsets, which do not survive a failover"
        seen.say("server.gtid_mode", "warning", seen.object, message, "SET GLOBAL gtid_mode = ON, step by step")
    if seen.flavour == "mariadb":
        if seen.setting("binlog_legacy_event_pos") in {"OFF", "0"}:
            message = "binlog_legacy_event_pos is OFF: the events of a transaction all have one position, so they cannot be told apart"
            seen.say("server.event_pos", "error", seen.object, message, "set binlog_legacy_event_pos = ON and restart the server")
        domains = {entry.partition("-")[0] for entry in seen.setting("gtid_binlog_pos").split(",") if entry}
        if len(domains) > 1:
            message = f"the binary log has GTID domains {', '.join(sorted(domains))}: there is no one order of commits"
            seen.say("server.gtid_domains", "warning", seen.object, message, "let all writers use one gtid_domain_id")
    seconds = seen.setting("binlog_expire_logs_seconds")
    kept = int(seconds) if seconds.isdigit() else int(float(seen.setting("expire_logs_days") or 0) * _DAY)
    if 0 < kept < _DAY:
        message = f"the binary log is kept for {kept} s: a connector that rests for longer has lost its place"
        seen.say("server.binlog_expire", "warning", seen.object, message, f"SET GLOBAL binlog_expire_logs_seconds = {7 * _DAY}")
    if seen.setting("server_id") == "0":
        seen.say("server.server_id", "error", seen.object, "server_id is 0: nobody may read the binary log", "SET GLOBAL server_id = 1")
    prepared = seen.rows("SHOW GLOBAL STATUS LIKE 'Com\\_xa\\_prepare'")
    if prepared and int(prepared[0]["Value"]) > 0:
        message = "XA transactions are used here: in the binary log their rows come before it is known whether they commit"
        seen.say("source.xa", "warning", seen.object, message, "end their use for the time of the migration; the stream stops at one")
    if not seen.grants.may("REPLICATION CLIENT"):
        return
    status = seen.rows("SHOW BINLOG STATUS" if seen.flavour == "mariadb" or seen.version >= (8, 2) else "SHOW MASTER STATUS")
    for database in databases:
        only, never = (status[0].get(key) or "" for key in ("Binlog_Do_DB", "Binlog_Ignore_DB")) if status else ("", "")
        if (only and database not in only.split(",")) or database in never.split(","):
            message = "binlog_do_db or binlog_ignore_db leaves the database out of the binary log"
            seen.say("server.binlog_filter", "error", database, message, "take the filter out and restart the server")


def _source_role(seen: Look, tables: Sequence[Table], marker: TableId) -> None:
    monitor = "BINLOG MONITOR" if seen.flavour == "mariadb" else "REPLICATION CLIENT"
    seen.need("REPLICATION SLAVE", "*.*", why="it may not read the binary log")
    seen.need(monitor, "*.*", id_="replication_client", why="it may not ask where the binary log is")
    for table in tables:
        seen.need("SELECT", qualified(table.id), table.id.schema, table.id.name, why="it may not read the table")
        if seen.flavour == "mariadb":  # shows constraints only to who holds more than SELECT
            seen.need("REFERENCES", qualified(table.id), table.id.schema, table.id.name, why="foreign keys are not shown to it")
    missing = [right for right in _MARKER_RIGHTS if not seen.grants.may(right, marker.schema, marker.name)]
    if missing:
        message = f"user {seen.role} lacks {', '.join(missing)} on the marker table"
        # rights on a table that is not there yet are only given together with CREATE
        fix = f"GRANT {', '.join(_MARKER_RIGHTS)} ON {qualified(marker)} TO {seen.role}"
        seen.say("grant.marker", "error", str(marker), message, fix)


def _server_id(seen: Look, wanted: int) -> None:
    if seen.setting("server_id") == str(wanted):
        fix = "give the stream another `server_id`"
        seen.say("server_id.clash", "error", str(wanted), "the server itself has this server id", fix)
        return
    try:
        readers = seen.rows("SHOW SLAVE HOSTS" if seen.flavour == "mariadb" else "SHOW REPLICAS")
    except pymysql.Error:
        return  # it takes a right that nothing else needs
    for reader in readers:
        if str(reader.get("Server_id") or reader.get("Server_Id")) == str(wanted):
            message = (
                f"a replica with this server id is connected (from {reader.get('Host') or 'somewhere'}): two readers throw each other out"
            )
            seen.say(
                "server_id.clash", "warning", str(wanted), message, "if it is not this migration's own, give the stream another `server_id`"
            )


def _tables(seen: Look, tables: Sequence[Table]) -> None:
    names: dict[str, TableId] = {}
    for table in tables:
        if (other := names.setdefault(str(table.id).lower(), table.id)) != table.id:
            message = f"differs from {other} in letter case only, which Debezium does not tell apart"
            seen.say("name.case", "error", str(table.id), message, "rename one of them")
        if table.id.name.strip("`") != table.id.name:
            message = "Debezium cannot read the structure of a table whose name begins or ends with a backtick"
            seen.say("name.backtick", "error", str(table.id), message, "rename the table")
        if table.engine and table.engine.lower() != "innodb":
            message = f"storage engine {table.engine} has no transactions: a copy may see half of a statement"
            seen.say("table.engine", "warning", str(table.id), message, f"ALTER TABLE {qualified(table.id)} ENGINE = InnoDB")
        for key in table.foreign_keys:
            deletes, updates = (key.on_delete or "").upper() in _CASCADES, (key.on_update or "").upper() in _CASCADES
            if deletes:
                message = f"ON DELETE {key.on_delete} of {key.name} changes rows that the binary log does not show"
                drop = f"ALTER TABLE {qualified(table.id)} DROP FOREIGN KEY {quote(key.name)}"
                fix = f"delete the rows in the application, and {drop}"
                seen.say("fk.cascade", "error", f"{table.id}.{key.name}", message, fix)
            elif updates:
                message = f"ON UPDATE {key.on_update} of {key.name}: a changed key of {key.references} changes rows unseen"
                seen.say(
                    "fk.cascade",
                    "warning",
                    f"{table.id}.{key.name}",
                    message,
                    "harmless while keys never change; verify finds it otherwise",
                )
        for column in table.writable:
            if (lost := debezium_loses(column.type)) is not None:
                seen.say(
                    "type.lossy", "warning", f"{table.id}.{column.name}", f"{column.type}: {lost}", "rows that differ are found by verify"
                )
            if (refused := debezium_refuses(column.type)) is not None:
                fix = "change the column to varbinary or varchar, or leave the table out"
                seen.say("type.unstreamable", "error", f"{table.id}.{column.name}", refused, fix)


# -- target ------------------------------------------------------------------------------------------------------------------------------


def _there(seen: Look, tables: Sequence[TableId]) -> set[TableId]:
    return {
        table
        for table in tables
        if seen.one(
            "SELECT 1 AS there FROM information_schema.tables WHERE table_schema = %s AND table_name = %s AND table_type = 'BASE TABLE'",
            table.schema,
            table.name,
        )
    }


def _target_role(seen: Look, tables: Sequence[TableId], there: set[TableId], create: bool) -> None:
    for right in ("CREATE", "SELECT", "INSERT", "UPDATE", "DELETE", "DROP", "ALTER", "INDEX", "CREATE TEMPORARY TABLES"):
        seen.need(right, "crossfade.*", "crossfade", why="its own state is kept there")
    for schema in sorted({table.schema for table in tables}):
        fresh = create and any(table.schema == schema and table not in there for table in tables)
        for right in ("CREATE TEMPORARY TABLES", *(("CREATE", "ALTER", "INDEX", "REFERENCES") if fresh else ())):
            seen.need(right, every(schema), schema)
        for right in _WRITES if fresh else ():
            seen.need(right, every(schema), schema)
    for table in sorted(there):
        for right in _WRITES:
            seen.need(right, qualified(table), table.schema, table.name)
        seen.need("TRIGGER", qualified(table), table.schema, table.name, why="triggers, which would fire, are not shown to it")


def _contents(seen: Look, there: set[TableId], create: bool) -> None:
    for table in sorted(there):
        for row in seen.rows(
            "SELECT trigger_name AS name FROM information_schema.triggers WHERE event_object_schema = %s AND event_object_table = %s",
            table.schema,
            table.name,
        ):
            message = "the trigger would fire for replicated rows too: MySQL cannot rest it"
            fix = f"SHOW CREATE TRIGGER, keep it, and DROP TRIGGER {quote(table.schema)}.{quote(row['name'])} until the cutover"
            seen.say("target.trigger", "error", f"{table}.{row['name']}", message, fix)
        if seen.grants.may("SELECT", table.schema, table.name) and seen.one(f"SELECT 1 AS there FROM {qualified(table)} LIMIT 1"):
            message = "the table has rows already: rows that the source does not have stay, and verify will report them"
            fix = f"TRUNCATE TABLE {qualified(table)}, if nobody needs them"
            seen.say("target.not_empty", "error" if create else "warning", str(table), message, fix)
