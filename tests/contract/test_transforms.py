"""What every row step, conversion and row filter keeps: SQL on a real server answers exactly what Python answers."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from contract.conftest import Product

from pipeline.model import Column, Kind, LogicalType
from transforms import dialect
from transforms.chain import read_chain, steps
from transforms.convert import conversion
from transforms.where import read_filter

pytestmark = pytest.mark.system

NASTY = [
    None,
    "",
    " ",
    "a",
    "A",
    "a ",
    " a",
    "  a b  ",
    "a b c d",
    "aaa aa aaaa",
    "é",
    "e\u0301",
    "Éé ÀÏ",
    "ß",
    "İI ıi",
    "ΑΣ",
    "it's",
    '"',
    "\\",
    "a\\b\\\\c",
    "\\N",
    "NULL",
    "tab\there",
    "line\nbreak\r\n",
    "日本 語",
    "\U0001f600 \U0001f468\u200d\U0001f469",
    "%_!",
    "a%b_c",
    "é é é x",
    "aa-bb",
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
    "{a0eebc999c0b4ef8bb6d6bb9bd380a11}",
    "0",
    "-1",
    "\u00a0a\u3000",
    "x" * 5000,
]
PAIRS = [*itertools.zip_longest(NASTY, NASTY[3:] + NASTY[:3]), (None, None), ("a", "a"), ("a", None)]


class Texts:
    """A table of nasty text and the type its columns have."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.db = product.connect()
        self.table = dialect.qualified(product.engine, _id(product, "nasty"))
        # a collation under which A = a and é = e shows whoever relies on the column's own
        word = product.pick('text COLLATE "pg_unicode_fast"', "longtext CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci")
        self.run(f"DROP TABLE IF EXISTS {self.table}")
        self.run(f"CREATE TABLE {self.table} (id integer PRIMARY KEY, a {word}, b {word})")
        for number, (a, b) in enumerate(PAIRS):
            self.run(f"INSERT INTO {self.table} VALUES (%s, %s, %s)", number, a, b)
        types = product.module("types")
        self.type: LogicalType = types.logical(
            product.pick("text", "longtext"), collation=product.pick("pg_unicode_fast", "utf8mb4_general_ci")
        )

    def run(self, statement: str, *values: Any) -> list[Any]:
        with contextlib.closing(self.db.cursor()) as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall()) if cursor.description else []


def _id(product: Product, name: str) -> Any:
    from pipeline.model import TableId

    return TableId(product.schema, name)


@pytest.fixture(scope="module")
def texts(product: Product) -> Iterator[Texts]:
    made = Texts(product)
    yield made
    made.run(f"DROP TABLE {made.table}")
    made.db.close()


def _examples() -> list[Any]:
    return [pytest.param(raw, id=f"{word}-{number}") for word, step in steps().items() for number, raw in enumerate(step.examples)]


def test_every_step_has_examples() -> None:
    assert not [word for word, step in steps().items() if not step.examples]


@pytest.mark.parametrize("raw", _examples())
def test_sql_says_what_python_says(texts: Texts, raw: Any) -> None:
    engine = texts.product.engine
    chain = read_chain(raw, "example").bound((texts.type,) * 10)
    inputs = [dialect.canonical(engine, name, texts.type) for name in chain.columns]
    expr = chain.sql(engine, inputs)
    if expr is None:
        pytest.skip("Python only")
    found = dict(texts.run(f"SELECT id, {expr} FROM {texts.table} ORDER BY id"))
    for number, (a, b) in enumerate(PAIRS):
        values = [{"a": a, "b": b}[name] for name in chain.columns]
        assert found[number] == chain.forward(*values), (raw, values)


# -- conversions ------------------------------------------------------------------------------------------------------------------------

K, L = Kind, LogicalType
_INT = [L(K.INT, bits=8, native="tinyint(1)"), L(K.INT, bits=32), L(K.INT, bits=64, unsigned=True)]
SAMPLES: list[tuple[list[LogicalType], list[str]]] = [
    ([L(K.BOOL)], ["t", "f"]),
    (_INT, ["0", "1", "7", "-1", "10", "100"]),
    ([L(K.DECIMAL, precision=10, scale=2), L(K.DECIMAL, precision=10, scale=3)], ["0.00", "-0.01", "12.50", "99.99", "-12.00"]),
    ([L(K.DECIMAL, precision=10, scale=0), L(K.DECIMAL, precision=30, scale=0)], ["0", "-7", "100"]),
    ([L(K.DECIMAL)], ["0", "0.005", "-0.005", "12.345", "2.5", "-1000000000000000000000.1"]),
    ([L(K.DATE)], ["2024-01-31", "0001-01-01"]),
    ([L(K.TIMESTAMP, precision=p) for p in (0, 3, 6)], ["2024-01-31 23:59:59", "2024-01-31 10:20:30.5", "2000-01-01 00:00:00.050001"]),
    (
        [L(K.TIMESTAMPTZ, precision=p) for p in (0, 3, 6)],
        ["2024-01-31 23:59:59+00", "2024-01-31 10:20:30.5+00", "2000-01-01 00:00:00.050001+00"],
    ),
    ([L(K.TIME, precision=p) for p in (0, 2, 6)], ["23:59:59", "10:20:30.5", "00:00:00.050001", "10:00:00"]),
    ([L(K.TEXT), L(K.TEXT, length=5), L(K.TEXT, length=50, fixed=True)], [text for text in NASTY if text is not None]),
    (
        [L(K.BYTES), L(K.BYTES, length=4, fixed=True), L(K.BYTES, length=16, fixed=True)],
        ["\\x", "\\x61", "\\xa0eebc999c0b4ef8bb6d6bb9bd380a11"],
    ),
    ([L(K.UUID)], ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"]),
    ([L(K.BITS, length=1, fixed=True), L(K.BITS, length=9, fixed=True), L(K.BITS, length=64, fixed=True)], ["1", "0", "010000011"]),
    ([L(K.ENUM, labels=("a", "b'"))], ["a", "b'"]),
    ([L(K.SET, labels=("a", "b"))], ["", "a", "a,b"]),
    ([L(K.ARRAY, element=L(K.TEXT)), L(K.ARRAY, element=L(K.INT, bits=32))], ["{}", "{1,2,NULL}"]),
    ([L(K.JSON), L(K.JSON, binary=True)], ['{"a": "é\\""}', "[1]"]),
]
ENDLESS = {
    K.DATE: ["infinity", "-infinity", "0044-03-15 BC", "12024-01-01"],
    K.TIMESTAMP: ["infinity", "-infinity", "0044-03-15 10:20:30.123456 BC"],
    K.TIMESTAMPTZ: ["infinity", "-infinity", "0044-03-15 10:20:30.123456+00 BC"],
    K.DECIMAL: ["NaN"],
}


@pytest.mark.parametrize("sources", SAMPLES, ids=lambda sources: sources[0][0].kind.value)
def test_conversions_in_sql_say_what_python_says(texts: Texts, sources: tuple[list[LogicalType], list[str]]) -> None:
    engine = texts.product.engine
    types = [type for types, _ in SAMPLES for type in types]
    told, wanted = [], []
    for source, target in itertools.product(sources[0], types):
        made = conversion(source, target)
        assert made.exact or made.why, (source, target)
        if not made.possible or made.sql(engine, "x") is None:
            continue
        extra = ENDLESS.get(source.kind, []) if engine == "postgresql" and source.precision in {None, 6} else []
        if source.kind is K.DECIMAL and source.precision is not None:
            extra = []
        for text in [*sources[1], *extra]:
            told.append(made.sql(engine, dialect.literal(engine, text)))
            wanted.append((str(source), str(target), target, text, made.python(text) if made.python else text))
    for start in range(0, len(told), 200):
        (answers,) = texts.run(f"SELECT {', '.join(str(expr) for expr in told[start : start + 200])}")
        for answer, (*what, want) in zip(answers, wanted[start : start + 200], strict=True):
            assert answer == want, what


def test_null_stays_null_in_every_conversion(texts: Texts) -> None:
    engine = texts.product.engine
    types = [type for types, _ in SAMPLES for type in types]
    null = "NULL::text" if engine == "postgresql" else "CAST(NULL AS CHAR)"
    told = {conversion(source, target).sql(engine, null) for source in types for target in types} - {None}
    for expr in sorted(map(str, told)):
        assert texts.run(f"SELECT {expr}")[0][0] is None, expr


# -- row filters ------------------------------------------------------------------------------------------------------------------------

COLUMNS: list[tuple[str, str, str, list[Any]]] = [
    # name, PostgreSQL's type, MariaDB's, values
    ("n", "integer", "int", [None, 0, 1, -5, 7]),
    ("m", "integer", "int", [None, 0, 2, -5, 6]),
    ("big", "bigint", "bigint unsigned", [None, 0, 9223372036854775807, 3, 4]),
    ("d", "numeric(10,2)", "decimal(10,2)", [None, "0.00", "0.10", "-3.50", "99.99"]),
    ("f", "real", "float", [None, 0, 0.1, -2.5, 1e20]),
    ("g", "double precision", "double", [None, 0, 0.1, -2.5, 1e20]),
    (
        "s",
        'character varying(40) COLLATE "pg_unicode_fast"',
        "varchar(40) COLLATE utf8mb4_general_ci",
        [None, "a", "A ", "it's \\ é", "b%_!"],
    ),
    ("c", "character(6)", "char(6)", [None, "a", "", "ab c", "B"]),
    ("day", "date", "date", [None, "2024-01-31", "1999-12-31", "0001-01-01", "9999-12-31"]),
    (
        "at",
        "timestamp(6)",
        "datetime(6)",
        [None, "2024-01-31 00:00:00", "2024-01-31 00:00:00.5", "1999-12-31 23:59:59", "2024-02-01 10:00:00"],
    ),
    (
        "z",
        "timestamp(6) with time zone",
        "timestamp(6) null",
        [None, "2024-01-31 00:00:00", "2024-01-31 00:00:00.5", "1999-12-31 23:59:59", "2024-02-01 10:00:00"],
    ),
    ("t", "time(3)", "time(3)", [None, "00:00:00", "23:59:59.5", "12:00:00", "12:00:00.001"]),
    ("ok", "boolean", "tinyint(1)", [None, True, False, True, False]),
]
CONDITIONS = [
    "n is null",
    "n is not null and not n = 1",
    "n = 1 or m = 0",
    "n > m",
    "n <> m",
    "not (n in (1, -5, null))",
    "n in (0, 7)",
    "n between -5 and 1",
    "not n between 0 and 3",
    "5 < n",
    "big = 9223372036854775807 or big <= 3",
    "big > -1",
    "d = 0.1",
    "d >= -3.5 and d < 99.99",
    "d = n",
    "f = 0.1",
    "f >= 0.1",
    "g = 0.1",
    "g < 1e20",
    "s = 'a'",
    "s = 'A'",
    "s <> 'a'",
    "s < 'b'",
    "s > 'A'",
    "s in ('A ', 'b%_!')",
    "s like 'a%'",
    "s like '_'",
    "s like '%!_!!' escape '!'",
    "s like '%''s%é'",
    "not s like '%a%'",
    "c = 'a'",
    "c = 'a   '",
    "c >= 'B'",
    "day = '2024-01-31'",
    "day < '2024-01-31' or day > '5000-01-01'",
    "at = '2024-01-31'",
    "at > '2024-01-31' and at <= '2024-02-01 10:00'",
    "z >= '2024-01-31 01:00:00+01:00'",
    "z < '2024-01-31T00:00:00.500001Z'",
    "t >= '12:00' and t <> '12:00:00.001'",
    "ok",
    "not ok",
    "ok is true",
    "ok is not false",
    "ok = true",
    "(n = 1) or (m is null and not (s = 'a' and d > 1))",
    "true",
    "n = 1 and false",
]


@pytest.fixture(scope="module")
def filtered(product: Product, texts: Texts) -> Iterator[tuple[str, dict[str, Column], list[tuple[Any, ...]]]]:
    table = dialect.qualified(product.engine, _id(product, "filtered"))
    at = product.pick("1", "2")
    words = [f"{dialect.quote(product.engine, column[0])} {column[int(at)]}" for column in COLUMNS]
    texts.run(f"DROP TABLE IF EXISTS {table}")
    texts.run(f"CREATE TABLE {table} (id integer PRIMARY KEY, {', '.join(words)})")
    rows = list(itertools.islice(_mixed([values for *_, values in COLUMNS]), 60))
    for number, row in enumerate(rows):
        texts.run(f"INSERT INTO {table} VALUES (%s{', %s' * len(row)})", number, *row)
    columns = {
        column.name: column for column in product.module("catalog").reflect(product.address).tables[_id(product, "filtered")].columns
    }
    exprs = [dialect.canonical(product.engine, name, columns[name].type) for name, *_ in COLUMNS]
    canonical = texts.run(f"SELECT {', '.join(exprs)} FROM {table} ORDER BY id")
    yield table, columns, [tuple(row) for row in canonical]
    texts.run(f"DROP TABLE {table}")


def _mixed(values: list[list[Any]]) -> Iterator[tuple[Any, ...]]:
    """Rows in which every column meets every other column's values sooner or later."""
    for step in range(100):
        for start in range(5):
            yield tuple(column[(start + step * place) % 5] for place, column in enumerate(values))


@pytest.mark.parametrize("condition", CONDITIONS)
def test_filters_in_sql_keep_what_python_keeps(texts: Texts, filtered: Any, condition: str) -> None:
    table, columns, rows = filtered
    made = read_filter(condition, texts.product.engine, columns, "where")
    names = [name for name, *_ in COLUMNS]
    at = [names.index(name) for name in made.columns]
    kept = {number for number, row in enumerate(rows) if made.passes(*[row[place] for place in at]) is True}
    unknown = {number for number, row in enumerate(rows) if made.passes(*[row[place] for place in at]) is None}
    sql = made.sql(texts.product.engine)
    assert {row[0] for row in texts.run(f"SELECT id FROM {table} WHERE {sql}")} == kept
    assert {row[0] for row in texts.run(f"SELECT id FROM {table} WHERE ({sql}) IS NULL")} == unknown
