"""A Python function of your own: `{python: "shop.rules:discount", columns: [price, rate], returns: "decimal(10,2)"}`.

It gets Python values by the columns' types (`transforms/_native.py` says which), NULL as None, and answers one. It must depend on its
arguments only: rows are made again by replays, checks and repairs.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any, ClassVar, Self

from pydantic import Field, PrivateAttr, field_validator

from pipeline.errors import DataRejected
from pipeline.model import LogicalType, Text
from pipeline.spec.strict import fault
from transforms._native import native_of, text_of
from transforms.base import TEXT, RowStep
from transforms.typewords import read_type


class Step(RowStep):
    """Options: `columns`, `returns` (a type, text if not said), `inverse` (a function from the answer back to the one column)."""

    most: ClassVar[int | None] = None
    examples = ({"python": "builtins:repr", "columns": ["a"]},)
    name: str = Field(alias="python")
    returns: str = "text"
    back: str | None = Field(default=None, alias="inverse")

    _call: Callable[..., Any] | None = PrivateAttr(default=None)
    _type: LogicalType = PrivateAttr(default=TEXT)
    _natives: tuple[Callable[[Text], Any], ...] = PrivateAttr(default=())

    @classmethod
    def read(cls, main: Any, options: dict[str, Any], first: bool) -> tuple[tuple[str, ...], Self]:
        options = dict(options)
        columns = options.pop("columns", None)
        if isinstance(columns, str):
            columns = [columns]
        if first and (not isinstance(columns, list) or not columns or not all(isinstance(column, str) for column in columns)):
            raise fault("needs columns: the source columns that the function takes")
        if not first and columns is not None:
            raise fault("works on the value so far here: leave columns out")
        if not isinstance(main, str):
            raise fault("must name a function as module:function")
        return tuple(columns or ()), cls.model_validate({**options, "python": main})

    def dump(self, columns: tuple[str, ...] | None) -> dict[str, Any]:
        rest = self.model_dump(exclude_defaults=True, by_alias=True, exclude={"name"})
        return {self.word: self.name, **({"columns": list(columns)} if columns else {}), **rest}

    @field_validator("name", "back")
    @classmethod
    def _two_names(cls, value: str | None) -> str | None:
        module, _, name = (value or "a:b").partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), name)):
            raise fault("must name a function as module:function")
        return value

    @field_validator("returns")
    @classmethod
    def _a_type(cls, value: str) -> str:
        try:
            read_type(value)
        except ValueError as error:
            raise fault(str(error)) from None
        return value

    def bound(self, types: tuple[LogicalType, ...]) -> Self:
        made = self.model_copy()
        made._call = _find(self.name)
        made._type = read_type(self.returns)
        made._natives = tuple(native_of(type) for type in types)
        return made

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return read_type(self.returns)

    def function(self) -> Callable[..., Text]:
        call, natives, returns, name = self._call, self._natives, self._type, self.name
        assert call is not None, "not bound"

        def python(*values: Text) -> Text:
            try:
                return text_of(call(*[native(value) for native, value in zip(natives, values, strict=True)]), returns)
            except Exception as error:
                # the kind of fault only: its message may hold the row's data
                raise DataRejected(f"python {name}: raised {type(error).__name__}") from error

        return python

    def inverse(self, at: int) -> tuple[RowStep, ...] | str:
        if self.back is None or len(self._natives) > 1:
            return f"{self.name} has no inverse"
        return (type(self).model_validate({"python": self.back, "inverse": self.name}),)


def _find(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)  # functions beside migration.yaml are found
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except Exception as error:
        raise ValueError(f"python {name}: cannot import {module}: {type(error).__name__}: {error}") from None
    if not callable(found):
        raise ValueError(f"python {name}: {module} has no function {attribute!r}")
    return found
