"""The value as it is, under another name. `new: old` in the file is short for `new: {rename: old}`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pipeline.model import Engine, LogicalType, Text
from transforms.base import RowStep


class Step(RowStep):
    """No options."""

    examples = ("a", {"rename": "b"})

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return types[0]

    def function(self) -> Callable[..., Text]:
        return lambda value: value

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        return inputs[0]

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        return ()
