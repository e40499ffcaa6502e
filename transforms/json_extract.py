"""A part of a JSON document: `{json_extract: doc, path: address.city}`. Texts without quotes; JSON null and what is not there: NULL.

In Python only: products spell extracted numbers and documents each in their own way.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, ClassVar

import msgspec
from pydantic import Field, field_validator

from pipeline.errors import DataRejected
from pipeline.model import Text
from pipeline.spec.strict import fault
from transforms._document import document_text, read_document
from transforms.base import RowStep

_PLAIN = frozenset("-0123456789tfn")
_ODD_KEY = re.compile(r'[\\"\x00-\x1f]')


def _reader(key: str) -> Callable[[str | msgspec.Raw], msgspec.Raw]:
    """What an object has under a key; empty where it has none."""
    if _ODD_KEY.search(key):
        return _no_reader
    found = msgspec.defstruct("Found", [("part", msgspec.Raw, msgspec.field(name=key, default=msgspec.Raw()))], gc=False)
    read = msgspec.json.Decoder(found).decode
    part_of = operator.attrgetter("part")
    return lambda text: part_of(read(text))


def _no_reader(text: str | msgspec.Raw) -> msgspec.Raw:
    raise msgspec.DecodeError("msgspec takes no such name")


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
        readers = [_reader(step) for step in path]

        def extract(value: Text) -> Text:
            """Objects on the way to a plain value, as nearly always: nothing is made of what is beside the path."""
            if value is None:
                return None
            part: str | msgspec.Raw = value
            try:
                for read in readers:
                    part = read(part)
                    if not part:
                        return None
                text = bytes(part).decode() if isinstance(part, msgspec.Raw) else part  # as it is spelled
                if text[0] in _PLAIN:
                    return None if text == "null" else text
                if text[0] == '"':
                    return msgspec.json.decode(part, type=str)
            except (msgspec.DecodeError, UnicodeError):
                pass
            return searched(value)

        def searched(value: str) -> Text:
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
