"""Which entry of the file's `tables:` speaks for which table of the source."""

from __future__ import annotations

import dataclasses

from pipeline.errors import BadInput
from pipeline.model import Catalog, Table, TableId
from pipeline.spec.migration import Migration
from pipeline.spec.strict import suggestion
from pipeline.spec.tables import TableEntry

_OWN = "crossfade"  # schema of side tables; tables of that prefix are crossfade's too


@dataclasses.dataclass(frozen=True)
class Choice:
    """A source table and the entry that speaks for it."""

    table: Table
    entry: TableEntry
    path: str  # migration.yaml: tables[2]


def choose(migration: Migration, source: Catalog) -> list[Choice]:
    """The most exact entry speaks for a table, then the later one; several exact ones with other targets all do. Raises BadInput for an
    entry that no table answers to."""
    default = migration.source.default_schema or source.default_schema
    best: dict[TableId, list[tuple[int, TableEntry]]] = {}
    for at, entry in enumerate(migration.tables):
        tables = [table for table in source.tables.values() if entry.matches(table.id.schema, table.id.name, default)]
        if entry.wild:
            tables = [table for table in tables if not _own(table.id)]
        if not tables:
            _nothing_there(migration.at(f"tables[{at}].from"), entry, source, default)
        for table in tables:
            if entry.wild and table.partition_of is not None:
                continue  # its root moves, leaves and all
            there = best.get(table.id)
            if there is None or there[0][1].exactness() < entry.exactness() or entry.wild or entry.skip or there[0][1].skip:
                if there is not None and there[0][1].exactness() > entry.exactness():
                    continue
                best[table.id] = [(at, entry)]
            elif there[0][1].exactness() == entry.exactness():
                there.append((at, entry))
    return [
        Choice(source.tables[table], entry, migration.at(f"tables[{at}]"))
        for table, entries in sorted(best.items())
        for at, entry in entries
        if not entry.skip
    ]


def _own(table: TableId) -> bool:
    return table.schema == _OWN or table.name.startswith(f"{_OWN}_")


def _nothing_there(path: str, entry: TableEntry, source: Catalog, default: str) -> None:
    schema, name = entry.source(default)
    if entry.wild:
        if any(table.schema == schema and not _own(table) for table in source.tables):
            raise BadInput(f"{path}: no table of {schema} is called like {name!r}")
        raise BadInput(f"{path}: there is no table in {schema!r}{suggestion(schema, {table.schema for table in source.tables})}")
    if TableId(schema, name) in source.views:
        raise BadInput(f"{path}: {schema}.{name} is a view: only tables can be moved")
    raise BadInput(f"{path}: there is no table {schema}.{name}{suggestion(f'{schema}.{name}', map(str, source.tables))}")
