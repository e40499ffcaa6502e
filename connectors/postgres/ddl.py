"""PostgreSQL names in SQL, and the tables of a target made from a source's."""

from __future__ import annotations

from pipeline.model import TableId


def quote(name: str) -> str:
    """An identifier, quoted always: what is inside can be anything but NUL."""
    if "\0" in name:
        raise ValueError("a name cannot hold NUL")
    return '"' + name.replace('"', '""') + '"'


def qualified(table: TableId) -> str:
    """`"schema"."name"`."""
    return f"{quote(table.schema)}.{quote(table.name)}"
