"""How a column's values compare in a row filter: a sort key in Python, and SQL that orders and equates the same way."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import re
import struct
from collections.abc import Callable
from typing import Any

from pipeline.model import Column, Engine, Kind
from transforms import dialect
from transforms.conversions.texts import from_text

Key = Callable[[str], Any]

_DATED = re.compile(r"(\d+)-(\d\d-\d\d)(?:[ T](\d\d:\d\d(?::\d\d)?)(\.\d+)?)?(\+00)?( BC)?")
_CLOCK = re.compile(r"(-?)(\d+):(\d\d)(?::(\d\d)(?:\.(\d{1,6}))?)?")


class Unfit(ValueError):
    """A comparison that the filter does not know."""


@dataclasses.dataclass(frozen=True)
class Comparable:
    """A column as a filter sees it. `ordered` False: only = and <>."""

    column: Column
    family: str  # number, float, text, label, bool, moment, clock; two columns compare within one family
    key: Key
    ordered: bool = True

    def sql(self, engine: Engine) -> str:
        """The operand in SQL."""
        name, type = self.column.name, self.column.type
        if self.family in {"text", "label"}:
            return dialect.exact(engine, dialect.canonical(engine, name, type))
        return dialect.quote(engine, name)

    def literal(self, value: str | bool | decimal.Decimal) -> Literal:
        """A value of the file to compare with this column. Raises Unfit."""
        kind = self.column.type.kind
        if self.family == "bool":
            return _bool_literal(value)
        if self.family in {"number", "float"}:
            return self._number(value)
        if isinstance(value, bool | decimal.Decimal):
            raise Unfit(f"{self.column.name} is {kind.value}: put the value in quotes")
        if self.family in {"text", "label"}:
            return self._text(value)
        if self.family == "moment":
            return _moment_literal(value, kind, self.column.name)
        return _clock_literal(value, self.column.name)

    def _number(self, value: str | bool | decimal.Decimal) -> Literal:
        if isinstance(value, bool):
            value = decimal.Decimal(int(value))  # MySQL's TRUE is 1
        try:
            number = decimal.Decimal(value)
        except decimal.InvalidOperation:
            raise Unfit(f"{self.column.name} is a number and {value!r} is none") from None
        if not number.is_finite():
            raise Unfit(f"{self.column.name}: compare with a finite number")
        if self.family == "float":
            double = float(number)
            return Literal((0, double), lambda engine: f"'{double!r}'::float8" if engine == "postgresql" else _exponent(double))
        return Literal((0, number), lambda engine: format(number, "f"))

    def _text(self, value: str) -> Literal:
        type = self.column.type
        if "\0" in value:
            raise Unfit("text cannot hold U+0000")
        if type.kind is Kind.ENUM and type.labels and value not in type.labels:
            raise Unfit(f"{self.column.name} has no label {value!r}")
        if type.kind is Kind.UUID:
            convert = from_text(dataclasses.replace(type, kind=Kind.TEXT), type).python
            value = convert(value) if convert else value
        if type.fixed:
            value = value.rstrip(" ")
        return Literal(value, lambda engine: dialect.exact_literal(engine, value))


@dataclasses.dataclass(frozen=True)
class Literal:
    """A value of the filter, as a sort key and as SQL."""

    key: Any
    sql: Callable[[Engine], str]


def comparable(column: Column) -> Comparable:
    """Raises Unfit when values of the column's type are not compared."""
    type = column.type
    match type.kind:
        case Kind.BOOL:
            return Comparable(column, "bool", lambda text: text == "t", ordered=False)
        case Kind.INT | Kind.YEAR:
            return Comparable(column, "number", lambda text: (0, int(text)))
        case Kind.DECIMAL:
            return Comparable(column, "number", _decimal_key)
        case Kind.FLOAT:
            return Comparable(column, "float", _single_key if type.bits == 32 else _double_key)
        case Kind.TEXT:
            return Comparable(column, "text", str)
        case Kind.UUID | Kind.ENUM | Kind.SET:
            return Comparable(column, "label", str, ordered=type.kind is Kind.UUID)
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return Comparable(column, "moment", moment_key)
        case Kind.TIME:
            return Comparable(column, "clock", clock_key)
    raise Unfit(f"{column.name} is {type}, which a filter can only test for NULL")


def _exponent(double: float) -> str:
    """A MySQL literal with an exponent is a double; without one it would be a decimal."""
    return repr(double) if "e" in repr(double) else f"{double!r}e0"


def _decimal_key(text: str) -> Any:
    # PostgreSQL: NaN equals itself and is above everything
    return (1, 0) if text == "NaN" else (0, decimal.Decimal(text))


def _double_key(text: str) -> Any:
    return (1, 0) if text == "NaN" else (0, float(text))


def _single_key(text: str) -> Any:
    # the products compare a single with a double by its exact value, not by its printed digits
    if text == "NaN":
        return (1, 0)
    return (0, struct.unpack("<f", struct.pack("<f", float(text)))[0])


def moment_key(text: str) -> Any:
    """Order of dates and timestamps as text: eras, years of any length, infinities."""
    if text == "infinity":
        return (2,)
    if text == "-infinity":
        return (0,)
    match = _DATED.fullmatch(text)
    if match is None:
        raise Unfit("is no date")
    year = 1 - int(match[1]) if match[6] else int(match[1])
    clock = match[3] or "00:00:00"
    return (1, year, match[2], clock if len(clock) == 8 else f"{clock}:00", (match[4] or "").rstrip("0").rstrip("."))


def clock_key(text: str) -> int:
    """Microseconds of a time."""
    match = _CLOCK.fullmatch(text)
    if match is None:
        raise Unfit("is no time")
    seconds = int(match[2]) * 3600 + int(match[3]) * 60 + int(match[4] or 0)
    size = seconds * 1_000_000 + int((match[5] or "").ljust(6, "0"))
    return -size if match[1] else size


def _bool_literal(value: str | bool | decimal.Decimal) -> Literal:
    words = {True: True, False: False, "t": True, "true": True, "f": False, "false": False}
    found = words.get(value.lower() if isinstance(value, str) else value) if not isinstance(value, decimal.Decimal) else None
    if found is None:
        raise Unfit("a truth value is compared with true or false")
    return Literal(found, lambda engine: "TRUE" if found else "FALSE")


def _moment_literal(value: str, kind: Kind, name: str) -> Literal:
    text = value.strip()
    if kind is not Kind.TIMESTAMPTZ and re.search(r":\d\d(?:\.\d+)?\s*(?:Z|[+-]\d)", text):
        raise Unfit(f"{name} has no time zone: leave the zone out of {value!r}")
    if text not in {"infinity", "-infinity"}:
        try:
            moment = datetime.datetime.fromisoformat(text)
        except ValueError:
            raise Unfit(f"{name} is a {kind.value} and {value!r} is none: write 2024-01-31 or 2024-01-31 23:59:59") from None
        if moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
        if kind is Kind.DATE and moment.time() != datetime.time():
            raise Unfit(f"{name} is a date: leave the time of day out of {value!r}")
        text = moment.date().isoformat() if kind is Kind.DATE else moment.isoformat(" ")
    key = moment_key(text)

    def sql(engine: Engine) -> str:
        if engine == "mysql":
            return f"{'DATE' if kind is Kind.DATE else 'TIMESTAMP'}'{text}'"
        if kind is Kind.TIMESTAMPTZ and "infinity" not in text:
            return f"TIMESTAMPTZ '{text}+00'"
        return f"{kind.value.upper()} '{text}'"

    return Literal(key, sql)


def _clock_literal(value: str, name: str) -> Literal:
    try:
        key = clock_key(value.strip())
    except Unfit:
        raise Unfit(f"{name} is a time and {value!r} is none: write 23:59:59") from None
    return Literal(key, lambda engine: f"TIME '{value.strip()}'")
