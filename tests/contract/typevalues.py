"""Every type in common use, with extreme values: (column, type, [(SQL of a value, its canonical text)])."""

from __future__ import annotations

from typing import TypeAlias

Case: TypeAlias = tuple[str, str, list[tuple[str, str]]]


def same(*texts: str) -> list[tuple[str, str]]:
    """Values whose SQL is a quoted literal of their canonical text."""
    return [("'" + text.replace("'", "''") + "'", text) for text in texts]


POSTGRES_SETUP = """
CREATE EXTENSION IF NOT EXISTS citext;
CREATE EXTENSION IF NOT EXISTS hstore;
CREATE TYPE mood AS ENUM ('sad', 'it''s ok', 'a,b"c\\d');
CREATE DOMAIN posint AS integer CHECK (value > 0);
CREATE DOMAIN code AS character varying(8);
CREATE DOMAIN addr AS inet;
CREATE TYPE pair AS (a integer, b text);
"""

_JSON = '{"b": [1, 2.50, null], "a": "é\\" \\\\ \\n", "long": 12345678901234567890.123}'

POSTGRES: list[Case] = [
    ("c_bool", "boolean", same("t", "f")),
    ("c_int2", "smallint", same("-32768", "32767")),
    ("c_int4", "integer", same("-2147483648", "2147483647", "0")),
    ("c_int8", "bigint", same("-9223372036854775808", "9223372036854775807")),
    ("c_oid", "oid", same("4294967295")),
    ("c_numeric", "numeric", same("0.00", "-12345678901234567890.1234567890123456789", "1e-30".replace("1e-30", "0." + "0" * 29 + "1"))),
    ("c_numeric2", "numeric(12,2)", same("-9999999999.99", "0.10", "12.50")),
    ("c_numeric_neg", "numeric(5,-2)", [("'12345'", "12300")]),
    ("c_numeric_nan", "numeric", same("NaN")),
    ("c_numeric_inf", "numeric", same("Infinity", "-Infinity")),
    (
        "c_real",
        "real",
        same("0.1", "1e+06", "-3.4028235e+38", "1e-45", "1.1754944e-38", "16777216".replace("16777216", "1.6777216e+07"), "-0"),
    ),
    ("c_real_nan", "real", same("NaN", "Infinity", "-Infinity")),
    (
        "c_double",
        "double precision",
        same("0.1", "1e+15", "100000000000000", "-1.7976931348623157e+308", "5e-324", "0.0001", "1e-05", "-0", "6.1992009817473344e+16"),
    ),
    ("c_double_nan", "double precision", same("NaN", "Infinity", "-Infinity")),
    (
        "c_text",
        "text",
        same("", " padded ", "tab\there", "line\nbreak\r", "back\\slash", "\\N", "NULL", "quo'te\"d", "日本 🎉", "\x01\x7f"),
    ),
    ("c_varchar", "character varying(20)", same("abc ", "")),
    ("c_char", "character(6)", [("'abc   '", "abc"), ("''", ""), ("' x'", " x")]),
    ("c_name", "name", same("some_name")),
    ("c_qchar", '"char"', same("x")),
    ("c_citext", "citext", same("MiXed")),
    ("c_bytea", "bytea", same("\\x", "\\x00ff5c0a27", "\\x" + "ab" * 300)),
    ("c_date", "date", same("2024-02-29", "0001-01-01", "9999-12-31", "1582-10-10")),
    ("c_date_wide", "date", same("infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "5874897-12-31")),
    ("c_time", "time", same("00:00:00", "23:59:59.999999", "24:00:00", "12:34:56.5")),
    ("c_time0", "time(0)", same("12:34:56")),
    ("c_timetz", "timetz", same("23:59:59.5+02", "12:00:00-05:30", "00:00:00+00")),
    ("c_ts", "timestamp", same("2024-01-31 23:59:59.5", "1970-01-01 00:00:00", "0001-01-01 00:00:00.000001", "9999-12-31 23:59:59.999999")),
    (
        "c_ts_wide",
        "timestamp",
        same("infinity", "-infinity", "0044-03-15 12:00:00 BC", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"),
    ),
    ("c_ts3", "timestamp(3)", same("2024-01-31 23:59:59.123")),
    (
        "c_tstz",
        "timestamptz",
        same("2024-03-10 02:30:00+00", "1969-12-31 23:59:59.999999+00", "0001-01-01 00:00:00+00", "9999-12-31 23:59:59.999999+00"),
    ),
    (
        "c_tstz_wide",
        "timestamptz",
        same("infinity", "-infinity", "0044-03-15 12:00:00+00 BC", "294276-12-31 23:59:59.999999+00"),
    ),
    (
        "c_interval",
        "interval",
        same("P1Y2M-3DT4H5M6.7S", "PT0S", "PT-1H-2M-3.000001S", "P-1Y", "P178000000Y", "PT596523H", "P1D", "PT0.5S", "P-1M1D"),
    ),
    ("c_uuid", "uuid", same("00000000-0000-0000-0000-000000000000", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
    ("c_json", "json", same(_JSON, "[]", "  1 ", '"x"', "null")),
    ("c_jsonb", "jsonb", [*same('{"a": "é\\" \\\\", "b": [1, 2.50, null]}', "null", "12345678901234567890.10")]),
    ("c_bit1", "bit(1)", same("0", "1")),
    ("c_bit9", "bit(9)", same("100000001", "000000010")),
    ("c_bit70", "bit(70)", same("1" + "0" * 68 + "1")),
    ("c_varbit", "bit varying(20)", same("", "1", "0000001", "10101010101")),
    ("c_mood", "mood", same("sad", "it's ok", 'a,b"c\\d')),
    ("c_posint", "posint", same("7")),
    ("c_code", "code", same("ab ")),
    ("c_addr", "addr", same("10.0.0.1")),
    ("c_money", "money", same("$1,234.56", "-$0.05", "-$92,233,720,368,547,758.08")),
    ("c_inet", "inet", same("192.168.1.1", "10.0.0.0/8", "::1", "2001:db8::/32")),
    ("c_cidr", "cidr", same("10.0.0.0/8", "2001:db8::/32")),
    ("c_macaddr", "macaddr", same("08:00:2b:01:02:03")),
    ("c_macaddr8", "macaddr8", same("08:00:2b:01:02:03:04:05")),
    ("c_hstore", "hstore", same('"a"=>"1", "b"=>NULL', '"k \\"q\\""=>"v\\\\"', "")),
    ("c_tsvector", "tsvector", same("'brown':3 'fox':4A 'it''s':1")),
    ("c_tsquery", "tsquery", same("'a' & 'b':*")),
    ("c_int4range", "int4range", same("[1,10)", "empty", "(,)")),
    ("c_numrange", "numrange", same("(1.5,2.50]")),
    ("c_tsrange", "tsrange", same('["2024-01-01 00:00:00","2024-02-01 00:00:00.5")')),
    ("c_tstzrange", "tstzrange", same('["2024-01-01 00:00:00+00",infinity)')),
    ("c_daterange", "daterange", same("[2024-01-01,2024-02-01)")),
    ("c_int8range", "int8range", same("[-9223372036854775808,5)")),
    ("c_multirange", "int4multirange", same("{[1,3),[5,8)}")),
    ("c_pair", "pair", same('(1,"a ""b, c")', "(,)")),
    ("c_point", "point", same("(1.5,-2)", "(1e+20,0)")),
    ("c_box", "box", same("(2,2),(1,1)")),
    ("c_path", "path", same("[(0,0),(1,1)]")),
    ("c_polygon", "polygon", same("((0,0),(1,1),(1,0))")),
    ("c_circle", "circle", same("<(1,1),2>")),
    ("c_line", "line", same("{1,2,3}")),
    ("c_lseg", "lseg", same("[(0,0),(1,1)]")),
    ("c_pg_lsn", "pg_lsn", same("16/B374D848")),
    ("c_ints", "integer[]", same("{1,2,NULL}", "{}", "{{1,2},{3,4}}")),
    ("c_bigints", "bigint[]", same("{9223372036854775807}")),
    ("c_texts", "text[]", same('{a,"b,c",NULL,"NULL","","with \\"q\\" and \\\\"," sp "}', "{}", '{"{x}"}', "{{a,b},{c,NULL}}")),
    ("c_varchars", "character varying(5)[]", same('{ab,"c d"}')),
    ("c_chars", "character(3)[]", same('{"a  ",bcd}')),
    ("c_bools", "boolean[]", same("{t,f,NULL}")),
    ("c_numerics", "numeric(10,2)[]", same("{1.50,-0.01,NULL}")),
    ("c_doubles", "double precision[]", same("{0.1,1e+20,-0,NULL}")),
    ("c_reals", "real[]", same("{0.1,1e+06}")),
    ("c_dates", "date[]", same('{2024-01-31,"0044-03-15 BC"}')),
    ("c_times", "time[]", same("{12:34:56.5,24:00:00}")),
    ("c_tss", "timestamp[]", same('{"2024-01-31 23:59:59.5",infinity}')),
    ("c_tstzs", "timestamptz[]", same('{"2024-01-31 23:59:59.5+00",-infinity}')),
    ("c_uuids", "uuid[]", same("{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11,NULL}")),
    ("c_byteas", "bytea[]", same('{"\\\\x00ff",NULL}')),
    ("c_jsons", "jsonb[]", same('{"{\\"a\\": [1, 2]}",NULL}')),
    ("c_moods", "mood[]", same('{sad,"a,b\\"c\\\\d"}')),
    ("c_inets", "inet[]", same("{10.0.0.1,::1}")),
    ("c_intervals", "interval[]", same("{P1Y,PT1S}")),
    ("c_bits", "bit(3)[]", same("{101,010}")),
    ("c_hstores", "hstore[]", same('{"\\"a\\"=>\\"1\\""}')),
    ("c_moneys", "money[]", same("{$1.50}")),
    ("c_oids", "oid[]", same("{4294967295}")),
    ("c_citexts", "citext[]", same("{Ab}")),
]

MARIADB: list[Case] = [
    ("c_tinyint", "tinyint", same("-128", "127")),
    ("c_bool", "tinyint(1)", same("0", "1", "-7")),
    ("c_utinyint", "tinyint unsigned", same("255")),
    ("c_smallint", "smallint", same("-32768")),
    ("c_usmallint", "smallint unsigned", same("65535")),
    ("c_mediumint", "mediumint", same("-8388608")),
    ("c_umediumint", "mediumint unsigned", same("16777215")),
    ("c_int", "int", same("-2147483648", "2147483647")),
    ("c_uint", "int unsigned", same("4294967295")),
    ("c_zerofill", "int(6) zerofill", same("42", "1234567")),
    ("c_bigint", "bigint", same("-9223372036854775808", "9223372036854775807")),
    ("c_ubigint", "bigint unsigned", same("18446744073709551615", "0", "128", "9223372036854775808")),
    ("c_decimal", "decimal(10,2)", same("-99999999.99", "0.00", "12.50")),
    ("c_decimal65", "decimal(65,30)", same("9" * 35 + "." + "9" * 30, "-0." + "0" * 29 + "1")),
    ("c_decimal0", "decimal(20,0) unsigned", same("99999999999999999999")),
    ("c_decimalz", "decimal(8,2) zerofill", same("12.50")),
    (
        "c_float",
        "float",
        same("0.1", "1.2345678", "1e+06", "-3.4028233e+38", "1.1754944e-38", "1.6777216e+07", "0.3333333433"[:10].rstrip("0")),
    ),
    ("c_float_max", "float", [("3.4028234663852886e38", "3.4028235e+38"), ("-3.4028234663852886e38", "-3.4028235e+38")]),
    ("c_float73", "float(7,3)", [("1.5", "1.5"), ("-9999.999", "-9999.999")]),
    (
        "c_double",
        "double",
        same("0.1", "1e+15", "100000000000000", "-1.7976931348623157e+308", "5e-324", "0.0001", "1e-05", "6.1992009817473344e+16", "1e+22"),
    ),
    ("c_double_neg0", "double", [("-0e0", "-0")]),
    ("c_double203", "double(20,3)", [("1.5", "1.5"), ("123456789012.125", "123456789012.125")]),
    ("c_char", "char(6)", [("'abc   '", "abc"), ("''", ""), ("' x'", " x")]),
    ("c_varchar", "varchar(60)", same("", "abc ", "日本 🎉")),
    ("c_latin1", "varchar(20) character set latin1", same("é¤ü")),
    (
        "c_text",
        "text",
        [
            ("''", ""),
            ("'tab\\there\\nline\\rback\\\\slash \\\\N'", "tab\there\nline\rback\\slash \\N"),
            ("'NULL'", "NULL"),
            ("'\\'\"'", "'\""),
            ("'\\Z'", "\x1a"),
        ],
    ),
    ("c_longtext", "longtext", [("repeat('é', 5000)", "é" * 5000)]),
    ("c_binary", "binary(5)", [("x'00ff'", "\\x00ff000000"), ("x'6162636465'", "\\x6162636465"), ("x'2020202020'", "\\x2020202020")]),
    ("c_varbinary", "varbinary(20)", [("x''", "\\x"), ("x'00ff5c0a2700'", "\\x00ff5c0a2700")]),
    ("c_blob", "blob", [("x'00ff5c0a27'", "\\x00ff5c0a27"), ("repeat(x'ab',300)", "\\x" + "ab" * 300)]),
    ("c_date", "date", same("2024-02-29", "1000-01-01", "9999-12-31", "0001-01-01")),
    ("c_date_zero", "date", same("0000-00-00", "2024-00-10")),
    ("c_time", "time", same("00:00:00", "23:59:59")),
    ("c_time6", "time(6)", same("23:59:59.999999", "12:00:00.5")),
    ("c_time_wide", "time(6)", same("-838:59:59.000001", "838:59:59", "-00:00:01", "24:00:00", "100:00:00.1")),
    ("c_time3", "time(3)", same("12:34:56.789")),
    (
        "c_datetime",
        "datetime",
        same("2024-01-31 23:59:59", "1000-01-01 00:00:00", "9999-12-31 23:59:59", "1969-12-31 23:59:59", "0001-01-01 00:00:00"),
    ),
    ("c_datetime3", "datetime(3)", same("2024-01-31 23:59:59.123", "1969-12-31 23:59:59.9")),
    ("c_datetime6", "datetime(6)", same("2024-01-31 23:59:59.123456", "9999-12-31 23:59:59.999999", "1000-01-01 00:00:00.000001")),
    ("c_datetime_zero", "datetime(6)", same("0000-00-00 00:00:00", "2024-00-00 10:00:00.5")),
    (
        "c_timestamp",
        "timestamp null",
        [("'2024-01-31 23:59:59'", "2024-01-31 23:59:59+00"), ("'2038-01-19 03:14:07'", "2038-01-19 03:14:07+00")],
    ),
    (
        "c_timestamp6",
        "timestamp(6) null",
        [("'2024-03-10 02:30:00.123450'", "2024-03-10 02:30:00.12345+00"), ("'1970-01-01 00:00:01'", "1970-01-01 00:00:01+00")],
    ),
    ("c_timestamp_zero", "timestamp null", [("'0000-00-00 00:00:00'", "0000-00-00 00:00:00+00")]),
    ("c_year", "year", same("1901", "2155")),
    ("c_year_zero", "year", [("0", "0")]),
    ("c_bit1", "bit(1)", [("b'0'", "0"), ("b'1'", "1")]),
    ("c_bit9", "bit(9)", [("b'100000001'", "100000001"), ("b'10'", "000000010")]),
    ("c_bit64", "bit(64)", [("b'1" + "0" * 62 + "1'", "1" + "0" * 62 + "1"), ("0xffffffffffffffff", "1" * 64)]),
    ("c_enum", "enum('a','it''s ok','c,d','e\\\\f')", [*same("a", "it's ok", "c,d"), ("4", "e\\f")]),
    ("c_set", "set('x','y','z')", [("''", ""), ("'z,x'", "x,z")]),
    (
        "c_json",
        "json",
        [("'" + '{"b": [1, 2.50, null], "a": "é"}' + "'", '{"b": [1, 2.50, null], "a": "é"}'), ("'[]'", "[]"), ("' 1 '", " 1 ")],
    ),
    ("c_uuid", "uuid", same("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000")),
    ("c_inet6", "inet6", same("2001:db8::1", "::1")),
    ("c_inet4", "inet4", same("10.0.0.1")),
    ("c_point", "point", [("st_geomfromtext('POINT(1.5 -2)')", "POINT(1.5 -2)")]),
    (
        "c_geometry",
        "geometry",
        [
            (
                "st_geomfromtext('POLYGON((0 0,1 0,1 1,0 0),(0.2 0.1,0.3 0.1,0.3 0.2,0.2 0.1))', 4326)",
                "SRID=4326;POLYGON((0 0,1 0,1 1,0 0),(0.2 0.1,0.3 0.1,0.3 0.2,0.2 0.1))",
            ),
            (
                "st_geomfromtext('GEOMETRYCOLLECTION(POINT(1 2),MULTILINESTRING((0 0,1 1),(2 2,3 3)))')",
                "GEOMETRYCOLLECTION(POINT(1 2),MULTILINESTRING((0 0,1 1),(2 2,3 3)))",
            ),
        ],
    ),
]
