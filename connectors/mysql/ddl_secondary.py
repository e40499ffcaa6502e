"""What a MySQL or MariaDB target gets after the copy: indexes, then checks, then foreign keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors import expressions
from connectors.base import ShapedTable, Statement
from connectors.mysql import types
from connectors.mysql.ddl_tables import key_columns
from connectors.mysql.names import LIMIT, literal, qualified, quote
from connectors.shapes import Shapes, fitted, foreign_keys, mapped, same_names
from pipeline.model import Catalog, ForeignKey, Index, Kind, LogicalType, TableId

_KEY_BYTES = 3072
_PREFIX = 191
_LONG = {Kind.ARRAY, Kind.OTHER, Kind.GEOMETRY, Kind.JSON}


def secondary(shapes: Shapes, source: Catalog) -> list[Statement]:
    """Foreign keys come last: what they refer to must be unique by then."""
    found: list[Statement] = []
    for shape in shapes.tables:
        for index in shape.source.indexes:
            statement = _index(index, shape, shapes, source)
            if statement is not None:
                found.append(statement)
    for shape in shapes.tables:
        found.extend(_checks(shape, shapes, source))
        if shape.source.triggers:
            message = f"triggers are not made: {', '.join(shape.source.triggers)}"
            shapes.say("object.trigger", "warning", shape.source.id, message, "make them on the target before the cutover")
    for shape in shapes.tables:
        for key in foreign_keys(shape, source, shapes):
            found.extend(_foreign_key(key, shape, shapes))
    return found


def _exists(view: str, column: str, name: str, shape: ShapedTable) -> str:
    return (
        f"SELECT 1 FROM information_schema.{view} WHERE TABLE_SCHEMA = {literal(shape.target.schema)}"
        f" AND BINARY TABLE_NAME = {literal(shape.target.name)} AND {column} = {literal(name)} LIMIT 1"
    )


def _index(index: Index, shape: ShapedTable, shapes: Shapes, source: Catalog) -> Statement | None:
    name = fitted(index.name, LIMIT)
    where = f"{shape.target}.{name}"
    method = index.method or "btree"
    own = source.engine == "mysql"
    if index.constraint and not index.unique:
        shapes.say("constraint.exclusion", "warning", where, "an exclusion constraint has no counterpart and is left out")
        return None
    if (method not in {"btree", "hash"} and not own) or not index.columns:
        what = "an index over expressions" if not index.columns else f"a {method} index"
        if own and index.definition and same_names(shape):
            return _create(name, f"({index.definition})", "UNIQUE " if index.unique else "", shape)
        shapes.say("index.method", "warning", where, f"{what} has no counterpart and is left out", "make one on the target by hand")
        return None
    there = mapped(shape, index.columns)
    if there is None:
        shapes.say("index.dropped", "info", where, "covers a column that is not carried over, and is left out")
        return None
    if index.predicate is not None:
        if index.unique:
            message = f"is unique only where {' '.join(index.predicate.split())}, which has no counterpart; it is left out"
            shapes.say("index.partial", "warning", where, message, "keep that rule in the application or in a generated column")
            return None
        shapes.say("index.partial", "info", where, "has a condition and becomes an index over all rows")
    if index.nulls_not_distinct:
        shapes.say("index.nulls", "warning", where, "NULLs are distinct here: more than one row may have them")
    if index.unique and set(there) == set(shape.key) and not any(index.prefix_lengths):
        return None  # made with the table
    column_types = {column.name: column.type for column in shape.columns}
    keys = key_columns(shape, shapes)
    parts, total = [], 0
    for number, column in enumerate(there):
        prefix = index.prefix_lengths[number] if index.prefix_lengths else None
        if prefix is None and method == "btree" and column not in keys:
            prefix = _prefix(column_types[column])
        parts.append(quote(column) + (f"({prefix})" if prefix else ""))
        total += _key_size(column_types[column], prefix)
    if total > _KEY_BYTES and not own:
        shapes.say("index.too_long", "warning", where, f"is {total} bytes long where {_KEY_BYTES} fit, and is left out")
        return None
    kind = "UNIQUE " if index.unique else f"{method.upper()} " if method in {"fulltext", "spatial"} else ""
    return _create(name, f"({', '.join(parts)})", kind, shape)


def _prefix(type: LogicalType) -> int | None:
    """How much of a long text an index that is not unique covers."""
    if type.kind in {Kind.TEXT, Kind.BYTES}:
        return _PREFIX if not types.own(type) and (type.length is None or type.length > types.KEY_CHARACTERS) else None
    return _PREFIX if type.kind in _LONG and not types.own(type) else None


def _key_size(type: LogicalType, prefix: int | None) -> int:
    if type.kind is Kind.TEXT or type.kind in _LONG:
        return 4 * (prefix or min(type.length or types.KEY_CHARACTERS, 768))
    if type.kind is Kind.BYTES:
        return prefix or type.length or 4 * types.KEY_CHARACTERS
    return 8


def _create(name: str, columns: str, kind: str, shape: ShapedTable) -> Statement:
    sql = f"CREATE {kind}INDEX {quote(name)} ON {qualified(shape.target)} {columns}"
    exists = _exists("STATISTICS", "INDEX_NAME", name, shape)
    return Statement(f"index {shape.target}.{name}", sql, exists, frozenset({shape.target}))


def _name(name: str, shape: ShapedTable, shapes: Shapes) -> str:
    """Constraint names belong to the database here: one that two tables have gets the table's name in front."""
    sharing = [
        other
        for other in shapes.tables
        if other.target.schema == shape.target.schema
        and (name in {key.name for key in other.source.foreign_keys} or name in {check for check, _ in other.source.checks})
    ]
    return fitted(f"{shape.target.name}_{name}" if len(sharing) > 1 else name, LIMIT)


def _checks(shape: ShapedTable, shapes: Shapes, source: Catalog) -> Iterator[Statement]:
    for name, expression in shape.source.checks:
        text: str | None
        if source.engine == "mysql" and same_names(shape):
            text = expression
        else:
            text = expressions.condition(expression, source.engine, "mysql", shape.renames, quote)
        if text is None:
            message = f"check {name} ({' '.join(expression.split())}) has no counterpart and is left out"
            shapes.say("check.expression", "warning", shape.target, message, "add it on the target by hand")
            continue
        clashes = any(column.name == name for column in shape.columns)
        own = _name(f"{name}_check" if clashes else name, shape, shapes)
        sql = f"ALTER TABLE {qualified(shape.target)} ADD CONSTRAINT {quote(own)} CHECK ({text})"
        exists = _exists("TABLE_CONSTRAINTS", "CONSTRAINT_NAME", own, shape)
        yield Statement(f"constraint {shape.target}.{own}", sql, exists, frozenset({shape.target}))


def _foreign_key(key: ForeignKey, shape: ShapedTable, shapes: Shapes) -> Iterator[Statement]:
    where = f"{shape.target}.{key.name}"
    columns, referred = mapped(shape, key.columns), shapes.referred(key.references, key.referred_columns)
    if columns is None or referred is None:
        missing = f"{key.references} is not in the mapping" if referred is None else "a column of it is not carried over"
        shapes.say("foreign_key.left_out", "warning", where, f"is left out: {missing}")
        return
    if "SET DEFAULT" in (key.on_delete, key.on_update):
        shapes.say("foreign_key.action", "warning", where, "SET DEFAULT has no counterpart and becomes RESTRICT")
    there, there_columns = referred
    name = _name(key.name, shape, shapes)
    actions = [
        f" ON {event} {action}"
        for event, action in (("DELETE", key.on_delete), ("UPDATE", key.on_update))
        if action and action != "SET DEFAULT"
    ]
    sql = (
        f"ALTER TABLE {qualified(shape.target)} ADD CONSTRAINT {quote(name)} FOREIGN KEY ({', '.join(map(quote, columns))})"
        f" REFERENCES {qualified(there)} ({', '.join(map(quote, there_columns))}){''.join(actions)}"
    )
    yield Statement(
        f"constraint {where}",
        sql,
        _exists("TABLE_CONSTRAINTS", "CONSTRAINT_NAME", name, shape),
        frozenset({shape.target, there}),
        # Otherwise the server copies the whole table to look at its rows, and nothing can be written to it meanwhile. They are looked at
        # by a query before, and what comes in between are whole transactions of the source.
        session="SET foreign_key_checks = 0",
        against=_dangling(shape.target, columns, there, there_columns),
    )


def _dangling(child: TableId, columns: Sequence[str], parent: TableId, referred: Sequence[str]) -> str:
    """A row of `child` that refers to a row that is not there. One with a NULL among its columns refers to none."""
    pairs = list(zip(columns, referred, strict=True))
    match = " AND ".join(f"p.{quote(there)} = c.{quote(here)}" for here, there in pairs)
    given = " AND ".join(f"c.{quote(here)} IS NOT NULL" for here in columns)
    absent = f"p.{quote(referred[0])} IS NULL"
    return f"SELECT 1 FROM {qualified(child)} c LEFT JOIN {qualified(parent)} p ON {match} WHERE {given} AND {absent} LIMIT 1"
