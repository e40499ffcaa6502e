"""From text, bytes, labels, identifiers, documents and lists."""

from __future__ import annotations

import json
import re

from pipeline.errors import DataRejected
from pipeline.model import Engine, Kind, LogicalType
from transforms import dialect
from transforms.conversions.arrays import array_text, parse_array
from transforms.conversions.base import IDENTITY, Conversion, impossible, no_sql, refuses
from transforms.conversions.numbers import from_float, rescale

_WHOLE = re.compile(r"\s*([-+]?)0*(\d+)\s*", re.ASCII)
_PLAIN = re.compile(r"\s*([-+]?)0*(\d+(?:\.\d*)?|\.\d+)\s*", re.ASCII)
_YES = frozenset({"t", "true", "y", "yes", "on", "1"})
_NO = frozenset({"f", "false", "n", "no", "off", "0"})
_LOWER = str.maketrans("ABCDEF", "abcdef")
_HEX32 = re.compile(r"[0-9a-f]{32}")


def from_text(source: LogicalType, target: LogicalType) -> Conversion:
    """Any text."""
    match target.kind:
        case Kind.TEXT:
            return _to_text(source, target)
        case Kind.ENUM | Kind.SET:
            return refuses(f"text that is no label of {target}")
        case Kind.BYTES:
            return Conversion(_encode, _encode_sql)
        case Kind.UUID:
            return Conversion(_hyphenate, _hyphenate_sql, False, "refuses text that is no UUID")
        case Kind.INT | Kind.YEAR:
            return Conversion(_whole, no_sql, False, "refuses text that is no whole number")
        case Kind.DECIMAL:
            scale = target.scale if target.precision is not None else None
            return Conversion(lambda value: _decimal(value, scale), no_sql, False, "refuses text that is no number")
        case Kind.FLOAT:
            return Conversion(from_float(LogicalType(Kind.FLOAT, bits=0), target).python, no_sql, False, "refuses text that is no number")
        case Kind.BOOL:
            return Conversion(_truth, no_sql, False, "refuses text that is neither true nor false")
        case (
            Kind.GEOMETRY | Kind.OTHER | Kind.JSON | Kind.DATE | Kind.TIME | Kind.TIMETZ | Kind.TIMESTAMP | Kind.TIMESTAMPTZ | Kind.INTERVAL
        ):
            return refuses(f"text that is no {target.kind.value}, and must be spelled as PostgreSQL prints it to compare equal")
        case Kind.ARRAY | Kind.BITS:
            return refuses(f"text that is no {target}")
    return impossible("text is no such value")


def _to_text(source: LogicalType, target: LogicalType) -> Conversion:
    fits = not target.length or (source.length is not None and source.length <= target.length)
    narrow = IDENTITY if fits else refuses(f"text longer than {target.length} characters")
    if target.case_insensitive and not source.case_insensitive:
        narrow = narrow.then(refuses("keys that differ in letter case only"))
    if target.fixed and not source.fixed:
        return narrow.then(Conversion(lambda value: value.rstrip(" "), _trim_sql, False, "trailing spaces are lost"))
    return narrow


def _trim_sql(engine: Engine, expr: str) -> str:
    return f"rtrim({expr}, ' ')" if engine == "postgresql" else f"TRIM(TRAILING ' ' FROM {expr})"


def _encode(value: str) -> str:
    return f"\\x{value.encode().hex()}"


def _encode_sql(engine: Engine, expr: str) -> str:
    prefix = dialect.literal(engine, "\\x")
    if engine == "postgresql":
        return f"({prefix} || encode(convert_to({expr}, 'UTF8'), 'hex'))"
    return f"CONCAT({prefix}, LOWER(HEX({expr})))"


def _hyphenate(value: str) -> str:
    digits = value.translate(_LOWER)
    digits = digits.replace("-", "").replace("{", "").replace("}", "")
    if not _HEX32.fullmatch(digits):
        return value
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _hyphenate_sql(engine: Engine, expr: str) -> str:
    digits = expr
    for letter in "-{}":
        digits = f"replace({digits}, '{letter}', '')"
    if engine == "postgresql":
        digits = f"translate({digits}, 'ABCDEF', 'abcdef')"
        parts = " || '-' || ".join(f"substr({digits}, {at}, {size})" for at, size in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)))
        return f"(CASE WHEN {digits} ~ '^[0-9a-f]{{32}}$' AND length({digits}) = 32 THEN {parts} ELSE {expr} END)"
    lower = f"LOWER({digits})"
    parts = ", '-', ".join(f"SUBSTR({lower}, {at}, {size})" for at, size in ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12)))
    test = f"CHAR_LENGTH({digits}) = 32 AND {digits} REGEXP '^[0-9a-fA-F]{{32}}$'"
    return f"(CASE WHEN {test} THEN CONCAT({parts}) ELSE {expr} END)"


def _whole(value: str) -> str:
    match = _WHOLE.fullmatch(value)
    if match is None:
        return value
    return ("-" if match[1] == "-" and match[2] != "0" else "") + match[2]


def _decimal(value: str, scale: int | None) -> str:
    match = _PLAIN.fullmatch(value)
    if match is None:
        return value
    digits = match[2] if match[2][0] != "." else "0" + match[2]
    digits = digits.rstrip(".") if digits.endswith(".") else digits
    negative = match[1] == "-" and digits.strip("0.")
    number = ("-" if negative else "") + digits
    return number if scale is None else rescale(number, max(scale, 0))


def _truth(value: str) -> str:
    word = value.strip().lower()
    return "t" if word in _YES else "f" if word in _NO else value


def from_bytes(source: LogicalType, target: LogicalType) -> Conversion:
    """`\\x6869`."""
    match target.kind:
        case Kind.BYTES:
            length = target.length
            fits = not length or (source.length is not None and source.length <= length)
            narrow = IDENTITY if fits else refuses(f"more than {length} bytes")
            if target.fixed and length and not (source.fixed and source.length == length):
                return narrow.then(_zero_padded(length))
            return narrow
        case Kind.UUID:
            sixteen = source.fixed and source.length == 16
            return Conversion(_bytes_to_uuid, _bytes_to_uuid_sql, sixteen, "" if sixteen else "refuses what is not 16 bytes")
        case Kind.TEXT:
            return Conversion(_decode, no_sql, False, "refuses bytes that are not UTF-8 text")
    return impossible("bytes are no such value")


def _decode(value: str) -> str:
    try:
        return bytes.fromhex(value[2:]).decode()
    except UnicodeDecodeError:
        raise DataRejected("bytes that are not UTF-8 cannot become text") from None


def _zero_padded(length: int) -> Conversion:
    width = 2 + 2 * length

    def sql(engine: Engine, expr: str) -> str:
        size = f"length({expr})" if engine == "postgresql" else f"CHAR_LENGTH({expr})"
        return f"rpad({expr}, greatest({width}, {size}), '0')"

    return Conversion(lambda value: value.ljust(width, "0"), sql, False, f"is padded with zero bytes to {length}")


def _bytes_to_uuid(value: str) -> str:
    return _hyphenate(value[2:]) if len(value) == 34 else value


def _bytes_to_uuid_sql(engine: Engine, expr: str) -> str:
    digits = f"substr({expr}, 3)"
    size = f"length({expr})" if engine == "postgresql" else f"CHAR_LENGTH({expr})"
    return f"(CASE WHEN {size} = 34 THEN {_hyphenate_sql(engine, digits)} ELSE {expr} END)"


def from_uuid(target: LogicalType) -> Conversion:
    """Lower case, with hyphens."""
    match target.kind:
        case Kind.UUID:
            return IDENTITY
        case Kind.TEXT:
            return IDENTITY if not target.length or target.length >= 36 else refuses(f"values longer than {target}")
        case Kind.BYTES if not target.length or target.length == 16:

            def sql(engine: Engine, expr: str) -> str:
                prefix = dialect.literal(engine, "\\x")
                digits = f"replace({expr}, '-', '')"
                return f"({prefix} || {digits})" if engine == "postgresql" else f"CONCAT({prefix}, {digits})"

            return Conversion(lambda value: "\\x" + value.replace("-", ""), sql)
    return impossible("a UUID is no such value")


def from_label(source: LogicalType, target: LogicalType) -> Conversion:
    """An ENUM's label, or a SET's labels joined by commas."""
    match target.kind:
        case Kind.ENUM | Kind.SET if source.kind is target.kind or target.kind is Kind.SET:
            missing = [label for label in source.labels if label not in target.labels]
            return IDENTITY if not missing else refuses(f"label {missing[0]!r}" + (f" and {len(missing) - 1} more" if missing[1:] else ""))
        case Kind.TEXT:
            longest = max((len(label) for label in source.labels), default=0) if source.kind is Kind.ENUM else sum(map(len, source.labels))
            longest += 0 if source.kind is Kind.ENUM else len(source.labels)
            return IDENTITY if not target.length or target.length >= longest else refuses(f"labels longer than {target}")
        case Kind.ARRAY if source.kind is Kind.SET and target.element and target.element.kind in {Kind.TEXT, Kind.ENUM}:
            return _set_to_array(source)
        case Kind.JSON if source.kind is Kind.SET:
            return Conversion(lambda value: json.dumps(value.split(",") if value else [], ensure_ascii=False), no_sql)
    if source.kind is Kind.ENUM:
        return from_text(source, target)
    return impossible("a SET is no such value")


def _set_to_array(source: LogicalType) -> Conversion:
    plain = all(array_text([label]) == f"{{{label}}}" for label in source.labels)

    def sql(engine: Engine, expr: str) -> str | None:
        if not plain:
            return None  # a label that an array must put in quotes
        return f"('{{' || {expr} || '}}')" if engine == "postgresql" else f"CONCAT('{{', {expr}, '}}')"

    return Conversion(lambda value: array_text(value.split(",")) if value else "{}", sql)


def from_json(target: LogicalType) -> Conversion:
    """A document."""
    match target.kind:
        case Kind.JSON:
            return IDENTITY  # what differs in spelling, comparison knows
        case Kind.TEXT:
            return IDENTITY if not target.length else refuses(f"documents longer than {target}")
    return impossible("a document is no such value: take the part out with json_extract")


def from_array(source: LogicalType, target: LogicalType) -> Conversion:
    """`{1,2,NULL}`."""
    match target.kind:
        case Kind.ARRAY if source.element == target.element or (source.native and source.native == target.native):
            return IDENTITY
        case Kind.ARRAY:
            return refuses(f"elements that {target} cannot hold")
        case Kind.TEXT:
            return IDENTITY if not target.length else refuses(f"lists longer than {target}")
        case Kind.JSON:
            kind = source.element.kind if source.element is not None else Kind.TEXT
            return Conversion(lambda value: _array_to_json(value, kind), no_sql)
        case Kind.SET:
            return Conversion(
                lambda value: ",".join(str(item) for item in parse_array(value)), no_sql, False, "order and repetition are lost"
            )
    return impossible("a list is no such value")


def _array_to_json(value: str, kind: Kind) -> str:
    def spell(item: object) -> str:
        if isinstance(item, list):
            return "[" + ",".join(spell(part) for part in item) + "]"
        if item is None:
            return "null"
        text = str(item)
        if kind is Kind.BOOL:
            return "true" if text == "t" else "false"
        if kind in {Kind.INT, Kind.DECIMAL, Kind.FLOAT} and text not in {"NaN", "Infinity", "-Infinity"}:
            return text
        return text if kind is Kind.JSON else json.dumps(text, ensure_ascii=False)

    return spell(parse_array(value))


def from_geometry(target: LogicalType) -> Conversion:
    """EWKT."""
    if target.kind is Kind.GEOMETRY:
        return IDENTITY
    return IDENTITY if target.kind is Kind.TEXT else impossible("geometry is no such value")


def from_other(source: LogicalType, target: LogicalType) -> Conversion:
    """The product's own text."""
    if target.kind is Kind.OTHER:
        return IDENTITY if source.native == target.native else refuses(f"what {target} cannot read")
    if target.kind is Kind.TEXT:
        return IDENTITY if not target.length else refuses(f"text longer than {target}")
    return impossible(f"{source} is no such value")
