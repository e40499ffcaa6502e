"""Debezium's JSON values of MySQL and MariaDB columns to canonical text, as the connector of `debezium.py` sends them.

A decoder is made once for a column and called for every value but None. What Debezium itself loses is listed in
`types.debezium_loses`.
"""

from __future__ import annotations

import re
from binascii import a2b_base64
from collections.abc import Callable
from typing import Any, TypeAlias

from connectors import calendar
from connectors.floats import float4, float8
from connectors.geometry import ewkt
from pipeline.model import Kind, LogicalType, Text

Decoder: TypeAlias = Callable[[Any], Text]


def decoder(type: LogicalType, *, flavour: str = "mariadb") -> Decoder | None:
    """The decoder of a column's values; None: the JSON value is a str in canonical form already.

    `flavour` matters where the two connectors differ: MySQL's sends DATETIME(0) to DATETIME(3) in milliseconds.
    """
    match type.kind:
        case Kind.INT if type.unsigned and type.bits == 64:
            return _unsigned
        case Kind.INT:
            return _int if type.bits == 8 else str
        case Kind.BOOL:
            return _int
        case Kind.FLOAT:
            return _float if type.bits == 32 else _double
        case Kind.BYTES:
            return _binary(type.length or 0) if type.fixed else _bytes
        case Kind.DATE:
            return calendar.date
        case Kind.TIME:
            return calendar.time
        case Kind.TIMESTAMP:
            return _millis if flavour == "mysql" and (type.precision or 0) <= 3 else calendar.timestamp
        case Kind.TIMESTAMPTZ:
            return _timestamp
        case Kind.YEAR:
            return _year
        case Kind.BITS:
            return _bits(type.length or 1)
        case Kind.ENUM:
            return _enum(type.labels)
        case Kind.SET:
            return _set(type.labels)
        case Kind.JSON if type.binary:
            return _json
        case Kind.GEOMETRY:
            return ewkt
    return None


def _int(value: int) -> str:
    return str(int(value))


def _unsigned(value: str | int) -> str:
    return str(value if isinstance(value, int) else int.from_bytes(a2b_base64(value), "big", signed=True))


def _double(value: float) -> str:
    return float8(float(value))


def _float(value: float) -> str:
    return float4(float(value))


def _bytes(value: str) -> str:
    return "\\x" + a2b_base64(value).hex()


def _binary(length: int) -> Decoder:
    """BINARY(n): the binlog leaves trailing zero bytes out."""
    return lambda value: "\\x" + a2b_base64(value).ljust(length, b"\0").hex()


def _millis(value: int) -> str:
    return calendar.timestamp(value * 1000)


def _timestamp(value: str) -> str:
    # TIMESTAMP begins at 00:00:01: its zero comes as 1970
    if value.startswith("1970-01-01T00:00:00"):
        return "0000-00-00 00:00:00+00"
    return calendar.iso_timestamp(value)


def _year(value: int) -> str:
    # YEAR begins at 1901: its zero comes as 1900
    return "0" if value == 1900 else str(value)


def _bits(length: int) -> Decoder:
    """Bytes, least significant first; one bit is a boolean."""
    width = f"0{length}b"

    def decode(value: str | bool) -> str:
        if isinstance(value, bool):
            return "1" if value else "0"
        return format(int.from_bytes(a2b_base64(value), "little"), width)

    return decode


def _as_sent(label: str) -> str:
    """Debezium takes labels from the text of DDL: backslashes stay doubled there, and commas are escaped."""
    return label.replace("\\", "\\\\").replace(",", "\\,")


def _enum(labels: tuple[str, ...]) -> Decoder | None:
    sent = {_as_sent(label): label for label in labels if _as_sent(label) != label}
    return (lambda value: sent.get(value, value)) if sent else None


def _set(labels: tuple[str, ...]) -> Decoder | None:
    sent = {_as_sent(label): label for label in labels if _as_sent(label) != label}
    return (lambda value: ",".join(sent.get(label, label) for label in value.split(","))) if sent else None


_JSON_PARTS = re.compile(r'"(?:[^"\\]|\\.)*"|[,:]\s*', re.DOTALL)


def _json(value: str) -> str:
    """MySQL prints `, ` and `: ` between the parts of a document, Debezium no spaces."""
    return _JSON_PARTS.sub(lambda part: part[0] if part[0][0] == '"' else part[0][0] + " ", value)
