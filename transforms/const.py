"""The same value in every row: text, a number, true or false, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self

from pipeline.model import Engine, LogicalType, Text
from pipeline.spec.strict import fault
from transforms import dialect
from transforms._scalar import Scalar, scalar_text, scalar_type
from transforms.base import RowStep


class Step(RowStep):
    """`{const: 5}`."""

    fewest: ClassVar[int] = 0
    most: ClassVar[int | None] = 0
    examples = ({"const": "it's \\ \n é"}, {"const": None}, {"const": True}, {"const": 1.5}, {"const": -7}, {"const": ""})
    value: Scalar = None

    @classmethod
    def read(cls, main: Any, options: dict[str, Any], first: bool) -> tuple[tuple[str, ...], Self]:
        if not first:
            raise fault("takes no column: it can only come first")
        if isinstance(main, dict | list):
            raise fault("must be one value")
        if isinstance(main, str) and "\0" in main:
            raise fault("cannot hold U+0000")
        return (), cls.model_validate({**options, "value": main})

    def dump(self, columns: tuple[str, ...] | None) -> dict[str, Any]:
        return {self.word: self.value}

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return scalar_type([self.value])

    def function(self) -> Callable[..., Text]:
        text = scalar_text(self.value)
        return lambda: text

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        text = scalar_text(self.value)
        if text is None:
            return "NULL::text" if engine == "postgresql" else "CAST(NULL AS CHAR)"
        return dialect.literal(engine, text)

    def inverse(self, at: int) -> str:
        return "it holds nothing of the source"
