"""Canonical text of one type as canonical text of another: what a target column of another type holds once the value is in it."""

from __future__ import annotations

from pipeline.model import Kind, LogicalType
from transforms.conversions import numbers, texts, times
from transforms.conversions.base import IDENTITY, Conversion, impossible

__all__ = ["Conversion", "conversion"]


def conversion(source: LogicalType, target: LogicalType) -> Conversion:
    """From `source` to `target`: the identity in the common case. See `Conversion`."""
    if source == target:
        return IDENTITY
    match source.kind:
        case Kind.BOOL:
            return numbers.from_bool(target)
        case Kind.INT | Kind.YEAR:
            return numbers.from_int(source, target)
        case Kind.DECIMAL:
            return numbers.from_decimal(source, target)
        case Kind.FLOAT:
            return numbers.from_float(source, target)
        case Kind.BITS:
            return numbers.from_bits(source, target)
        case Kind.DATE:
            return times.from_date(target)
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return times.from_timestamp(source, target)
        case Kind.TIME:
            return times.from_time(source, target)
        case Kind.TIMETZ:
            return times.from_timetz(source, target)
        case Kind.INTERVAL:
            return times.from_interval(target)
        case Kind.TEXT:
            return texts.from_text(source, target)
        case Kind.BYTES:
            return texts.from_bytes(source, target)
        case Kind.UUID:
            return texts.from_uuid(target)
        case Kind.ENUM | Kind.SET:
            return texts.from_label(source, target)
        case Kind.JSON:
            return texts.from_json(target)
        case Kind.ARRAY:
            return texts.from_array(source, target)
        case Kind.GEOMETRY:
            return texts.from_geometry(target)
        case Kind.OTHER:
            return texts.from_other(source, target)
    return impossible(f"{source} is no such value")
