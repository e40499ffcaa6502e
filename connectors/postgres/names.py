"""Names and literals in PostgreSQL's SQL."""

from __future__ import annotations

from pipeline.model import TableId

LIMIT = 63


def quote(name: str) -> str:
    """An identifier, quoted always: what is inside can be anything but NUL."""
    if "\0" in name:
        raise ValueError("a name cannot hold NUL")
    return '"' + name.replace('"', '""') + '"'


def qualified(table: TableId) -> str:
    """`"schema"."name"`."""
    return f"{quote(table.schema)}.{quote(table.name)}"


def literal(text: str) -> str:
    """A string literal, whatever `standard_conforming_strings` is."""
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted
