"""PostgreSQL's side of `schema: create`: the target's tables from the source's. Names in SQL are quoted by `quote` and `qualified`."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.base import Ddl, ShapedTable
from connectors.postgres.ddl_secondary import secondary
from connectors.postgres.ddl_tables import later_key, tables_and_types
from connectors.postgres.names import literal, qualified, quote
from connectors.shapes import Shapes
from pipeline.model import Catalog, Engine

__all__ = ["later_key", "literal", "plan_ddl", "qualified", "quote"]


def plan_ddl(
    tables: Sequence[ShapedTable], source: Catalog, target_engine: Engine, target_flavour: str, *, keys_after: bool = False
) -> Ddl:
    """Statements before the copy (schemas, types, tables with their keys) and after it (indexes, constraints, foreign keys).

    Every statement may be run twice. What has no counterpart is left out and is a finding. With `keys_after` the key of a table comes with
    `Writer.build_key`, where nothing stands against that: docs/decisions/keys-after-rows.md.
    """
    del target_engine, target_flavour
    shapes = Shapes.of(tables)
    before = tables_and_types(shapes, source, keys_after=keys_after)
    after = secondary(shapes, source)
    schemas = {table.source.id.schema for table in tables}
    if views := [str(view) for view in source.views if view.schema in schemas]:
        shapes.say("object.view", "info", source.database, f"views are not made: {', '.join(views)}", "make them on the target by hand")
    return Ddl(tuple(before), tuple(after), tuple(shapes.findings))
