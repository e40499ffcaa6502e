"""Letter case. Python knows every script's; SQL's answer depends on product, version and collation, so only ASCII is said in SQL."""

from __future__ import annotations

import string

from pipeline.model import Engine

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def ascii_lower(value: str) -> str:
    """a-z only."""
    return value.translate(_LOWER)


def ascii_upper(value: str) -> str:
    """A-Z only."""
    return value.translate(_UPPER)


def ascii_sql(engine: Engine, expr: str, *, lower: bool) -> str:
    """The same in SQL."""
    if engine == "postgresql":
        word = "lower" if lower else "upper"
        return f'{word}(({expr}) COLLATE "C")'
    # MySQL has no ASCII-only casing for text: replace letter by letter, under a collation that tells case apart
    out = f"({expr}) COLLATE utf8mb4_bin"
    for upper, small in zip(string.ascii_uppercase, string.ascii_lowercase, strict=True):
        old, new = (upper, small) if lower else (small, upper)
        out = f"REPLACE({out}, '{old}', '{new}')"
    return out
