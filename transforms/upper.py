"""Letters to upper case. Every script's, in Python; with `ascii: true` A to Z alone, which the source can do in SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.model import Engine, LogicalType, Text
from transforms._casing import ascii_sql, ascii_upper
from transforms.base import RowStep, lengthless


class Step(RowStep):
    """`[email, upper]`, `{upper: code, ascii: true}`."""

    examples = (["a", "upper"], {"upper": "a", "ascii": True})

    ascii: bool = False

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return lengthless(types[0])

    def function(self) -> Callable[..., Text]:
        change = ascii_upper if self.ascii else str.upper
        return lambda value: None if value is None else change(value)

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        return ascii_sql(engine, inputs[0], lower=False) if self.ascii else None

    def inverse(self, at: int) -> str:
        return "letter case is lost"
