"""Databases and tables of a MySQL or MariaDB target: what the copy needs to be there."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator

from connectors import expressions
from connectors.base import ShapedTable, Statement
from connectors.mysql import types
from connectors.mysql.names import literal, qualified, quote
from connectors.shapes import Shapes, mapped, same_names, source_column
from pipeline.model import Catalog, Column, Kind, LogicalType

_ROW_BYTES = 65535
_SIZED = re.compile(r"(varchar|char|varbinary|binary)\((\d+)\)(.*)", re.DOTALL)
_INTS = re.compile(r"(tiny|small|medium|big)?int\b")


def databases_and_tables(shapes: Shapes, source: Catalog, flavour: str) -> Iterator[Statement]:
    """In the order in which they depend on each other."""
    for schema in dict.fromkeys(shape.target.schema for shape in shapes.tables):
        exists = f"SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {literal(schema)}"
        yield Statement(f"database {schema}", f"CREATE DATABASE IF NOT EXISTS {quote(schema)} CHARACTER SET utf8mb4", exists)
    for shape in shapes.tables:
        yield _table(shape, shapes, source, flavour)


def key_columns(shape: ShapedTable, shapes: Shapes) -> frozenset[str]:
    """Target columns that are in a key of some kind, which bounds their length: a secondary index makes do with a prefix."""
    names = set(shape.key)
    for columns in (
        shape.source.primary_key,
        *(index.columns for index in shape.source.indexes if index.unique and index.predicate is None),
        *(key.columns for key in shape.source.foreign_keys),
        *(key.referred_columns for other in shapes.tables for key in other.source.foreign_keys if key.references == shape.source.id),
    ):
        names.update(shape.renames[column] for column in columns if column in shape.renames)
    return frozenset(names)


def _table(shape: ShapedTable, shapes: Shapes, source: Catalog, flavour: str) -> Statement:
    target = shape.target
    keys = key_columns(shape, shapes)
    spellings = {}
    lossy: dict[str, list[str]] = {}
    for column in shape.columns:
        spellings[column.name], reason = spelling_of(column, column.name in keys, source, flavour)
        if reason:
            lossy.setdefault(reason, []).append(column.name)
    widened = _fit_row(spellings, keys)
    if widened:
        shapes.say("table.row_size", "info", target, f"{', '.join(widened)}: kept as longtext, since a row holds 65535 bytes at most")
    for reason, names in lossy.items():
        refuses = reason.startswith("refuses")
        shapes.say("type.range" if refuses else "type.lossy", "info" if refuses else "warning", target, f"{', '.join(names)}: {reason}")
    folded = [column.name.lower() for column in shape.columns]
    if same := sorted({name for name in folded if folded.count(name) > 1}):
        message = f"columns that differ in letter case only are one name here: {', '.join(same)}"
        shapes.say("column.case", "error", target, message, "give them other names under `columns:`")
    primary = (mapped(shape, shape.source.primary_key) if shape.source.primary_key else None) or ()
    counter = _counter(shape, spellings, shapes)
    lines = [column_line(c, spellings[c.name], shape, shapes, source, counter=c.name == counter) for c in shape.columns]
    if primary:
        lines.append(f"PRIMARY KEY ({', '.join(map(quote, primary))})")
    if shape.key and set(shape.key) != set(primary):
        lines.append(f"UNIQUE KEY ({', '.join(map(quote, shape.key))})")
    if counter and (counter,) not in {primary[:1], shape.key[:1]}:
        lines.append(f"KEY ({quote(counter)})")
    if shape.source.partition_by:
        message = f"is partitioned ({shape.source.partition_by}) and becomes one plain table"
        shapes.say("table.partitioned", "warning", target, message, "make it partitioned beforehand and use `schema: existing`")
    comment = f" COMMENT {literal(shape.source.comment[:2048])}" if shape.source.comment else ""
    collation = f" COLLATE {types.binary_collation(flavour)}" if source.engine != "mysql" else ""
    body = ",\n  ".join(lines)
    sql = f"CREATE TABLE IF NOT EXISTS {qualified(target)} (\n  {body}\n) ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4{collation}{comment}"
    exists = (
        f"SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {literal(target.schema)}"
        f" AND BINARY TABLE_NAME = {literal(target.name)}"
    )
    return Statement(f"table {target}", sql, exists)


def spelling_of(column: Column, key: bool, source: Catalog, flavour: str) -> tuple[str, str | None]:
    type = column.type
    if source.engine != "mysql" and type.kind is Kind.UUID:
        type = dataclasses.replace(type, native="")  # `uuid` is both products' word, and not one thing
    spelling, reason = types.native(type, key=key, flavour=flavour)
    if source.engine == "mysql" and types.own(column.type) and column.type.collation and "COLLATE" not in spelling:
        collation, changed = _collation(column.type.collation, flavour)
        spelling = f"{spelling} COLLATE {collation}"
        reason = reason or changed
    return spelling, reason


def _collation(name: str, flavour: str) -> tuple[str, str | None]:
    """A collation of the other flavour as the nearest one that this one has."""
    theirs = "_0900_" if flavour == "mariadb" else "_uca1400_"
    if theirs not in name and not (flavour == "mysql" and "_nopad_" in name):
        return name, None
    if name.endswith("_bin"):
        nearest = types.binary_collation(flavour)
    else:
        nearest = "utf8mb4_uca1400_ai_ci" if flavour == "mariadb" else "utf8mb4_0900_ai_ci"
        if "_as_cs" in name:
            nearest = nearest.replace("_ai_ci", "_as_cs")
    return nearest, f"collation {name} becomes {nearest}"


def _fit_row(spellings: dict[str, str], keys: frozenset[str]) -> list[str]:
    """Turns the longest texts into longtext until a row fits; answers which."""
    widened: list[str] = []

    def size(spelling: str) -> int:
        match = _SIZED.match(spelling)
        return 20 if match is None else int(match[2]) * (1 if "binary" in match[1] else 4) + 2

    while sum(map(size, spellings.values())) > _ROW_BYTES:
        fit = [name for name, spelling in spellings.items() if name not in keys and size(spelling) > 64]
        if not fit:
            break
        longest = max(fit, key=lambda name: size(spellings[name]))
        match = _SIZED.match(spellings[longest])
        assert match is not None
        spellings[longest] = ("longblob" if "binary" in match[1] else "longtext") + match[3]
        widened.append(longest)
    return widened


def _counter(shape: ShapedTable, spellings: dict[str, str], shapes: Shapes) -> str | None:
    """The column that is AUTO_INCREMENT: a table can have one, an integer."""
    counters = [column.name for column in shape.columns if column.identity is not None and _INTS.match(spellings[column.name])]
    for name in counters[1:]:
        shapes.say("column.identity", "warning", f"{shape.target}.{name}", "is no counter here: a table can have one")
    return counters[0] if counters else None


def column_line(column: Column, spelling: str, shape: ShapedTable, shapes: Shapes, source: Catalog, *, counter: bool) -> str:
    parts = [quote(column.name), spelling]
    where = f"{shape.target}.{column.name}"
    generated = False
    if column.generated is not None:
        generated = source.engine == "mysql" and same_names(shape)
        if generated:
            parts.append(f"GENERATED ALWAYS AS ({column.generated}) STORED")
        else:
            shapes.say("column.generated", "warning", where, "is generated by the source; here it is a plain column that nothing fills")
    # a TIMESTAMP without these words is filled with the time of the write by itself, in older versions
    if not generated:
        parts.append("NULL" if column.nullable and not counter else "NOT NULL")
    if counter:
        parts.append("AUTO_INCREMENT")
    elif column.default is not None and not generated and (origin := source_column(shape, column.name)) is not None:
        clause = default_clause(column, spelling, source) if origin.default == column.default else None
        if clause is None and column.identity is None and origin.default == column.default:
            message = f"default {' '.join(column.default.split())} has no counterpart and is left out"
            shapes.say("default.expression", "warning", where, message, "set it on the target by hand")
        elif clause is not None:
            parts.append(f"DEFAULT {clause}")
    if column.on_update and source.engine == "mysql":
        parts.append(f"ON UPDATE {column.on_update}")
    if column.comment:
        parts.append(f"COMMENT {literal(column.comment[:1024])}")
    return " ".join(parts)


def default_clause(column: Column, spelling: str, source: Catalog) -> str | None:
    text = column.default or ""
    large = spelling.lower().startswith(("longtext", "text", "mediumtext", "tinytext", "longblob", "blob", "json"))
    if source.engine == "mysql" and types.own(column.type):
        return f"({text})" if large else text
    meaning = expressions.default(text, source.engine)
    found = None if meaning is None else default_text(meaning, column.type)
    return f"({found})" if found is not None and large else found


def default_text(meaning: expressions.Default, type: LogicalType) -> str | None:
    text = meaning.text
    match meaning.kind, type.kind:
        case "null", _:
            return "NULL"
        case "bool", Kind.BOOL | Kind.INT:
            return "1" if text == "true" else "0"
        case "number", Kind.INT | Kind.DECIMAL | Kind.FLOAT | Kind.YEAR | Kind.BOOL:
            return text
        case "bits", Kind.BITS if (type.length or 1) <= 64 and type.fixed:
            return f"b'{text}'"
        case "text", Kind.BITS if type.fixed and set(text) <= {"0", "1"}:
            return f"b'{text}'"
        case "text" | "number", Kind.BYTES | Kind.GEOMETRY | Kind.BOOL | Kind.BITS:
            return None
        case "text", Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ if not text[:4].isdigit() or text.endswith("BC"):
            return None
        case "text", Kind.TIMESTAMPTZ:
            return literal(text.removesuffix("+00"))
        case "text" | "number", _:
            return literal(text)
        case "now", Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            p = min(6, type.precision if type.precision is not None else 6)
            return f"CURRENT_TIMESTAMP({p})" if p else "CURRENT_TIMESTAMP"
        case "today", Kind.DATE:
            return "(CURRENT_DATE)"
        case "uuid", Kind.UUID | Kind.TEXT:
            return "(UUID())"
    return None
