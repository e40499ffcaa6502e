"""Floating-point numbers as PostgreSQL prints them: the fewest digits that are strictly nearer to the number than to its neighbours."""

from __future__ import annotations

import math
import struct
from fractions import Fraction

_FLOAT = struct.Struct("<f")
_UINT = struct.Struct("<I")
_WORDS = {"nan": "NaN", "inf": "Infinity", "infinity": "Infinity", "-inf": "-Infinity", "-infinity": "-Infinity"}


def canonical(text: str, bits: int) -> str:
    """Any spelling of a number as PostgreSQL's text of float4 (`bits` 32) or float8."""
    word = _WORDS.get(text.lower())
    return word if word is not None else (float4 if bits == 32 else float8)(float(text))


def float8(value: float) -> str:
    """A double's canonical text."""
    text = repr(value)
    size = abs(value)
    if 1e-4 <= size < 1e15:  # Python and PostgreSQL agree on plain digits up to here
        return text[:-2] if text.endswith(".0") else text
    if not math.isfinite(value):
        return _WORDS[text]
    if size == 0:
        return text[:-2]
    if size >= 2**53:
        # a whole number, whose text may lie exactly half-way to its neighbour
        exact, half = Fraction(value), Fraction(math.ulp(value)) / 2
        if abs(Fraction(text) - exact) == half:
            text = next(t for n in range(17) if abs(Fraction(t := f"{value:.{n}e}") - exact) < half)
    if "e" not in text:  # 1e15 up to Python's own limit of 1e16
        text = next(t for n in range(17) if float(t := f"{value:.{n}e}") == value)
    return _tidy(text)


def float4(value: float) -> str:
    """A single's canonical text; `value` is the same number as a double, or any double that rounds to it."""
    size = abs(value)
    if not math.isfinite(size) or size == 0:
        return float8(value)
    if 1e-4 <= size < 1e6 and len(text := repr(value)) <= 7:  # no two decimals of six digits are the same single
        return text[:-2] if text.endswith(".0") else text
    (single,) = _FLOAT.unpack(_FLOAT.pack(size))
    (at,) = _UINT.unpack(_FLOAT.pack(size))
    (below,), (above,) = _FLOAT.unpack(_UINT.pack(at - 1)), _FLOAT.unpack(_UINT.pack(at + 1))
    # the middles between singles are doubles, so these comparisons are exact
    low, high = (single + below) / 2, (single + above) / 2
    if above == float("inf"):
        high = single + (single - below) / 2
    for digits in range(0 if size < 1.2e-38 else 5, 9):
        text = f"{single:.{digits}e}"
        if low < float(text) < high:
            break
    return ("-" if value < 0 else "") + _tidy(text, plain=6)


def _tidy(text: str, plain: int = 15) -> str:
    """`1.2300000e+01` as `12.3`: no needless zeros, and an exponent only below -4 and from `plain` on."""
    mantissa, _, power = text.partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    digits = mantissa.lstrip("-").replace(".", "").rstrip("0") or "0"
    exponent = int(power)
    if -5 < exponent < plain:
        if exponent < 0:
            return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
        whole = digits[: exponent + 1].ljust(exponent + 1, "0")
        rest = digits[exponent + 1 :]
        return f"{sign}{whole}.{rest}" if rest else sign + whole
    return f"{sign}{digits[0]}{'.' + digits[1:] if len(digits) > 1 else ''}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"
