"""A part of a JSON document: `{json_extract: doc, path: address.city}`. Texts without quotes; JSON null and what is not there: NULL.

In Python only: products spell extracted numbers and documents each in their own way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from pydantic import Field, field_validator

from pipeline.errors import DataRejected
from pipeline.model import Text
from pipeline.spec.strict import fault
from transforms._document import document_text, read_document
from transforms.base import RowStep


class Step(RowStep):
    """Option `path`: keys and list positions (from 0), as `a.b.0` or as a list when a key holds a dot."""

    argument: ClassVar[str | None] = "path"
    examples = ([{"json_build": {"k": "a"}}, {"json_extract": "k"}],)
    path: tuple[str | int, ...] = Field(min_length=1)

    @field_validator("path", mode="before")
    @classmethod
    def _dotted(cls, value: Any) -> Any:
        if isinstance(value, str):
            parts = value.removeprefix("$.").split(".")
            if not all(parts):
                raise fault("has an empty part")
            return parts
        return [value] if isinstance(value, int) else value

    def function(self) -> Callable[..., Text]:
        path = [str(step) for step in self.path]

        def extract(value: Text) -> Text:
            if value is None:
                return None
            try:
                part = read_document(value)
            except (ValueError, RecursionError):
                raise DataRejected("json_extract: a value is not JSON") from None
            for step in path:
                if isinstance(part, dict):
                    part = part.get(step)
                elif isinstance(part, list) and step.isdecimal():
                    part = part[int(step)] if int(step) < len(part) else None
                else:
                    return None
            return document_text(part)

        return extract

    def inverse(self, at: int) -> str:
        return "the rest of the document is lost"
