"""Table pairs: which entry speaks for which table, what rows become, what is noticed, and the way back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import BadInput, DataRejected, SchemaChanged
from pipeline.model import UNCHANGED, Catalog, Column, Finding, Index, Kind, LogicalType, Table, TableId
from pipeline.spec import Migration, parse
from tests.rowtext import rowtext
from transforms.inverse import reverse_migration
from transforms.pairing import Pair, resolve
from transforms.shapecode import UNAVAILABLE, ColumnMissing, ColumnsUnknown

K, L = Kind, LogicalType
INT, TEXT = L(K.INT, bits=64, native="bigint"), L(K.TEXT, native="text")
BOOL, STAMP = L(K.BOOL, native="boolean"), L(K.TIMESTAMPTZ, precision=6)


def table(name: str, *columns: Column, key: tuple[str, ...] = ("id",), **more: Any) -> Table:
    return Table(TableId(*name.split(".")), columns, key, key, **more)


def catalog(*tables: Table, engine: Any = "postgresql", **more: Any) -> Catalog:
    default = "public" if engine == "postgresql" else "shop"
    return Catalog(engine, "postgresql" if engine == "postgresql" else "mariadb", "1", "shop", default, {t.id: t for t in tables}, **more)


def not_null(name: str, type: LogicalType = INT, **more: Any) -> Column:
    return Column(name, type, False, **more)


CUSTOMER = table(
    "public.customer",
    not_null("id"),
    Column("first", TEXT),
    Column("last", TEXT),
    Column("email", TEXT),
    Column("status", L(K.ENUM, labels=("A", "I"))),
    Column("deleted_at", STAMP),
    replica_identity="default",
)
CITY = table("public.city", not_null("id"), Column("name", TEXT), replica_identity="default")


def migration(*tables: dict[str, Any], **more: Any) -> Migration:
    data = {
        "name": "m",
        "source": {"url": "postgresql://a@old/shop"},
        "target": {"url": "postgresql://a@new/crm"},
        "kafka": {"bootstrap": "k:9092"},
        "connect": {"url": "http://c:8083"},
        "tables": list(tables),
    }
    return parse(json.dumps(data | more))


def mysql(**more: Any) -> dict[str, Any]:
    return {"source": {"url": "mysql://a@old/shop"}, **more}


def one(entry: dict[str, Any], source: Catalog, target: Catalog | None = None, /, **more: Any) -> Pair:
    (pair,), _ = resolve(migration(entry, **more), source, target)
    return pair


def ids(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(finding.id, finding.severity, finding.object) for finding in findings]


DECODERS: dict[str, Callable[[object], str | None] | None] = {"id": str, "n": str}


# -- which tables -----------------------------------------------------------------------------------------------------------------------


def test_the_more_exact_entry_wins_then_the_later_one() -> None:
    source = catalog(CUSTOMER, CITY, table("public.customer_log", not_null("id")), table("sales.order", not_null("id")))
    entries = [
        {"from": "customer", "to": "person"},
        {"from": "public.*"},
        {"from": "public.customer_*", "to": "audit.*"},
        {"from": "sales.*", "to": "sales.*"},
        {"from": "public.*", "to": "copy.*"},
        {"from": "public.city", "skip": True},
    ]
    pairs, findings = resolve(migration(*entries), source, None)
    assert [(pair.number, str(pair.source.id), str(pair.target_id)) for pair in pairs] == [
        (1, "public.customer", "public.person"),
        (2, "public.customer_log", "audit.customer_log"),
        (3, "sales.order", "sales.order"),
    ]
    assert not findings


def test_one_table_may_be_split_over_two() -> None:
    person = {"from": "customer", "to": "person", "drop": ["email"]}
    address = {"from": "customer", "to": "address", "drop": ["first", "last", "status", "deleted_at"]}
    pairs, _ = resolve(migration(person, address), catalog(CUSTOMER), None)
    assert [(pair.target_id.name, pair.columns) for pair in pairs] == [
        ("address", ("id", "email")),
        ("person", ("id", "first", "last", "status", "deleted_at")),
    ]


def test_a_wildcard_leaves_out_what_cannot_move_and_says_so() -> None:
    leaf = table("public.log_2024", not_null("id"), partition_of=TableId("public", "log"))
    source = catalog(CITY, table("public.nokey", Column("a", INT), key=()), table("public.crossfade_signal", not_null("id")), leaf)
    pairs, findings = resolve(migration({"from": "public.*"}), source, None)
    assert [pair.source.id.name for pair in pairs] == ["city"]
    assert ids(findings) == [("key.missing", "warning", "public.nokey")]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"from": "custmer"}, "tables[0].from: there is no table public.custmer (did you mean 'public.customer'?)"),
        ({"from": "publik.*"}, "tables[0].from: there is no table in 'publik' (did you mean 'public'?)"),
        ({"from": "public.x*"}, "tables[0].from: no table of public is called like 'x*'"),
        ({"from": "v"}, "tables[0].from: public.v is a view"),
        ({"from": "customer", "drop": ["emial"]}, "tables[0].drop: public.customer has no column 'emial' (did you mean 'email'?)"),
        ({"from": "customer", "key": ["idd"]}, "tables[0].key: public.customer has no column 'idd'"),
        ({"from": "customer", "columns": {"x": "emial"}}, "tables[0].columns.x: public.customer has no column 'emial'"),
        ({"from": "customer", "columns": {"x": {"lower": "emial"}}}, "tables[0].columns.x: public.customer has no column 'emial'"),
        ({"from": "customer", "columns": {"x": {"cast": "deleted_at", "to": "int"}}}, "tables[0].columns.x: cast from timestamptz to int"),
        ({"from": "customer", "columns": {"x": {"map": "status", "values": {"B": 1}}}}, "tables[0].columns.x: maps 'B', which enum does not have"),
        ({"from": "customer", "where": "emial = 'x'"}, "tables[0].where: there is no column 'emial' (did you mean 'email'?)"),
        ({"from": "customer", "reverse": {"emial": "x"}}, "tables[0].reverse: public.customer has no column 'emial'"),
    ],
)  # fmt: skip
def test_names_that_are_not_there_are_bad_input(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as caught:
        resolve(migration(entry), catalog(CUSTOMER, CITY, views=(TableId("public", "v"),)), None)
    assert f"migration.yaml: {message}" in str(caught.value)


def test_a_missing_target_is_bad_input_when_it_should_exist() -> None:
    with pytest.raises(BadInput, match=r"tables\[0\]\.to: the target has no table public\.persn \(did you mean 'public\.person'\?\)"):
        resolve(migration({"from": "customer", "to": "persn"}, schema="existing"), catalog(CUSTOMER), catalog(table("public.person")))


def test_a_wildcard_in_one_database_does_not_copy_tables_onto_themselves() -> None:
    same = {"target": {"url": "postgresql://a@old/shop"}}
    with pytest.raises(BadInput, match=r"tables\[0\]: public\.c\* would be copied onto itself"):
        resolve(migration({"from": "public.c*"}, **same), catalog(CITY), catalog(CITY))
    (pair,), _ = resolve(migration({"from": "city", "to": "town"}, **same), catalog(CITY), catalog(CITY))
    assert pair.target is None


@pytest.mark.parametrize(
    ("entries", "target", "refused"),
    [
        ([{"from": "customer", "to": "x"}, {"from": "city", "to": "x"}], "postgresql", True),
        ([{"from": "customer", "to": "x"}, {"from": "city", "to": "X"}], "postgresql", False),
        ([{"from": "customer", "to": "x"}, {"from": "city", "to": "X"}], "mysql", True),
        ([{"from": "city", "columns": {"a": "id", "A": "name"}}], "mysql", True),
        ([{"from": "city", "columns": {"a": "id", "A": "name"}}], "postgresql", False),
    ],
)
def test_names_that_collide_on_the_target(entries: list[dict[str, Any]], target: str, refused: bool) -> None:
    _, findings = resolve(migration(*entries, target={"url": f"{target}://a@new/crm"}), catalog(CUSTOMER, CITY), None)
    assert ("target.collision" in [finding.id for finding in findings]) is refused


# -- keys -------------------------------------------------------------------------------------------------------------------------------


def test_a_key_may_be_renamed_and_exactly_converted_but_not_changed() -> None:
    pair = one({"from": "city", "columns": {"city_id": "id"}}, catalog(CITY))
    assert (pair.key, pair.key_at, pair.source_key) == (("city_id",), (0,), ("id",))
    wide = catalog(table("public.city", not_null("id", L(K.DECIMAL, precision=20, scale=1)), Column("name", TEXT)))
    pair = one({"from": "city"}, catalog(CITY), wide)
    shape = pair.shape_events(DECODERS)
    assert shape.key(rowtext({"id": 7})) == ("7.0",)
    assert shape.row(rowtext({"id": 7, "name": "x"})) == ("7.0", "x")
    for entry in ({"columns": {"id": ["id", {"cast": "text"}]}}, {"columns": {"x": {"concat": ["id", "name"]}}}, {"drop": ["id"]}):
        pairs, findings = resolve(migration({"from": "city", **entry}), catalog(CITY), None)
        assert not pairs
        assert ids(findings) == [("key.transformed", "error", "public.city.id")]
    padded = table("public.t", not_null("id", L(K.TEXT, length=9)))
    fixed = table("public.t", not_null("id", L(K.TEXT, length=9, fixed=True)))
    pairs, findings = resolve(migration({"from": "t"}), catalog(padded), catalog(fixed))
    assert not pairs
    assert "key.transformed" in [finding.id for finding in findings]


def test_a_table_without_a_key_needs_one_named_and_whole_events() -> None:
    keyless = table("public.log", not_null("a"), Column("b", TEXT), key=(), replica_identity="default")
    pairs, findings = resolve(migration({"from": "log"}), catalog(keyless), None)
    assert (pairs, ids(findings)) == ([], [("key.missing", "error", "public.log")])
    pairs, findings = resolve(migration({"from": "log", "key": "a"}), catalog(keyless), None)
    assert pairs[0].key == ("a",)
    assert ids(findings) == [("key.replica_identity", "error", "public.log")]
    full = dataclasses.replace(keyless, replica_identity="full")
    assert resolve(migration({"from": "log", "key": "a"}), catalog(full), None)[1] == []
    nothing = dataclasses.replace(CITY, replica_identity="nothing")
    assert ids(resolve(migration({"from": "city"}), catalog(nothing), None)[1]) == [("key.replica_identity", "error", "public.city")]


def test_an_existing_target_must_have_the_key_as_a_unique_one() -> None:
    loose = table("public.city", not_null("id"), Column("name", TEXT), key=())
    _, findings = resolve(migration({"from": "city"}), catalog(CITY), catalog(loose))
    assert ids(findings) == [("key.not_unique", "error", "public.city")]


# -- an existing target -----------------------------------------------------------------------------------------------------------------


def test_an_existing_target_is_matched_by_name() -> None:
    source = table("public.t", not_null("id"), Column("kept", TEXT), Column("lost", TEXT), Column("made", TEXT), replica_identity="full")
    target = table(
        "public.t",
        not_null("id"),
        Column("kept", L(K.TEXT, length=5)),
        Column("made", TEXT, generated="upper(kept)"),
        Column("extra", TEXT),
        not_null("must", TEXT),
        not_null("filled", TEXT, default="''"),
    )
    (pair,), findings = resolve(migration({"from": "t"}, schema="existing"), catalog(source), catalog(target))
    assert pair.columns == ("id", "kept")
    assert ids(findings) == [
        ("type.narrower", "info", "public.t.kept"),
        ("column.unmatched", "error", "public.t.lost"),
        ("column.unfed", "info", "public.t"),
        ("column.required", "error", "public.t"),
        ("column.unfed", "info", "public.t"),
    ]
    with pytest.raises(BadInput, match=r"columns\.made: public\.t\.made is generated"):
        resolve(migration({"from": "t", "columns": {"made": "kept"}}, schema="existing"), catalog(source), catalog(target))


def test_types_that_do_not_go_together_are_found() -> None:
    source = table("public.t", not_null("id"), Column("a", STAMP), Column("b", L(K.TIMESTAMP, precision=6)))
    target = table("public.t", not_null("id"), Column("a", INT), Column("b", L(K.TIMESTAMP, precision=0)))
    _, findings = resolve(migration({"from": "t"}), catalog(source), catalog(target))
    assert ids(findings) == [("type.impossible", "error", "public.t.a"), ("type.lossy", "warning", "public.t.b")]


def test_a_made_target_brings_its_own_types_when_it_is_there() -> None:
    source = catalog(table("shop.t", not_null("id"), Column("ok", L(K.INT, bits=8, native="tinyint(1)"))), engine="mysql")
    pair = one({"from": "t"}, source, **mysql())
    assert pair.shape_text()(["1", "1"]) == ("1", "1")
    there = pair.with_target(table("public.t", not_null("id"), Column("ok", BOOL)))
    assert there.shape_text()(["1", "1"]) == ("1", "t")
    assert there.target_table().table.column("ok").type == BOOL
    with pytest.raises(ValueError, match="is not there yet"):
        pair.target_table()


def test_what_a_made_target_is_made_like() -> None:
    generated = Column("full", TEXT, generated="(first || last)")
    source = dataclasses.replace(CUSTOMER, columns=(*CUSTOMER.columns, generated))
    (pair,), findings = resolve(migration({"from": "customer"}), catalog(source), None)
    assert [column.name for column in pair.shaped().columns][-1] == "full"
    assert "full" not in pair.columns
    assert not findings
    entry = {"from": "customer", "columns": {"name": {"concat": ["first", "last"]}, "mail": "email"}}
    (pair,), findings = resolve(migration(entry), catalog(source), None)
    shaped = pair.shaped()
    assert [column.name for column in shaped.columns] == ["id", "name", "mail", "status", "deleted_at"]
    assert shaped.renames == {"id": "id", "email": "mail", "status": "status", "deleted_at": "deleted_at"}
    assert shaped.key == ("id",)
    assert ("column.generated", "warning", "public.customer.full") in ids(findings)


# -- rows -------------------------------------------------------------------------------------------------------------------------------

MAPPED = {
    "from": "customer",
    "to": "person",
    "columns": {
        "name": {"concat": ["first", "last"], "separator": " "},
        "email": ["email", "trim", {"lower": {"ascii": True}}],
        "active": {"map": "status", "values": {"A": True, "I": False}},
        "origin": {"const": "shop"},
    },
    "where": "deleted_at is null and id > 0",
}


def test_rows_of_events_and_of_text_are_shaped_alike() -> None:
    pair = one(MAPPED, catalog(CUSTOMER))
    assert pair.columns == ("id", "name", "email", "active", "deleted_at", "origin")
    assert pair.source_columns == ("id", "first", "last", "email", "status", "deleted_at")
    shape = pair.shape_events(DECODERS)
    raw = {"id": 5, "first": "Ada", "last": None, "email": " A@x.org ", "status": "A", "deleted_at": None, "unknown": 1}
    row = ("5", "Ada", "a@x.org", "t", None, "shop")
    assert (
        shape.row(rowtext(raw)),
        shape(rowtext(raw)),
        shape.key(rowtext(raw)),
        shape.key(rowtext({"id": 5})),
        shape.passes(rowtext(raw)),
    ) == (row, row, ("5",), ("5",), True)
    assert pair.shape_text()(["5", "Ada", None, " A@x.org ", "A", None]) == row
    assert shape.passes(rowtext(raw | {"deleted_at": "2024-01-01 00:00:00+00"})) is False
    assert shape.passes(rowtext(raw | {"id": None})) is False  # unknown keeps a row out
    assert pair.shape_text()(["0", "Ada", None, "", "A", None]) is None
    assert pair.filtered
    assert shape.partial


def test_what_an_event_leaves_out_stays_unchanged() -> None:
    pair = one(MAPPED | {"where": "email <> ''"}, catalog(CUSTOMER))
    shape = pair.shape_events(DECODERS)
    raw = {"id": 5, "first": UNAVAILABLE, "last": UNAVAILABLE, "email": UNAVAILABLE, "status": "A", "deleted_at": None}
    assert shape.row(rowtext(raw)) == ("5", UNCHANGED, UNCHANGED, "t", None, "shop")
    assert shape.passes(rowtext(raw)) is None
    with pytest.raises(DataRejected, match=r"public\.customer: .*leaves out a column.*REPLICA IDENTITY FULL"):
        shape.row(rowtext(raw | {"first": "Ada"}))
    _, findings = resolve(migration(MAPPED | {"where": "email <> ''"}), catalog(CUSTOMER), None)
    assert ids(findings) == [("replica_identity.needed", "warning", f"public.customer.{name}") for name in ("first", "email")]
    whole = dataclasses.replace(CUSTOMER, replica_identity="full")
    pair = one(MAPPED, catalog(whole))
    assert not pair.shape_events(DECODERS).partial
    assert pair.shape_events(DECODERS).row(rowtext(raw))[1] == f"{UNAVAILABLE} {UNAVAILABLE}"  # then it is only a text


@pytest.mark.parametrize(
    ("type", "raw"),
    [
        (TEXT, UNAVAILABLE),
        (L(K.JSON), UNAVAILABLE),
        (L(K.DECIMAL), UNAVAILABLE),
        (L(K.BYTES), "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="),
        (L(K.ARRAY, element=TEXT), [UNAVAILABLE]),
        (L(K.ARRAY, element=INT), list(UNAVAILABLE.encode())),
    ],
)
def test_every_form_of_a_left_out_value_is_known(type: LogicalType, raw: object) -> None:
    def decode(value: object) -> str:
        assert value != raw, "decoded a stand-in"
        return str(value)

    source = table("public.t", not_null("id"), Column("v", type), replica_identity="default")
    for decoder in (decode, None):
        if decoder is None and type.kind is K.ARRAY:
            continue
        shape = one({"from": "t"}, catalog(source)).shape_events({"id": str, "v": decoder})
        assert shape.row(rowtext({"id": 1, "v": raw})) == ("1", UNCHANGED)
        assert shape.row(rowtext({"id": 1, "v": None})) == ("1", None)


def test_events_that_do_not_fit_name_the_table_and_show_no_value() -> None:
    shape = one(MAPPED | {"where": "id > 0"}, catalog(CUSTOMER)).shape_events(DECODERS | {"id": lambda value: str(int(value))})  # type: ignore[call-overload]
    raw = {"id": 5, "first": "Ada", "last": None, "email": "e", "status": "A", "deleted_at": None}
    with pytest.raises(SchemaChanged, match=r"^an event of public\.customer has no column 'email': make the same change"):
        shape.row(rowtext({name: value for name, value in raw.items() if name != "email"}))
    with pytest.raises(SchemaChanged, match="no column 'id'"):
        shape.key(rowtext({}))
    for function in (shape.row, shape.key, shape.passes):
        with pytest.raises(DataRejected, match=r"^public\.customer\.id: cannot read the event's value \(ValueError\)$"):
            function(rowtext(raw | {"id": "secret"}))
    with pytest.raises(DataRejected, match=r"^public\.customer\.email: the event holds a list$"):
        shape.row(rowtext(raw | {"email": ["secret"]}))
    with pytest.raises(DataRejected, match=r"^public\.customer\.first: the event holds a int$"):
        shape.row(rowtext(raw | {"first": 5}))
    with pytest.raises(DataRejected, match=r"^public\.customer: map: a value is not in `values`"):
        shape.row(rowtext(raw | {"status": "secret"}))


_NASTY = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(["A", "", " a ", UNAVAILABLE])


@given(
    st.lists(st.sampled_from([
        "first", ["last", "trim"], {"concat": ["first", "last"], "separator": "-"}, {"split": "first", "part": 2},
        {"map": "email", "values": {"A": "x", "": None}, "otherwise": "keep", "if_null": "none"}, {"const": None}, {"const": 5},
        ["email", "upper", {"mask": "partial"}], ["id", {"cast": "decimal(20,2)"}], {"json_build": ["id", "first"]},
    ]), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(-3, 3), _NASTY, _NASTY, _NASTY), min_size=1, max_size=5),
)  # fmt: skip
@settings(max_examples=150, deadline=None)
def test_generated_code_does_what_the_steps_do(raws: list[Any], rows: list[tuple[Any, ...]]) -> None:
    source = dataclasses.replace(CUSTOMER, columns=CUSTOMER.columns[:4], replica_identity="full")
    entry = {"from": "customer", "columns": {"id": "id"} | {f"c{at}": raw for at, raw in enumerate(raws)}, "where": "id <> 0"}
    pair = one(entry, catalog(source))
    shape, text = pair.shape_events(DECODERS), pair.shape_text()
    for row in rows:
        raw = dict(zip(("id", "first", "last", "email"), row, strict=True))
        texts = {name: None if value is None else str(value) for name, value in raw.items()}
        wanted = tuple(field.chain.forward(*[texts[name] for name in field.chain.columns]) for field in pair.fields)
        assert shape.row(rowtext(raw)) == wanted
        assert text([texts[name] for name in pair.source_columns]) == (wanted if row[0] else None)
        assert shape.passes(rowtext(raw)) is bool(row[0])


def test_projections_are_in_sql_where_sql_says_the_same() -> None:
    pair = one({"from": "customer", "to": "person", "columns": {"mail": "email"}, "where": "id > 5"}, catalog(CUSTOMER))
    projection = pair.source_projection()
    assert projection is not None
    assert projection.table == CUSTOMER.id
    assert projection.expressions[3] == '"email"::text'
    assert projection.where == '("id" > 5)'
    bulk = pair.source_projection(bulk=True)
    assert bulk is not None
    assert bulk.expressions[0] == '"id"'
    assert pair.target_projection().table == TableId("public", "person")
    assert pair.target_projection().expressions[3] == '"mail"::text'
    lower = one({"from": "customer", "columns": {"email": {"lower": "email"}}, "where": "id > 5"}, catalog(CUSTOMER))
    assert lower.in_python
    assert lower.source_projection() is None
    assert (len(lower.raw_projection().expressions), lower.raw_projection().where) == (6, '("id" > 5)')


def test_names_with_quotes_stay_names() -> None:
    evil = "x\"; drop table y; --'{0}\n"
    source = table("public.t", not_null("id"), Column(evil, TEXT), replica_identity="full")
    pair = one({"from": "t"}, catalog(source))
    projection = pair.source_projection()
    assert projection is not None
    assert projection.expressions[1] == '"x""; drop table y; --\'{0}\n"::text'
    assert pair.shape_events(DECODERS).row(rowtext({"id": 1, evil: "v"})) == ("1", "v")
    strict = pair.shape_events(DECODERS, known={"id", evil})
    with pytest.raises(ColumnMissing):
        strict.row(rowtext({"id": 1}))
    with pytest.raises(ColumnsUnknown):
        strict.row(rowtext({"id": 1, evil: "v", "more": None}))
    with pytest.raises(DataRejected, match="holds a int"):
        strict.row(rowtext({"id": 1, evil: 5}))


def test_what_must_be_compared_in_python_is_known() -> None:
    columns = (
        not_null("id"),
        Column("doc", L(K.JSON, binary=True, native="jsonb")),
        Column("f", L(K.FLOAT, bits=64)),
        Column("name", TEXT),
    )
    source = catalog(table("public.t", *columns))
    assert one({"from": "t"}, source).compare_in_python == ()
    there = table("crm.t", not_null("id"), Column("doc", L(K.JSON)), Column("f", L(K.FLOAT, bits=64)), Column("name", TEXT))
    target = Catalog("mysql", "mariadb", "1", "crm", "crm", {there.id: there})
    pair = one({"from": "t"}, source, target, target={"url": "mysql://a@new/crm"})
    assert "doc" in pair.compare_in_python
    same = pair.same("doc")
    assert same('{"a": 1, "b": [1.0, "é"]}', '{"b":[1,"\\u00e9"],"a":1}')
    for other in ('{"a": 2, "b": [1.0, "é"]}', '{"a": true, "b": [1.0, "é"]}', '{"a": 1}', "{", None):
        assert not same('{"a": 1, "b": [1.0, "é"]}', other)
    assert not pair.same("name")("a", "A")
    assert not same("9007199254740993", "9007199254740992")


def test_masked_columns_are_known() -> None:
    pair = one({"from": "customer", "columns": {"email": {"mask": "email"}, "first": ["first", "trim"]}}, catalog(CUSTOMER))
    assert pair.masked == ("email",)


# -- the way back -----------------------------------------------------------------------------------------------------------------------

REVERSIBLE = {
    "from": "customer",
    "to": "person",
    "columns": {
        "person_id": "id",
        "given": {"split": "first", "separator": " ", "part": 1, "parts": 2},
        "more": {"split": "first", "separator": " ", "part": 2, "parts": 2},
        "mail": "email",
        "active": {"map": "status", "values": {"A": True, "I": False}, "if_null": "unknown"},
        "extra": {"json_build": {"last": "last"}},
    },
}


def _round(entry: dict[str, Any], source: Table, target: Table | None = None) -> tuple[Pair, Pair]:
    """The pair and the pair of the way back, resolved against a target as the pair itself would make it."""
    forth = migration(entry)
    pair = one(entry, catalog(source), None)
    pair = pair.with_target(target or Table(pair.target_id, pair.shaped().columns, pair.key, pair.key))
    back, findings = reverse_migration(forth, [pair], "back")
    assert back is not None, findings
    assert not [finding for finding in findings if finding.severity == "error"]
    assert (back.source.url, back.target.url) == (forth.target.url, forth.source.url)
    assert pair.target is not None
    (reverse,), found = resolve(back, catalog(pair.target), catalog(source))
    assert not [finding for finding in found if finding.severity == "error"], found
    return pair, reverse


@given(st.tuples(st.integers(), *[_NASTY] * 3, st.none() | st.sampled_from("AI"), st.none() | st.just("2024-01-01 00:00:00+00")))
@settings(max_examples=150, deadline=None)
def test_what_goes_there_and_back_is_the_same_row(row: tuple[Any, ...]) -> None:
    pair, reverse = _round(REVERSIBLE, CUSTOMER)
    texts = [None if value is None else str(value) for value in row]
    made = pair.shape_text()(texts)
    assert made is not None
    there = dict(zip(pair.columns, made, strict=True))
    again = reverse.shape_text()([there[name] for name in reverse.source_columns])
    assert again is not None
    assert dict(zip(reverse.columns, again, strict=True)) == dict(zip((column.name for column in CUSTOMER.columns), texts, strict=True))


def test_the_way_back_of_renames_swaps_and_new_columns() -> None:
    swap = {"from": "customer", "to": "person", "columns": {"first": "last", "last": "first"}}
    pair = one(swap, catalog(CUSTOMER))
    wider = Table(pair.target_id, (*pair.shaped().columns, Column("new_thing", TEXT)), ("id",), ("id",))
    pair, reverse = _round(swap, CUSTOMER, wider)
    made = dict(zip(pair.columns, pair.shape_text()(["1", "Ada", "L", "e", "A", None]) or (), strict=True))
    assert (made["first"], made["last"]) == ("L", "Ada")
    assert set(reverse.source_columns) == {"id", "first", "last", "email", "status", "deleted_at"}
    there = dict(zip(reverse.columns, reverse.shape_text()([made[name] for name in reverse.source_columns]) or (), strict=True))
    assert (there["first"], there["last"]) == ("Ada", "L")


def test_the_way_back_goes_through_the_targets_own_type() -> None:
    """true and false are 1 and 0 in a tinyint(1): the map turned round must still find them."""
    entry = {"from": "customer", "to": "person", "columns": {"active": {"map": "status", "values": {"A": True, "I": False}}}}
    pair = one(entry, catalog(CUSTOMER))
    columns = tuple(
        dataclasses.replace(column, type=L(K.INT, bits=8, native="tinyint(1)")) if column.name == "active" else column
        for column in pair.shaped().columns
    )
    pair, reverse = _round(entry, CUSTOMER, Table(pair.target_id, columns, ("id",), ("id",)))
    made = pair.shape_text()(["1", "Ada", "L", "e", "A", None])
    assert made is not None
    assert made[pair.columns.index("active")] == "1"
    at = dict(zip(pair.columns, made, strict=True))
    again = reverse.shape_text()([at[name] for name in reverse.source_columns])
    assert again is not None
    assert again[reverse.columns.index("status")] == "A"


def test_columns_without_a_way_back_are_named() -> None:
    source = dataclasses.replace(CUSTOMER, columns=(*CUSTOMER.columns, not_null("must", TEXT), not_null("filled", TEXT, default="'x'")))
    entry = {
        "from": "customer",
        "columns": {"name": {"concat": ["first", "last"]}, "email": {"lower": "email"}},
        "drop": ["must", "filled", "deleted_at"],
    }
    back, findings = one(entry, catalog(source)).inverse()
    assert back is None
    assert ids(findings) == [
        ("inverse.none", "error", "public.customer.first"),
        ("inverse.none", "error", "public.customer.last"),
        ("inverse.none", "error", "public.customer.email"),
        ("inverse.default", "info", "public.customer.deleted_at"),
        ("inverse.none", "error", "public.customer.must"),
        ("inverse.default", "info", "public.customer.filled"),
    ]
    assert "letter case is lost" in findings[2].message
    said = {
        "first": {"split": "name", "part": 1, "parts": 2},
        "last": {"split": "name", "part": 2, "parts": 2},
        "email": "email",
        "must": {"const": ""},
    }
    pair, reverse = _round(entry | {"reverse": said}, source)
    at = dict(zip(pair.columns, ("1", "Ada L", "e", "A"), strict=True))
    again = dict(zip(reverse.columns, reverse.shape_text()([at[name] for name in reverse.source_columns]) or (), strict=True))
    assert again == {"id": "1", "first": "Ada", "last": "L", "email": "e", "status": "A", "must": ""}


def test_letter_case_is_noticed_where_values_must_be_unique_and_nowhere_else() -> None:
    folded = L(K.TEXT, native="varchar(40)", length=40, collation="utf8mb4_uca1400_ai_ci", case_insensitive=True)
    short = L(K.TEXT, native="character varying(40)", length=40)
    source = table("public.city", not_null("id"), Column("name", short), Column("code", short), Column("note", L(K.TEXT, native="text")))
    there = table(
        "crm.city",
        not_null("id"),
        Column("name", folded),
        Column("code", folded),
        Column("note", folded),
        indexes=(Index("u", ("code",), True),),
    )
    said = findings(
        {"from": "public.city", "to": "crm.city"}, catalog(source), catalog(there, engine="mysql"), target={"url": "mysql://a@new/crm"}
    )
    assert {(f.id, f.object) for f in said if f.id == "type.narrower"} == {
        ("type.narrower", "public.city.code"),  # its unique index takes no two of one spelling
        ("type.narrower", "public.city.note"),  # is longer
    }


@pytest.mark.parametrize(
    ("length", "others", "needed"),
    [(20, 0, False), (20, 5, False), (20, 40, True), (100, 0, False), (200, 0, True), (None, 0, True)],
)
def test_s14_identity_is_asked_for_where_a_value_can_be_left_out(length: int | None, others: int, needed: bool) -> None:
    """PostgreSQL moves values out of line, the largest first, until a row fits into 2 KB."""
    kind = L(K.TEXT, native="x", length=length)
    more = [Column(f"c{n}", TEXT) for n in range(others)]
    source = table(
        "public.city", not_null("id"), Column("a", kind), Column("b", kind), *more, Column("big", TEXT), replica_identity="default"
    )
    said = findings({"from": "public.city", "columns": {"full": {"concat": ["a", "b"]}}}, catalog(source), None)
    assert ("replica_identity.needed" in {f.id for f in said}) is needed


def findings(entry: dict[str, Any], source: Catalog, target: Catalog | None, /, **more: Any) -> list[Finding]:
    return resolve(migration(entry, **more), source, target)[1]
