"""The value as another type: `{cast: total, to: "decimal(10,2)"}`, `[total, {cast: int}]`. Without it the target's own type decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, Self

from pydantic import PrivateAttr, field_validator

from pipeline.model import Engine, LogicalType, Text
from pipeline.spec.strict import fault
from transforms.base import TEXT, RowStep
from transforms.convert import Conversion, conversion
from transforms.typewords import read_type, write_type


class Step(RowStep):
    """Option `to`: a type."""

    argument: ClassVar[str | None] = "to"
    examples = (
        {"cast": "a", "to": "text"},
        ["a", {"cast": "char(40)"}],
        ["b", {"cast": "bytes"}],
        ["a", {"cast": "uuid"}],
        ["a", {"cast": "int"}],
    )
    to: str

    _source: LogicalType = PrivateAttr(default=TEXT)
    _conversion: Conversion = PrivateAttr(default=Conversion())

    @field_validator("to")
    @classmethod
    def _a_type(cls, value: str) -> str:
        try:
            read_type(value)
        except ValueError as error:
            raise fault(str(error)) from None
        return value

    def bound(self, types: tuple[LogicalType, ...]) -> Self:
        made = self.model_copy()
        made._source = types[0]
        made._conversion = conversion(types[0], read_type(self.to))
        if not made._conversion.possible:
            raise ValueError(f"cast from {types[0]} to {self.to}: {made._conversion.why}")
        return made

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return read_type(self.to)

    def function(self) -> Callable[..., Text]:
        python = self._conversion.python
        if python is None:
            return lambda value: value
        return lambda value: None if value is None else python(value)

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        return self._conversion.sql(engine, inputs[0])

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        back = conversion(read_type(self.to), self._source)
        if not self._conversion.exact or not back.possible:
            return f"a {self.to} cannot be turned back: {self._conversion.why or back.why}"
        if back.python is None:
            return ()
        word = write_type(self._source)
        if word is None:
            return f"there is no word for {self._source}"
        return (type(self)(to=word).bound((read_type(self.to),)),)
