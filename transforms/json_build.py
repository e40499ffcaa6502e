"""A JSON object out of columns: `{json_build: {city: city, zip: postcode}}`. Numbers, truth values and JSON go in as such, NULL as null."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr

from pipeline.errors import DataRejected
from pipeline.model import Kind, LogicalType, Text
from pipeline.spec.strict import fault
from transforms._document import read_document, write_document
from transforms.base import TEXT, RowStep

_NUMBERS = frozenset({Kind.INT, Kind.DECIMAL, Kind.FLOAT, Kind.YEAR})
_NO_NUMBER = frozenset({"NaN", "Infinity", "-Infinity"})


class Step(RowStep):
    """`keys` in the order of the columns."""

    most: ClassVar[int | None] = None
    examples = ({"json_build": {"a": "a", "it's": "b"}}, {"json_build": ["a", "b"]})
    keys: tuple[str, ...] = Field(min_length=1)

    _kinds: tuple[Kind, ...] = PrivateAttr(default=())
    _heads: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def read(cls, main: Any, options: dict[str, Any], first: bool) -> tuple[tuple[str, ...], Self]:
        if not first:
            raise fault("takes columns: it can only come first")
        if isinstance(main, list) and all(isinstance(column, str) for column in main):
            main = {column: column for column in main}
        if not isinstance(main, dict) or not main or not all(isinstance(x, str) for pair in main.items() for x in pair):
            raise fault("must be a mapping of keys to source columns")
        return tuple(main.values()), cls.model_validate({**options, "keys": tuple(main)})

    def dump(self, columns: tuple[str, ...] | None) -> dict[str, Any]:
        return {self.word: dict(zip(self.keys, columns or (), strict=True))}

    def bound(self, types: tuple[LogicalType, ...]) -> Self:
        made = self.model_copy()
        made._kinds = tuple(type.kind for type in types)
        made._heads = tuple(f"{json.dumps(key, ensure_ascii=False)}:" for key in self.keys)
        return made

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return LogicalType(Kind.JSON, binary=True)

    def function(self) -> Callable[..., Text]:
        heads, kinds = self._heads, self._kinds

        def build(*values: Text) -> Text:
            parts = [head + _spell(value, kind) for head, value, kind in zip(heads, values, kinds, strict=True)]
            return "{" + ",".join(parts) + "}"

        return build

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        from transforms import json_extract

        kind = self._kinds[at] if self._kinds else TEXT.kind
        if kind in {Kind.FLOAT, Kind.JSON, Kind.BOOL}:
            return "a JSON document does not keep its spelling"
        return (json_extract.Step(path=(self.keys[at],)),)


def _spell(value: Text, kind: Kind) -> str:
    if value is None:
        return "null"
    if kind is Kind.BOOL:
        return "true" if value == "t" else "false"
    if kind in _NUMBERS and value not in _NO_NUMBER:
        return value
    if kind is Kind.JSON:
        try:
            return write_document(read_document(value))
        except (ValueError, RecursionError):
            raise DataRejected("json_build: a value is not JSON") from None
    return json.dumps(value, ensure_ascii=False)
