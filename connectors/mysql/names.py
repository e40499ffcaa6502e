"""Names and literals in MySQL's SQL."""

from __future__ import annotations

from pipeline.model import TableId

LIMIT = 64


def quote(name: str) -> str:
    """An identifier, quoted always: what is inside can be anything but NUL."""
    if "\0" in name:
        raise ValueError("a name cannot hold NUL")
    return "`" + name.replace("`", "``") + "`"


def qualified(table: TableId) -> str:
    """`database`.`name`."""
    return f"{quote(table.schema)}.{quote(table.name)}"


def literal(text: str) -> str:
    """A string literal in our sessions, which have backslash escapes on."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\0", "\\0") + "'"
