"""Small changes of one value, type by type: what verify must find (scenario 32)."""

from __future__ import annotations

PG_TYPES = (
    "id integer PRIMARY KEY, b boolean, i bigint, n numeric, d numeric(12,2), f double precision, r real, s text, "
    "v varchar(40), c char(8), "
    "ts timestamp, tz timestamptz, dt date, ti time, iv interval, u uuid, by bytea, j jsonb, jt json, bi bit(9), a text[], na integer[]"
)
PG_CHANGES = [
    ("b", "'t'", "'f'"), ("b", "NULL", "'f'"), ("i", "0", "NULL"), ("i", "9007199254740993", "9007199254740992"), ("n", "1.0", "1.00"),
    ("n", "'NaN'", "'Infinity'"), ("d", "10.00", "10.01"), ("f", "0", "'-0'"), ("f", "0.1", "0.10000000000000002"),
    ("r", "0.1", "0.10000001"),
    ("s", "NULL", "''"), ("s", "''", "'NULL'"), ("s", "'NULL'", "NULL"), ("s", "'a'", "'a '"), ("s", "'a'", "'A'"),
    ("s", "'é'", "E'e\\u0301'"),
    ("s", "'\\N'", "NULL"), ("s", "E'a\\tb'", "'a b'"), ("s", "'1|2'", "'12|'"), ("v", "'x'", "'x '"), ("c", "'x'", "' x'"),
    ("s", "E'\\n'", "'n'"),
    ("ts", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"), ("ts", "'infinity'", "'-infinity'"),
    ("tz", "'2024-03-31 01:00+00'", "'2024-03-31 01:00+01'"),
    ("dt", "'0044-03-15 BC'", "'0044-03-15'"), ("ti", "'24:00:00'", "'00:00:00'"), ("iv", "'1 mon'", "'30 days'"),
    ("iv", "'24 hours'", "'1 day'"),
    ("u", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"), ("by", "'\\x00'", "'\\x0000'"),
    ("by", "'\\x'", "NULL"),
    ("j", "'{\"a\": 1}'", "'{\"a\": \"1\"}'"), ("j", "'null'", "NULL"), ("jt", "'[1]'", "'[1.0]'"),
    ("bi", "B'100000000'", "B'000000001'"),
    ("a", "'{NULL}'", "'{\"NULL\"}'"), ("a", "'{}'", "'{\"\"}'"), ("na", "'{1,NULL}'", "'{NULL,1}'"),
]  # fmt: skip
MARIA_TYPES = (
    "id integer PRIMARY KEY, b tinyint(1), i bigint, ub bigint unsigned, d decimal(12,2), f double, r float, s longtext, "
    "v varchar(40), c char(8), "
    "ts datetime(6), tz timestamp(6) NULL, dt date, ti time(6), by_ varbinary(40), bi bit(9), y year, e enum('a','B')"
)
MARIA_CHANGES = [
    ("b", "1", "0"), ("i", "0", "NULL"), ("i", "9007199254740993", "9007199254740992"),
    ("ub", "18446744073709551615", "18446744073709551614"),
    ("d", "10.00", "10.01"), ("f", "0", "-0e0"), ("f", "0.1", "0.10000000000000002"), ("r", "0.1", "0.10000001"), ("s", "NULL", "''"),
    ("s", "''", "'NULL'"),
    ("s", "'NULL'", "NULL"), ("s", "'a'", "'a '"), ("s", "'a'", "'A'"), ("s", "'é'", "'e\u0301'"), ("s", "'\\\\N'", "NULL"),
    ("v", "'x'", "'x '"), ("v", "'ß'", "'ss'"),
    ("c", "'x'", "' x'"), ("ts", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"),
    ("tz", "'2024-03-31 01:00:00'", "'2024-03-31 02:00:00'"),
    ("dt", "'0000-00-00'", "NULL"), ("dt", "'2024-01-01'", "'2024-01-02'"), ("ti", "'-00:00:01'", "'00:00:01'"),
    ("ti", "'838:59:59'", "'838:59:58.999999'"),
    ("by_", "x'00'", "x'0000'"), ("by_", "x''", "NULL"), ("bi", "b'100000000'", "b'1'"), ("y", "2024", "NULL"), ("e", "'a'", "'B'"),
]  # fmt: skip
CROSS = {  # columns that both products have, as each declares them
    "id": ("integer PRIMARY KEY", "integer PRIMARY KEY"), "b": ("boolean", "tinyint(1)"), "i": ("bigint", "bigint"),
    "d": ("numeric(12,2)", "decimal(12,2)"),
    "f": ("double precision", "double"), "r": ("real", "float"), "s": ("text", "longtext"), "ts": ("timestamp", "datetime(6)"),
    "dt": ("date", "date"),
    "ti": ("time", "time(6)"), "u": ("uuid", "uuid"), "by_": ("bytea", "varbinary(40)"), "j": ("jsonb", "json"),
    "bi": ("bit(9)", "bit(9)"),
}  # fmt: skip
CROSS_CHANGES = [
    ("b", ("'t'", "1"), ("'f'", "0")), ("i", "0", "NULL"), ("i", "9007199254740993", "9007199254740992"), ("d", "10.00", "10.01"),
    ("f", "0.0", ("'-0'", "-0e0")),
    ("f", "0.1", "0.10000000000000002"), ("f", "1e20", "1.0000000000000002e20"), ("r", "0.1", "0.10000001"), ("s", "NULL", "''"),
    ("s", "''", "'NULL'"),
    ("s", "'NULL'", "NULL"), ("s", "'a'", "'a '"), ("s", "'a'", "'A'"), ("s", "'é'", "'e\u0301'"), ("s", "'1|2'", "'12|'"),
    ("s", "'😀'", "'?'"),
    ("ts", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"), ("dt", "'0001-01-01'", "NULL"),
    ("ti", "'23:59:59.999999'", "'23:59:59.999998'"),
    ("u", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12'"), ("by_", ("'\\x00'", "x'00'"),
    ("'\\x0000'", "x'0000'")),
    ("j", "'{\"a\":  1}'", "'{\"a\": \"1\"}'"), ("j", "'{\"b\":1,\"a\":2}'", "NULL"), ("bi", ("B'100000000'", "b'100000000'"),
    ("B'000000001'", "b'1'")),
]  # fmt: skip
