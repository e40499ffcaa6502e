"""From numbers, booleans and bit strings."""

from __future__ import annotations

import decimal

from connectors import floats
from pipeline.model import Engine, Kind, LogicalType
from transforms import dialect
from transforms.conversions.base import IDENTITY, Conversion, impossible, no_sql, refuses

_WIDE = decimal.Context(prec=150_000, rounding=decimal.ROUND_HALF_UP, Emax=999_999, Emin=-999_999)  # beyond PostgreSQL's widest numeric
_WORDS = frozenset({"NaN", "Infinity", "-Infinity"})


def from_bool(target: LogicalType) -> Conversion:
    """`t`, `f`."""
    match target.kind:
        case Kind.BOOL:
            return IDENTITY
        case Kind.INT | Kind.YEAR | Kind.DECIMAL | Kind.FLOAT:
            return _two_words("1", "0").then(from_int(LogicalType(Kind.INT, bits=8), target) if target.kind is Kind.DECIMAL else IDENTITY)
        case Kind.BITS:
            return _two_words("1", "0").then(from_bits(LogicalType(Kind.BITS, length=1, fixed=True), target))
        case Kind.TEXT:
            return _two_words("true", "false")
        case Kind.JSON:
            return _two_words("true", "false")
    return impossible("a boolean is no such value")


def _two_words(yes: str, no: str) -> Conversion:
    def sql(engine: Engine, expr: str) -> str:
        case = f"CASE {expr} WHEN 't' THEN {dialect.literal(engine, yes)} WHEN 'f' THEN {dialect.literal(engine, no)} ELSE {expr} END"
        return f"({case})"

    return Conversion(lambda value: yes if value == "t" else no if value == "f" else value, sql)


def _to_bool(certain: bool) -> Conversion:
    def python(value: str) -> str:
        return "t" if value.strip("-0.") else "f"

    def sql(engine: Engine, expr: str) -> str:
        trim = f"TRIM(BOTH '0' FROM {expr})" if engine == "mysql" else f"btrim({expr}, '-0.')"
        if engine == "mysql":  # whole numbers only get here
            trim = f"TRIM(BOTH '-' FROM {trim})"
        return f"(CASE WHEN {expr} IS NULL THEN NULL WHEN {trim} = '' THEN 'f' ELSE 't' END)"

    return Conversion(python, sql, certain, "" if certain else "every number but 0 becomes true")


def from_int(source: LogicalType, target: LogicalType) -> Conversion:
    """Plain digits."""
    match target.kind:
        case Kind.INT | Kind.YEAR:
            return IDENTITY if _holds(source, target) else refuses(f"numbers that {target} cannot hold")
        case Kind.DECIMAL:
            scale = max(target.scale or 0, 0) if target.precision is not None or target.scale is not None else None
            digits = None if target.precision is None else target.precision - (target.scale or 0)
            fits = digits is None or digits >= _digits(source)
            narrow = IDENTITY if fits else refuses(f"numbers that {target} cannot hold")
            return narrow.then(_padded(scale)) if scale else narrow
        case Kind.FLOAT:
            exact = (source.bits or 32) <= (32 if target.bits != 32 else 16) or (source.bits == 24 and target.bits == 32)
            if exact and target.bits != 32:
                return IDENTITY
            return _floating(target, exact)
        case Kind.BOOL:
            return _to_bool(source.native.lower().startswith("tinyint(1)"))
        case Kind.TEXT:
            return IDENTITY if not target.length or target.length >= _digits(source) + 1 else refuses(f"numbers longer than {target}")
        case Kind.JSON:
            return IDENTITY
        case Kind.BITS:
            width = target.length or 64

            def python(value: str) -> str:
                number = int(value)
                return format(number, f"0{width if target.fixed else 1}b") if number >= 0 else value

            return Conversion(python, no_sql, False, f"refuses numbers that {target} cannot hold")
    return impossible("a number is no such value")


def _digits(type: LogicalType) -> int:
    if type.kind is Kind.YEAR:
        return 4
    return {8: 3, 16: 5, 24: 8, 32: 10, 64: 20 if type.unsigned else 19}.get(type.bits or 32, 20)


def _holds(source: LogicalType, target: LogicalType) -> bool:
    if source.kind is target.kind is Kind.YEAR:
        return True
    if target.kind is Kind.YEAR:
        return False
    have = 16 if source.kind is Kind.YEAR else source.bits or 32
    room = target.bits or 32
    if source.unsigned == target.unsigned:
        return room >= have
    return source.unsigned and room > have


def _padded(scale: int) -> Conversion:
    """Zeros behind a whole number."""
    zeros = "." + "0" * scale

    def sql(engine: Engine, expr: str) -> str:
        return f"({expr} || '{zeros}')" if engine == "postgresql" else f"CONCAT({expr}, '{zeros}')"

    return Conversion(lambda value: value + zeros, sql)


def rescale(value: str, scale: int) -> str:
    """A decimal's text with exactly `scale` digits behind the point, rounding halves away from zero as both products do."""
    if value in _WORDS:
        return value
    whole, _, fraction = value.partition(".")
    if len(fraction) <= scale:
        return f"{whole}.{fraction.ljust(scale, '0')}" if scale else whole
    rounded = format(_WIDE.quantize(decimal.Decimal(value), decimal.Decimal((0, (1,), -scale))), "f")
    return rounded if rounded.strip("-0.") else rounded.lstrip("-")  # there is no -0.00


def from_decimal(source: LogicalType, target: LogicalType) -> Conversion:
    """Plain digits with a scale; NaN, Infinity."""
    whole = (source.scale or 0) <= 0 and source.precision is not None
    match target.kind:
        case Kind.DECIMAL if target.precision is None and target.scale is None:
            return IDENTITY
        case Kind.DECIMAL:
            return _to_scale(source, max(target.scale or 0, 0), _enough(source, target), str(target))
        case Kind.INT | Kind.YEAR:
            conversion = IDENTITY if whole else _to_scale(source, 0, False, str(target))
            return conversion.then(refuses(f"numbers that {target} cannot hold"))
        case Kind.FLOAT:
            return _floating(target, exact=False)
        case Kind.BOOL:
            return _to_bool(False) if whole else Conversion(_to_bool(False).python, no_sql, False, "every number but 0 becomes true")
        case Kind.TEXT:
            return IDENTITY if not target.length else refuses(f"numbers longer than {target}")
        case Kind.JSON:
            return refuses("NaN and infinity")
    return impossible("a number is no such value")


def _enough(source: LogicalType, target: LogicalType) -> bool:
    if source.precision is None or target.precision is None:
        return False
    scale, room = max(source.scale or 0, 0), max(target.scale or 0, 0)
    return scale <= room and source.precision - (source.scale or 0) <= target.precision - (target.scale or 0)


def _to_scale(source: LogicalType, scale: int, exact: bool, name: str) -> Conversion:
    have = None if source.precision is None else max(source.scale or 0, 0)
    if have == scale:
        return IDENTITY if exact else refuses(f"numbers that {name} cannot hold")

    def sql(engine: Engine, expr: str) -> str | None:
        if engine == "postgresql":
            return f"round(({expr})::numeric, {scale})::text"
        if have is None or have > scale:
            return None
        return f"CONCAT({expr}, '{'' if have else '.'}{'0' * (scale - have)}')"

    if exact:
        why = ""
    elif have is not None and have <= scale:
        why = f"refuses numbers that {name} cannot hold"
    else:
        why = f"is rounded to {scale} decimals"
    return Conversion(lambda value: rescale(value, scale), sql, exact, why)


def _floating(target: LogicalType, exact: bool) -> Conversion:
    bits = target.bits or 64

    def python(value: str) -> str:
        try:
            return floats.canonical(value, bits)
        except (ValueError, OverflowError):
            return value  # the target says what is wrong with it

    digits = 6 if bits == 32 else 15
    return Conversion(python, no_sql, exact, "" if exact else f"keeps about {digits} digits")


def from_float(source: LogicalType, target: LogicalType) -> Conversion:
    """Shortest round trip."""
    match target.kind:
        case Kind.FLOAT if (target.bits or 64) >= (source.bits or 64):
            # a single's shortest text is taken as it is, so 0.1 stays 0.1; only the exponent's place differs
            return IDENTITY if target.bits == source.bits else _floating(target, exact=True)
        case Kind.FLOAT:
            return _floating(target, exact=False)
        case Kind.DECIMAL | Kind.INT | Kind.YEAR:
            scale = 0 if target.kind is not Kind.DECIMAL else target.scale if target.precision is not None else None

            def python(value: str) -> str:
                try:
                    plain = value if value in _WORDS else format(decimal.Decimal(value), "f")
                except decimal.InvalidOperation:
                    return value
                plain = plain.removeprefix("-") if not plain.strip("-0.") else plain
                return plain if scale is None else rescale(plain, max(scale, 0))

            return Conversion(
                python, no_sql, False, "floating point becomes plain digits" + ("" if scale is None else f", {scale} decimals")
            )
        case Kind.TEXT:
            return IDENTITY if not target.length else refuses(f"numbers longer than {target}")
        case Kind.JSON:
            return refuses("NaN and infinity")
    return impossible("a number is no such value")


def from_bits(source: LogicalType, target: LogicalType) -> Conversion:
    """`0101`."""
    length = source.length if source.fixed else None
    match target.kind:
        case Kind.BITS if not target.fixed:
            return IDENTITY if not target.length or (source.length and source.length <= target.length) else refuses("longer bit strings")
        case Kind.BITS:
            if length == (target.length or 1):
                return IDENTITY
            width = target.length or 1

            def pad(engine: Engine, expr: str) -> str | None:
                bare = f"ltrim({expr}, '0')" if engine == "postgresql" else f"TRIM(LEADING '0' FROM {expr})"
                size = f"length({bare})" if engine == "postgresql" else f"CHAR_LENGTH({bare})"
                return f"lpad({bare}, greatest({width}, {size}), '0')"

            exact = length is not None and length < width
            return Conversion(
                lambda value: value.lstrip("0").rjust(width, "0"), pad, exact, "" if exact else f"refuses more than {width} bits"
            )
        case Kind.BOOL:
            if length == 1:
                return Conversion(
                    lambda value: "t" if value == "1" else "f" if value == "0" else value,
                    lambda engine, expr: f"(CASE {expr} WHEN '1' THEN 't' WHEN '0' THEN 'f' ELSE {expr} END)",
                )
            return impossible("only bit(1) is a boolean")
        case Kind.INT:
            exact = length is not None and length < (target.bits or 32) + bool(target.unsigned)
            return Conversion(
                lambda value: str(int(value, 2)) if value else value,
                lambda engine, expr: f"CAST(CONV({expr}, 2, 10) AS CHAR)" if engine == "mysql" else None,
                exact,
                "" if exact else f"refuses bit strings that {target} cannot hold",
            )
        case Kind.TEXT:
            return (
                IDENTITY
                if not target.length or (source.length or 1 << 30) <= target.length
                else refuses(f"bit strings longer than {target}")
            )
    return impossible("a bit string is no such value")
