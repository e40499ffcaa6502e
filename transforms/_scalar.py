"""Values that people write in the file (`true`, `3`, `1.50`, `text`, nothing) as canonical text, and the type they mean."""

from __future__ import annotations

from collections.abc import Iterable

from connectors import floats
from pipeline.model import Kind, LogicalType, Text
from transforms.base import TEXT

Scalar = bool | int | float | str | None


def scalar_text(value: Scalar) -> Text:
    """Canonical text."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "t" if value else "f"
    return str(value) if isinstance(value, int) else floats.float8(value)


def scalar_key(value: Scalar) -> str:
    """A key of a mapping in the file as text: YAML reads `true:` and `1:` as no text, JSON writes them as such."""
    return "true" if value is True else "false" if value is False else scalar_text(value) or ""


def scalar_type(values: Iterable[Scalar]) -> LogicalType:
    """The one type of all values; text when they are of several."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {bool}:
        return LogicalType(Kind.BOOL)
    if kinds == {int}:
        return LogicalType(Kind.INT, bits=64)
    if kinds and kinds <= {int, float}:
        return LogicalType(Kind.FLOAT, bits=64)
    return TEXT
