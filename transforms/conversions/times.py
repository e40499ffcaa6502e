"""From dates, times, timestamps and intervals."""

from __future__ import annotations

import re

from pipeline.model import Engine, Kind, LogicalType
from transforms.conversions.base import IDENTITY, Conversion, impossible, no_sql, refuses

_ENDLESS = frozenset({"infinity", "-infinity"})
_ZEROS = re.compile(r"\.0+(?!\d)|(\.\d*[1-9])0+(?!\d)")
_CLOCK = re.compile(r"(-?)(\d+):(\d\d):(\d\d)(\.\d+)?")


def from_date(target: LogicalType) -> Conversion:
    """`2024-01-31`, `0044-03-15 BC`, `infinity`."""
    match target.kind:
        case Kind.DATE:
            return IDENTITY
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return _suffixed(" 00:00:00" + ("+00" if target.kind is Kind.TIMESTAMPTZ else ""))
        case Kind.TEXT:
            return _text(target, 13)
    return impossible("a date is no such value")


def _suffixed(suffix: str) -> Conversion:
    """Text put behind the digits, which is before ` BC`; not behind `infinity`."""

    def python(value: str) -> str:
        if value in _ENDLESS:
            return value
        return f"{value[:-3]}{suffix} BC" if value.endswith(" BC") else value + suffix

    def sql(engine: Engine, expr: str) -> str:
        if engine == "mysql":  # knows neither
            return f"CONCAT({expr}, '{suffix}')"
        bc = f"left({expr}, -3) || '{suffix} BC'"
        return (
            f"(CASE WHEN {expr} IN ('infinity', '-infinity') THEN {expr} WHEN {expr} LIKE '% BC' THEN {bc} ELSE {expr} || '{suffix}' END)"
        )

    return Conversion(python, sql)


def from_timestamp(source: LogicalType, target: LogicalType) -> Conversion:
    """`2024-01-31 23:59:59.5`, with `+00` when zoned."""
    zoned = source.kind is Kind.TIMESTAMPTZ
    match target.kind:
        case Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            cut = _cut(source, target)
            if source.kind is target.kind:
                return cut
            return cut.then(_zoneless() if zoned else _suffixed("+00"))
        case Kind.DATE:
            return Conversion(_only_date, _only_date_sql, False, "the time of day is left out")
        case Kind.TEXT:
            return _text(target, 35)
    return impossible("a timestamp is no such value")


def _zoneless() -> Conversion:
    def python(value: str) -> str:
        return value.replace("+00", "", 1)

    def sql(engine: Engine, expr: str) -> str:
        return f"replace({expr}, '+00', '')" if engine == "postgresql" else f"REPLACE({expr}, '+00', '')"

    return Conversion(python, sql)


def _only_date(value: str) -> str:
    if value in _ENDLESS:
        return value
    return value.split(" ", 1)[0] + (" BC" if value.endswith(" BC") else "")


def _only_date_sql(engine: Engine, expr: str) -> str:
    if engine == "mysql":
        return f"SUBSTRING_INDEX({expr}, ' ', 1)"
    return f"(split_part({expr}, ' ', 1) || CASE WHEN {expr} LIKE '% BC' THEN ' BC' ELSE '' END)"


def _cut(source: LogicalType, target: LogicalType) -> Conversion:
    """Fewer digits of the second's fraction: the rest is cut off, never rounded into another second."""
    digits = 6 if target.precision is None else target.precision
    if digits >= (6 if source.precision is None else source.precision):
        return IDENTITY
    fraction = re.compile(rf"\.(\d{{0,{digits}}})\d*")

    def python(value: str) -> str:
        if "." not in value:
            return value
        return _ZEROS.sub(r"\1", fraction.sub(r".\1", value, count=1)) if digits else fraction.sub("", value, count=1)

    def sql(engine: Engine, expr: str) -> str | None:
        if not digits:
            return f"regexp_replace({expr}, '[.][0-9]+', '')"
        if engine == "mysql":
            return None  # MariaDB and MySQL spell back references differently
        return rf"regexp_replace(regexp_replace({expr}, '[.](\d{{0,{digits}}})\d*', '.\1'), '[.]0+(?!\d)|([.]\d*[1-9])0+(?!\d)', '\1')"

    return Conversion(
        python, sql, False, f"fractions of a second are cut to {digits} digits" if digits else "fractions of a second are cut off"
    )


def from_time(source: LogicalType, target: LogicalType) -> Conversion:
    """`23:59:59.5`; MySQL's from -838:59:59 to 838:59:59."""
    match target.kind:
        case Kind.TIME:
            return _cut(source, target)
        case Kind.INTERVAL:
            return Conversion(_clock_to_interval, no_sql)
        case Kind.TEXT:
            return _text(target, 17)
    return impossible("a time is no such value")


def _clock_to_interval(value: str) -> str:
    match = _CLOCK.fullmatch(value)
    if match is None:
        return value
    sign, hours, minutes, seconds, fraction = match.groups()
    out = ""
    for number, letter in ((hours, "H"), (minutes, "M")):
        if int(number):
            out += f"{sign}{int(number)}{letter}"
    rest = f"{int(seconds)}{(fraction or '').rstrip('0').rstrip('.')}"
    if rest != "0":
        out += f"{sign}{rest}S"
    return f"PT{out}" if out else "PT0S"


def from_timetz(source: LogicalType, target: LogicalType) -> Conversion:
    """`23:59:59.5+02`."""
    match target.kind:
        case Kind.TIMETZ:
            return _cut(source, target)
        case Kind.TEXT:
            return _text(target, 24)
    return impossible("a zoned time of day is no such value")


def from_interval(target: LogicalType) -> Conversion:
    """`P1Y2M-3DT4H5M6.7S`."""
    match target.kind:
        case Kind.INTERVAL:
            return IDENTITY
        case Kind.TEXT:
            return _text(target, 64)
    return impossible("an interval is no such value")


def _text(target: LogicalType, longest: int) -> Conversion:
    return IDENTITY if not target.length or target.length >= longest else refuses(f"values longer than {target}")
