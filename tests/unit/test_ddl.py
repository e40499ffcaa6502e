"""Expressions carried from one product to the other, and names that fit."""

from __future__ import annotations

import pytest

from connectors.base import ShapedTable
from connectors.expressions import Default, condition, default
from connectors.mysql import ddl as mysql_ddl
from connectors.mysql.names import quote as mysql_quote
from connectors.postgres import ddl as postgres_ddl
from connectors.postgres.names import literal
from connectors.postgres.names import quote as postgres_quote
from connectors.shapes import fitted
from pipeline.model import Catalog, Column, Engine, ForeignKey, Kind, LogicalType, Table, TableId


@pytest.mark.parametrize(
    ("engine", "text", "meaning"),
    [
        ("postgresql", "'it''s \\ so'::character varying(40)", Default("text", "it's \\ so")),
        ("postgresql", "('-1'::integer)", Default("text", "-1")),
        ("postgresql", "(-1)", Default("number", "-1")),
        ("postgresql", "true", Default("bool", "true")),
        ("postgresql", "now()", Default("now")),
        ("postgresql", "CURRENT_TIMESTAMP(3)", Default("now", "3")),
        ("postgresql", "gen_random_uuid()", Default("uuid")),
        ("postgresql", "'x'::text || 'y'::text", None),
        ("postgresql", "public.f(1)", None),
        ("mysql", "'a\\'b\\\\'", Default("text", "a'b\\")),
        ("mysql", "b'101'", Default("bits", "101")),
        ("mysql", "current_timestamp(6)", Default("now", "6")),
        ("mysql", "(1 + 2)", None),
    ],
)
def test_default(engine: Engine, text: str, meaning: Default | None) -> None:
    assert default(text, engine) == meaning


NAMES = {"a": "b", "b": "a", "State": "state"}


@pytest.mark.parametrize(
    ("source", "target", "text", "found"),
    [
        ("mysql", "postgresql", "`a` > 0 and `b` in ('x','it''s')", "\"b\" > 0 AND \"a\" IN ('x', 'it''s')"),
        ("postgresql", "mysql", "((\"State\")::text = ANY ((ARRAY['n'::character varying, 'o'::character varying])::text[]))", None),
        ("postgresql", "postgresql", "(a >= (0)::numeric)", '("b" >= 0)'),
        ("mysql", "postgresql", "char_length(`a`) > 3", None),
        ("mysql", "postgresql", "`gone` > 3", None),
        ("mysql", "postgresql", "`a` <> 'x\\\\y'", None),
    ],
)
def test_condition_swaps_names_or_gives_up(source: Engine, target: Engine, text: str, found: str | None) -> None:
    quote = postgres_quote if target == "postgresql" else mysql_quote
    made = condition(text, source, target, NAMES, quote)
    if found is None and "ANY" in text:
        assert made is not None and "`state` IN ('n', 'o')" in made.replace("(`state`)", "`state`")
    else:
        assert made == found


def test_s23_names_fit_and_stay_apart() -> None:
    long = ["é" * 40 + tail for tail in ("a", "b")]
    made = {fitted(name, 63) for name in long}
    assert len(made) == 2 and all(len(name.encode()) <= 63 for name in made)
    assert fitted("short", 63) == "short"


def test_quoting_leaves_no_way_out() -> None:
    assert postgres_quote('a"; drop') == '"a""; drop"'
    assert mysql_quote("a`; drop") == "`a``; drop`"
    assert literal("a'b\\") == " E'a''b\\\\'"
    for quote in (postgres_quote, mysql_quote):
        with pytest.raises(ValueError, match="NUL"):
            quote("a\0b")


def test_foreign_keys_of_partitions_are_carried_on_the_whole_or_named() -> None:
    columns = (Column("id", LogicalType(Kind.INT, bits=32), False), Column("c", LogicalType(Kind.INT, bits=32)))
    other = Table(TableId("public", "customer"), columns[:1], ("id",), ("id",))
    to, odd = TableId("public", "customer"), TableId("public", "staff")

    def leaf(n: int, *keys: ForeignKey) -> Table:
        return Table(
            TableId("public", f"payment_{n}"), columns, ("id",), ("id",), foreign_keys=keys, partition_of=TableId("public", "payment")
        )

    leaves = [
        leaf(1, ForeignKey("payment_1_c_fkey", ("c",), to, ("id",)), ForeignKey("payment_1_odd", ("c",), odd, ("id",))),
        leaf(2, ForeignKey("payment_2_c_fkey", ("c",), to, ("id",))),
    ]
    root = Table(TableId("public", "payment"), columns, ("id",), ("id",), partitions=tuple(t.id for t in leaves), partition_by="RANGE (id)")
    source = Catalog("postgresql", "postgresql", "18", "d", "public", {t.id: t for t in (other, root, *leaves)})
    shaped = [ShapedTable(t, t.id, t.columns, t.key, {c.name: c.name for c in t.columns}) for t in (other, root)]
    for product, flavour in ((postgres_ddl, "postgresql"), (mysql_ddl, "mariadb")):
        ddl = product.plan_ddl(shaped, source, "postgresql" if flavour == "postgresql" else "mysql", flavour)
        made = [s.sql for s in ddl.after if "FOREIGN KEY" in s.sql]
        assert len(made) == 1 and "payment_1_c_fkey" in made[0]
        (left,) = [f for f in ddl.findings if f.id == "foreign_key.left_out"]
        assert left.severity == "warning" and "public.payment_1.payment_1_odd" in left.message


def test_mariadb_gets_uuids_as_text_since_its_own_type_refuses_some() -> None:
    table = Table(TableId("public", "t"), (Column("id", LogicalType(Kind.UUID, native="uuid"), False),), ("id",), ("id",))
    shaped = [ShapedTable(table, TableId("shop", "t"), table.columns, table.key, {"id": "id"})]
    for engine, flavour, spelling in (("postgresql", "postgresql", "char(36)"), ("mysql", "mariadb", "uuid")):
        source = Catalog(engine, flavour, "1", "d", "public", {table.id: table})  # type: ignore[arg-type]
        (made,) = [s.sql for s in mysql_ddl.plan_ddl(shaped, source, "mysql", "mariadb").before if "CREATE TABLE" in s.sql]
        assert f"`id` {spelling}" in made
