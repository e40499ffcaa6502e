"""A table that is filled before it has its key: what the stream does meanwhile, and how the key comes.

An index that is kept row by row costs as much as the rows do; built from all of them it costs a third. Until it is there nothing can be
looked up in the table, so the stream writes no row of it: deletes are recorded, and every other key that is touched is listed to be read
again.
Why that is enough: docs/decisions/keys-after-rows.md.
"""

from __future__ import annotations

from connectors.base import ApplyOutcome, TableBatch, TargetTable, side_table
from connectors.postgres.names import LIMIT, literal, qualified, quote
from connectors.postgres.sidetables import Connection, SideTables
from connectors.postgres.tablewrite import TablePlan, look_up, stage_keys
from connectors.shapes import fitted
from pipeline.model import TableId

_MEMORY = (
    "SELECT pg_catalog.set_config('maintenance_work_mem', '256MB', true) FROM pg_catalog.pg_settings "
    "WHERE name = 'maintenance_work_mem' AND setting::int < 262144"
)
"""Enough to sort some million keys without files; a server that gives more gives that."""


def record(db: Connection, plan: TablePlan, batch: TableBatch) -> ApplyOutcome:
    """Writes down which keys the batch touched, inside the caller's transaction, under the exclusive gate."""
    target, side = plan.target, plan.side
    if batch.truncate:
        db.execute(f"TRUNCATE {qualified(target.table.id)}")
        side.clear(db)
    if batch.deletes:
        stage_keys(db, plan, batch.encoded(batch.deletes))
        side.record_deleted(db, plan.keys)
    key_at = [target.columns.index(column) for column in target.key]
    rows = (*batch.rows, *batch.partials, *(row for _, row in batch.moves))
    touched = [tuple(row[at] for at in key_at) for row in rows]
    if not touched:
        return ApplyOutcome()
    stage_keys(db, plan, batch.encoded(touched))
    return ApplyOutcome(relisted=side.relist(db, f"SELECT DISTINCT {side.key_list} FROM {plan.keys}"))


def build_index(db: Connection, migration: str, target: TargetTable) -> None:
    """The index of the key. Chunks of the table wait (and give way, see `PostgresWriter`), the stream does not."""
    if _has_key(db, target):
        return
    db.execute(_MEMORY)
    name = quote(side_table(migration, target.number))
    columns = ", ".join(quote(column) for column in target.table.primary_key)
    db.execute(f"CREATE UNIQUE INDEX IF NOT EXISTS {name} ON {qualified(target.table.id)} ({columns})")


def attach(db: Connection, side: SideTables) -> None:
    """Makes the index the table's key and takes out what must not stand there: rows that chunks brought under keys that the stream had
    deleted or listed, before or after. In the caller's transaction, under the exclusive gate."""
    target, migration = side.target, side.migration
    mine = (migration, target.number)
    if db.execute("SELECT keyless FROM crossfade.table_state WHERE migration = %s AND number = %s", mine).fetchone() != (True,):
        return  # somebody else was quicker: what is listed by now may be there
    if not _has_key(db, target):
        index = quote(side_table(migration, target.number))
        name = fitted(f"{target.table.id.name}_pkey", LIMIT)
        taken = db.execute(f"SELECT pg_catalog.to_regclass({literal(qualified(TableId(target.table.id.schema, name)))})").fetchone()
        named = f"CONSTRAINT {quote(name)} " if taken == (None,) else ""
        db.execute(f"ALTER TABLE {side.table} ADD {named}PRIMARY KEY USING INDEX {index}")
    look_up(
        db,
        f"DELETE FROM {side.table} t USING {side.name} k WHERE {side.match('t', 'k')} AND (k.cf_deleted OR k.cf_listed IS NOT NULL)",
    )
    db.execute("UPDATE crossfade.table_state SET keyless = false WHERE migration = %s AND number = %s", mine)


def _has_key(db: Connection, target: TargetTable) -> bool:
    found = db.execute(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_index WHERE indrelid = %s::pg_catalog.regclass AND indisprimary)",
        (qualified(target.table.id),),
    ).fetchone()
    return bool(found and found[0])
