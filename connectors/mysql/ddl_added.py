"""A column that MySQL's or MariaDB's source got while it is followed, and how such a target gets it."""

from __future__ import annotations

import dataclasses

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from connectors import expressions
from connectors.base import Address, ShapedTable, Statement
from connectors.mysql.ddl_tables import column_line, default_clause, default_text, spelling_of
from connectors.mysql.names import literal, qualified, quote
from connectors.shapes import Shapes, source_column
from pipeline.model import Catalog, Column, Kind, LogicalType, Table, Text

LOCK_SECONDS = 5
_LARGE = ("longtext", "text", "mediumtext", "tinytext", "longblob", "blob", "json", "geometry")


def old_rows(address: Address, table: Table, column: Column, ddl: str) -> tuple[bool, Text]:
    """What rows have in the column that were there when `ddl` added it: whether that is known, and the canonical text.

    By the statement, not by the catalog: the default may have been changed since. A default that is not a constant (a time, a UUID)
    gives rows values that no statement tells.
    """
    del address, table
    definition = _definition(ddl, column.name)
    if definition is None or column.identity is not None or column.generated is not None:
        return False, None
    kinds = [c.kind for c in definition.args.get("constraints") or ()]
    default = next((k for k in kinds if isinstance(k, exp.DefaultColumnConstraint)), None)
    if default is None:
        never_null = any(isinstance(k, exp.NotNullColumnConstraint) and not k.args.get("allow_null") for k in kinds) or not column.nullable
        return _implicit(column.type) if never_null else (True, None)
    meaning = expressions.default(default.this.sql(dialect="mysql"), "mysql")
    if meaning is None:
        return False, None
    match meaning.kind, column.type.kind:
        case "null", _:
            return True, None
        case "bool", Kind.INT:
            return True, "1" if meaning.text == "true" else "0"
        case "bits" | "text", Kind.BITS if set(meaning.text) <= {"0", "1"}:
            return True, meaning.text.zfill(column.type.length or 1)
        case _, Kind.BITS | Kind.GEOMETRY:
            return False, None
        case "text", Kind.BYTES if not column.type.fixed:
            return True, "\\x" + meaning.text.encode().hex()
        case _, Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ if column.type.kind is Kind.TIMESTAMPTZ or "00-00" in meaning.text:
            return False, None  # in the session's time zone, or no date at all
        case "text" | "number", kind if kind is not Kind.BYTES:
            return True, meaning.text
    return False, None


def _definition(ddl: str, name: str) -> exp.ColumnDef | None:
    try:
        statements = sqlglot.parse(ddl, read="mysql")
    except SqlglotError:
        return None
    found = [a for s in statements if isinstance(s, exp.Alter) for a in s.args.get("actions") or () if isinstance(a, exp.ColumnDef)]
    return next((a for a in found if a.name.casefold() == name.casefold()), None)


def _implicit(type: LogicalType) -> tuple[bool, Text]:
    """What the server fills a NOT NULL column without a default with."""
    match type.kind:
        case Kind.INT | Kind.DECIMAL | Kind.FLOAT | Kind.YEAR:
            return True, "0"
        case Kind.TEXT | Kind.SET:
            return True, ""
        case Kind.BYTES if not type.fixed:
            return True, "\\x"
        case Kind.ENUM if type.labels:
            return True, type.labels[0]
    return False, None


def add_column(shape: ShapedTable, name: str, old: Text, source: Catalog, flavour: str) -> list[Statement]:
    """What adds the column `name` (the target's) so that rows which are there have `old` in it. Safe to run twice.

    It is NOT NULL only where old rows have a value. Its default is `old` until `settle_default`: a chunk that is under way may still
    insert old rows without the column.
    """
    shapes = Shapes.of([shape])
    column = next(c for c in shape.columns if c.name == name)
    spelling, _ = spelling_of(column, False, source, flavour)
    fills = old is not None
    bare = dataclasses.replace(column, default=None, identity=None, generated=None, on_update=None, nullable=column.nullable or not fills)
    line = column_line(bare, spelling, shape, shapes, source, counter=False)
    if old is not None:
        line += f" DEFAULT {_constant(old, column.type, spelling)}"
    exists = (
        f"SELECT 1 FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {literal(shape.target.schema)}"
        f" AND BINARY TABLE_NAME = {literal(shape.target.name)} AND COLUMN_NAME = {literal(name)}"
    )
    return [
        Statement("lock timeout", f"SET SESSION lock_wait_timeout = {LOCK_SECONDS}"),
        Statement(f"column {shape.target}.{name}", f"ALTER TABLE {qualified(shape.target)} ADD COLUMN {line}", exists),
    ]


def _constant(text: str, type: LogicalType, spelling: str) -> str:
    if type.kind is Kind.BYTES:
        plain = f"X'{text.removeprefix(chr(92) + 'x')}'"
    elif type.kind is Kind.BOOL:
        plain = "1" if text == "t" else "0"
    elif type.kind is Kind.BITS and spelling.startswith("bit("):
        plain = f"b'{text}'"
    elif type.kind is Kind.TIMESTAMPTZ:
        plain = literal(text.removesuffix("+00"))
    else:
        plain = default_text(expressions.Default("text", text), type) or literal(text)
    return f"({plain})" if spelling.lower().startswith(_LARGE) else plain


def settle_default(shape: ShapedTable, name: str, source: Catalog) -> Statement | None:
    """What gives the added column the default that the source has for it now; None where that has no counterpart."""
    column = next(c for c in shape.columns if c.name == name)
    origin = source_column(shape, name)
    alter = f"ALTER TABLE {qualified(shape.target)} ALTER COLUMN {quote(name)}"
    if origin is None or origin.identity is not None:
        return None
    if origin.default is None:
        gone = "SET DEFAULT NULL" if column.nullable else "DROP DEFAULT"
        return Statement(f"default of {shape.target}.{name}", f"{alter} {gone}")
    clause = default_clause(column, str(column.type), source)
    if clause is None:
        return None
    bracketed = clause if clause.startswith(("(", "'")) or clause[:1].isdigit() or clause == "NULL" else f"({clause})"
    return Statement(f"default of {shape.target}.{name}", f"{alter} SET DEFAULT {bracketed}")
