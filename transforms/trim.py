"""Spaces taken off the ends (U+0020 alone, as SQL's TRIM does)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Literal

from pipeline.model import Engine, LogicalType, Text
from transforms.base import RowStep, lengthless


class Step(RowStep):
    """`[name, trim]`, `{trim: name, side: right}`."""

    argument: ClassVar[str | None] = "side"
    examples = (["a", "trim"], {"trim": "a", "side": "left"}, ["b", {"trim": "right"}])
    side: Literal["both", "left", "right"] = "both"

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return lengthless(types[0])

    def function(self) -> Callable[..., Text]:
        strip = {"both": str.strip, "left": str.lstrip, "right": str.rstrip}[self.side]
        return lambda value: None if value is None else strip(value, " ")

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        if engine == "postgresql":
            return f"{({'both': 'btrim', 'left': 'ltrim', 'right': 'rtrim'})[self.side]}({inputs[0]}, ' ')"
        word = {"both": "BOTH", "left": "LEADING", "right": "TRAILING"}[self.side]
        return f"TRIM({word} ' ' FROM {inputs[0]})"

    def inverse(self, at: int) -> str:
        return "the spaces are lost"
