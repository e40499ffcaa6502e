"""Whether two canonical texts are the same value though they may be spelled differently: JSON, floats, geometry."""

from __future__ import annotations

import decimal
import json
import struct
from collections.abc import Callable
from typing import Any

from pipeline.model import Kind, LogicalType, Text

Same = Callable[[Text, Text], bool]


def text(a: Text, b: Text) -> bool:
    """Letter by letter."""
    return a == b


def _document(value: str) -> Any:
    # Decimal keeps 1.10 = 1.1 and tells 9007199254740993 from its neighbour
    return json.loads(value, parse_float=decimal.Decimal, parse_int=decimal.Decimal)


def json_text(a: Text, b: Text) -> bool:
    """Equal as JSON: order of keys, spacing and spelling of numbers do not count."""
    if a is None or b is None or a == b:
        return a == b
    try:
        return _alike(_document(a), _document(b))
    except (ValueError, ArithmeticError, RecursionError):
        return False


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_alike(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b, strict=True))
    # True == 1 in Python, not in JSON
    return type(a) is type(b) and bool(a == b)


def _single(value: float) -> float:
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        return value


def floating(bits: int | None) -> Same:
    """Equal as binary numbers of that width. NaN is itself; -0 is not 0."""

    def same(a: Text, b: Text) -> bool:
        if a is None or b is None or a == b:
            return a == b
        try:
            x, y = float(a), float(b)
        except ValueError:
            return False
        if bits == 32:
            x, y = _single(x), _single(y)
        return struct.pack("<d", x) == struct.pack("<d", y)

    return same


def geometry(a: Text, b: Text) -> bool:
    """Equal as EWKT: letter case and spacing do not count."""
    if a is None or b is None:
        return a == b
    return "".join(a.split()).upper() == "".join(b.split()).upper()


def by_kind(kind: Kind, type: LogicalType) -> Same:
    """How values of that kind are compared."""
    if kind is Kind.JSON:
        return json_text
    if kind is Kind.FLOAT:
        return floating(type.bits)
    if kind is Kind.GEOMETRY:
        return geometry
    return text
