"""Foreign keys that a target gets after its rows: refused while a row refers to none, made once it does not, and never made twice."""

from __future__ import annotations

import types
from typing import Any, Literal, cast

import pytest

from connectors.base import Ddl, ShapedTable
from pipeline.control import schema
from pipeline.errors import CrossfadeError, DataRejected
from pipeline.model import Catalog, Column, ForeignKey, Kind, LogicalType, Table, TableId
from tests.contract.conftest import Lab, Product

_INT = LogicalType(Kind.INT, bits=32)


def _shaped(product: Product, name: str, columns: tuple[str, ...], key: tuple[str, ...], *foreign: ForeignKey) -> ShapedTable:
    id = TableId(product.schema, name)
    made = tuple(Column(one, _INT, nullable=one not in key) for one in columns)
    table = Table(id, made, key, key, foreign_keys=foreign)
    return ShapedTable(table, id, made, key, {one: one for one in columns})


def _planned(product: Product, shapes: list[ShapedTable]) -> Ddl:
    flavour: Literal["postgresql", "mariadb"] = "postgresql" if product.engine == "postgresql" else "mariadb"
    catalog = Catalog(product.engine, flavour, "1", "d", product.schema, {shape.target: shape.source for shape in shapes})
    return cast(Ddl, product.module("ddl").plan_ddl(shapes, catalog, product.engine, flavour))


def test_s23_a_foreign_key_is_made_when_no_row_speaks_against_it(lab: Lab) -> None:
    """Over two columns and to its own table; a NULL among the columns refers to nothing."""
    product = lab.product
    both = ForeignKey("child_parent", ("a", "b"), TableId(product.schema, "fk_parent"), ("a", "b"), on_delete="CASCADE")
    own = ForeignKey("child_own", ("before",), TableId(product.schema, "fk_child"), ("id",))
    shapes = [
        _shaped(product, "fk_parent", ("a", "b"), ("a", "b")),
        _shaped(product, "fk_child", ("id", "a", "b", "before"), ("id",), both, own),
    ]
    ddl = _planned(product, shapes)
    runtime = cast(Any, types.SimpleNamespace(target=product.address))
    parent, child = (lab.quote(f"fk_{one}") for one in ("parent", "child"))
    quoted = lab.quote("before")
    try:
        schema.run(runtime, ddl.before)
        lab.sql(f"INSERT INTO {parent} (a, b) VALUES (1, 1), (1, 2)")
        lab.sql(f"INSERT INTO {child} (id, a, b, {quoted}) VALUES (1, 1, 2, NULL), (2, NULL, 9, 1), (3, 1, 1, 1), (4, 2, 1, 2)")
        with pytest.raises(DataRejected, match="child_parent"):
            schema.run(runtime, ddl.after)
        lab.sql(f"UPDATE {child} SET a = 1 WHERE id = 4")
        schema.run(runtime, ddl.after)
        schema.run(runtime, ddl.after)  # it is there: nothing to do
        with pytest.raises(Exception, match=r"(?i)foreign key"):
            lab.sql(f"INSERT INTO {child} (id, a, b) VALUES (5, 7, 7)")
        with pytest.raises(Exception, match=r"(?i)foreign key"):
            lab.sql(f"INSERT INTO {child} (id, {quoted}) VALUES (6, 70)")
        lab.sql(f"DELETE FROM {parent} WHERE b = 1")  # two rows go with it
        assert lab.sql(f"SELECT id FROM {child} ORDER BY id") == [(1,), (2,)]
    finally:
        lab.sql(f"DROP TABLE {child}")
        lab.sql(f"DROP TABLE {parent}")


def test_s23_a_foreign_key_to_what_is_not_unique_is_refused_though_no_row_speaks_against_it(lab: Lab) -> None:
    """Rows are looked at by a query on MariaDB; that the key is well formed is still the server's to say."""
    product = lab.product
    loose = ForeignKey("loose_parent", ("a",), TableId(product.schema, "fk_parent"), ("n",))
    shapes = [_shaped(product, "fk_parent", ("id", "n"), ("id",)), _shaped(product, "fk_loose", ("id", "a"), ("id",), loose)]
    ddl = _planned(product, shapes)
    runtime = cast(Any, types.SimpleNamespace(target=product.address))
    try:
        schema.run(runtime, ddl.before)
        with pytest.raises(CrossfadeError, match="loose_parent"):
            schema.run(runtime, ddl.after)
    finally:
        for table in ("fk_loose", "fk_parent"):
            lab.sql(f"DROP TABLE {lab.quote(table)}")
