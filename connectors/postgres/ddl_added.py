"""A column that PostgreSQL's source got while it is followed, and how a PostgreSQL target gets it."""

from __future__ import annotations

import dataclasses

from connectors.base import Address, ShapedTable, Statement
from connectors.postgres import types
from connectors.postgres.connection import connect
from connectors.postgres.ddl_tables import column_line, default_clause, enum_type, own_types, signed_keys, spelling_of
from connectors.postgres.names import literal, qualified, quote
from connectors.shapes import Shapes, source_column
from pipeline.model import Catalog, Column, Kind, Table, Text

LOCK_SECONDS = 5


def old_rows(address: Address, table: Table, column: Column, ddl: str) -> tuple[bool, Text]:
    """What rows have in the column that were there when it was added: whether that is known, and the canonical text.

    ADD COLUMN … DEFAULT of a constant rewrites no row: the server keeps the value in pg_attribute, and shows it in old rows whatever
    the default is changed to afterwards. A default that is there without such a value was set later (old rows are NULL), or the table
    was rewritten (each row may have a value of its own): that cannot be told, and the rows have to be looked at.
    """
    del ddl
    found = []
    with connect(address, autocommit=True) as db:
        for part in table.partitions or (table.id,):
            row = db.execute(
                "SELECT a.atthasmissing, (a.attmissingval::text::text[])[1], a.attnotnull OR a.attidentity <> '' OR a.atthasdef"
                " FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid"
                " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
                " WHERE n.nspname = %s AND c.relname = %s AND a.attname = %s AND NOT a.attisdropped",
                (part.schema, part.name, column.name),
            ).fetchone()
            if row is not None:
                found.append((bool(row[0]) or not row[2], None if row[1] is None else str(row[1])))
    if not found or any(one != found[0] for one in found):
        return False, None
    return found[0]


def add_column(shape: ShapedTable, name: str, old: Text, source: Catalog, flavour: str) -> list[Statement]:
    """What adds the column `name` (the target's) so that rows which are there have `old` in it. Safe to run twice.

    It is NOT NULL only where old rows have a value. Its default is `old` until `settle_default`: a chunk that is under way may still
    insert old rows without the column.
    """
    del flavour
    shapes = Shapes.of([shape])
    column = next(c for c in shape.columns if c.name == name)
    found = [Statement("lock timeout", f"SET lock_timeout = '{LOCK_SECONDS}s'")]
    found += own_types([column.type] if column.type.native and types.own(column.type) else [], source, shapes)
    spelling, _ = spelling_of(column, shape, signed_keys(shapes))
    if column.type.kind is Kind.ENUM and not types.own(column.type) and (made := enum_type(column, shape)) is not None:
        found.append(made[1])
        spelling, _ = types.native(column.type, enum=made[0])
    bare = dataclasses.replace(column, default=None, identity=None, generated=None, nullable=True)
    _, line = column_line(bare, spelling, shape, shapes, source)
    if old is not None:
        line += f" DEFAULT {literal(old).strip()}" + ("" if column.nullable else " NOT NULL")
    exists = (
        f"SELECT 1 FROM pg_catalog.pg_attribute WHERE attrelid = pg_catalog.to_regclass({literal(qualified(shape.target))})"
        f" AND attname = {literal(name)} AND NOT attisdropped"
    )
    found.append(Statement(f"column {shape.target}.{name}", f"ALTER TABLE {qualified(shape.target)} ADD COLUMN {line}", exists))
    return found


def settle_default(shape: ShapedTable, name: str, source: Catalog) -> Statement | None:
    """What gives the added column the default that the source has for it now; None where that has no counterpart."""
    column = next(c for c in shape.columns if c.name == name)
    origin = source_column(shape, name)
    alter = f"ALTER TABLE {qualified(shape.target)} ALTER COLUMN {quote(name)}"
    if origin is None or origin.identity is not None:
        return None
    if origin.default is None:
        return Statement(f"default of {shape.target}.{name}", f"{alter} DROP DEFAULT")
    sequence, clause = default_clause(column, source.engine == "postgresql" and types.own(column.type), source)
    if clause is None or sequence is not None:
        return None
    return Statement(f"default of {shape.target}.{name}", f"{alter} SET DEFAULT {clause}")
