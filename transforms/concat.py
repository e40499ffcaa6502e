"""Several columns as one text, a separator between them. A NULL part is left out (NULL only when all are), or makes the whole NULL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from pipeline.model import Engine, Text
from pipeline.spec.strict import fault
from transforms import dialect
from transforms.base import RowStep


class Step(RowStep):
    """`{concat: [first, last], separator: " ", null: skip}`."""

    fewest: ClassVar[int] = 2
    most: ClassVar[int | None] = None
    examples = (
        {"concat": ["a", "b"]},
        {"concat": ["a", "b"], "separator": " \\'é"},
        {"concat": ["b", "a", "b"], "separator": ", ", "null": "null"},
    )
    separator: str = ""
    null_: Literal["skip", "null"] = Field(default="skip", alias="null")

    @field_validator("null_", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return "null" if value is None else value  # YAML reads the bare word as nothing

    @field_validator("separator")
    @classmethod
    def _no_nul(cls, value: str) -> str:
        if "\0" in value:
            raise fault("cannot hold U+0000")
        return value

    def function(self) -> Callable[..., Text]:
        join, skips = self.separator.join, self.null_ == "skip"

        def concat(*values: Text) -> Text:
            if None not in values:
                return join(values)  # type: ignore[arg-type]
            parts = [value for value in values if value is not None]
            return join(parts) if parts and skips else None

        return concat

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        separator = dialect.literal(engine, self.separator)
        if self.null_ == "null":
            if engine == "mysql":
                return f"CONCAT({f', {separator}, '.join(inputs)})"
            return f"({f' || {separator} || '.join(inputs)})"
        # concat_ws would make '' of nothing
        return f"(CASE WHEN COALESCE({', '.join(inputs)}) IS NOT NULL THEN concat_ws({separator}, {', '.join(inputs)}) END)"

    def inverse(self, at: int) -> str:
        return "a part may hold the separator"
