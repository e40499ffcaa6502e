"""The SQL that transforms write: names, literals and exact comparison of canonical text, for either family of products.

Names and canonical text come from the product's own modules, found by path, so nothing here knows a product's types.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any, cast

from pipeline.model import Engine, LogicalType, TableId

_FOLDER: dict[Engine, str] = {"postgresql": "postgres", "mysql": "mysql"}


@functools.cache
def _module(engine: Engine, part: str) -> Any:
    return importlib.import_module(f"connectors.{_FOLDER[engine]}.{part}")


def quote(engine: Engine, name: str) -> str:
    """An identifier, quoted by the product's one quoting function."""
    return cast(str, _module(engine, "ddl").quote(name))


def qualified(engine: Engine, table: TableId) -> str:
    """`schema.name`, quoted."""
    return cast(str, _module(engine, "ddl").qualified(table))


def canonical(engine: Engine, name: str, type: LogicalType) -> str:
    """SQL text expression: the canonical text of the column `name`."""
    return cast(str, _module(engine, "types").canonical_sql(quote(engine, name), type))


def bulk(engine: Engine, name: str, type: LogicalType) -> str:
    """What to select in a bulk read: cheaper than `canonical` where the product's COPY prints canonical text by itself."""
    copy_sql: Callable[[str, LogicalType], str] | None = getattr(_module(engine, "types"), "copy_sql", None)
    return canonical(engine, name, type) if copy_sql is None else copy_sql(quote(engine, name), type)


def sql_exact(engine: Engine, type: LogicalType) -> bool:
    """Whether the product's canonical SQL text is byte for byte what the other product's and the decoders' is."""
    exact: Callable[[LogicalType], bool] | None = getattr(_module(engine, "types"), "sql_exact", None)
    return True if exact is None else exact(type)


def same_in_binary(engine: Engine, type: LogicalType) -> bool:
    """Whether any two servers of the product have the same binary form of the same value within a record."""
    found: Callable[[LogicalType], bool] | None = getattr(_module(engine, "types"), "same_in_binary", None)
    return False if found is None else found(type)


def literal(engine: Engine, text: str) -> str:
    """A text literal that means the same whatever `standard_conforming_strings`, `sql_mode` and the connection's charset are."""
    if "\0" in text:
        raise ValueError("SQL text cannot hold U+0000")
    quoted = "'" + text.replace("'", "''") + "'"
    if engine == "postgresql":
        return ("E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted) + "::text"
    if text.isascii() and "\\" not in text:
        return f"_utf8mb4{quoted}"
    return f"_utf8mb4 X'{text.encode().hex()}'"


def exact(engine: Engine, expr: str) -> str:
    """The text expression compared and ordered by code point: letter case, accents and trailing spaces count.

    MySQL's `_bin` collations pad with spaces, so only bytes compare exactly (canonical text is utf8mb4, whose bytes order as code
    points do).
    """
    return f'({expr}) COLLATE "C"' if engine == "postgresql" else f"CAST({expr} AS BINARY)"


def exact_literal(engine: Engine, text: str) -> str:
    """A literal to compare with `exact(…)`."""
    return literal(engine, text) if engine == "postgresql" else f"X'{text.encode().hex()}'"
