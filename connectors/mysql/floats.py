"""The text PostgreSQL prints for a floating-point number, computed by MySQL and MariaDB themselves.

Both print a DOUBLE with the fewest digits that read back as the same number, as PostgreSQL does; what differs is the exponent
(`1e20` for `1e+20`, `0.00001` for `1e-05`) and that PostgreSQL wants the digits nearer to this number than half the way to its
neighbour, not just as near. A FLOAT they print with six digits only, which is not enough: the fewest digits that read back as the same
FLOAT are searched for.

What is left: a FLOAT below 1e-9 or above 1e19 that needs nine digits and lies within 1e-7 of the middle between two of them may get a
last digit that PostgreSQL would not print. It reads back as the same number, and `connectors.floats.canonical` makes one text of both.
(Half-way texts of a DOUBLE end at 2^77: with k zeros behind its d, such a number is d * 5^k <= 2^54 times a power of two.)
"""

from __future__ import annotations

_SMALLEST_NORMAL = "1.1754943508222875e-38"


def double_text(expr: str) -> str:
    """Canonical text of a DOUBLE expression. Times 1e0 drops a fixed number of decimals and keeps the sign of zero."""
    value = f"({expr} * 1e0)"
    text = f"CAST({value} AS CHAR)"
    size = f"ABS({value})"
    sign = f"IF({value} < 0, '-', '')"
    cases = [
        f"WHEN {size} < 1e15 AND {size} >= 1e-4 OR {value} = 0 THEN {text}",
        f"WHEN {size} < 1e15 THEN {_exponent(text)}",
        f"WHEN LOCATE('e', {text}) = 0 THEN CONCAT({sign}, {_large(f'CAST({size} AS CHAR)')})",
        f"WHEN {_half_way(size)} THEN CONCAT({sign}, {_whole(size)})",
    ]
    return f"(CASE {' '.join(cases)} ELSE {_exponent(text)} END)"


def _exact(size: str) -> str:
    """A whole number from 2^53 up to 2^77, digit by digit; a multiple of its last place, so the division is exact."""
    return (
        f"(CASE WHEN {size} < {2**63}e0 THEN CAST(CAST({size} AS UNSIGNED) AS DECIMAL(40,0)) "
        f"WHEN {size} < {2**64}e0 THEN CAST(CAST({size} / 2048 AS UNSIGNED) AS DECIMAL(40,0)) * 2048 "
        f"WHEN {size} < {2**76}e0 THEN CAST(CAST({size} / 4096 AS UNSIGNED) AS DECIMAL(40,0)) * 4096 "
        f"ELSE CAST(CAST({size} / 8192 AS UNSIGNED) AS DECIMAL(40,0)) * 8192 END)"
    )


def _half_step(size: str) -> str:
    """Half the way to the next number."""
    return f"(CASE {' '.join(f'WHEN {size} < {2**n}e0 THEN {2 ** (n - 54)}' for n in range(54, 77))} ELSE {2**23} END)"


def _half_way(size: str) -> str:
    """Whether the server's text is exactly half the way to the neighbouring number."""
    return f"{size} BETWEEN {2**53}e0 AND {2**77}e0 AND ABS(CAST({size} AS DECIMAL(40,0)) - {_exact(size)}) = {_half_step(size)}"


def _whole(size: str) -> str:
    """A whole number with 16 significant digits where they are near enough, else 17."""
    exact = _exact(size)
    length = f"CHAR_LENGTH(CAST({exact} AS CHAR))"
    short, long = (f"ROUND({exact}, {n} - {length})" for n in (16, 17))
    digits = f"CAST(IF(ABS({short} - {exact}) < {_half_step(size)}, {short}, {long}) AS CHAR)"
    return f"CONCAT(LEFT({digits}, 1), '.', SUBSTRING(TRIM(TRAILING '0' FROM {digits}), 2), 'e+', {length} - 1)"


def float_text(expr: str) -> str:
    """Canonical text of a FLOAT expression."""
    value = f"({expr} * 1e0)"
    size = f"ABS({value})"
    sign = f"IF(LEFT(CAST({value} AS CHAR), 1) = '-', '-', '')"
    text = f"CAST({_fewest(size, range(6, 9))} AS CHAR)"
    cases = [
        f"WHEN {value} = 0 THEN '0'",
        f"WHEN {size} >= 1e-4 AND {size} < 1e6 THEN {text}",
        f"WHEN {size} < {_SMALLEST_NORMAL} THEN CAST({_fewest(size, range(1, 9))} AS CHAR)",
        f"WHEN {size} < 999999950000000 AND {size} >= 1e6 THEN {_large(text)}",
    ]
    return f"CONCAT({sign}, CASE {' '.join(cases)} ELSE {_exponent(text)} END)"


def _fewest(size: str, tries: range) -> str:
    """The DOUBLE whose text has the fewest digits that read back as this FLOAT, from both sides."""
    cases = []
    for n in tries:
        found = _rounded(size, n)
        cases.append(f"WHEN CAST({found} * (1 - 1e-13) AS FLOAT) = {size} AND CAST({found} * (1 + 1e-13) AS FLOAT) = {size} THEN {found}")
    return f"(CASE {' '.join(cases)} ELSE {_nine(size)} END)"


def _rounded(size: str, n: int) -> str:
    """The number rounded to n digits: through text such as `1234567e-3`, which the server reads without a rounding error of its own."""
    power = f"({n - 1} - FLOOR(LOG10({size})))"
    return f"(CONCAT(CAST(ROUND({size} * POW(10, {power})) AS UNSIGNED), 'e', -{power}) * 1e0)"


def _nine(size: str) -> str:
    """Rounded to nine digits, exactly: the number is a whole one over a power of two, which DECIMAL and DIV calculate with."""
    power = f"(8 - FLOOR(LOG10({size})))"
    two = f"POW(2, 25 - FLOOR(LOG2({size})))"
    whole, over, ten = (f"CAST(CAST({x} AS UNSIGNED) AS DECIMAL(40,0))" for x in (f"{size} * {two}", two, f"POW(10, {power})"))
    return (
        f"(CASE WHEN {size} >= 1e-9 AND {size} < {2**24} "
        f"THEN CONCAT((2 * {whole} * {ten} + {over}) DIV (2 * {over}), 'e', -{power}) * 1e0 "
        f"WHEN {size} < 1e19 AND {size} >= {2**24} THEN ROUND(CAST(CAST({size} AS UNSIGNED) AS DECIMAL(40,0)), {power}) * 1e0 "
        f"ELSE {_rounded(size, 9)} END)"
    )


def _exponent(text: str) -> str:
    """A text with an exponent, or a small plain one, with PostgreSQL's exponent of at least two digits and its sign."""
    power = f"SUBSTRING_INDEX({text}, 'e', -1)"
    size = f"REPLACE({power}, '-', '')"
    return (
        f"(CASE WHEN LOCATE('e', {text}) > 0 THEN CONCAT(SUBSTRING_INDEX({text}, 'e', 1), IF(LEFT({power}, 1) = '-', 'e-', 'e+'), "
        f"LPAD({size}, GREATEST(2, CHAR_LENGTH({size})), '0')) "
        f"WHEN LEFT(REPLACE({text}, '-', ''), 6) = '0.0000' THEN {_small(text)} ELSE {text} END)"
    )


def _small(text: str) -> str:
    fraction = f"SUBSTRING_INDEX({text}, '.', -1)"
    digits = f"TRIM(LEADING '0' FROM {fraction})"
    power = f"CHAR_LENGTH({fraction}) - CHAR_LENGTH({digits}) + 1"
    return (
        f"CONCAT(IF(LEFT({text}, 1) = '-', '-', ''), LEFT({digits}, 1), IF(CHAR_LENGTH({digits}) > 1, '.', ''), "
        f"SUBSTRING({digits}, 2), 'e-', LPAD({power}, 2, '0'))"
    )


def _large(text: str) -> str:
    digits = f"TRIM(TRAILING '0' FROM REPLACE({text}, '.', ''))"
    power = f"CHAR_LENGTH(SUBSTRING_INDEX({text}, '.', 1)) - 1"
    return f"CONCAT(LEFT({digits}, 1), IF(CHAR_LENGTH({digits}) > 1, '.', ''), SUBSTRING({digits}, 2), 'e+', LPAD({power}, 2, '0'))"
