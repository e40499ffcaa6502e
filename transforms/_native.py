"""Canonical text as Python's own values for `python` steps, and back."""

from __future__ import annotations

import datetime
import decimal
import json
import uuid
from collections.abc import Callable
from typing import Any

from connectors import floats
from pipeline.model import Kind, LogicalType, Text
from transforms.conversions.arrays import array_text, parse_array

_FROM: dict[Kind, Callable[[str], Any]] = {
    Kind.BOOL: lambda text: text == "t",
    Kind.INT: int,
    Kind.YEAR: int,
    Kind.DECIMAL: decimal.Decimal,
    Kind.FLOAT: float,
    Kind.BYTES: lambda text: bytes.fromhex(text[2:]),
    Kind.DATE: datetime.date.fromisoformat,
    Kind.TIME: datetime.time.fromisoformat,
    Kind.TIMESTAMP: datetime.datetime.fromisoformat,
    Kind.TIMESTAMPTZ: datetime.datetime.fromisoformat,
    Kind.UUID: uuid.UUID,
    Kind.JSON: json.loads,
    Kind.ARRAY: parse_array,
    Kind.SET: lambda text: text.split(",") if text else [],
}


def native_of(type: LogicalType) -> Callable[[Text], Any]:
    """A function from canonical text to bool, int, Decimal, float, bytes, date, time, datetime, UUID, document, list or str.

    What Python cannot hold (`infinity`, a year BC, 838:59:59) stays text. NULL is None.
    """
    make = _FROM.get(type.kind)

    def native(text: Text) -> Any:
        if text is None or make is None:
            return text
        try:
            return make(text)
        except (ValueError, ArithmeticError):
            return text

    return native


def text_of(value: Any, type: LogicalType) -> Text:
    """A function's answer as canonical text. Raises ValueError for what has none."""
    match value:
        case None | str():
            return value
        case bool():
            return "t" if value else "f"
        case int():
            return str(value)
        case float():
            return floats.canonical(repr(value), type.bits or 64 if type.kind is Kind.FLOAT else 64)
        case decimal.Decimal():
            return format(value, "f") if value.is_finite() else "NaN" if value.is_nan() else "-Infinity" if value < 0 else "Infinity"
        case bytes() | bytearray() | memoryview():
            return f"\\x{bytes(value).hex()}"
        case datetime.datetime():
            zone = "" if value.tzinfo is None else "+00"
            plain = value if value.tzinfo is None else value.astimezone(datetime.UTC).replace(tzinfo=None)
            return _trimmed(plain.isoformat(" ")) + zone
        case datetime.time():
            return _trimmed(value.replace(tzinfo=None).isoformat())
        case datetime.date() | uuid.UUID():
            return str(value)
        case list() | tuple() if type.kind is Kind.ARRAY:
            return array_text([text_of(item, type) for item in value])
        case list() | tuple() if type.kind is Kind.SET:
            return ",".join(map(str, value))
        case dict() | list() | tuple():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    raise ValueError(f"answered a {value.__class__.__name__}, which no column holds")


def _trimmed(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text
