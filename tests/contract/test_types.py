"""The type matrix: every common type with its extreme values, through SQL and through Debezium, from any product to any.

(a) `canonical_sql` of the stored value is the canonical text that `typevalues` expects; (b) a table made on the target for that type
takes the text and gives it back, as the conversion between the two types has it, or refuses it loudly where `native` said so;
(c) Debezium's JSON value decodes to the same text. What Debezium is known to lose is listed here and nowhere passed over in silence.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest
from confluent_kafka import Consumer, TopicPartition

from connectors import streams
from connectors.base import Address, ShapedTable
from connectors.connect import ConnectClient
from connectors.engine import connect, module
from connectors.secrets import remove_secrets, write_secrets
from connectors.topics import ensure_topic
from deploy.local.stack import Stack
from pipeline import copytext
from pipeline.errors import CrossfadeError, DataRejected
from pipeline.model import Catalog, Kind, Table, TableId, Text
from tests.contract.typevalues import MARIADB, POSTGRES, POSTGRES_SETUP, Case
from transforms.convert import conversion

pytestmark = pytest.mark.system

TABLE = "every"
CASES: dict[str, list[Case]] = {"postgresql": POSTGRES, "mysql": MARIADB}

# What Debezium 3.5 does to some values (see `types.debezium_loses`): column → {canonical text: what comes of it}.
LOST: dict[str, dict[str, dict[str, Text | type[Exception]]]] = {
    "postgresql": {
        "c_timetz": {"23:59:59.5+02": "21:59:59.5+00", "12:00:00-05:30": "17:30:00+00"},
        "c_ts_wide": {"294276-12-31 23:59:59.999999": DataRejected},
        "c_varbit": {"0000001": "1"},
        "c_ints": {"{{1,2},{3,4}}": "{NULL,NULL}"},
        "c_texts": {"{{a,b},{c,NULL}}": DataRejected},
        "c_dates": {'{2024-01-31,"0044-03-15 BC"}': "{2024-01-31,0044-03-15}"},
        "c_times": {"{12:34:56.5,24:00:00}": "{12:34:56.5,00:00:00}"},
        "c_bits": {"{101,010}": None},
    },
    "mysql": {
        "c_date_zero": {"0000-00-00": None, "2024-00-10": None},
        "c_datetime_zero": {"0000-00-00 00:00:00": None, "2024-00-00 10:00:00.5": None},
    },
}


@dataclasses.dataclass(frozen=True)
class Side:
    """A database, and its table of every type."""

    engine: str
    flavour: str
    address: Address
    catalog: Catalog

    @property
    def table(self) -> Table:
        return next(table for id, table in self.catalog.tables.items() if id.name == TABLE)

    def part(self, name: str) -> Any:
        return module(self.engine, name)


def _run(connection: Any, statement: str, *values: object) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement, values or None)
    return cursor


def _address(stack: Stack, engine: str, server: str, database: str) -> Address:
    at = (stack.postgres if engine == "postgresql" else stack.mariadb)[server]
    return Address(at.url(database), at.password)


@pytest.fixture(scope="module")
def databases(stack: Stack) -> Iterator[Callable[[str, str], Address]]:
    made: list[tuple[str, str, str]] = []

    def make(engine: str, server: str) -> Address:
        name = f"types_{len(made)}"
        admin = connect(_address(stack, engine, server, "postgres" if engine == "postgresql" else ""), autocommit=True)
        _run(admin, f"CREATE DATABASE {name}" + (" CHARACTER SET utf8mb4" if engine == "mysql" else ""))
        admin.close()
        made.append((engine, server, name))
        return _address(stack, engine, server, name)

    yield make
    for engine, server, name in made:
        admin = connect(_address(stack, engine, server, "postgres" if engine == "postgresql" else ""), autocommit=True)
        _run(admin, f"DROP DATABASE {name}" + (" WITH (FORCE)" if engine == "postgresql" else ""))
        admin.close()


@pytest.fixture(scope="module")
def sources(stack: Stack, databases: Callable[[str, str], Address]) -> dict[str, Side]:
    """A table with a column for every type, and a row for every value (the other columns NULL)."""
    found = {}
    for engine, cases in CASES.items():
        address = databases(engine, "source")
        connection = connect(address, autocommit=True)
        quote = module(engine, "ddl").quote
        if engine == "postgresql":
            _run(connection, POSTGRES_SETUP)
        _run(connection, f"CREATE TABLE {TABLE} (id int PRIMARY KEY, {', '.join(f'{quote(name)} {type}' for name, type, _ in cases)})")
        _insert(connection, engine, cases)
        connection.close()
        catalog = module(engine, "catalog").reflect(address)
        found[engine] = Side(engine, catalog.flavour, address, catalog)
    return found


def _insert(connection: Any, engine: str, cases: list[Case], table: str = TABLE) -> None:
    quote = module(engine, "ddl").quote
    for id, name, value, _ in _values(cases):
        _run(connection, f"INSERT INTO {table} (id, {quote(name)}) VALUES ({id}, {value})")


def _values(cases: list[Case]) -> Iterator[tuple[int, str, str, str]]:
    """Row number, column, SQL of the value, canonical text."""
    number = 0
    for name, _, values in cases:
        for value, text in values:
            number += 1
            yield number, name, value, text


def _read(side: Side, table: Table, columns: list[str]) -> dict[int, dict[str, Text]]:
    """Rows as canonical text by `canonical_sql`."""
    ddl, types = side.part("ddl"), side.part("types")
    expressions = ", ".join(types.canonical_sql(ddl.quote(name), table.column(name).type) for name in columns)
    connection = connect(side.address, autocommit=True)
    rows = _run(connection, f"SELECT id, {expressions} FROM {ddl.qualified(table.id)}").fetchall()
    connection.close()
    return {row[0]: dict(zip(columns, row[1:], strict=True)) for row in rows}


@pytest.mark.parametrize("engine", CASES)
def test_canonical_sql_prints_what_is_expected(engine: str, sources: dict[str, Side]) -> None:
    side = sources[engine]
    rows = _read(side, side.table, [name for name, _, _ in CASES[engine]])
    wrong = {(name, text): rows[id][name] for id, name, _, text in _values(CASES[engine]) if rows[id][name] != text}
    assert wrong == {}


def test_copy_prints_canonical_text_by_itself(sources: dict[str, Side]) -> None:
    side = sources["postgresql"]
    types, quote = side.part("types"), side.part("ddl").quote
    fields = ", ".join(types.copy_sql(quote(name), side.table.column(name).type) for name, _, _ in POSTGRES)
    connection = connect(side.address, autocommit=True)
    with connection.cursor().copy(f"COPY (SELECT {fields} FROM {TABLE} ORDER BY id) TO STDOUT") as copy:
        rows = [row for block in copytext.lines(copy) for row in copytext.decode(block)]
    connection.close()
    at = {name: number for number, (name, _, _) in enumerate(POSTGRES)}
    assert {(name, text): rows[id - 1][at[name]] for id, name, _, text in _values(POSTGRES) if rows[id - 1][at[name]] != text} == {}


# Values that the target refuses, for the reason that `native` gives beforehand.
_NEVER_IN_MYSQL = ("infinity", "-infinity", "Infinity", "-Infinity", "NaN")


def _refused(text: str, source: Kind, target: str) -> bool:
    if target == "postgresql":
        negative_time = source is Kind.TIME and (text.startswith("-") or int(text.partition(":")[0]) > 24)
        dated = source in {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ}
        return negative_time or (dated and (text.startswith("0000-") or "-00" in text.partition(" ")[0]))
    dated = source in {Kind.DATE, Kind.TIMESTAMP, Kind.TIMESTAMPTZ} and (text.endswith("BC") or len(text.partition("-")[0]) > 4)
    return dated or (source not in {Kind.TEXT, Kind.JSON, Kind.OTHER, Kind.ARRAY} and text in _NEVER_IN_MYSQL)


@pytest.mark.parametrize("target_engine", CASES)
@pytest.mark.parametrize("engine", CASES)
def test_target_takes_the_text_and_gives_it_back(
    engine: str, target_engine: str, sources: dict[str, Side], databases: Callable[[str, str], Address]
) -> None:
    source = sources[engine]
    address = databases(target_engine, "target")
    ddl, types = module(target_engine, "ddl"), module(target_engine, "types")
    flavour = "postgresql" if target_engine == "postgresql" else "mariadb"
    schema = "public" if target_engine == "postgresql" else address.url.rpartition("/")[2]
    columns = source.table.columns
    shape = ShapedTable(source.table, TableId(schema, TABLE), columns, ("id",), {c.name: c.name for c in columns})
    plan = ddl.plan_ddl([shape], source.catalog, target_engine, flavour)
    connection = connect(address, autocommit=True)
    for statement in (*plan.before, *plan.before):  # whatever is there already is left alone
        if statement.exists is None or not _run(connection, statement.exists).fetchone():
            _run(connection, statement.sql)
    catalog = module(target_engine, "catalog").reflect(address)
    side = Side(target_engine, flavour, address, catalog)
    wrong, refused = {}, set()
    expected: dict[int, tuple[str, Text]] = {}
    for id, name, _, text in _values(CASES[engine]):
        made, kept = source.table.column(name).type, side.table.column(name).type
        said = types.native(made, flavour=flavour)[1]
        convert = conversion(made, kept).python
        try:
            value = convert(text) if convert is not None else text
            literal = types.literal_sql("%s" if target_engine == "postgresql" else "v", kept)
            one = "" if target_engine == "postgresql" else " FROM (SELECT %s AS v) s"
            _run(connection, f"INSERT INTO {ddl.qualified(side.table.id)} (id, {ddl.quote(name)}) SELECT {id}, {literal}{one}", value)
        except (DataRejected, ValueError):
            refused.add((name, text))
            continue
        except Exception as error:
            assert isinstance(side.part("connection").mapped(error, name), DataRejected), (name, text, error)
            refused.add((name, text))
            continue
        expected[id] = (name, value)
        if value != text and said is None and made.kind not in {Kind.BOOL, Kind.DECIMAL}:
            wrong[name, text] = f"becomes {value} without a reason given"
    rows = _read(side, side.table, [name for name, _, _ in CASES[engine]])
    connection.close()
    wrong |= {value: rows[id][value[0]] for id, value in expected.items() if rows[id][value[0]] != value[1]}
    assert wrong == {}
    kinds = {name: source.table.column(name).type.kind for name, _, _ in CASES[engine]}
    foreseen = {(n, t) for _, n, _, t in _values(CASES[engine]) if engine != target_engine and _refused(t, kinds[n], target_engine)}
    assert refused == foreseen


# -- Debezium ----------------------------------------------------------------------------------------------------------------------------


def _events(stack: Stack, side: Side, write: Callable[[Any], int], *, name: str) -> list[dict[str, Any]]:
    """Streams `side`'s table and answers the row events of what `write` writes (it answers how many)."""
    debezium = side.part("debezium")
    tables = [side.table.id]
    debezium.prepare_source(side.address, migration=name, stream="s", tables=tables, flavour=side.flavour)
    password = write_secrets(stack.secrets_dir, name, {"password": side.address.password or ""})["password"]
    config = debezium.source_config(
        migration=name, stream="s", address=side.address, tables=tables, password=password, bootstrap=stack.kafka_bootstrap,
        flavour=side.flavour,
    )  # fmt: skip
    topic = streams.topic_name(name, "s")
    ensure_topic(stack.kafka_bootstrap, topic)
    client = ConnectClient(stack.connect_url)
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": name, "auto.offset.reset": "earliest"})
    try:
        client.register(config)
        client.wait_running(config["name"])
        client.wait_streaming(config["name"], stored=True)
        connection = connect(side.address, autocommit=True)
        wanted = write(connection)
        connection.close()
        consumer.assign([TopicPartition(topic, 0, 0)])
        found: list[dict[str, Any]] = []
        deadline = time.monotonic() + 60
        while len(found) < wanted and time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None or message.error() or not message.value():
                continue
            event = orjson.loads(message.value())
            if event.get("op") in {"c", "u", "d"} and event["source"]["table"] == TABLE:
                found.append(event)
        assert len(found) == wanted, client.status(config["name"])
        return found
    finally:
        consumer.close()
        client.remove(config["name"])
        debezium.cleanup_source(side.address, migration=name, stream="s", flavour=side.flavour)
        remove_secrets(stack.secrets_dir, name)


@pytest.mark.parametrize("engine", CASES)
def test_debezium_values_decode_to_the_same_text(
    engine: str, stack: Stack, sources: dict[str, Side], databases: Callable[[str, str], Address]
) -> None:
    everything = sources[engine]
    types = everything.part("types")
    # `plan` refuses these: Debezium leaves the column out, or cannot read the table at all
    cases = [case for case in CASES[engine] if types.debezium_refuses(everything.table.column(case[0]).type) is None]
    assert {c[0] for c in CASES[engine]} - {c[0] for c in cases} == (
        {"c_intervals", "c_moneys"} if engine == "postgresql" else {"c_inet4", "c_inet6"}
    )
    address = databases(engine, "source")
    connection = connect(address, autocommit=True)
    if engine == "postgresql":
        _run(connection, POSTGRES_SETUP)
    _run(connection, f"CREATE TABLE {TABLE} (id int PRIMARY KEY, {', '.join(f'{name} {type}' for name, type, _ in cases)})")
    connection.close()
    catalog = module(engine, "catalog").reflect(address)
    side = Side(engine, catalog.flavour, address, catalog)

    def write(connection: Any) -> int:
        _insert(connection, engine, cases)
        return sum(1 for _ in _values(cases))

    rows = {event["after"]["id"]: event["after"] for event in _events(stack, side, write, name=f"types_{engine}")}
    decoders = {column.name: side.part("decode").decoder(column.type, flavour=side.flavour) for column in side.table.columns}
    wrong = {}
    for id, name, _, text in _values(cases):
        raw, decode = rows[id][name], decoders[name]
        got: Text | type[Exception]
        try:
            got = None if raw is None else decode(raw) if decode is not None else raw
        except CrossfadeError as error:
            got = type(error)
        lost = LOST[engine].get(name, {})
        if got != lost.get(text, text):
            wrong[name, text] = got
        if text in lost:
            assert types.debezium_loses(side.table.column(name).type) is not None, name
    assert wrong == {}


def test_s14_unchanged_toast_is_told_apart_or_foreseen(stack: Stack, databases: Callable[[str, str], Address]) -> None:
    """Types whose unchanged large values come as the placeholder, and those that come as NULL unless the replica identity is full."""
    from transforms.shapecode import stand_in

    words = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 300) i)"

    def array(element: str) -> str:
        return f"(SELECT array_agg({element}) FROM generate_series(1, 5000) i)"

    columns = {
        "text": words, "character varying": words, "bytea": f"convert_to({words}, 'UTF8')", "json": f"to_json({words})",
        "jsonb": f"to_jsonb({words})", "hstore": f"hstore('a', {words})", "citext": words, "pair": f"ROW(1, {words})::pair",
        "tsvector": "to_tsvector('simple', (SELECT string_agg(md5(i::text), ' ') FROM generate_series(1, 300) i))",
        "polygon": "(SELECT ('(' || string_agg(format('(%s,%s)', i, i), ',') || ')')::polygon FROM generate_series(1, 1000) i)",
        "bit varying": "(repeat('01', 20000))::varbit", "integer[]": array("i"), "smallint[]": array("1::smallint"),
        "bigint[]": array("i::bigint"), "text[]": array("md5(i::text)"), "uuid[]": array("md5(i::text)::uuid"),
        "date[]": array("'2020-01-01'::date + i"), "bytea[]": array("decode(md5(i::text), 'hex')"), "jsonb[]": array("to_jsonb(i)"),
        "timestamp without time zone[]": array("localtimestamp + i * interval '1 s'"), "numeric[]": array("i::numeric"),
        "double precision[]": array("i::float8"), "boolean[]": array("i % 2 = 0"), "mood[]": array("'sad'::mood"),
        "inet[]": array("('10.0.0.' || i % 250)::inet"), "citext[]": array("md5(i::text)::citext"), "code[]": array("'ab'::code"),
    }  # fmt: skip
    address = databases("postgresql", "source")
    connection = connect(address, autocommit=True)
    _run(connection, POSTGRES_SETUP)
    listed = ", ".join(f"c{number} {type}" for number, type in enumerate(columns))
    _run(connection, f"CREATE TABLE {TABLE} (id int PRIMARY KEY, touched int, {listed})")
    for number in range(len(columns)):
        _run(connection, f"ALTER TABLE {TABLE} ALTER c{number} SET STORAGE EXTERNAL")
    connection.close()
    catalog = module("postgresql", "catalog").reflect(address)
    side = Side("postgresql", "postgresql", address, catalog)

    def write(connection: Any) -> int:
        _run(connection, f"INSERT INTO {TABLE} VALUES (1, 1, {', '.join(columns.values())})")
        _run(connection, f"UPDATE {TABLE} SET touched = 2")
        return 2

    after = _events(stack, side, write, name="types_toast")[1]["after"]
    stands_in = stand_in()
    types = side.part("types")
    for number, type in enumerate(columns):
        raw = after[f"c{number}"]
        told = stands_in(raw)
        lost = types.unchanged_lost(side.table.column(f"c{number}").type)
        assert (told, raw is None) == (not lost, lost), (type, raw)
