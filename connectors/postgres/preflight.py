"""What a PostgreSQL source or target lacks before a migration starts: findings with the exact statement that puts each right.

Everything runs in read-only transactions; names and statements are in `requirements` order, so the first error is the one to mend first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from connectors import streams
from connectors.base import Address
from connectors.postgres.ddl import qualified, quote
from connectors.postgres.debezium import create_publication_sql, published
from connectors.postgres.look import Look, connection, looked
from connectors.postgres.types import debezium_loses, debezium_refuses, unchanged_lost
from pipeline.model import Finding, Table, TableId

_MINUTE = 60


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
        _server(seen, [(slots or {}).get(stream) or streams.slot_name(migration, stream) for stream in stream_tables])
        if not seen.superuser:
            _source_role(seen, tables)
        for stream, of in stream_tables.items():
            name = streams.slot_name(migration, stream)
            _slot(seen, (slots or {}).get(stream) or name)
            _publication(seen, (publications or {}).get(stream) or name, of)
        _identity(seen, tables)
        _tables(seen, tables)

    return looked(address, "source", look)


def target_findings(
    address: Address, tables: Sequence[TableId], *, create: bool, truncates: bool = True, reverse: bool = True
) -> list[Finding]:
    """What stands between this target and being written. `tables` are the target's names, which may not be there yet with `create`."""

    def look(seen: Look) -> None:
        connection(seen, address)
        if seen.one("SELECT pg_catalog.pg_is_in_recovery()") or seen.setting("default_transaction_read_only") == "on":
            seen.say("target.read_only", "error", seen.object, "the target takes no writes", "name the primary in target.url")
        there = _there(seen, tables)
        if not seen.superuser:
            _target_role(seen, tables, there, create)
        _triggers(seen, there)
        _contents(seen, there, create)
        if not create:
            for table in sorted(set(tables) - set(there)):
                seen.say("target.missing", "error", str(table), "there is no such table", "make it, or write schema: create")
        if reverse and seen.setting("wal_level") != "logical":
            seen.say(
                "reverse.wal_level",
                "error",
                seen.object,
                f"wal_level is {seen.setting('wal_level')}: the way back after the cutover cannot be streamed",
                "ALTER SYSTEM SET wal_level = 'logical' and restart the target, or write reverse: none",
            )

    return looked(address, "target", look)


# -- source ------------------------------------------------------------------------------------------------------------------------------


def _server(seen: Look, slots: list[str]) -> None:
    if seen.one("SELECT pg_catalog.pg_is_in_recovery()"):
        seen.say("source.standby", "error", seen.object, "the server is a standby", "name the primary in source.url")
    if (encoding := seen.setting("server_encoding")) == "SQL_ASCII":
        message = f"the database's encoding is {encoding}: it holds bytes of any encoding, and what is no UTF-8 would be changed on the way"
        seen.say("server.encoding", "error", seen.object, message, "move it into a database with an encoding first (pg_dump, iconv)")
    if (level := seen.setting("wal_level")) != "logical":
        fix = "ALTER SYSTEM SET wal_level = 'logical' and restart the server"
        seen.say("server.wal_level", "error", seen.object, f"wal_level is {level}, not logical", fix)
    for name, used in (
        ("max_replication_slots", "SELECT count(*) FROM pg_catalog.pg_replication_slots WHERE slot_name <> ALL (%s)"),
        (
            "max_wal_senders",
            "SELECT count(*) FROM pg_catalog.pg_stat_replication WHERE pid NOT IN"
            " (SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE active_pid IS NOT NULL AND slot_name = ANY (%s))",
        ),
    ):
        limit, busy, more = int(seen.setting(name) or 0), int(seen.one(used, slots)), len(slots)
        if limit - busy < more:
            message = f"{name} is {limit} and {busy} are in use: {more} more are needed"
            fix = f"ALTER SYSTEM SET {name} = {busy + more + 2} and restart the server"
            seen.say(f"server.{name}", "error", seen.object, message, fix)
        elif name == "max_replication_slots" and limit - busy < 2 * more:
            message = f"{name} leaves no room to keep a second slot for each stream: what Kafka loses cannot be sent again"
            fix = f"ALTER SYSTEM SET {name} = {busy + 2 * more + 2} and restart the server"
            seen.say("server.kept_slot", "warning", seen.object, message, fix)
    if (keep := seen.setting("max_slot_wal_keep_size")) not in {"-1", ""}:
        message = f"max_slot_wal_keep_size is {keep}: a slot that lags behind by more is lost, and the migration has to start over"
        seen.say("server.slot_wal_limit", "warning", seen.object, message, "raise it for the time of the migration")
    if (idle := seen.setting("idle_replication_slot_timeout")) not in {"0", ""}:
        message = f"idle_replication_slot_timeout is {idle}: a slot that nobody reads for that long is lost"
        seen.say("server.slot_idle_limit", "warning", seen.object, message, "ALTER SYSTEM SET idle_replication_slot_timeout = 0")
    oldest = seen.one(
        "SELECT extract(epoch FROM max(now() - xact_start))::int FROM pg_catalog.pg_stat_activity"
        " WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()"
    )
    if oldest and oldest > _MINUTE:
        message = f"a transaction has been open for {oldest} s: the slot can only be made after it ends"
        seen.say("source.long_transaction", "warning", seen.object, message, "end it")
    if prepared := seen.one("SELECT count(*) FROM pg_catalog.pg_prepared_xacts WHERE database = current_database()"):
        message = f"{prepared} prepared transactions are open: the slot can only be made after they end"
        seen.say("source.prepared_transaction", "warning", seen.object, message, "COMMIT PREPARED or ROLLBACK PREPARED them")


def _source_role(seen: Look, tables: Sequence[Table]) -> None:
    role = quote(seen.role)
    if not seen.one("SELECT rolreplication FROM pg_catalog.pg_roles WHERE rolname = current_user"):
        managed = seen.one("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname IN ('rds_replication', 'alloydbreplica') LIMIT 1")
        if not (managed and seen.one("SELECT pg_catalog.pg_has_role(%s, 'USAGE')", managed)):
            fix = f"GRANT {quote(managed)} TO {role}" if managed else f"ALTER ROLE {role} WITH REPLICATION"
            seen.grant("replication", seen.object, "may not replicate", fix)
    for schema in sorted({table.id.schema for table in tables}):
        if not seen.one("SELECT pg_catalog.has_schema_privilege(%s, 'USAGE')", schema):
            seen.grant("usage", schema, "may not use the schema", f"GRANT USAGE ON SCHEMA {quote(schema)} TO {role}")
    for table in tables:
        name = qualified(table.id)
        privileges = seen.rows(
            "SELECT pg_catalog.has_table_privilege(c.oid, 'SELECT') AS reads, c.relrowsecurity AND NOT r.rolbypassrls"
            " AND (c.relforcerowsecurity OR NOT pg_catalog.pg_has_role(c.relowner, 'USAGE')) AS hides"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace, pg_catalog.pg_roles r"
            " WHERE n.nspname = %s AND c.relname = %s AND r.rolname = current_user",
            table.id.schema,
            table.id.name,
        )
        if privileges and not privileges[0]["reads"]:
            seen.grant("select", str(table.id), "may not read the table", f"GRANT SELECT ON {name} TO {role}")
        if privileges and privileges[0]["hides"]:
            message = "sees only the rows that its row security policies show"
            seen.grant("bypassrls", str(table.id), message, f"ALTER ROLE {role} WITH BYPASSRLS")
    if not seen.one(
        "SELECT bool_and(pg_catalog.has_function_privilege(oid, 'EXECUTE')) FROM pg_catalog.pg_proc"
        " WHERE proname = 'pg_logical_emit_message' AND pronamespace = 'pg_catalog'::regnamespace"
    ):
        fix = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, text) TO {role}"
        seen.grant("marker", "pg_logical_emit_message", "may not write markers", fix)


def _slot(seen: Look, name: str) -> None:
    found = seen.rows(
        "SELECT plugin, database IS NOT DISTINCT FROM current_database() AS here, wal_status, active"
        " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s",
        name,
    )
    if not found:
        return
    slot = found[0]
    if slot["plugin"] != "pgoutput" or not slot["here"]:
        message = f"a slot of that name exists for something else (plugin {slot['plugin'] or 'none'})"
        seen.say("slot.clash", "error", name, message, "rename the migration, or give the stream another `slot`")
    elif slot["wal_status"] == "lost":
        fix = f"SELECT pg_drop_replication_slot({_literal(name)})"
        seen.say("slot.lost", "error", name, "the slot of an earlier start has lost its WAL", fix)
    else:
        reader = " and is being read" if slot["active"] else ""
        seen.say("slot.exists", "info", name, f"the slot exists{reader}: a start goes on from where it is")


def _publication(seen: Look, name: str, tables: Sequence[TableId]) -> None:
    """`CREATE PUBLICATION … FOR TABLE` needs CREATE on the database and ownership of every table. Where a role shall have neither,
    a DBA makes the publication beforehand: one that covers the tables is used as it is.
    """
    row = seen.rows(
        "SELECT puballtables AS everything, pubviaroot AND pubinsert AND pubupdate AND pubdelete AND pubtruncate AS complete,"
        " pg_catalog.pg_has_role(pubowner, 'USAGE') AS ours FROM pg_catalog.pg_publication WHERE pubname = %s",
        name,
    )
    ready = row and row[0]["complete"] and (row[0]["everything"] or published(seen.db, name) >= set(tables))
    if ready:
        return
    role, statement = quote(seen.role), create_publication_sql(name, tables)
    if row and not row[0]["ours"]:
        fix = f"as its owner: DROP PUBLICATION {quote(name)}; {statement}"
        seen.say("publication.tables", "error", name, "the publication leaves out tables or operations, and is not ours to change", fix)
        return
    if seen.superuser:
        return
    database = str(seen.one("SELECT current_database()"))
    if not row and not seen.one("SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')"):
        fix = f"GRANT CREATE ON DATABASE {quote(database)} TO {role}; or, as the owner of the tables: {statement}"
        seen.grant("create", database, "may not make the publication", fix)
    for table in sorted(tables):
        owner = seen.rows(
            "SELECT pg_catalog.pg_get_userbyid(c.relowner) AS owner, pg_catalog.pg_has_role(c.relowner, 'USAGE') AS ours"
            " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s",
            table.schema,
            table.name,
        )
        if owner and not owner[0]["ours"]:
            fix = f"GRANT {quote(owner[0]['owner'])} TO {role}; or, as the owner of the tables: {statement}"
            seen.grant("owner", str(table), f"does not own the table ({owner[0]['owner']} does) and so may not publish it", fix)


def _identity(seen: Look, tables: Sequence[Table]) -> None:
    """A published table without a replica identity refuses the application's updates and deletes: never to be let through."""
    for table in tables:
        for part in (table.id, *table.partitions):
            found = seen.rows(
                "SELECT c.relreplident AS identity, c.relpersistence AS persistence, c.relkind AS kind,"
                " (SELECT array_agg(a.attname::text ORDER BY k.n) FROM pg_catalog.pg_index i,"
                "  unnest(i.indkey) WITH ORDINALITY AS k(attnum, n) JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum"
                "  WHERE i.indrelid = c.oid AND a.attrelid = c.oid AND CASE c.relreplident WHEN 'd' THEN i.indisprimary"
                "  WHEN 'i' THEN i.indisreplident END) AS columns"
                " FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relname = %s",
                part.schema,
                part.name,
            )
            if not found or (found[0]["kind"] == "p" and table.partitions):
                continue  # what counts is the leaves'
            row = found[0]
            if row["persistence"] == "u":
                fix = f"ALTER TABLE {qualified(part)} SET LOGGED"
                seen.say("table.unlogged", "error", str(part), "the table is unlogged: its changes are not in the WAL", fix)
            if row["identity"] == "f" or not table.key:
                continue
            if row["identity"] == "n" or not row["columns"]:
                how = "NOTHING" if row["identity"] == "n" else "DEFAULT without a primary key"
                message = f"its replica identity is {how}: once published, updates and deletes of the application would fail"
                seen.say("identity.missing", "error", str(part), message, _identity_fix(table, part))
            elif set(row["columns"]) != set(table.key):
                message = f"its replica identity is ({', '.join(row['columns'])}), rows are matched by ({', '.join(table.key)})"
                seen.say("identity.other", "error", str(part), message, _identity_fix(table, part))


def _identity_fix(table: Table, part: TableId) -> str:
    name = qualified(part)
    if table.primary_key and set(table.primary_key) == set(table.key):
        return f"ALTER TABLE {name} REPLICA IDENTITY DEFAULT"
    index = next((i for i in table.indexes if i.unique and set(i.columns) == set(table.key) and not i.predicate), None)
    if index is not None and part == table.id:
        return f"ALTER TABLE {name} REPLICA IDENTITY USING INDEX {quote(index.name)}"
    return f"ALTER TABLE {name} REPLICA IDENTITY FULL"


def _tables(seen: Look, tables: Sequence[Table]) -> None:
    children = {
        TableId(row["nspname"], row["relname"])
        for row in seen.rows(
            "SELECT DISTINCT n.nspname, c.relname FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhparent"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r'"
        )
    }
    for table in tables:
        if table.id in children:
            message = "other tables inherit from it: reading it reads their rows too"
            seen.say(
                "table.inheritance", "error", str(table.id), message, "migrate the inheriting tables into partitions or separate tables"
            )
        if table.partitions:
            message = "TRUNCATE, ATTACH and DETACH of a single partition are not in the stream: only the rows that change are"
            seen.say("table.partitions", "info", str(table.id), message)
        for column in table.writable:
            if (lost := debezium_loses(column.type)) is not None:
                seen.say(
                    "type.lossy", "warning", f"{table.id}.{column.name}", f"{column.type}: {lost}", "rows that differ are found by verify"
                )
            if (refused := debezium_refuses(column.type)) is not None:
                seen.say("type.unstreamable", "warning", f"{table.id}.{column.name}", refused, "name it under `drop:`, or the stream stops")
            if unchanged_lost(column.type) and table.replica_identity != "full":
                message = f"{column.type}: a large value that an update leaves alone would arrive as NULL"
                fix = f"ALTER TABLE {qualified(table.id)} REPLICA IDENTITY FULL"
                seen.say("type.unchanged", "error", f"{table.id}.{column.name}", message, fix)


# -- target ------------------------------------------------------------------------------------------------------------------------------


def _there(seen: Look, tables: Sequence[TableId]) -> dict[TableId, int]:
    """Tables that exist, with their oids."""
    found: dict[TableId, int] = {}
    for table in tables:
        oid = seen.one(
            "SELECT c.oid::int8 FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = %s AND c.relname = %s AND c.relkind IN ('r', 'p')",
            table.schema,
            table.name,
        )
        if oid is not None:
            found[table] = oid
    return found


def _target_role(seen: Look, tables: Sequence[TableId], there: Mapping[TableId, int], create: bool) -> None:
    role = quote(seen.role)
    database = str(seen.one("SELECT current_database()"))
    own = seen.one("SELECT pg_catalog.has_schema_privilege(oid, 'CREATE, USAGE') FROM pg_catalog.pg_namespace WHERE nspname = 'crossfade'")
    may_create = bool(seen.one("SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE')"))
    if own is None and not may_create:
        fix = f"GRANT CREATE ON DATABASE {quote(database)} TO {role}; or CREATE SCHEMA crossfade AUTHORIZATION {role}"
        seen.grant("create", database, "may not make schema crossfade", fix)
    elif own is False:
        seen.grant("create", "crossfade", "may not create in the schema", f"GRANT CREATE, USAGE ON SCHEMA crossfade TO {role}")
    if not seen.one("SELECT pg_catalog.has_database_privilege(current_database(), 'TEMP')"):
        seen.grant("temp", database, "may not make temporary tables", f"GRANT TEMPORARY ON DATABASE {quote(database)} TO {role}")
    for schema in sorted({table.schema for table in tables}):
        exists = seen.one("SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = %s", schema)
        if exists is None:
            if not create:
                seen.say("target.schema", "error", schema, "there is no such schema", f"CREATE SCHEMA {quote(schema)}")
            elif not may_create:
                fix = f"CREATE SCHEMA {quote(schema)} AUTHORIZATION {role}"
                seen.grant("create", schema, "may not make the schema", fix)
            continue
        needed = ["USAGE", *(["CREATE"] if create and any(t.schema == schema and t not in there for t in tables) else [])]
        for privilege in needed:
            if not seen.one("SELECT pg_catalog.has_schema_privilege(%s, %s)", schema, privilege):
                fix = f"GRANT {privilege} ON SCHEMA {quote(schema)} TO {role}"
                seen.grant(privilege.lower(), schema, f"lacks {privilege} on the schema", fix)
    for table, oid in there.items():
        for privilege in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE"):
            if not seen.one("SELECT pg_catalog.has_table_privilege(%s::oid, %s)", oid, privilege):
                fix = f"GRANT {privilege} ON {qualified(table)} TO {role}"
                seen.grant(privilege.lower(), str(table), f"lacks {privilege} on the table", fix)
    _replication_role(seen, role)


def _replication_role(seen: Look, role: str) -> None:
    """With `session_replication_role = replica` triggers and foreign keys rest while whole transactions are applied."""
    if seen.version >= 150000:
        if not seen.one("SELECT pg_catalog.has_parameter_privilege('session_replication_role', 'SET')"):
            fix = f"GRANT SET ON PARAMETER session_replication_role TO {role}"
            message = "may not set session_replication_role, so triggers and foreign keys of the target would fire"
            seen.grant("session_replication_role", "session_replication_role", message, fix)
    else:
        message = "is no superuser, which PostgreSQL before 15 asks of whoever sets session_replication_role"
        seen.grant("session_replication_role", "session_replication_role", message, f"ALTER ROLE {role} WITH SUPERUSER")


def _triggers(seen: Look, there: Mapping[TableId, int]) -> None:
    for table, oid in there.items():
        for row in seen.rows(
            "SELECT tgname, tgenabled FROM pg_catalog.pg_trigger WHERE tgrelid = %s::oid AND NOT tgisinternal ORDER BY tgname", oid
        ):
            name = f"{table}.{row['tgname']}"
            if row["tgenabled"] in {"A", "R"}:
                fix = f"ALTER TABLE {qualified(table)} ENABLE TRIGGER {quote(row['tgname'])}"
                seen.say("target.trigger", "error", name, "the trigger fires for replicated rows too (ENABLE ALWAYS or REPLICA)", fix)
            elif row["tgenabled"] == "O":
                seen.say("target.trigger", "info", name, "the trigger rests until the cutover")


def _contents(seen: Look, there: Mapping[TableId, int], create: bool) -> None:
    for table, oid in there.items():
        may = "SELECT pg_catalog.has_schema_privilege(%s, 'USAGE') AND pg_catalog.has_table_privilege(%s::oid, 'SELECT')"
        if not seen.one(may, table.schema, oid):
            continue
        if seen.one(f"SELECT EXISTS (SELECT FROM {qualified(table)})"):
            message = "the table has rows already: rows that the source does not have stay, and verify will report them"
            seen.say(
                "target.not_empty",
                "error" if create else "warning",
                str(table),
                message,
                f"TRUNCATE {qualified(table)}, if nobody needs them",
            )
        for row in seen.rows(
            "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = %s::oid AND attgenerated <> '' AND NOT attisdropped", oid
        ):
            seen.say("target.generated", "info", f"{table}.{row['attname']}", "the target computes this column itself")


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
