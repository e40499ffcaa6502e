"""One value for another. What is not in `values`: `default`, the value itself (`otherwise: keep`), NULL, or an error (`otherwise: stop`).

NULL stays NULL unless `if_null` says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, field_validator, model_validator

from pipeline.errors import DataRejected
from pipeline.model import Engine, Kind, LogicalType, Text
from pipeline.spec.strict import fault
from transforms import dialect
from transforms._scalar import Scalar, scalar_key, scalar_text, scalar_type
from transforms.base import RowStep, lengthless

_TRUTH = {"true": "t", "false": "f"}


class Step(RowStep):
    """`{map: status, values: {A: active, I: inactive}, default: unknown}`."""

    argument: ClassVar[str | None] = None
    examples = (
        {"map": "a", "values": {"a": "x", "A": "y", "": "empty", "é": "it's \\"}, "default": "other"},
        {"map": "a", "values": {"a ": 1, "\\": 2}, "otherwise": "keep"},
        {"map": "a", "values": {"a": True, "b": False}, "otherwise": "null", "if_null": False},
        ["a", {"map": None, "values": {"it's": None}, "default": "x"}],
    )
    values: dict[str, Scalar] = Field(min_length=1)
    if_null: Scalar = None
    default: Scalar = None
    otherwise: Literal["stop", "keep", "null", "default"] = "stop"

    _texts: dict[str, Text] = PrivateAttr(default_factory=dict)
    _null: Text = PrivateAttr(default=None)
    _other: Text = PrivateAttr(default=None)
    _total: frozenset[Engine] = PrivateAttr(default=frozenset())  # where the input's type has no other values

    @model_validator(mode="before")
    @classmethod
    def _a_default_is_meant(cls, data: Any) -> Any:
        if isinstance(data, dict) and "default" in data and "otherwise" not in data:
            return {**data, "otherwise": "default"}
        if isinstance(data, dict) and "default" in data and data["otherwise"] != "default":
            raise fault("says both default and otherwise: leave one out")
        return data

    @field_validator("otherwise", mode="before")
    @classmethod
    def _word(cls, value: Any) -> Any:
        return "null" if value is None else value

    @field_validator("values", mode="before")
    @classmethod
    def _keys_are_text(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        if None in values:
            raise fault("has no entry for NULL: write if_null")
        return {scalar_key(key): value for key, value in values.items()}

    @field_validator("values")
    @classmethod
    def _no_nul(cls, values: dict[str, Scalar]) -> dict[str, Scalar]:
        if any(isinstance(text, str) and "\0" in text for pair in values.items() for text in pair):
            raise fault("cannot hold U+0000")
        return values

    def model_post_init(self, context: Any) -> None:
        self._texts = {key: self._text(value) for key, value in self.values.items()}
        self._null, self._other = self._text(self.if_null), self._text(self.default)

    @property
    def _made(self) -> LogicalType:
        """The one type of all answers."""
        return scalar_type([*self.values.values(), self.if_null, *([self.default] if self.otherwise == "default" else [])])

    def _text(self, value: Scalar) -> Text:
        # beside texts a truth value is the word that was written, not t or f
        return scalar_text(value) if self._made.kind is Kind.BOOL or not isinstance(value, bool) else scalar_key(value)

    def bound(self, types: tuple[LogicalType, ...]) -> Self:
        type = types[0]
        made = self.model_copy()
        texts = self._texts
        if type.kind is Kind.BOOL:
            texts = {_TRUTH.get(key, key): value for key, value in texts.items()}
        known = {"t", "f"} if type.kind is Kind.BOOL else set(type.labels) if type.kind is Kind.ENUM else None
        if known is not None:
            strange = [key for key in texts if key not in known]
            if strange:
                raise ValueError(f"maps {strange[0]!r}, which {type} does not have")
        made._texts = dict(texts)
        if known is not None and known <= set(texts):
            # MySQL's ENUM may hold '', the error value, besides its labels
            made._total = frozenset({"postgresql", "mysql"} if type.kind is Kind.BOOL else {"postgresql"})
        return made

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        if self.otherwise == "keep":
            return lengthless(types[0])
        return self._made

    def function(self) -> Callable[..., Text]:
        answers: dict[Text, Text] = {None: self._null}
        answers.update(self._texts)
        if self.otherwise == "stop":

            def stop(value: Text) -> Text:
                try:
                    return answers[value]
                except KeyError:
                    raise DataRejected("map: a value is not in `values`", hint="add it, or set default or otherwise") from None

            return stop
        if self.otherwise == "keep":
            return lambda value: answers.get(value, value)
        other = self._other
        return lambda value: answers.get(value, other)

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        if self.otherwise == "stop" and engine not in self._total:
            return None  # SQL has no way to stop at a value
        expr = inputs[0]
        exact = dialect.exact(engine, expr)
        cases = [f"WHEN {expr} IS NULL THEN {_literal(engine, self._null)}"]
        for key, value in self._texts.items():
            cases.append(f"WHEN {exact} = {dialect.exact_literal(engine, key)} THEN {_literal(engine, value)}")
        other = expr if self.otherwise == "keep" else _literal(engine, self._other)
        return f"(CASE {' '.join(cases)} ELSE {other} END)"

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        if self.otherwise != "stop":
            return "values that are not mapped are lost"
        made = [self._text(value) for value in (*self.values.values(), self.if_null)]
        if len(set(made)) < len(made):
            return "two values become one"
        back: dict[str, Any] = {"values": {scalar_key(value): key for key, value in self.values.items() if value is not None}}
        alone = [key for key, value in self.values.items() if value is None]
        if self.if_null is not None:
            back["values"][scalar_key(self.if_null)] = None
        if alone:
            back["if_null"] = alone[0]
        return (type(self).model_validate(back),)


def _literal(engine: Engine, text: Text) -> str:
    if text is None:
        return "NULL"
    return dialect.literal(engine, text)
