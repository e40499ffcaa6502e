"""The text PostgreSQL prints for a floating-point number, computed by MySQL and MariaDB themselves.

Both print a DOUBLE with the fewest digits that read back as the same number, as PostgreSQL does; what differs is the exponent:
`1e20` for `1e+20`, `0.00001` for `1e-05`. A FLOAT they print with six digits only, which is not enough: the fewest of 6 to 9 digits
that read back as the same FLOAT are searched for.
"""

from __future__ import annotations


def double_text(expr: str) -> str:
    """Canonical text of a DOUBLE expression. Times 1e0 drops a fixed number of decimals and keeps the sign of zero."""
    return _exponent(f"CAST({expr} * 1e0 AS CHAR)", threshold=None)


def float_text(expr: str) -> str:
    """Canonical text of a FLOAT expression.

    Powers of ten are doubles here, so a number that needs nine digits and lies within 1e-7 of the middle between two of them
    may get the other one: a few hundred of all four thousand million floats. It still reads back as the same FLOAT.
    """
    value = f"({expr} * 1e0)"
    size = f"ABS({value})"
    exponent = f"FLOOR(LOG10({size}))"
    tries = " ".join(
        f"WHEN CAST({_digits(size, exponent, n)} AS FLOAT) = {size} THEN {_digits(size, exponent, n)} * 1e0" for n in (6, 7, 8)
    )
    shortest = f"(CASE {tries} ELSE {_digits(size, exponent, 9)} * 1e0 END)"
    sign = f"IF(LEFT(CAST({value} AS CHAR), 1) = '-', '-', '')"
    body = _exponent(f"CAST({shortest} AS CHAR)", threshold=f"{shortest} >= 1e6")
    return f"(CASE WHEN {value} = 0 THEN CONCAT({sign}, '0') ELSE CONCAT({sign}, {body}) END)"


def _digits(size: str, exponent: str, n: int) -> str:
    """The number with n digits, as text that is read back by the server: `1234567e-3`."""
    return f"CONCAT(CAST(ROUND({size} * POW(10, {n - 1} - {exponent})) AS UNSIGNED), 'e', {exponent} - {n - 1})"


def _exponent(text: str, threshold: str | None) -> str:
    """The server's text of a double in PostgreSQL's spelling. `threshold`: when plain digits are to become an exponent."""
    plain = f"REPLACE({text}, '-', '')"
    power = f"SUBSTRING_INDEX({text}, 'e', -1)"
    size = f"REPLACE({power}, '-', '')"
    cases = [
        f"WHEN LOCATE('e', {text}) > 0 THEN CONCAT(SUBSTRING_INDEX({text}, 'e', 1), IF(LEFT({power}, 1) = '-', 'e-', 'e+'), "
        f"LPAD({size}, GREATEST(2, CHAR_LENGTH({size})), '0'))",
        f"WHEN {plain} LIKE '0.0000%' THEN {_small(text)}",
    ]
    if threshold:
        whole = f"SUBSTRING_INDEX({text}, '.', 1)"
        digits = f"TRIM(TRAILING '0' FROM REPLACE({text}, '.', ''))"
        cases.append(
            f"WHEN {threshold} THEN CONCAT(LEFT({digits}, 1), IF(CHAR_LENGTH({digits}) > 1, '.', ''), SUBSTRING({digits}, 2), 'e+', "
            f"LPAD(CHAR_LENGTH({whole}) - 1, 2, '0'))"
        )
    return f"(CASE {' '.join(cases)} ELSE {text} END)"


def _small(text: str) -> str:
    fraction = f"SUBSTRING_INDEX({text}, '.', -1)"
    digits = f"TRIM(LEADING '0' FROM {fraction})"
    power = f"CHAR_LENGTH({fraction}) - CHAR_LENGTH({digits}) + 1"
    return (
        f"CONCAT(IF(LEFT({text}, 1) = '-', '-', ''), LEFT({digits}, 1), IF(CHAR_LENGTH({digits}) > 1, '.', ''), "
        f"SUBSTRING({digits}, 2), 'e-', LPAD({power}, 2, '0'))"
    )
