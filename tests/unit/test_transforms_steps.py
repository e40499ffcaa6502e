"""Row steps, conversions and row filters in Python: inverses that hold, three-valued logic, faults that name the key."""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import sqlite3
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors import floats
from pipeline.errors import BadInput, DataRejected
from pipeline.model import Column, Kind, LogicalType
from transforms.base import TEXT
from transforms.chain import BoundChain, read_chain, steps
from transforms.conversions.arrays import array_text, parse_array
from transforms.convert import conversion
from transforms.equality import floating, json_text
from transforms.typewords import read_type, write_type
from transforms.where import read_filter

K, L = Kind, LogicalType
PATH = "m.yaml: tables[0].columns.x"


def bound(raw: Any, *types: LogicalType) -> BoundChain:
    chain = read_chain(raw, PATH)
    return chain.bound(types or (TEXT,) * len(chain.columns))


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


# -- what each step says ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "values", "answer"),
    [
        ("a", ["x"], "x"),
        ({"rename": "a"}, [None], None),
        (["a", "trim", "lower"], ["  ÀÉ ß\t "], "àé ß\t"),
        ({"upper": "a"}, ["straße"], "STRASSE"),
        ({"upper": "a", "ascii": True}, ["straße é"], "STRAßE é"),
        ({"concat": ["a", "b"], "separator": " "}, ["Ada", "Lovelace"], "Ada Lovelace"),
        ({"concat": ["a", "b"], "separator": " "}, ["Ada", None], "Ada"),
        ({"concat": ["a", "b"], "separator": " "}, [None, None], None),
        ({"concat": ["a", "b"], "null": None}, ["Ada", None], None),
        ({"split": "a", "part": 2}, ["a b c"], "b"),
        ({"split": "a", "part": 2, "parts": 2}, ["a b c"], "b c"),
        ({"split": "a", "part": 4}, ["a b c"], None),
        ({"map": "a", "values": {"A": "active"}, "default": "?"}, ["A"], "active"),
        ({"map": "a", "values": {"A": "active"}, "default": "?"}, ["a"], "?"),
        ({"map": "a", "values": {"A": "active"}, "otherwise": "keep"}, ["a"], "a"),
        ({"map": "a", "values": {"A": True}, "otherwise": "null", "if_null": False}, [None], "f"),
        ({"const": True}, [], "t"),
        ({"const": 1e20}, [], "1e+20"),
        ({"json_extract": "a", "path": "k.1.z"}, ['{"k": [1, {"z": 1.50}]}'], "1.50"),
        ({"json_extract": "a", "path": ["k"]}, ['{"k": {"b": [1e2, "é", null]}}'], '{"b":[1e2,"é",null]}'),
        ({"json_extract": "a", "path": "k"}, ['{"k": null}'], None),
        ({"json_extract": "a", "path": "k.x"}, ['{"k": "text"}'], None),
        ({"mask": "a"}, ["secret"], "***"),
        ({"mask": "a"}, [None], None),
        ({"mask": "a", "method": "partial", "keep_last": 4}, ["4111111111111111"], "************1111"),
        ({"mask": "a", "method": "partial", "keep_first": 2, "keep_last": 2}, ["abc"], "***"),
        ({"python": "textwrap:dedent", "columns": ["a"]}, ["  x"], "x"),
        ({"cast": "a", "to": "bool"}, ["Yes"], "t"),
    ],
)
def test_a_step_answers(raw: Any, values: list[Any], answer: str | None) -> None:
    assert bound(raw).forward(*values) == answer


def test_json_is_built_by_type() -> None:
    types = (L(K.INT, bits=32), TEXT, L(K.BOOL), L(K.JSON), L(K.DECIMAL, precision=5, scale=2), L(K.FLOAT, bits=64))
    made = bound({"json_build": {k: k for k in "abcdef"}}, *types).forward("1", 'é"', "t", '{"x" : 1.0}', None, "NaN")
    assert made == '{"a":1,"b":"é\\"","c":true,"d":{"x":1.0},"e":null,"f":"NaN"}'


def test_a_keyed_hash_keeps_equal_values_equal_and_needs_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = {"mask": "a", "method": "hash", "salt": {"env": "SALT"}, "length": 16}
    monkeypatch.setenv("SALT", "pepper")
    one = bound(raw)
    # from: printf 'ada@example.org' | openssl dgst -sha256 -hmac pepper
    assert one.forward("ada@example.org") == "eddcbc0c0fa8cbf6"
    assert "pepper" not in repr(one)
    monkeypatch.setenv("SALT", "salt")
    assert bound(raw).forward("ada@example.org") != one.forward("ada@example.org")
    monkeypatch.delenv("SALT")
    with pytest.raises(ValueError, match=r"salt\.env: environment variable SALT is not set"):
        bound(raw)


def test_python_functions_get_and_give_python_values() -> None:
    def answer(function: str, type: LogicalType, value: str, returns: str = "text") -> str | None:
        return bound({"python": function, "columns": ["a"], "returns": returns}, type).forward(value)

    assert answer("builtins:repr", L(K.DECIMAL), "1.50") == "Decimal('1.50')"
    assert answer("builtins:repr", L(K.TIMESTAMPTZ), "2024-01-31 10:00:00.5+00").endswith("tzinfo=datetime.timezone.utc)")  # type: ignore[union-attr]
    assert answer("builtins:repr", L(K.DATE), "infinity") == "'infinity'"
    assert answer("builtins:repr", L(K.ARRAY), '{1,"a b",NULL}') == "['1', 'a b', None]"
    assert answer("builtins:bool", L(K.INT), "0", "bool") == "f"
    assert answer("builtins:float", L(K.INT), "100000000000000000000", "double") == "1e+20"
    assert answer("builtins:bytes", L(K.BYTES), "\\x0061", "bytes") == "\\x0061"
    assert answer("copy:copy", L(K.TIMESTAMPTZ), "2024-01-31 10:00:00.5+00") == "2024-01-31 10:00:00.5+00"
    assert answer("copy:copy", L(K.JSON), '{"a": [1]}', "json") == '{"a":[1]}'
    with pytest.raises(DataRejected, match=r"python builtins:int: raised ValueError$"):
        answer("builtins:int", TEXT, "secret")
    with pytest.raises(ValueError, match="has no function 'nope'"):
        answer("builtins:nope", TEXT, "")
    with pytest.raises(ValueError, match="cannot import nowhere"):
        answer("nowhere:nope", TEXT, "")


def test_an_unmapped_value_stops() -> None:
    with pytest.raises(DataRejected, match="not in `values`"):
        bound({"map": "a", "values": {"A": "x"}}).forward("B")
    # every label is mapped, so SQL may do it
    total = bound({"map": "a", "values": {"A": "x"}}, L(K.ENUM, labels=("A",)))
    assert total.sql("postgresql", ["a"]) is not None
    assert total.sql("mysql", ["a"]) is None  # where '' may hide in an ENUM
    with pytest.raises(ValueError, match="maps 'A', which enum does not have"):
        bound({"map": "a", "values": {"A": "x"}}, L(K.ENUM, labels=("B",)))


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"uper": "a"}, ".uper: unknown transform (did you mean 'upper'?)"),
        ({"lower": ["a", "b"]}, ".lower: takes 1 column, not 2"),
        ({"lower": None}, ".lower: must name a source column"),
        ({"lower": 5}, ".lower: must name a source column"),
        ([], ": is an empty list"),
        ({}, ": must be a source column or a step"),
        (5, ": must be a source column or a step"),
        (["a", 5], "[1]: must be a source column or a step"),
        (["a", "uppr"], "[1].uppr: unknown transform (did you mean 'upper'?)"),
        (["a", {"concat": ["b"]}], "[1].concat: takes at least 2 columns: it can only come first"),
        (["a", {"const": 5}], "[1].const: takes no column: it can only come first"),
        ({"map": "a"}, ".map: values: is missing"),
        ({"map": "a", "values": {}}, ".values: "),
        ({"map": "a", "values": {"x": 1}, "otherwise": "explode"}, ".otherwise: must be 'stop', 'keep', 'null' or 'default'"),
        ({"map": "a", "values": {"x": 1}, "defalt": 1}, ".defalt: unknown key (did you mean 'default'?)"),
        ({"split": "a"}, ".split: part: is missing"),
        ({"split": "a", "part": 3, "parts": 2}, ".split: part 3 is beyond parts 2"),
        ({"split": "a", "part": 1, "separator": ""}, ".separator: is empty"),
        ({"cast": "a", "to": "decmal"}, ".to: 'decmal' is no type (did you mean 'decimal'?)"),
        ({"cast": "a", "to": "decimal(2,5)"}, ".to: "),
        ({"mask": "a", "method": "hash"}, ".mask: needs salt"),
        ({"mask": "a", "method": "hash", "salt": "pepper"}, ".salt: a secret does not go into this file"),
        ({"python": "os", "columns": ["a"]}, ".python: must name a function as module:function"),
        ({"python": "os:x;y", "columns": ["a"]}, ".python: must name"),
        ({"python": "os:getcwd"}, ".python: needs columns"),
        ({"json_extract": "a", "path": "a..b"}, ".path: has an empty part"),
        ({"json_build": {}}, ".json_build: must be a mapping"),
        ({"const": [1]}, ".const: must be one value"),
    ],
)
def test_a_wrong_step_names_its_key(raw: Any, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_chain(raw, PATH)
    assert f"{PATH}{message}" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "pepper" not in str(caught.value)


# -- inverses ---------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw", [raw for step in steps().values() for raw in step.examples], ids=str)
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_an_inverse_that_is_claimed_holds(raw: Any, data: st.DataObject) -> None:
    chain = read_chain(raw, PATH)
    made = chain.bound((TEXT,) * len(chain.columns))
    values = [data.draw(st.none() | TEXTS) for _ in chain.columns]
    for at in range(len(chain.columns)):
        back: list[Any] = []
        for place in range(len(made.steps) - 1, -1, -1):
            undone = made.steps[place].inverse(at if place == 0 else 0)
            if isinstance(undone, str):
                assert undone
                return
            back += undone
        try:
            answer = made.forward(*values)
        except DataRejected:
            return
        type = made.result
        for step in back:
            # through the file's own syntax, as the way back is written
            again = read_chain(["x", step.dump(None)], PATH).bound((type,))
            answer, type = again.forward(answer), again.result
        assert answer == values[at]


@settings(deadline=None)
@given(
    values=st.dictionaries(TEXTS, st.none() | TEXTS, min_size=1, max_size=6),
    if_null=st.none() | TEXTS,
)
def test_a_map_turned_round_gives_every_value_back(values: dict[str, str | None], if_null: str | None) -> None:
    made = bound({"map": "a", "values": values, "if_null": if_null})
    back = made.steps[0].inverse(0)
    results = [*values.values(), if_null]
    if len(set(results)) < len(results):
        assert isinstance(back, str)
        return
    assert not isinstance(back, str)
    for value in [*values, None]:
        assert back[0].bound((TEXT,)).forward(made.forward(value)) == value


def _clock(value: datetime.datetime | datetime.time, precision: int | None) -> str:
    unit = 10 ** (6 - (6 if precision is None else precision))
    text = str(value.replace(microsecond=value.microsecond // unit * unit))
    return text.rstrip("0").rstrip(".") if "." in text else text


def _canonical(type: LogicalType) -> st.SearchStrategy[str]:
    match type.kind:
        case K.BOOL:
            return st.sampled_from("tf")
        case K.INT if type.native == "tinyint(1)":
            return st.sampled_from("01")
        case K.INT:
            bits = type.bits or 32
            low, high = (0, 2**bits - 1) if type.unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
            return st.integers(low, high).map(str)
        case K.YEAR:
            return st.integers(1901, 2155).map(str)
        case K.DECIMAL:
            scale, digits = type.scale or 0, type.precision or 12
            return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda n: format(Decimal(n).scaleb(-scale), f".{scale}f"))
        case K.FLOAT:
            return st.floats(width=type.bits or 64).map(lambda x: floats.canonical(repr(x), type.bits or 64))  # type: ignore[call-overload]
        case K.DATE:
            return st.sampled_from(["infinity", "0044-03-15 BC"]) | st.dates().map(str)
        case K.TIMESTAMP | K.TIMESTAMPTZ:
            texts = st.datetimes().map(lambda moment: _clock(moment, type.precision))
            return texts if type.kind is K.TIMESTAMP else texts.map(lambda text: text + "+00")
        case K.TIME:
            return st.times().map(lambda time: _clock(time, type.precision))
        case K.TEXT:
            return st.text("ab '\\é,{}\"", max_size=type.length or 30).map(lambda text: text.rstrip(" ") if type.fixed else text)
        case K.BYTES:
            size = type.length or 20
            return st.binary(min_size=size if type.fixed else 0, max_size=size).map(lambda b: "\\x" + b.hex())
        case K.UUID:
            return st.uuids().map(str)
        case K.BITS:
            size = type.length or 40
            return st.text("01", min_size=size if type.fixed else 1, max_size=size)
        case K.ENUM:
            return st.sampled_from(type.labels)
        case K.SET:
            return st.lists(st.sampled_from(type.labels), unique=True).map(lambda picked: ",".join(sorted(picked, key=type.labels.index)))
        case K.ARRAY:
            return st.lists(st.none() | st.text('ab ,"\\{}', max_size=5), max_size=4).map(array_text)
        case K.JSON:
            return st.dictionaries(st.text("ab"), st.integers()).map(json.dumps)
    return st.just("x")


_INT, _DEC, _STAMP, _BITS = K.INT, K.DECIMAL, K.TIMESTAMP, K.BITS
TYPES = [
    L(K.BOOL), L(_INT, bits=8, native="tinyint(1)"), L(_INT, bits=16), L(_INT, bits=32, unsigned=True), L(_INT, bits=64),
    L(_INT, bits=64, unsigned=True), L(K.YEAR), L(_DEC, precision=20, scale=0), L(_DEC, precision=10, scale=2),
    L(_DEC, precision=30, scale=10), L(_DEC), L(K.FLOAT, bits=32), L(K.FLOAT, bits=64), L(K.DATE), L(_STAMP, precision=6),
    L(_STAMP, precision=0), L(K.TIMESTAMPTZ, precision=6), L(K.TIME, precision=6), L(K.TIME, precision=3), L(K.TEXT),
    L(K.TEXT, length=10), L(K.TEXT, length=40, fixed=True), L(K.BYTES), L(K.BYTES, length=16, fixed=True), L(K.UUID),
    L(_BITS, length=1, fixed=True), L(_BITS, length=9, fixed=True), L(_BITS, length=40), L(K.ENUM, labels=("a", "b'")),
    L(K.SET, labels=("a", "b")), L(K.ARRAY, element=TEXT), L(K.JSON), L(K.JSON, binary=True), L(K.INTERVAL), L(K.GEOMETRY),
]  # fmt: skip


@functools.cache
def _pairs() -> list[tuple[LogicalType, LogicalType]]:
    return [pair for pair in itertools.permutations(TYPES, 2) if (made := conversion(*pair)).possible and made.exact]


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_an_exact_conversion_can_be_taken_back(data: st.DataObject) -> None:
    source, target = data.draw(st.sampled_from(_pairs()))
    there, back = conversion(source, target), conversion(target, source)
    text = data.draw(_canonical(source))
    arrived = there.python(text) if there.python else text
    if not back.possible:
        return
    again = back.python(arrived) if back.python else arrived
    if source.kind is K.JSON or (source.kind is K.FLOAT and target.kind is K.FLOAT):
        assert json_text(again, text) or floating(source.bits)(again, text)
    else:
        assert again == text, (source, target, arrived)


def test_every_conversion_says_what_it_does() -> None:
    for source, target in itertools.product(TYPES, TYPES):
        made = conversion(source, target)
        assert made.exact == (not made.why), (source, target)
        assert made.possible or not made.exact
        if source == target:
            assert made.python is None


@pytest.mark.parametrize(
    ("source", "target", "text", "answer"),
    [
        (L(K.INT, bits=8, native="tinyint(1)"), L(K.BOOL), "1", "t"),
        (L(K.INT, bits=8), L(K.BOOL), "-2", "t"),
        (L(K.BOOL), L(K.INT, bits=8), "t", "1"),
        (L(K.INT, bits=32), L(K.DECIMAL, precision=10, scale=2), "-5", "-5.00"),
        (L(K.DECIMAL), L(K.DECIMAL, precision=65, scale=3), "-0.0004", "0.000"),
        (L(K.DECIMAL), L(K.DECIMAL, precision=65, scale=2), "2.345", "2.35"),
        (L(K.DECIMAL), L(K.DECIMAL, precision=65, scale=2), "NaN", "NaN"),
        (L(K.DECIMAL), L(K.DECIMAL, precision=65, scale=30), "1", "1." + "0" * 30),
        (L(K.TEXT), L(K.INT, bits=32), " 007", "7"),
        (L(K.TEXT), L(K.DECIMAL, precision=5, scale=1), "+.25", "0.3"),
        (L(K.TEXT), L(K.UUID), "{A0EEBC999C0B4EF8BB6D6BB9BD380A11}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
        (L(K.TEXT), L(K.BYTES), "é\\", "\\xc3a95c"),
        (L(K.TEXT), L(K.TEXT, length=3, fixed=True), "a  ", "a"),
        (L(K.BYTES, length=16, fixed=True), L(K.UUID), "\\x" + "ab" * 16, str(uuid.UUID("ab" * 16))),
        (L(K.TIMESTAMP, precision=6), L(K.TIMESTAMPTZ, precision=6), "0044-03-15 10:00:00 BC", "0044-03-15 10:00:00+00 BC"),
        (L(K.TIMESTAMPTZ, precision=6), L(K.TIMESTAMP, precision=0), "2024-01-31 23:59:59.999999+00", "2024-01-31 23:59:59"),
        (L(K.TIMESTAMP, precision=6), L(K.TIMESTAMP, precision=3), "2024-01-31 23:59:50.100234", "2024-01-31 23:59:50.1"),
        (L(K.TIMESTAMP, precision=6), L(K.DATE), "2024-01-31 23:59:59", "2024-01-31"),
        (L(K.TIME, precision=6), L(K.INTERVAL), "-838:59:59.000001", "PT-838H-59M-59.000001S"),
        (L(K.SET, labels=("a b", "c")), L(K.ARRAY, element=TEXT), "a b,c", '{"a b",c}'),
        (L(K.SET, labels=("a",)), L(K.ARRAY, element=TEXT), "", "{}"),
        (L(K.ARRAY, element=L(K.INT, bits=32)), L(K.JSON), "{{1,NULL},{3,4}}", "[[1,null],[3,4]]"),
        (L(K.ARRAY, element=TEXT), L(K.JSON), '{1,"NULL",NULL,"a\\"b"}', '["1","NULL",null,"a\\"b"]'),
        (L(K.BITS, length=9, fixed=True), L(K.INT, bits=32), "100000001", "257"),
        (L(K.FLOAT, bits=64), L(K.DECIMAL, precision=30, scale=2), "1e+20", "100000000000000000000.00"),
        (L(K.INT, bits=64), L(K.FLOAT, bits=64), "9007199254740993", "9.007199254740992e+15"),
    ],
)  # fmt: skip
def test_a_conversion_answers(source: LogicalType, target: LogicalType, text: str, answer: str) -> None:
    python = conversion(source, target).python
    assert (python(text) if python else text) == answer


@given(
    st.recursive(st.none() | TEXTS, lambda inner: st.lists(inner, max_size=3), max_leaves=8).filter(lambda value: isinstance(value, list))
)
def test_flat_arrays_are_read_as_they_are_written(items: list[Any]) -> None:
    flat = [item for item in items if not isinstance(item, list)]
    assert parse_array(array_text(flat)) == flat


def test_type_words_are_read_as_they_are_written() -> None:
    for type in TYPES:
        word = write_type(type)
        if word is not None and type.kind is not K.BITS:
            assert conversion(type, read_type(word)).exact
            assert conversion(type, read_type(word)).python is None


# -- row filters ------------------------------------------------------------------------------------------------------------------------

COLUMNS = {name: Column(name, type) for name, type in {"n": L(K.INT, bits=64), "m": L(K.INT, bits=64), "s": TEXT, "r": TEXT}.items()}
_NUMBER = st.integers(-2, 2).map(str)
_WORD = st.sampled_from(["''", "'a'", "'A'", "'ab'", "'a '", "'it''s'", "'é'"])


def _conditions() -> st.SearchStrategy[str]:
    sign = st.sampled_from(["=", "<>", "<", "<=", ">", ">=", "!="])
    name, word = st.sampled_from("nm"), st.sampled_from("sr")

    def fill(template: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
        return st.tuples(*parts).map(lambda filled: template.format(*filled))

    like = st.sampled_from(["'a%'", "'_'", "'%''s'", "'!%' escape '!'", "'%'", "''"])
    leaf = st.one_of(
        fill("{} {}like {}", word, st.sampled_from(["", "not "]), like),
        fill("{} {} {}", name, sign, _NUMBER | name),
        fill("{} {} {}", _NUMBER, sign, name),
        fill("{} {} {}", word, sign, _WORD | word),
        fill("{} is {}", name | word, st.sampled_from(["null", "not null"])),
        fill("{} {}in ({}, {})", name, st.sampled_from(["", "not "]), _NUMBER, _NUMBER | st.just("null")),
        fill("{} {}in ({}, {})", word, st.sampled_from(["", "not "]), _WORD, _WORD | st.just("null")),
        fill("{} {}between {} and {}", name, st.sampled_from(["", "not "]), _NUMBER, _NUMBER),
    )
    return st.recursive(
        leaf,
        lambda inner: st.one_of(fill("({} and {})", inner, inner), fill("({} or {})", inner, inner), fill("not ({})", inner)),
        max_leaves=6,
    )


@given(
    condition=_conditions(),
    rows=st.lists(
        st.tuples(*[st.none() | st.integers(-2, 2)] * 2, *[st.none() | st.sampled_from(["", "a", "A", "ab", "a ", "it's", "é"])] * 2),
        min_size=1, max_size=12,
    ),
)  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_filters_know_three_truth_values_as_a_database_does(condition: str, rows: list[tuple[Any, ...]]) -> None:
    """The reference is SQLite, whose logic and binary text order are the same."""
    made = read_filter(condition, "postgresql", COLUMNS, "where")
    at = [list(COLUMNS).index(name) for name in made.columns]
    with sqlite3.connect(":memory:") as db:
        db.execute("PRAGMA case_sensitive_like = on")
        for row in rows:
            query = f"SELECT {condition} FROM (SELECT ? AS n, ? AS m, ? AS s, ? AS r)"
            (expected,) = db.execute(query, row).fetchone()
            texts = [None if value is None else str(value) for value in row]
            assert made.passes(*[texts[place] for place in at]) == (None if expected is None else bool(expected)), (condition, row)
    db.close()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("", "must be one condition"),
        ("(((", "is no condition"),
        ("n = 1; drop table x", "is no condition"),
        ("1=1) union select (1", "must be one condition"),
        ("n = 1) group by (n", "must be one condition"),
        ("missing = 1", "there is no column 'missing'"),
        ("nn = 1", "there is no column 'nn' (did you mean 'n'?)"),
        ("t.n = 1", "name the column alone"),
        ("n = null", "nothing equals NULL: write n is null"),
        ("n in (null)", "nothing equals NULL"),
        ("n = 'x'", "n is a number and 'x' is none"),
        ("s = 5", "s is text: put the value in quotes"),
        ("n + 1 = 2", "looks at no column"),
        ("1 = 1", "looks at no column"),
        ("n < now()", "is no value"),
        ("lower(s) = 'a'", "looks at no column"),
        ("exists (select 1)", "is not known here"),
        ("n in (select 1)", "in takes values, not a query"),
        ("s like r", "like needs a pattern in quotes"),
        ("s like 'a\\'", "the pattern ends with its escape character"),
        ("s ilike 'a'", "is not known here"),
        ("n = s", "n and s are of different types"),
        ("s", "s alone is no condition"),
        ("n = 1 or " * 2000 + "n = 1", "is longer than"),
        ("(" * 3000 + "n = 1" + ")" * 3000, "m.yaml: tables[0].where: "),
    ],
)
def test_a_wrong_filter_is_refused_in_one_line(condition: str, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        read_filter(condition, "postgresql", COLUMNS, "m.yaml: tables[0].where")
    assert message in str(caught.value)
    assert str(caught.value).startswith("m.yaml: tables[0].where: ")
    assert "\n" not in str(caught.value)


def test_names_in_filters_follow_the_product() -> None:
    columns = {"createdAt": Column("createdAt", L(K.DATE)), "id": Column("id", L(K.INT))}
    assert read_filter("CREATEDAT is null and ID = 1", "mysql", columns, "w").columns == ("createdAt", "id")
    assert read_filter('"createdAt" is null and ID = 1', "postgresql", columns, "w").columns == ("createdAt", "id")
    assert read_filter("`createdAt` > '2024-01-01'", "mysql", columns, "w").columns == ("createdAt",)
    with pytest.raises(BadInput, match="there is no column"):
        read_filter('"ID" = 1', "postgresql", columns, "w")
