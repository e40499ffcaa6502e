"""One part of a text, cut at a separator: `part` counts from 1; with `parts` the last of them takes the rest. No such part: NULL.

When all of `parts` go to columns of their own, joining them gives the text back exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from pipeline.model import Engine, Text
from pipeline.spec.strict import fault
from transforms import dialect
from transforms.base import RowStep


class Step(RowStep):
    """`{split: name, separator: " ", part: 1, parts: 2}`."""

    argument: ClassVar[str | None] = "part"
    examples = (
        {"split": "a", "part": 1},
        {"split": "a", "part": 3},
        {"split": "a", "separator": "aa", "part": 2},
        {"split": "a", "separator": "\\", "part": 2},
        {"split": "a", "part": 1, "parts": 3},
        {"split": "a", "part": 2, "parts": 3},
        {"split": "a", "part": 3, "parts": 3},
        {"split": "a", "separator": "é ", "part": 2, "parts": 2},
    )
    separator: str = Field(default=" ", min_length=1)
    part: int = Field(ge=1, le=1000)
    parts: int | None = Field(default=None, ge=2, le=1000)

    @field_validator("separator")
    @classmethod
    def _no_nul(cls, value: str) -> str:
        if "\0" in value:
            raise fault("cannot hold U+0000")
        return value

    @model_validator(mode="after")
    def _within(self) -> Step:
        if self.parts is not None and self.part > self.parts:
            raise fault(f"part {self.part} is beyond parts {self.parts}")
        return self

    def function(self) -> Callable[..., Text]:
        separator, part, most = self.separator, self.part, self.parts - 1 if self.parts else self.part

        def split(value: Text) -> Text:
            if value is None:
                return None
            found = value.split(separator, most)
            return found[part - 1] if len(found) >= part else None

        return split

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        rest = self.part == self.parts
        return (_postgresql if engine == "postgresql" else _mysql)(inputs[0], self.separator, self.part, rest)

    def inverse(self, at: int) -> str:
        return "the other parts are needed too"


def _postgresql(expr: str, separator: str, part: int, rest: bool) -> str:
    text = f'({expr}) COLLATE "C"'
    cut = dialect.literal("postgresql", separator)
    enough = f"length({text}) - length(replace({text}, {cut}, '')) >= {(part - 1) * len(separator)}"
    if not rest:
        found = f"split_part({text}, {cut}, {part})"
    else:
        before = " + ".join(f"length(split_part({text}, {cut}, {at}))" for at in range(1, part))
        found = f"substr({text}, {before} + {(part - 1) * len(separator) + 1})"
    return f"(CASE WHEN {enough} THEN {found} END)"


def _mysql(expr: str, separator: str, part: int, rest: bool) -> str:
    text = f"({expr} COLLATE utf8mb4_bin)"
    cut = dialect.literal("mysql", separator)
    enough = f"CHAR_LENGTH({text}) - CHAR_LENGTH(REPLACE({text}, {cut}, '')) >= {(part - 1) * len(separator)}"
    upto = text if rest else f"SUBSTRING_INDEX({text}, {cut}, {part})"
    if part == 1:
        return upto
    before = f"CHAR_LENGTH(SUBSTRING_INDEX({text}, {cut}, {part - 1}))"
    return f"(CASE WHEN {enough} THEN SUBSTRING({upto}, {before} + {len(separator) + 1}) END)"
