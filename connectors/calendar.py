"""Debezium's numbers and ISO texts of dates and times as canonical text, with the eras and infinities that Python's datetime lacks."""

from __future__ import annotations

import datetime
import functools
import re

_EPOCH = 719163  # 1970-01-01 as date.toordinal() counts
_LAST = 3652059  # 9999-12-31
DAY = 86_400_000_000
_ISO = re.compile(r"([+-]?\d+)-(\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?Z")


@functools.lru_cache(maxsize=16384)
def date(days: int) -> str:
    """Days since 1970-01-01 in the proleptic Gregorian calendar. Years before 1 get ` BC`."""
    ordinal = days + _EPOCH
    if 1 <= ordinal <= _LAST:
        return datetime.date.fromordinal(ordinal).isoformat()
    # The calendar repeats every 400 years of 146097 days: shift into what Python knows.
    cycles, rest = divmod(ordinal - 1, 146097)
    there = datetime.date.fromordinal(rest + 1)
    year = there.year + 400 * cycles
    return f"{year:04}-{there:%m-%d}" if year > 0 else f"{1 - year:04}-{there:%m-%d} BC"


@functools.lru_cache(maxsize=131072)
def _clock(seconds: int) -> str:
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02}:{minute:02}:{second:02}"


def time(micros: int) -> str:
    """Microseconds as `[-]HH:MM:SS[.ffffff]`, more than 24 hours included."""
    if micros < 0:
        return f"-{time(-micros)}"
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{_clock(seconds)}.{fraction:06}".rstrip("0") if fraction else _clock(seconds)


_FAR = 253_402_300_800_000_000  # 10000-01-01
_DAY_SECONDS = 86_400


def timestamp(micros: int) -> str:
    """Microseconds since 1970-01-01 00:00:00."""
    if 0 <= micros < _FAR:  # nearly all there are: in one go
        seconds, fraction = micros // 1_000_000, micros % 1_000_000
        if fraction:
            return f"{date(seconds // _DAY_SECONDS)} {_clock(seconds % _DAY_SECONDS)}.{str(1_000_000 + fraction)[1:]}".rstrip("0")
        return f"{date(seconds // _DAY_SECONDS)} {_clock(seconds % _DAY_SECONDS)}"
    days, rest = divmod(micros, DAY)
    day = date(days)
    if day.endswith(" BC"):
        return f"{day[:-3]} {time(rest)} BC"
    return f"{day} {time(rest)}"


def iso_timestamp(text: str) -> str:
    """`2024-03-10T02:30:00.500000Z` as `2024-03-10 02:30:00.5+00`; years outside 1 to 9999 have a sign."""
    if text[0] in "+-":
        match = _ISO.fullmatch(text)
        if match is None:
            return text
        year = int(match[1])
        fraction = (match[4] or "").rstrip("0")
        clock = f"{match[3]}.{fraction}" if fraction else match[3]
        if year > 0:
            return f"{year:04}-{match[2]} {clock}+00"
        return f"{1 - year:04}-{match[2]} {clock}+00 BC"
    if len(text) == 20:
        return f"{text[:10]} {text[11:19]}+00"
    return f"{text[:10]} {text[11:-1].rstrip('0').rstrip('.')}+00"
