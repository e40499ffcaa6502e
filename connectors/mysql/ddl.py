"""MySQL's side of `schema: create`: the target's tables from the source's. Names in SQL are quoted by `quote` and `qualified`."""

from __future__ import annotations

from collections.abc import Sequence

from connectors.base import Ddl, ShapedTable
from connectors.mysql.ddl_secondary import secondary
from connectors.mysql.ddl_tables import databases_and_tables
from connectors.mysql.names import literal, qualified, quote
from connectors.shapes import Shapes
from pipeline.model import Catalog, Engine

__all__ = ["later_key", "literal", "plan_ddl", "qualified", "quote"]


def later_key(shape: ShapedTable) -> tuple[str, ...] | None:
    """Never: InnoDB keeps rows in their key's order."""


def plan_ddl(
    tables: Sequence[ShapedTable], source: Catalog, target_engine: Engine, target_flavour: str, *, keys_after: bool = False
) -> Ddl:
    """Statements before the copy (databases, tables with their keys) and after it (indexes, checks, foreign keys).

    Every statement may be run twice. What has no counterpart is left out and is a finding. `keys_after` changes nothing here.
    """
    del target_engine, keys_after
    shapes = Shapes.of(tables)
    before = databases_and_tables(shapes, source, target_flavour)
    after = secondary(shapes, source)
    schemas = {table.source.id.schema for table in tables}
    if views := [str(view) for view in source.views if view.schema in schemas]:
        shapes.say("object.view", "info", source.database, f"views are not made: {', '.join(views)}", "make them on the target by hand")
    return Ddl(tuple(before), tuple(after), tuple(shapes.findings))
