"""The value as it is, under another name. `new: old` in the file is short for `new: {rename: old}`."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.model import Engine, LogicalType, Text
from transforms.base import RowStep


class Step(RowStep):
    """No options."""

    examples = ("a", {"rename": "b"})

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return types[0]

    def forward(self, *values: Text) -> Text:
        return values[0]

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        return inputs[0]

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        return ()
