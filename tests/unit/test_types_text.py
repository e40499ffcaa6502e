"""Canonical text of values, without a server: floats, dates, Debezium's JSON forms, spellings of types across products."""

from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import calendar
from connectors.floats import canonical, float4, float8
from connectors.mysql import decode as mysql_decode
from connectors.mysql import types as mysql
from connectors.postgres import decode as postgres_decode
from connectors.postgres import types as postgres
from pipeline.errors import DataRejected
from pipeline.model import Kind, LogicalType

# What PostgreSQL 18 prints, half-way cases and powers of ten among them.
FLOAT8 = {
    0.1: "0.1", 1e15: "1e+15", 999999999999999.9: "999999999999999.9", 1e14: "100000000000000", 3665910124698067.5: "3.6659101246980675e+15",
    0.0001: "0.0001", 1e-05: "1e-05", -0.0: "-0", 5e-324: "5e-324", 61992009817473344.0: "6.1992009817473344e+16",
    5e22: "4.9999999999999996e+22", 1e22: "1e+22", 1e23: "9.999999999999999e+22", math.inf: "Infinity", -math.inf: "-Infinity",
}  # fmt: skip
FLOAT4 = {
    0.1: "0.1", 1e6: "1e+06", 999999.0: "999999", 16777216.0: "1.6777216e+07", 8999999488.0: "8.999999e+09", 1.4e-45: "1e-45",
    3.4028234663852886e38: "3.4028235e+38", 1.1754943508222875e-38: "1.1754944e-38", -9999.9990234375: "-9999.999", -0.0: "-0",
}  # fmt: skip


@pytest.mark.parametrize(("value", "text"), FLOAT8.items())
def test_s17_double_as_postgresql_prints_it(value: float, text: str) -> None:
    assert float8(value) == text
    assert canonical(repr(value), 64) == text


@pytest.mark.parametrize(("value", "text"), FLOAT4.items())
def test_s17_real_as_postgresql_prints_it(value: float, text: str) -> None:
    assert float4(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_double_text_reads_back_as_the_same_number(value: float) -> None:
    assert struct.pack("d", float(float8(value))) == struct.pack("d", value)


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_real_text_reads_back_as_the_same_number(value: float) -> None:
    assert struct.pack("f", float(float4(value))) == struct.pack("f", value)


def test_s18_eras_and_hours_beyond_a_day() -> None:
    assert [calendar.date(days) for days in (0, -719162, -719163, -735160, -2440550, 2145042905)] == [
        "1970-01-01", "0001-01-01", "0001-12-31 BC", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31",
    ]  # fmt: skip
    assert [calendar.time(micros) for micros in (0, 86_400_000_000, -3020399000001, 45_296_500_000)] == [
        "00:00:00", "24:00:00", "-838:59:59.000001", "12:34:56.5",
    ]  # fmt: skip
    assert calendar.timestamp(-63517780800000000) == "0044-03-15 12:00:00 BC"
    assert calendar.timestamp(-1) == "1969-12-31 23:59:59.999999"
    assert calendar.iso_timestamp("-0043-03-15T12:00:00.000000Z") == "0044-03-15 12:00:00+00 BC"
    assert calendar.iso_timestamp("+294276-12-31T23:59:59.999999Z") == "294276-12-31 23:59:59.999999+00"
    assert calendar.iso_timestamp("2024-03-10T02:30:00.120Z") == "2024-03-10 02:30:00.12+00"


def pg(native: str, value: object, **more: object) -> str | None:
    decode = postgres_decode.decoder(postgres.logical(native, **more))  # type: ignore[arg-type]
    return decode(value) if decode is not None else str(value)


def test_postgresql_values_that_hide_something() -> None:
    assert pg("timestamp without time zone", 9223372036825200000) == "infinity"
    assert pg("date", -2147472691) == "-infinity"
    assert pg("numeric", "NEGATIVE_INFINITY") == "-Infinity"
    assert pg("numeric(5,-2)", "12300." + "0" * 60) == "12300"
    assert pg("interval", "P0Y-10M-3DT0H0M-0.50S") == "P-10M-3DT-0.5S"
    assert (
        pg("tstzrange", '["2024-01-01 01:00:00.5+01","2024-02-01 00:00:00+00")') == '["2024-01-01 00:00:00.5+00","2024-02-01 00:00:00+00")'
    )
    assert pg("money", "-1234567.89") == "-$1,234,567.89"
    assert pg("text[]", ["a", None, "NULL", "", 'q"\\', " x"]) == '{a,NULL,"NULL","","q\\"\\\\"," x"}'
    assert pg("character(3)[]", ["a  "]) == '{"a  "}'
    with pytest.raises(DataRejected, match="294247"):
        pg("timestamp without time zone", 9223372036854775807)
    with pytest.raises(DataRejected, match="dimension"):
        pg("text[]", ["[Ljava.lang.String;@13288123"])


def my(native: str, value: object, flavour: str = "mariadb") -> str | None:
    decode = mysql_decode.decoder(mysql.logical(native), flavour=flavour)
    return decode(value) if decode is not None else str(value)


def test_mysql_values_that_hide_something() -> None:
    assert my("bigint(20) unsigned", "AP//////////") == "18446744073709551615"
    assert my("timestamp(6)", "1970-01-01T00:00:00.000000Z") == "0000-00-00 00:00:00+00"
    assert my("year(4)", 1900) == "0"
    assert my("binary(5)", "AP8=") == "\\x00ff000000"
    assert my("enum('c,d','e\\\\f','it''s')", "c\\,d") == "c,d"
    assert my("enum('c,d','e\\\\f','it''s')", "e\\\\f") == "e\\f"
    assert my("datetime(3)", 1706745599123, "mysql") == "2024-01-31 23:59:59.123"
    assert my("datetime(3)", 1706745599123000) == "2024-01-31 23:59:59.123"
    assert my("json", '{"a":[1,2],"b":"x:y,z"}', "mysql") == '{"a": [1, 2], "b": "x:y,z"}'


@pytest.mark.parametrize(
    ("type", "spelling", "exact"),
    [
        (mysql.logical("bigint(20) unsigned"), "numeric(20,0)", True),
        (mysql.logical("mediumint(8) unsigned"), "integer", True),
        (mysql.logical("tinyint(1)"), "smallint", True),
        (mysql.logical("year(4)"), "smallint", True),
        (mysql.logical("datetime(3)"), "timestamp(3) without time zone", False),
        (mysql.logical("timestamp"), "timestamp(0) with time zone", False),
        (mysql.logical("date"), "date", False),
        (mysql.logical("set('a','b')"), "text", False),
        (mysql.logical("longtext", json=True), "json", True),
        (mysql.logical("decimal(65,30)"), "numeric(65,30)", True),
        (postgres.logical('public."My Type"', labels=("a",)), 'public."My Type"', True),
        (postgres.logical("timestamp with time zone"), "timestamp with time zone", True),
    ],
)
def test_spelling_on_postgresql(type: LogicalType, spelling: str, exact: bool) -> None:
    found, reason = postgres.native(type)
    assert (found, reason is None) == (spelling, exact)


@pytest.mark.parametrize(
    ("type", "spelling", "exact"),
    [
        (postgres.logical("boolean"), "tinyint(1)", True),
        (postgres.logical("integer"), "int", True),
        (postgres.logical("numeric(5,-2)"), "decimal(7,0)", False),
        (postgres.logical("numeric"), "decimal(65,30)", False),
        (postgres.logical("timestamp(3) with time zone"), "datetime(3)", False),
        (postgres.logical("uuid"), "uuid", True),
        (postgres.logical("jsonb"), "json", True),
        (postgres.logical("bit(70)"), "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", False),
        (postgres.logical("text", collation='pg_catalog."C"'), "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin", True),
        (postgres.logical("public.citext", extension_type="citext"), "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci", True),
        (mysql.logical("bigint(20) unsigned"), "bigint(20) unsigned", True),
    ],
)
def test_spelling_on_mariadb(type: LogicalType, spelling: str, exact: bool) -> None:
    found, reason = mysql.native(type)
    assert (found, reason is None) == (spelling, exact)


def test_key_text_has_a_length_on_mysql() -> None:
    assert mysql.native(postgres.logical("text"), key=True) == (
        "varchar(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin",
        "refuses key text longer than 255 characters",
    )
    assert mysql.native(postgres.logical("uuid"), flavour="mysql")[0].startswith("char(36)")


def test_domain_keeps_what_it_is_over() -> None:
    domain = postgres.logical("public.addr", base=postgres.logical("inet"))
    assert (domain.kind, postgres.base_name(domain), postgres.native(domain)) == (Kind.OTHER, "inet", ("public.addr", None))
    assert "inet_out" in postgres.canonical_sql('"a"', domain)
