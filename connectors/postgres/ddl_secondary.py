"""What a PostgreSQL target gets after the copy: unique constraints and indexes, then checks, then foreign keys."""

from __future__ import annotations

from collections.abc import Iterator

from connectors import expressions
from connectors.base import ShapedTable, Statement
from connectors.postgres.names import LIMIT, literal, qualified, quote
from connectors.shapes import Shapes, fitted, foreign_keys, mapped, renamed, same_names
from pipeline.model import Catalog, ForeignKey, Index, Kind, TableId


def secondary(shapes: Shapes, source: Catalog) -> list[Statement]:
    """Foreign keys come last: what they refer to must be unique by then. Cycles do no harm, since tables are all there."""
    found: list[Statement] = []
    for shape in shapes.tables:
        for index in shape.source.indexes:
            statement = _own_index(index, shape, shapes) if source.engine == "postgresql" else _foreign_index(index, shape, shapes)
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


def _index_exists(name: str, shape: ShapedTable) -> str:
    """An index of that name on that very table, and usable."""
    there = literal(qualified(TableId(shape.target.schema, name)))
    return (
        f"SELECT 1 FROM pg_catalog.pg_index WHERE indexrelid = pg_catalog.to_regclass({there})"
        f" AND indrelid = pg_catalog.to_regclass({literal(qualified(shape.target))}) AND indisvalid"
    )


def _constraint_exists(name: str, shape: ShapedTable, *, validated: bool = False) -> str:
    return (
        f"SELECT 1 FROM pg_catalog.pg_constraint WHERE conrelid = pg_catalog.to_regclass({literal(qualified(shape.target))})"
        f" AND conname = {literal(name)}" + (" AND convalidated" if validated else "")
    )


def _add(name: str, definition: str, shape: ShapedTable, *referred: TableId) -> Statement:
    sql = f"ALTER TABLE {qualified(shape.target)} ADD CONSTRAINT {quote(name)} {definition}"
    what = f"{shape.target}.{name}"
    return Statement(f"constraint {what}", sql, _constraint_exists(name, shape), frozenset({shape.target, *referred}), what)


def _own_index(index: Index, shape: ShapedTable, shapes: Shapes) -> Statement | None:
    """A PostgreSQL index: its own definition where names are the same, else made anew where it is over plain columns."""
    name = renamed(index.name, shape, limit=LIMIT, own=False)
    where = f"{shape.target}.{name}"
    there = mapped(shape, index.columns) if index.columns else None
    if index.columns and there is None:
        shapes.say("index.dropped", "info", where, "covers a column that is not carried over, and is left out")
        return None
    if there is not None and index.unique and index.predicate is None and set(there) == set(shape.key):
        return None  # made with the table
    definition = index.definition or ""
    if same_names(shape):
        if index.constraint:
            return _add(name, definition, shape)
        tail = definition[definition.find(" USING ") :]
        return _create(name, tail, index.unique, shape)
    plain = (
        there is not None
        and index.predicate is None
        and index.method == "btree"
        and not any(word in definition for word in (" INCLUDE ", " DESC", " NULLS ", " COLLATE ", " WITH "))
    )
    if not plain or there is None:
        shapes.say("index.expression", "warning", where, "is over expressions or has a condition, and the mapping renames or drops columns")
        return None
    listed = ", ".join(quote(column) for column in there)
    if index.constraint:
        distinct = " NULLS NOT DISTINCT" if index.nulls_not_distinct else ""
        return _add(name, f"UNIQUE{distinct} ({listed})", shape)
    return _create(name, f" ({listed})", index.unique, shape)


def _create(name: str, tail: str, unique: bool, shape: ShapedTable) -> Statement:
    sql = f"CREATE {'UNIQUE ' if unique else ''}INDEX {quote(name)} ON {qualified(shape.target)}{tail}"
    return Statement(f"index {shape.target}.{name}", sql, _index_exists(name, shape), frozenset({shape.target}))


def _foreign_index(index: Index, shape: ShapedTable, shapes: Shapes) -> Statement | None:
    """A MySQL index. Its names belong to their table, PostgreSQL's to the schema: the table's name goes in front."""
    name = fitted(f"{shape.target.name}_{index.name}", LIMIT)
    where = f"{shape.target}.{name}"
    if index.method in {"fulltext", "spatial"} or not index.columns:
        what = f"{index.method} index" if index.columns else "index over expressions"
        shapes.say("index.method", "warning", where, f"{what} {index.name} has no counterpart", "make one on the target by hand")
        return None
    there = mapped(shape, index.columns)
    if there is None:
        shapes.say("index.dropped", "info", where, "covers a column that is not carried over, and is left out")
        return None
    if index.unique and set(there) == set(shape.key) and not any(index.prefix_lengths):
        return None
    types = {column.name: column.type for column in shape.columns}
    if index.unique and any(types[column].case_insensitive for column in there):
        message = "is unique without regard to letter case at the source, and with regard to it here"
        shapes.say("collation.case", "info", where, message, "make a unique index on lower(…) where that matters")
    parts = []
    for number, column in enumerate(there):
        prefix = index.prefix_lengths[number] if index.prefix_lengths else None
        form = "substring({} from 1 for {})" if types[column].kind is Kind.BYTES else "left({}, {})"
        parts.append(f"({form.format(quote(column), prefix)})" if prefix else quote(column))
    return _create(name, f" ({', '.join(parts)})", index.unique, shape)


def _checks(shape: ShapedTable, shapes: Shapes, source: Catalog) -> Iterator[Statement]:
    for name, expression in shape.source.checks:
        text: str | None
        if source.engine == "postgresql" and same_names(shape):
            text = expression
        else:
            text = expressions.condition(expression, source.engine, "postgresql", shape.renames, quote)
        if text is None:
            message = f"check {name} ({' '.join(expression.split())}) has no counterpart and is left out"
            shapes.say("check.expression", "warning", shape.target, message, "add it on the target by hand")
            continue
        yield from _in_two_steps(fitted(name, LIMIT), f"CHECK ({text})", shape)


_IN_KEY_ORDER = "SET enable_hashjoin = off"
"""A foreign key is looked at by one query on one core. The table that is referred to was filled in its key's order, which no statistics
tell yet: read along its index it takes half as long as hashed (docs/decisions/keys-after-rows.md)."""


def _in_two_steps(name: str, definition: str, shape: ShapedTable, *referred: TableId) -> Iterator[Statement]:
    """Added without looking at the rows, then validated under a lock that lets writes through."""
    yield _add(name, f"{definition} NOT VALID", shape, *referred)
    sql = f"ALTER TABLE {qualified(shape.target)} VALIDATE CONSTRAINT {quote(name)}"
    what = f"{shape.target}.{name}"
    exists = _constraint_exists(name, shape, validated=True)
    yield Statement(f"validation of {what}", sql, exists, frozenset({shape.target, *referred}), what, _IN_KEY_ORDER if referred else None)


def _foreign_key(key: ForeignKey, shape: ShapedTable, shapes: Shapes) -> Iterator[Statement]:
    where = f"{shape.target}.{key.name}"
    columns, referred = mapped(shape, key.columns), shapes.referred(key.references, key.referred_columns)
    if columns is None or referred is None:
        missing = f"{key.references} is not in the mapping" if referred is None else "a column of it is not carried over"
        shapes.say("foreign_key.left_out", "warning", where, f"is left out: {missing}")
        return
    there, there_columns = referred
    definition = (
        f"FOREIGN KEY ({', '.join(map(quote, columns))}) REFERENCES {qualified(there)} ({', '.join(map(quote, there_columns))})"
        + (f" ON DELETE {key.on_delete}" if key.on_delete else "")
        + (f" ON UPDATE {key.on_update}" if key.on_update else "")
        + (" DEFERRABLE" if key.deferrable else "")
    )
    yield from _in_two_steps(fitted(key.name, LIMIT), definition, shape, there)
