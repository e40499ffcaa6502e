"""JSON documents whose numbers keep the spelling they came with."""

from __future__ import annotations

import json
from typing import Any


class Number(str):
    """A number as it was spelled."""

    __slots__ = ()


_read = json.JSONDecoder(parse_float=Number, parse_int=Number, parse_constant=Number).decode  # json.loads makes one for each call


def read_document(text: str) -> Any:
    """The document; numbers as `Number`. Raises ValueError."""
    return _read(text)


def write_document(value: Any) -> str:
    """Compact text. `Number` goes out as it came in."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key, ensure_ascii=False)}:{write_document(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(write_document, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def document_text(value: Any) -> str | None:
    """A part of a document on its own: texts without quotes, JSON null as NULL, the rest as JSON."""
    if value is None:
        return None
    return str(value) if isinstance(value, str) else write_document(value)
