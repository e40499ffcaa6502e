"""Debezium's JSON values of PostgreSQL columns to canonical text, as the connector of `debezium.py` sends them.

A decoder is made once for a column and called for every value but None and the placeholders of unchanged columns, which whoever
calls it has told apart already. What Debezium itself loses is listed in `types.debezium_loses`.
"""

from __future__ import annotations

import datetime
import re
from binascii import a2b_base64
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import orjson

from connectors import calendar
from connectors.floats import float4, float8
from connectors.geometry import ewkt
from connectors.postgres.types import base_name, is_domain
from pipeline.errors import DataRejected
from pipeline.model import Kind, LogicalType, Text

Decoder: TypeAlias = Callable[[Any], Text]

# What Debezium has a text form of its own for; every other type of this kind comes as base64 of PostgreSQL's text.
_AS_TEXT = frozenset(
    (
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "tsvector",
        "int4range",
        "int8range",
        "numrange",
        "tsrange",
        "daterange",
        "xml",
        "ltree",
        "isbn",
    )
)
_SHAPES = frozenset(("box", "path", "polygon", "circle", "line", "lseg"))


def decoder(type: LogicalType, *, flavour: str = "postgresql") -> Decoder | None:
    """The decoder of a column's values; None: the JSON value is a str in canonical form already."""
    del flavour
    match type.kind:
        case Kind.BOOL:
            return _bool
        case Kind.INT:
            return str
        case Kind.DECIMAL:
            return _whole if type.precision is not None and (type.scale or 0) < 0 else _numeric
        case Kind.FLOAT:
            return _real if type.bits == 32 else _double
        case Kind.TEXT if type.fixed:
            return _char
        case Kind.BYTES:
            return _bytea
        case Kind.DATE:
            return _date
        case Kind.TIME:
            return calendar.time
        case Kind.TIMETZ:
            return _timetz
        case Kind.TIMESTAMP:
            return _timestamp
        case Kind.TIMESTAMPTZ:
            return _timestamptz
        case Kind.INTERVAL:
            return _interval
        case Kind.BITS:
            return _bits(type.length if type.fixed else None)
        case Kind.ARRAY if type.element is not None:
            return _array(type.element)
        case Kind.GEOMETRY:
            return ewkt
        case Kind.OTHER:
            return _other(base_name(type))
    return None


def _bool(value: object) -> str:
    return "t" if value else "f"


_NUMERIC = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


def _numeric(value: str) -> str:
    return value if value[-1] <= "9" else _NUMERIC.get(value, value)


def _whole(value: str) -> str:
    """numeric(5,-2): Debezium takes the negative scale for a large one and fills it with zeros."""
    return _NUMERIC.get(value) or value.partition(".")[0]


def _double(value: float | str) -> str:
    return value if isinstance(value, str) else float8(float(value))


def _real(value: float | str) -> str:
    return value if isinstance(value, str) else float4(float(value))


def _char(value: str) -> str:
    return value.rstrip(" ")


def _bytea(value: str) -> str:
    return "\\x" + a2b_base64(value).hex()


# In arrays Debezium's infinities are other numbers than by themselves; no date of PostgreSQL is before day -2440588.
_DATES = {-2147472692: "infinity", -2147472691: "-infinity", -622191234: "infinity", -625821272: "-infinity"}


def _date(value: int) -> str:
    return _DATES.get(value) or calendar.date(value)


def _timetz(value: str) -> str:
    return value[:-1] + "+00"


_TIMESTAMPS = {9223372036825200000: "infinity", -9223372036832400000: "-infinity"}
_EARLIEST = -2440588 * calendar.DAY
_ODD = 9223372036825200000


def _timestamp(value: int) -> str:
    if 0 <= value < _ODD:
        return calendar.timestamp(value)
    if value < _EARLIEST or value > 9223372036825199999:
        if value in _TIMESTAMPS:
            return _TIMESTAMPS[value]
        raise DataRejected(
            "a timestamp after 294247-01-10 04:00:25 comes out of Debezium as another one",
            hint="change it on the source, or exclude the column",
        )
    return calendar.timestamp(value)


def _timestamptz(value: str) -> str:
    first = value[0]
    if first in "i-+":
        if value in {"infinity", "-infinity"}:
            return value
        if value.startswith("+292269055-"):  # in arrays
            return "-infinity"
    return calendar.iso_timestamp(value)


_INTERVAL = re.compile(r"P(-?\d+)Y(-?\d+)M(-?\d+)DT(-?\d+)H(-?\d+)M(-?[\d.]+)S")


def _interval(value: str) -> str:
    match = _INTERVAL.fullmatch(value)
    if match is None:
        return value
    years, months, days, hours, minutes, seconds = match.groups()
    if "." in seconds:
        seconds = seconds.rstrip("0").rstrip(".")
    date = "".join(f"{n}{unit}" for n, unit in ((years, "Y"), (months, "M"), (days, "D")) if n not in {"0", "-0"})
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if n not in {"0", "-0"})
    return f"P{date}T{time}" if time else f"P{date}" if date else "PT0S"


def _bits(length: int | None) -> Decoder:
    """Bytes, least significant first; one bit is a boolean."""
    width = f"0{length or 0}b"

    def decode(value: str | bool) -> str:
        if isinstance(value, bool):
            return "1" if value else "0"
        return format(int.from_bytes(a2b_base64(value), "little"), width) if value or length else ""

    return decode


def _other(name: str) -> Decoder | None:
    if name in _AS_TEXT:
        return None
    if name in _SHAPES:
        return _shape
    return _BY_NAME.get(name, _base64_text)


def _base64_text(value: str) -> str:
    return a2b_base64(value).decode()


_JAVA_NUMBER = re.compile(r"-?\d[\d.]*(?:E-?\d+)?|NaN|-?Infinity")


def _shape(value: str) -> str:
    return _JAVA_NUMBER.sub(lambda number: _double(float(number[0])), _base64_text(value))


def _point(value: Mapping[str, Any]) -> str:
    return f"({_double(value['x'])},{_double(value['y'])})"


def _money(value: str) -> str:
    amount = Decimal(value)
    return f"{'-' if amount < 0 else ''}${abs(amount):,.2f}"


def _hstore(value: str) -> str:
    pairs: dict[str, str | None] = orjson.loads(value)
    # hstore keeps its keys by length in bytes, then by bytes
    ordered = sorted(pairs.items(), key=lambda pair: (len(key := pair[0].encode()), key))
    return ", ".join(f"{_hquoted(key)}=>{'NULL' if text is None else _hquoted(text)}" for key, text in ordered)


def _hquoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_ZONED = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d)(:\d\d)?")


def _tstzrange(value: str) -> str:
    """PostgreSQL's own text in the time zone of Debezium's session."""

    def utc(match: re.Match[str]) -> str:
        zoned = datetime.datetime.fromisoformat(match[1] + match[3] + (match[4] or ":00"))
        return f"{zoned.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S}{match[2] or ''}+00"

    return value if "+00" in value and value.count("+") + value.count(":") < 3 else _ZONED.sub(utc, value)


def _vector(value: list[float]) -> str:
    return f"[{','.join(_real(number) for number in value)}]"


_BY_NAME: dict[str, Decoder] = {
    "point": _point,
    "money": _money,
    "hstore": _hstore,
    "tstzrange": _tstzrange,
    "vector": _vector,
    "halfvec": _vector,
}

_NEEDS_QUOTES = re.compile(r'[ \t\n\r\v\f{}",\\]')
_ESCAPED = re.compile(r'["\\]')


def _element(text: str) -> str:
    if not text or text.upper() == "NULL" or _NEEDS_QUOTES.search(text):
        return '"' + _ESCAPED.sub(r"\\\g<0>", text) + '"'
    return text


def _array(type: LogicalType) -> Decoder:
    decode: Decoder | None
    if is_domain(type):
        decode = _base64_text
    elif type.kind is Kind.TEXT:
        decode = _plain  # character(n) keeps its padding in an array's text
    else:
        decode = decoder(type) or _plain

    def items(value: list[Any]) -> str:
        return f"{{{','.join('NULL' if item is None else _element(decode(item) or '') for item in value)}}}"

    return items


def _plain(value: str) -> str:
    if value.startswith("[L") and "@" in value:  # Java's name for an array object
        raise DataRejected("an array of more than one dimension cannot come through Debezium", hint="exclude the column or the table")
    return value
