"""A column that the source got while it is followed gets to the target: recorded, added, its old rows seen to, recorded as done.

The stream stands right before the column's first event meanwhile; everything before is applied. Every step can be taken twice: a worker
that dies is followed by one that finds what is recorded and goes on. See docs/decisions/added-columns.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator

import structlog

from connectors.base import Range
from connectors.engine import module
from pipeline import copytext
from pipeline.control import schema
from pipeline.control.runtime import Runtime, copy_table
from pipeline.control.schemachange import ColumnsAdded
from pipeline.errors import CrossfadeError, SchemaChanged
from pipeline.model import Key, TableId
from transforms.pair import Pair
from transforms.shapecode import ColumnMissing

log = structlog.get_logger("schema")

_KEYS = 5_000


def record(runtime: Runtime, added: ColumnsAdded) -> set[str]:
    """Writes down the columns that the target is to get; answers those that it does not: the mapping leaves them out, or the source
    has dropped them again."""
    runtime.reload()
    table = runtime.source_catalog.tables.get(added.table)
    if table is None:
        raise SchemaChanged(f"table {added.table}: the source has dropped it", hint="cancel, or take it out of the file")
    waiting = runtime.uncarried(added.table)
    carried = {name for pair in runtime.pairs.values() if pair.source.id == added.table for name in pair.source_columns}
    entries: dict[str, dict[str, object]] = {}
    for name in added.columns:
        if name not in waiting and name not in carried:
            continue
        column = table.column(name)
        known, old = module(runtime.source_engine, "ddl_added").old_rows(runtime.source, table, column, added.ddl)
        there = name in carried and name not in waiting
        # a column that somebody has added to the target beforehand may have anything in its old rows
        reread = not known or (there and old is not None)
        if reread and not there and not _copied(runtime).issuperset(p.number for p in runtime.pairs.values() if p.source.id == added.table):
            # A copy inserts what is absent and never overwrites: rows that are copied already would keep NULL.
            raise SchemaChanged(
                f"table {added.table}: rows that are there have values in the new column {name} which no default tells",
                hint="add it to the target by hand and crossfade resume; once the table is copied, crossfade verify --full and repair",
            )
        entries[name] = {"old": old, "reread": reread, "state": "adding"}
    left = set(added.columns) - entries.keys()
    for name in sorted(left):
        log.warning("a column that was added on the source is left out", table=str(added.table), column=name)
    if entries:
        runtime.store.set_added(str(added.table), entries)
    return left


def record_missing(runtime: Runtime, missing: ColumnMissing) -> None:
    """An event without a column that is carried over: where the source has the column now, the event is older than it, and both sides
    got it before the stream came here. Written down, so that rows of such events are what the source made of them. Raises `missing` for
    a column that is gone."""
    runtime.reload()
    table = next((table for table in runtime.source_catalog.tables.values() if str(table.id) == missing.table), None)
    column = None if table is None else next((column for column in table.columns if column.name == missing.column), None)
    if table is None or column is None or missing.column in runtime.store.added_columns().get(missing.table, {}):
        raise missing
    known, old = module(runtime.source_engine, "ddl_added").old_rows(runtime.source, table, column, "")
    entry = {"old": old, "reread": not known or old is not None, "state": "adding"}
    runtime.store.set_added(missing.table, {missing.column: entry})


def complete(runtime: Runtime, tables: Collection[TableId]) -> None:
    """Adds what is recorded for these source tables and not done. Raises `Transient` to be tried again, `SchemaChanged`."""
    runtime.refresh()
    for table in sorted(tables):
        entries = runtime.store.added_columns().get(str(table), {})
        open_ = {name: of for name, of in entries.items() if of["state"] == "adding"}
        if not open_:
            continue
        _add(runtime, table, open_)
        for name, of in open_.items():
            runtime.reload()
            if of["reread"]:
                _reread(runtime, table, name)
        runtime.store.set_added(str(table), {name: {**of, "state": "done"} for name, of in open_.items()})
        runtime.refresh()
        settle_defaults(runtime, {str(table): open_}, _copied(runtime))
        log.info("columns added to the target", table=str(table), columns=", ".join(open_))


def _copied(runtime: Runtime) -> set[int]:
    return {int(row.number) for row in runtime.store.tables() if row.phase == "copied"}


def _targets(runtime: Runtime, table: TableId, name: str) -> Iterator[tuple[Pair, str]]:
    """The pairs that carry the source column as it is, as they would be made, with the target's name of it."""
    moving = {pair.target_id for pair in runtime.pairs.values()}
    for pair in runtime.as_made(table):
        for field in pair.fields:
            if pair.target_id in moving and field.chain.columns == (name,) and not field.chain.steps:
                yield pair, field.column.name


def _add(runtime: Runtime, table: TableId, entries: dict[str, dict[str, object]]) -> None:
    ddl = module(runtime.target_engine, "ddl_added")
    for name, of in entries.items():
        for pair, column in _targets(runtime, table, name):
            schema.run(
                runtime,
                ddl.add_column(pair.shaped(), column, of["old"], runtime.source_catalog, runtime.target_catalog.flavour),
                lambda what: log.info("schema change", object=what),
            )


def _reread(runtime: Runtime, table: TableId, name: str) -> None:
    """Lists every row that has a value in the column: it is read again, and goes in behind a marker."""
    copied = _copied(runtime)
    quote = module(runtime.source_engine, "ddl").quote
    for pair in runtime.pairs.values():
        if pair.source.id != table or name not in pair.source_columns:
            continue
        if pair.number not in copied:
            log.warning("once the table is copied: crossfade verify --full, then repair", table=str(table), column=name)
            continue
        copy = copy_table(pair, runtime.source_engine)
        where, condition = copy.projection.where, f"{quote(name)} IS NOT NULL"
        what = dataclasses.replace(copy.projection, where=f"({where}) AND {condition}" if where else condition)
        reader, writer = runtime.reader("crossfade column"), runtime.writer("crossfade column")
        listed = 0
        try:
            keys: list[Key] = []
            blocks = reader.copy(copy.source, copy.source_key, what, Range(None, None))
            for block in blocks if copy.shape is None else copytext.reshape(blocks, copy.shape):
                keys += [tuple(row[at] for at in pair.key_at) for row in copytext.decode(block)]  # type: ignore[misc]
                while len(keys) >= _KEYS:
                    writer.relist(copy.target, keys[:_KEYS])
                    listed, keys = listed + _KEYS, keys[_KEYS:]
            if keys:
                writer.relist(copy.target, keys)
        finally:
            reader.close()
            writer.close()
        log.info("rows to be read again for a new column", table=str(table), column=name, rows=listed + len(keys))


def settle_defaults(runtime: Runtime, added: dict[str, dict[str, dict[str, object]]], copied: Collection[int]) -> None:
    """Gives added columns of copied tables the defaults that the source has now. One that cannot be set is a warning: rows of the stream
    carry their own values, only the application's after the cutover will miss it."""
    ddl = module(runtime.target_engine, "ddl_added")
    numbers = {pair.target_id: pair.number for pair in runtime.pairs.values()}
    for text, columns in added.items():
        table = next((pair.source.id for pair in runtime.pairs.values() if str(pair.source.id) == text), None)
        if table is None:
            continue
        for name in columns:
            for pair, column in _targets(runtime, table, name):
                if numbers.get(pair.target_id) not in copied:
                    continue
                statement = ddl.settle_default(pair.shaped(), column, runtime.source_catalog)
                try:
                    if statement is not None:
                        schema.run(runtime, [statement])
                        continue
                    why = "it has no counterpart"
                except CrossfadeError as error:
                    why = str(error)
                log.warning("set the default of an added column by hand", column=f"{pair.target_id}.{column}", why=why)
