"""Rows that are read from the source, a chunk's or by key, into a PostgreSQL table: insert if absent, skipping recorded and listed keys.

Each function runs inside the caller's transaction, the table's gate held: shared for a chunk, exclusive for rows read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from connectors.postgres.ddl import qualified, quote
from connectors.postgres.sidetables import Connection
from connectors.postgres.tablewrite import TablePlan, by_key, copy_in, stage_keys
from pipeline import copytext
from pipeline.model import Key, Text


def merge_chunk(db: Connection, plan: TablePlan, blocks: Iterable[bytes], *, fast: bool) -> tuple[int, int]:
    """One chunk: how many rows it had, and how many of them were skipped. `fast`: straight into the table, which a row that is there
    already makes fail with a unique violation."""
    table, side, target = qualified(plan.target.table.id), plan.side, plan.target
    if plan.keyless:
        # Its key may be being built, which takes as long as it takes: then this gives the gate up, and the chunk comes again.
        db.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE NOWAIT")
        return copy_in(db, table, target.columns, blocks), 0
    if fast:
        rows = copy_in(db, table, target.columns, blocks)
        # The rows of this very transaction only: a row of the same key that the stream wrote later in its life would have
        # made the COPY fail, and is not ours to remove. No savepoint above, or xmin would be the subtransaction's.
        skipped = db.execute(
            f"DELETE FROM {table} t USING {side.name} k WHERE {side.match('t', 'k')} AND (k.cf_deleted OR k.cf_listed IS NOT NULL) "
            "AND t.xmin = pg_catalog.pg_current_xact_id()::xid"
        ).rowcount
        return rows, skipped
    columns = ", ".join(quote(c) for c in target.columns)
    rows = copy_in(db, plan.stage, target.columns, blocks)
    inserted = db.execute(
        f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {plan.stage} s "
        f"WHERE NOT {side.skipped('s')}"
        + ("" if plan.arbiter else f" AND NOT EXISTS (SELECT FROM {table} t WHERE {side.match('t', 's')})")
        + " ON CONFLICT DO NOTHING"
    ).rowcount
    if rows > inserted and plan.may_clash:
        # Neither there nor skipped by rule: it clashed with another row on a secondary unique key.
        side.relist(
            db,
            f"SELECT {side.key_list} FROM {plan.stage} s WHERE NOT EXISTS (SELECT FROM {table} t WHERE {side.match('t', 's')}) "
            f"AND NOT {side.skipped('s')}",
        )
    return rows, rows - inserted


def merge_reread(db: Connection, plan: TablePlan, read: Mapping[Key, tuple[int, tuple[Text, ...] | None]], *, overwrite: bool) -> int:
    """Rows of listed keys; answers how many entries came off the list. See `connectors.base.Writer.merge_listed`."""
    table, side, target = qualified(plan.target.table.id), plan.side, plan.target
    by_sequence: dict[int, list[Key]] = {}
    for key, (sequence, _) in read.items():
        by_sequence.setdefault(sequence, []).append(key)
    off = 0
    rows = {key: row for key, (_, row) in read.items() if row is not None}
    for sequence, keys in sorted(by_sequence.items()):
        stage_keys(db, plan, copytext.encode(keys))
        db.execute(f"DELETE FROM {plan.stage}")
        # Entries that are no longer the ones the rows were read for: a later event has seen to them, or will.
        db.execute(
            f"DELETE FROM {plan.keys} c WHERE NOT EXISTS (SELECT FROM {side.name} k WHERE {side.match('k', 'c')} "
            f"AND k.cf_listed = {int(sequence)})"
        )
        copy_in(db, plan.stage, target.columns, [copytext.encode([rows[k] for k in keys if k in rows])])
        db.execute(f"DELETE FROM {plan.stage} s WHERE NOT EXISTS (SELECT FROM {plan.keys} c WHERE {side.match('c', 's')})")
        if overwrite:
            by_key(db, plan, f"DELETE FROM {table} t USING {plan.keys} c WHERE {side.match('t', 'c')}")
        columns = ", ".join(quote(c) for c in target.columns)
        by_key(
            db,
            plan,
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM {plan.stage} s "
            f"WHERE NOT EXISTS (SELECT FROM {table} t WHERE {side.match('t', 's')}) ON CONFLICT DO NOTHING",
        )
        # A row whose unique value another row still owns stays listed: the stream will have moved the other one.
        off += by_key(
            db,
            plan,
            f"UPDATE {side.name} k SET cf_listed = NULL FROM {plan.keys} c WHERE {side.match('k', 'c')} "
            f"AND (NOT EXISTS (SELECT FROM {plan.stage} s WHERE {side.match('s', 'c')}) "
            f"OR EXISTS (SELECT FROM {table} t WHERE {side.match('t', 'c')}))",
        ).rowcount
    return off
