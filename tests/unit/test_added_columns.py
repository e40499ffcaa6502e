"""s21: which DDL only adds columns, what old rows have in them, how a target gets them, and events from before they were there."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest

from connectors.base import Address, ShapedTable
from connectors.mysql import ddl_added as mysql
from connectors.mysql import types as mysql_types
from connectors.postgres import ddl_added as postgres
from pipeline.control.ddlread import added_columns
from pipeline.control.schemachange import ColumnsAdded, SchemaPolicy
from pipeline.errors import SchemaChanged
from pipeline.model import Catalog, Column, Kind, LogicalType, SchemaChange, Table, TableId, Text, Transaction
from tests.rowtext import rowtext
from transforms.pairing import resolve
from transforms.shapecode import ColumnMissing, ColumnsUnknown

from .test_transforms_pairing import CITY, DECODERS, TEXT, catalog, migration

T = TableId("shop", "t")


@pytest.mark.parametrize(
    ("ddl", "names"),
    [
        ("ALTER TABLE t ADD c INT", ["c"]),
        ("ALTER TABLE `x`.`t` ADD COLUMN IF NOT EXISTS c varchar(20) COLLATE utf8mb4_bin NOT NULL DEFAULT 'a' AFTER b", ["c"]),
        ("ALTER TABLE t ADD COLUMN a INT, ADD COLUMN b INT NOT NULL, ALGORITHM=INSTANT", ["a", "b"]),
        ("ALTER TABLE t ADD COLUMN a INT, ADD INDEX i (a), ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES u(id)", ["a"]),
        ("CREATE INDEX i ON t (a)", []),
        ("CREATE TABLE u (a int)", []),
        ("CREATE OR REPLACE TABLE t (a int)", None),
        ("ALTER TABLE t ADD COLUMN a INT, DROP COLUMN b", None),
        ("ALTER TABLE t ADD COLUMN a INT PRIMARY KEY", None),
        ("ALTER TABLE t ADD PRIMARY KEY (a)", None),
        ("ALTER TABLE t MODIFY a BIGINT", None),
        ("ALTER TABLE t RENAME COLUMN a TO b", None),
        ("ALTER TABLE t ALTER a SET DEFAULT 5", None),
        ("DROP TABLE t", None),
        ("not SQL at all (", None),
    ],
)
def test_s21_only_additions_are_let_through(ddl: str, names: list[str] | None) -> None:
    assert added_columns(ddl, "mysql") == names


@pytest.mark.parametrize(
    ("native", "clause", "nullable", "found"),
    [
        ("int(11)", "INT", True, (True, None)),
        ("int(11)", "INT NOT NULL", False, (True, "0")),
        ("int(11)", "INT DEFAULT -5", True, (True, "-5")),
        ("varchar(20)", "VARCHAR(20) NOT NULL DEFAULT 'o''ld \\\\'", False, (True, "o'ld \\")),
        ("varchar(20)", "VARCHAR(20) NOT NULL", False, (True, "")),
        ("tinyint(1)", "TINYINT(1) DEFAULT TRUE", True, (True, "1")),
        ("bit(3)", "BIT(3) DEFAULT b'1'", True, (True, "001")),
        ("varbinary(9)", "VARBINARY(9) DEFAULT 'ab'", True, (True, "\\x6162")),
        ("enum('a','b')", "ENUM('a','b') NOT NULL", False, (True, "a")),
        ("datetime", "DATETIME DEFAULT CURRENT_TIMESTAMP", True, (False, None)),
        ("timestamp", "TIMESTAMP NULL DEFAULT '2024-01-01 00:00:00'", True, (False, None)),
        ("date", "DATE NOT NULL DEFAULT '0000-00-00'", False, (False, None)),
        ("uuid", "UUID DEFAULT UUID()", True, (False, None)),
        ("int(11)", "INT GENERATED ALWAYS AS (a + 1) STORED", True, (True, None)),
    ],
)
def test_s21_old_rows_of_mysql_by_the_statement(native: str, clause: str, nullable: bool, found: tuple[bool, Text]) -> None:
    column = Column("c", mysql_types.logical(native), nullable)
    ddl = f"ALTER TABLE t ADD COLUMN other INT DEFAULT 9, ADD COLUMN c {clause}"
    assert mysql.old_rows(Address("mysql://h/d"), Table(T, ()), column, ddl) == found
    assert mysql.old_rows(Address("mysql://h/d"), Table(T, ()), dataclasses.replace(column, identity="auto_increment"), ddl) == (
        False,
        None,
    )


def shape(column: Column) -> tuple[ShapedTable, Catalog]:
    source = Table(T, (Column("id", LogicalType(Kind.INT, bits=32), False), column), ("id",), ("id",))
    made = ShapedTable(source, TableId("public", "t"), source.columns, ("id",), {c.name: c.name for c in source.columns})
    return made, Catalog("mysql", "mariadb", "11", "shop", "shop", {T: source})


def test_s21_targets_get_the_old_rows_value_first_and_the_sources_default_then() -> None:
    column = Column("it's", mysql_types.logical("varchar(20)", collation="utf8mb4_bin"), False, "'new'")
    made, source = shape(column)
    assert postgres.add_column(made, "it's", "o'ld", source, "postgresql")[-1].sql == (
        """ALTER TABLE "public"."t" ADD COLUMN "it's" character varying(20) DEFAULT 'o''ld' NOT NULL"""
    )
    settled = postgres.settle_default(made, "it's", source)
    assert settled is not None and settled.sql == """ALTER TABLE "public"."t" ALTER COLUMN "it's" SET DEFAULT 'new'"""
    unknown = postgres.add_column(made, "it's", None, source, "postgresql")[-1].sql
    assert "NOT NULL" not in unknown and "DEFAULT" not in unknown
    assert mysql.add_column(made, "it's", "o'ld", source, "mariadb")[-1].sql.endswith(" NOT NULL DEFAULT 'o''ld'")
    bytes_, source = shape(Column("b", LogicalType(Kind.BYTES, native="bytea"), True, None))
    assert mysql.add_column(bytes_, "b", "\\x00ff", source, "mariadb")[-1].sql.endswith("ADD COLUMN `b` longblob NULL DEFAULT (X'00ff')")


def policy(additive: str, **more: Any) -> SchemaPolicy:
    source = Table(T, (Column("id", TEXT), Column("name", TEXT), Column("late", TEXT)), ("id",), ("id",))
    runtime: Any = SimpleNamespace(
        pairs={1: SimpleNamespace(source=source)},
        migration=SimpleNamespace(on_schema_change=SimpleNamespace(additive=additive)),
        source_engine="postgresql" if more.pop("postgresql", False) else "mysql",
        source_catalog=SimpleNamespace(tables={T: source}),
        uncarried=lambda _table: {"late"},  # the source has it already, the stream is not there yet
    )
    return SchemaPolicy(runtime, more.pop("left_out", {}), **more)


def ddl(text: str, table: TableId = T) -> Transaction:
    return Transaction("1", "1", [], [], [SchemaChange(text, (table,), 7)], True, 0, True, 8)


def test_s21_ddl_by_policy() -> None:
    add = ddl("ALTER TABLE t ADD COLUMN late int DEFAULT 3")
    with pytest.raises(ColumnsAdded) as met:
        policy("apply").check(add)
    assert (met.value.table, met.value.columns) == (T, ("late",))
    with pytest.raises(SchemaChanged, match=r"table shop\.t: .* lacks: late: add them to the target .* crossfade resume"):
        policy("stop").check(add)
    left_out: dict[TableId, set[str]] = {}
    policy("ignore", left_out=left_out).check(add)
    assert left_out == {T: {"late"}}
    policy("apply", left_out=left_out).check(add)  # found to be none that the target gets
    policy("apply").check(ddl("ALTER TABLE t ADD COLUMN name int"))  # carried already: added by a worker before this one
    policy("stop").check(ddl("DROP TABLE u", TableId("shop", "u")))
    for additive in ("apply", "ignore", "stop"):
        stopped = policy(additive)
        with pytest.raises(SchemaChanged, match="DROP COLUMN name: make the same change on the target"):
            stopped.check(ddl("ALTER TABLE t DROP COLUMN name"))
        assert stopped.stopped_at == 7
        policy(additive, seen_to={7}).check(ddl("ALTER TABLE t DROP COLUMN name"))  # somebody has seen to it and resumed


def test_s21_a_row_with_an_unknown_column_is_noticed_whatever_came_before() -> None:
    old, new = rowtext({"id": "1", "name": "a"}), rowtext({"id": "1", "name": "a", "late": None})
    (pair,), _ = resolve(migration({"from": "public.city", "drop": ["name"]}), catalog(CITY), None)
    for known in policy("apply", postgresql=True).known(T), {"id", "name"}:
        shape = pair.shape_events(DECODERS, known=known)
        assert shape.row(old) == shape.whole(old) == ("1",)  # `name` is known, and mapped nowhere
        assert shape.row(rowtext({"id": "1"})) == ("1",)  # a column that was dropped is not this one's to judge
        assert shape.key(new) == ("1",)  # what was before the change, or what is deleted
        for function in shape.row, shape.whole:
            with pytest.raises(ColumnsUnknown, match=r"new columns: late$") as met:
                function(new)
        assert (met.value.table, met.value.columns) == ("public.city", ("late",))
    assert pair.shape_events(DECODERS).row(new) == ("1",)  # the MySQL family tells by its DDL


def test_s21_columns_that_nobody_knows_are_judged_by_policy() -> None:
    unknown = ColumnsUnknown(str(T), ["late"])
    found = policy("apply", postgresql=True).found(unknown)
    assert isinstance(found, ColumnsAdded) and (found.table, found.columns) == (T, ("late",))
    assert "lacks: late" in str(policy("stop", postgresql=True).found(unknown))
    left_out: dict[TableId, set[str]] = {}
    ignoring = policy("ignore", postgresql=True, left_out=left_out)
    assert ignoring.found(unknown) is None and left_out == {T: {"late"}}
    assert ignoring.known(T) == policy("apply", postgresql=True, left_out=left_out).known(T) == {"id", "name", "late"}


def test_s21_events_from_before_the_column_have_what_its_old_rows_have() -> None:
    wider = dataclasses.replace(CITY, columns=(*CITY.columns, Column("state", TEXT, False)))
    (pair,), _ = resolve(migration({"from": "public.city"}), catalog(wider), None)
    shape = pair.shape_events(DECODERS, added={"state": "o'ld"})
    assert shape.row(rowtext({"id": 1, "name": "a"})) == ("1", "a", "o'ld")
    assert shape.row(rowtext({"id": 1, "name": "a", "state": "new"})) == ("1", "a", "new")
    assert shape.row(rowtext({"id": 1, "name": "a", "state": None})) == ("1", "a", None)
    with pytest.raises(ColumnMissing) as missing:
        shape.row(rowtext({"id": 1, "state": "new"}))
    assert (missing.value.table, missing.value.column) == ("public.city", "name")
