"""Canonical text of one type as canonical text of another: what a target column of another type holds once the value is in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pipeline.model import Engine, LogicalType


@dataclasses.dataclass(frozen=True)
class Conversion:
    """`python` takes a text that is not NULL (None: the text stays as it is); `sql` takes a text expression and answers None where SQL
    cannot say the same. `exact`: every value arrives and can be had back; otherwise `why` says what happens. `possible`: False: never.
    """

    python: Callable[[str], str] | None = None
    sql: Callable[[Engine, str], str | None] = lambda engine, expr: expr
    exact: bool = True
    why: str = ""
    possible: bool = True


IDENTITY = Conversion()


def conversion(source: LogicalType, target: LogicalType) -> Conversion:
    """From `source` to `target`."""
    if source == target:
        return IDENTITY
    return IDENTITY
