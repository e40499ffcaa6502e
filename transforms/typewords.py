"""Type names as the file writes them (`bigint`, `decimal(10,2)`, `varchar(40)`), of no product in particular."""

from __future__ import annotations

import re

from pipeline.model import Kind, LogicalType
from pipeline.spec.strict import suggestion

_WRITTEN = re.compile(r"([a-z ]+?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?(\s+unsigned)?", re.IGNORECASE)
_INTS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
_PLAIN = {
    "bool": LogicalType(Kind.BOOL),
    "boolean": LogicalType(Kind.BOOL),
    "text": LogicalType(Kind.TEXT),
    "date": LogicalType(Kind.DATE),
    "uuid": LogicalType(Kind.UUID),
    "json": LogicalType(Kind.JSON),
    "jsonb": LogicalType(Kind.JSON, binary=True),
    "interval": LogicalType(Kind.INTERVAL),
    "real": LogicalType(Kind.FLOAT, bits=32),
    "float": LogicalType(Kind.FLOAT, bits=64),
    "double": LogicalType(Kind.FLOAT, bits=64),
    "bytes": LogicalType(Kind.BYTES),
    "year": LogicalType(Kind.YEAR),
}
_TIMES = {"time": Kind.TIME, "timestamp": Kind.TIMESTAMP, "datetime": Kind.TIMESTAMP, "timestamptz": Kind.TIMESTAMPTZ}
_SIZED = {
    "varchar": LogicalType(Kind.TEXT),
    "char": LogicalType(Kind.TEXT, fixed=True),
    "binary": LogicalType(Kind.BYTES, fixed=True),
    "varbinary": LogicalType(Kind.BYTES),
}
_WORDS = frozenset({*_INTS, *_PLAIN, *_TIMES, *_SIZED, "decimal", "numeric"})


def read_type(text: str) -> LogicalType:
    """Raises ValueError."""
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no type: write int, decimal(10,2), varchar(40), timestamp …")
    word, unsigned = match[1].lower(), match[4] is not None
    a, b = (int(part) if part is not None else None for part in (match[2], match[3]))
    if word not in _WORDS:
        raise ValueError(f"{word!r} is no type{suggestion(word, _WORDS)}")
    if word in _INTS and a is None:
        return LogicalType(Kind.INT, bits=_INTS[word], unsigned=unsigned)
    if word in {"decimal", "numeric"}:
        if a is not None and (a < 1 or (b or 0) > a):
            raise ValueError(f"{text!r}: the scale is beyond the precision")
        return LogicalType(Kind.DECIMAL, precision=a, scale=None if a is None else b or 0)
    if unsigned or b is not None:
        raise ValueError(f"{text!r} is no type")
    if word in _TIMES and (a is None or a <= 6):
        return LogicalType(_TIMES[word], precision=6 if a is None else a)
    if word in _SIZED and a:
        made = _SIZED[word]
        return LogicalType(made.kind, length=a, fixed=made.fixed)
    if word in _PLAIN and a is None:
        return _PLAIN[word]
    raise ValueError(f"{text!r} is no type: {word} takes {'a size' if word in _SIZED else 'no size'}")


def write_type(type: LogicalType) -> str | None:
    """The words for a type, or None when there are none (an enum, an array)."""
    match type.kind:
        case Kind.INT:
            word = next((word for word, bits in _INTS.items() if bits == (type.bits or 32)), None)
            return None if word is None else word + (" unsigned" if type.unsigned else "")
        case Kind.DECIMAL if (type.scale or 0) >= 0:
            return "decimal" if type.precision is None else f"decimal({type.precision},{type.scale or 0})"
        case Kind.FLOAT:
            return "real" if type.bits == 32 else "double"
        case Kind.TEXT:
            return "text" if not type.length else f"{'char' if type.fixed else 'varchar'}({type.length})"
        case Kind.BYTES:
            return "bytes" if not type.length else f"{'binary' if type.fixed else 'varbinary'}({type.length})"
        case Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return f"{type.kind.value}({6 if type.precision is None else type.precision})"
        case Kind.JSON:
            return "jsonb" if type.binary else "json"
        case Kind.BOOL | Kind.DATE | Kind.UUID | Kind.INTERVAL | Kind.YEAR:
            return type.kind.value
    return None
