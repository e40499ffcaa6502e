"""One entry of `columns:` as a chain: the source columns it starts from and the steps its value goes through."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

import transforms
from pipeline.errors import BadInput
from pipeline.model import Engine, LogicalType, Text
from pipeline.spec.load import describe, join
from pipeline.spec.strict import suggestion
from transforms.base import RowStep


@functools.cache
def steps() -> Mapping[str, type[RowStep]]:
    """Every step by its word: the modules of this folder that have a class `Step`."""
    found: dict[str, type[RowStep]] = {}
    for info in pkgutil.iter_modules(transforms.__path__):
        step = getattr(importlib.import_module(f"transforms.{info.name}"), "Step", None)
        if isinstance(step, type) and issubclass(step, RowStep) and step.__module__ == f"transforms.{info.name}":
            step.word = info.name
            found[info.name] = step
    return found


@dataclasses.dataclass(frozen=True)
class Chain:
    """Source columns and what happens to their values: the first step takes all of them, each other one the value so far."""

    columns: tuple[str, ...]
    steps: tuple[RowStep, ...] = ()

    @property
    def renames_only(self) -> bool:
        """The value goes through as it is."""
        return all(step.word == "rename" for step in self.steps)

    def bound(self, types: tuple[LogicalType, ...]) -> BoundChain:
        """For inputs of these types. Raises ValueError."""
        bound: list[RowStep] = []
        for step in self.steps:
            if step.word == "rename":
                continue
            mine = step.bound(types)
            bound.append(mine)
            types = (mine.result(types),)
        return BoundChain(self.columns, tuple(bound), types[0])


@dataclasses.dataclass(frozen=True)
class BoundChain:
    """A chain that knows its types. No steps: the value goes through as it is."""

    columns: tuple[str, ...]
    steps: tuple[RowStep, ...]
    result: LogicalType

    def function(self) -> Callable[..., Text]:
        """The outcome in Python, as a plain function to be kept."""
        if not self.steps:
            return lambda value: value
        whole, *following = [step.function() for step in self.steps]
        for step in following:
            whole = _after(whole, step)
        return whole

    def forward(self, *values: Text) -> Text:
        """The outcome for one row."""
        return self.function()(*values)

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        """The outcome in SQL, or None."""
        for step in self.steps:
            expr = step.sql(engine, inputs)
            if expr is None:
                return None
            inputs = (expr,)
        return inputs[0]


def _after(first: Callable[..., Text], second: Callable[..., Text]) -> Callable[..., Text]:
    return lambda *values: second(first(*values))


def read_chain(raw: Any, path: str) -> Chain:
    """What stands in the file at `path` (`migration.yaml: tables[1].columns.email`). Raises BadInput naming it."""
    if isinstance(raw, list):
        if not raw:
            raise BadInput(f"{path}: is an empty list: name a source column")
        columns, first = _read_first(raw[0], join(path, 0))
        following = [_read_following(item, join(path, at)) for at, item in enumerate(raw) if at]
        return Chain(columns, (*first, *following))
    return Chain(*_read_first(raw, path))


def _read_first(raw: Any, path: str) -> tuple[tuple[str, ...], tuple[RowStep, ...]]:
    if isinstance(raw, str):
        return (raw,), ()
    columns, step = _read_step(raw, path, first=True)
    return columns, (step,)


def _read_following(raw: Any, path: str) -> RowStep:
    if isinstance(raw, str):
        raw = {raw: None}
    return _read_step(raw, path, first=False)[1]


def _read_step(raw: Any, path: str, *, first: bool) -> tuple[tuple[str, ...], RowStep]:
    if not isinstance(raw, dict) or not raw:
        raise BadInput(f"{path}: must be a source column or a step such as {{lower: email}}")
    known = steps()
    words = [key for key in raw if key in known]
    if not words:
        word = str(next(iter(raw)))
        raise BadInput(f"{join(path, word)}: unknown transform{suggestion(word, known)}")
    word = words[0]  # options stand behind the word; an option may be named like another step
    options = {key: value for key, value in raw.items() if key != word}
    try:
        return known[word].read(raw[word], options, first)
    except ValidationError as error:
        raise BadInput(_under(path, word, options, error)) from None
    except PydanticCustomError as error:
        raise BadInput(f"{join(path, word)}: {error.message()}") from None


def _under(path: str, word: str, options: dict[str, Any], error: ValidationError) -> str:
    text = describe(error)
    key = text.partition(":")[0].partition("[")[0].partition(".")[0]
    # a fault of an option names the option; one of the step as a whole names the step
    return f"{path}.{text}" if key in {*options, word} else f"{join(path, word)}: {text}"
