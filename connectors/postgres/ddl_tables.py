"""Schemas, types and tables of a PostgreSQL target: what the copy needs to be there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from connectors import expressions
from connectors.base import ShapedTable, Statement
from connectors.postgres import types
from connectors.postgres.names import LIMIT, literal, qualified, quote
from connectors.shapes import Shapes, fitted, mapped, same_names, source_column
from pipeline.model import Catalog, Column, Kind, LogicalType, TableId

_EXTENSIONS = {"geometry": "postgis", "geography": "postgis", "halfvec": "vector", "sparsevec": "vector", "lquery": "ltree"}
_NEXTVAL = re.compile(r"nextval\('((?:[^']|'')+)'::regclass\)")
_CALL = re.compile(r'(?<![\w"])(?!pg_catalog\.)(?:\w+|"[^"]+")\.(?:\w+|"[^"]+")\s*\(')


def later_key(shape: ShapedTable) -> tuple[str, ...] | None:
    """The columns of the key that may be built once the rows are there; None: it must be there from the start. Rows are told apart as the
    source does it, or the key could not be built when the copy is done."""
    primary = mapped(shape, shape.source.primary_key) if shape.source.primary_key else None
    if not primary or set(primary) != set(shape.key):
        return None
    types_ = {column.name: column.type for column in shape.columns}
    return None if any(types_[name].case_insensitive and types.own(types_[name]) for name in primary) else primary


def tables_and_types(shapes: Shapes, source: Catalog, *, keys_after: bool) -> Iterator[Statement]:
    """In the order in which they depend on each other; with `keys_after` without a key that can come later."""
    wanted = [column.type for shape in shapes.tables for column in shape.columns]
    used = dict.fromkeys(inner for type in wanted for inner in _with_inner(type))
    natives = [type for type in used if type.native and types.own(type)]
    schemas = [shape.target.schema for shape in shapes.tables]
    yield from _schemas([*schemas, *(_schema_of(type.native) for type in natives)])
    yield from own_types(natives, source, shapes)
    signed = signed_keys(shapes)
    for shape in shapes.tables:
        yield from _table(shape, shapes, source, signed, keyed=not keys_after or later_key(shape) is None)


def _with_inner(type: LogicalType) -> Iterator[LogicalType]:
    if type.kind is Kind.ARRAY and type.element is not None:
        yield from _with_inner(type.element)
    yield type


def _schema_of(native: str) -> str:
    name = native.partition(".")[0] if "." in native else ""
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _schemas(names: list[str]) -> Iterator[Statement]:
    for name in dict.fromkeys(names):
        if name and name not in {"public", "pg_catalog"}:
            exists = f"SELECT 1 FROM pg_catalog.pg_namespace WHERE nspname = {literal(name)}"
            yield Statement(f"schema {name}", f"CREATE SCHEMA IF NOT EXISTS {quote(name)}", exists)


def _type_exists(name: str) -> str:
    return f"SELECT 1 WHERE pg_catalog.to_regtype({literal(name)}) IS NOT NULL"


def own_types(natives: list[LogicalType], source: Catalog, shapes: Shapes) -> Iterator[Statement]:
    """Extensions, enums, domains and composite types that a PostgreSQL source's columns are of."""
    names = {type.native for type in natives}
    for type in natives:
        extended = type.kind is Kind.GEOMETRY or (type.kind is Kind.OTHER and type.element is not None) or type.case_insensitive
        if extended and "." in type.native and type.native not in source.domains:
            bare = type.native.rpartition(".")[2].strip('"').partition("(")[0]
            extension = _EXTENSIONS.get(bare, bare)
            sql = f"CREATE EXTENSION IF NOT EXISTS {quote(extension)} SCHEMA {quote(_schema_of(type.native))}"
            yield Statement(f"extension {extension}", sql, _type_exists(type.native))
        elif "." in type.native and type.kind is Kind.OTHER and type.native not in source.domains:
            shapes.say("type.missing", "warning", type.native, "this type is not made", "see that it is on the target before `start`")
    for name, labels in source.enums.items():
        if name in names or any(f" {name}" in sql for sql in source.domains.values()):
            yield Statement(f"type {name}", f"CREATE TYPE {name} AS ENUM ({', '.join(map(literal, labels))})", _type_exists(name))
    needed = {name for name in source.domains if name in names}
    # regular expressions rather than a parser: a name too many does no harm
    for name, sql in reversed(list(source.domains.items())):  # a domain's base is older than itself
        if name in needed:
            needed |= {other for other in source.domains if re.search(rf"(?<=[ (]){re.escape(other)}\b", sql.partition(" AS ")[2])}
    for name, sql in source.domains.items():
        if name in needed:
            yield Statement(f"type {name}", sql, _type_exists(name))


def signed_keys(shapes: Shapes) -> set[tuple[TableId, str]]:
    """Source columns BIGINT UNSIGNED that become bigint: counters (an identity cannot be numeric), and what refers to them."""
    found = {
        (shape.source.id, column.name)
        for shape in shapes.tables
        for column in shape.source.columns
        if column.identity == "auto_increment" and column.type.unsigned and column.type.bits == 64
    }
    size = -1
    while size != len(found):
        size = len(found)
        for shape in shapes.tables:
            for key in shape.source.foreign_keys:
                for name, referred in zip(key.columns, key.referred_columns, strict=True):
                    if (key.references, referred) in found:
                        found.add((shape.source.id, name))
    return found


def _table(shape: ShapedTable, shapes: Shapes, source: Catalog, signed: set[tuple[TableId, str]], *, keyed: bool) -> Iterator[Statement]:
    target = shape.target
    lines: list[str] = []
    lossy: dict[str, list[str]] = {}
    for column in shape.columns:
        spelling, reason = spelling_of(column, shape, signed)
        if column.type.kind is Kind.ENUM and not types.own(column.type) and (made := enum_type(column, shape)) is not None:
            name, statement = made
            yield statement
            spelling, reason = types.native(column.type, enum=name)
        if column.type.kind is Kind.TEXT and reason == "refuses U+0000":
            reason = None  # true of every text column, and loud
        if reason:
            lossy.setdefault(reason, []).append(column.name)
        sequence, line = column_line(column, spelling, shape, shapes, source)
        if sequence:
            yield Statement(f"sequence {sequence}", f"CREATE SEQUENCE IF NOT EXISTS {sequence}", _class_exists(sequence))
        lines.append(line)
    for reason, names in lossy.items():
        refuses = reason.startswith("refuses")
        shapes.say("type.range" if refuses else "type.lossy", "info" if refuses else "warning", target, f"{', '.join(names)}: {reason}")
    primary = mapped(shape, shape.source.primary_key) if shape.source.primary_key else None
    if primary and keyed:
        lines.append(f"PRIMARY KEY ({', '.join(map(quote, primary))})")
    if shape.key and set(shape.key) != set(primary or ()):
        lines.append(f"UNIQUE ({', '.join(map(quote, shape.key))})")
    if shape.source.partition_by:
        message = f"is partitioned ({shape.source.partition_by}) and becomes one plain table"
        shapes.say("table.partitioned", "warning", target, message, "make it partitioned beforehand and use `schema: existing`")
    exists = f"SELECT 1 WHERE pg_catalog.to_regclass({literal(qualified(target))}) IS NOT NULL"
    body = ",\n  ".join(lines)
    yield Statement(f"table {target}", f"CREATE TABLE IF NOT EXISTS {qualified(target)} (\n  {body}\n)", exists)
    yield from _comments(shape)


def _class_exists(name: str) -> str:
    return f"SELECT 1 WHERE pg_catalog.to_regclass({literal(name)}) IS NOT NULL"


def spelling_of(column: Column, shape: ShapedTable, signed: set[tuple[TableId, str]]) -> tuple[str, str | None]:
    origin = source_column(shape, column.name)
    if origin is not None and (shape.source.id, origin.name) in signed and column.type.kind is Kind.INT:
        return "bigint", "refuses numbers above 9223372036854775807"
    return types.native(column.type)


def enum_type(column: Column, shape: ShapedTable) -> tuple[str, Statement] | None:
    """A type for a foreign ENUM, named after table and column; None when PostgreSQL cannot hold its labels."""
    labels = column.type.labels
    if not labels or any(len(label.encode()) > LIMIT or not label for label in labels) or len(set(labels)) < len(labels):
        return None
    name = qualified(TableId(shape.target.schema, fitted(f"{shape.target.name}_{column.name}", LIMIT)))
    return name, Statement(f"type {name}", f"CREATE TYPE {name} AS ENUM ({', '.join(map(literal, labels))})", _type_exists(name))


def column_line(column: Column, spelling: str, shape: ShapedTable, shapes: Shapes, source: Catalog) -> tuple[str | None, str]:
    """A sequence that the default needs, and the column's line."""
    parts = [quote(column.name), spelling]
    native = source.engine == "postgresql" and types.own(column.type)
    if native and column.type.collation and column.type.kind is Kind.TEXT:
        parts.append(f"COLLATE {column.type.collation}")
    sequence = None
    where = f"{shape.target}.{column.name}"
    if column.generated is not None:
        if source.engine == "postgresql" and same_names(shape):
            parts.append(f"GENERATED ALWAYS AS {_bracketed(column.generated)} STORED")
        else:
            shapes.say("column.generated", "warning", where, "is generated by the source; here it is a plain column that nothing fills")
    elif column.identity is not None and spelling in {"smallint", "integer", "bigint"}:
        parts.append(f"GENERATED {'ALWAYS' if column.identity == 'always' else 'BY DEFAULT'} AS IDENTITY")
    elif column.default is not None and (origin := source_column(shape, column.name)) is not None and origin.default == column.default:
        sequence, clause = default_clause(column, native, source)
        if clause is None:
            message = f"default {' '.join(column.default.split())} has no counterpart and is left out"
            shapes.say("default.expression", "warning", where, message, "set it on the target by hand")
        else:
            parts.append(f"DEFAULT {clause}")
    if not column.nullable:
        parts.append("NOT NULL")
    return sequence, " ".join(parts)


def _bracketed(expression: str) -> str:
    return expression if expression.startswith("(") and expression.endswith(")") else f"({expression})"


def default_clause(column: Column, native: bool, source: Catalog) -> tuple[str | None, str | None]:
    """A sequence that must be there, and the DEFAULT's expression, or None."""
    text = column.default or ""
    if native and source.engine == "postgresql":
        if match := _NEXTVAL.search(text):
            return match[1].replace("''", "'"), text
        return None, None if _CALL.search(text) else text
    meaning = expressions.default(text, source.engine)
    return None, None if meaning is None else _default_text(meaning, column.type)


def _default_text(meaning: expressions.Default, type: LogicalType) -> str | None:
    text = meaning.text
    match meaning.kind, type.kind:
        case "null", _:
            return "NULL"
        case "number", Kind.BOOL:
            return "true" if text.strip("0.") else "false"
        case "number", Kind.INT | Kind.DECIMAL | Kind.FLOAT | Kind.YEAR:
            return text
        case "bool", Kind.BOOL:
            return text
        case "bool", Kind.INT:
            return "1" if text == "true" else "0"
        case "bits", Kind.BITS:
            return f"B'{text.zfill(type.length or 1)[-(type.length or 1) :]}'"
        case "text" | "number", Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ if "00-00" in text or text.startswith("0000"):
            return None
        case "text" | "number", Kind.BYTES | Kind.BITS | Kind.GEOMETRY | Kind.BOOL:
            return None
        case "text" | "number", _:
            return literal(text).strip()
        case "now", Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return f"CURRENT_TIMESTAMP({text})" if text else "CURRENT_TIMESTAMP"
        case "today", Kind.DATE:
            return "CURRENT_DATE"
        case "uuid", Kind.UUID:
            return "gen_random_uuid()"
        case "uuid", Kind.TEXT:
            return "gen_random_uuid()::text"
    return None


def _comments(shape: ShapedTable) -> Iterator[Statement]:
    target = shape.target
    if shape.source.comment:
        yield Statement(f"comment of {target}", f"COMMENT ON TABLE {qualified(target)} IS {literal(shape.source.comment)}")
    for column in shape.columns:
        if column.comment:
            at = f"{qualified(target)}.{quote(column.name)}"
            yield Statement(f"comment of {target}.{column.name}", f"COMMENT ON COLUMN {at} IS {literal(column.comment)}")
