"""Verify and repair on real servers: everything that differs is found and nothing else, whatever the key; lag is no difference."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs
from system.smallchanges import CROSS, CROSS_CHANGES, MARIA_CHANGES, MARIA_TYPES, PG_CHANGES, PG_TYPES

from connectors import engine
from connectors.base import Address, Range, TableBatch, Writer
from pipeline import copytext
from pipeline.model import UNCHANGED, Applied, Difference
from pipeline.spec.load import parse
from pipeline.store import tables as control
from pipeline.store.store import Store
from pipeline.verify.compare import Hooks, Limits
from pipeline.verify.keys import check_keys
from pipeline.verify.repair import repair
from pipeline.verify.run import Report, verify
from pipeline.verify.side import Access, Databases
from pipeline.verify.store import MemoryStore, SqlStore
from transforms.pair import Pair
from transforms.pairing import resolve

pytestmark = pytest.mark.system

SMALL = Limits(chunk_rows=50, rows_at_once=30, open_keys=20, open_seconds=0.0)
WAYS = ["pg-pg", "maria-pg", "pg-maria", "maria-maria"]
READERS = {"postgresql": "PostgresReader", "mysql": "MysqlReader"}
WRITERS = {"postgresql": "PostgresWriter", "mysql": "MysqlWriter"}


@dataclasses.dataclass(frozen=True)
class Database:
    """One side: a database of its own on a real server."""

    url: str
    address: Address
    schema: str

    @property
    def product(self) -> str:
        return engine.product(self.url)

    @property
    def access(self) -> Access:
        return Access(self.address, lambda: getattr(engine.module(self.product, "reader"), READERS[self.product])(self.address))

    def run(self, *statements: str) -> None:
        with contextlib.closing(engine.connect(self.address, autocommit=True)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def fill(self, table: str, rows: Sequence[Sequence[object]]) -> None:
        with contextlib.closing(engine.connect(self.address)) as connection, connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table}")
            if rows:
                cursor.executemany(f"INSERT INTO {table} VALUES ({', '.join(['%s'] * len(rows[0]))})", rows)
            connection.commit()


@dataclasses.dataclass(frozen=True)
class World:
    """Both sides and what migrates between them."""

    source: Database
    target: Database

    @property
    def databases(self) -> Databases:
        return Databases(self.source.access, self.target.access)

    def pairs(self, tables: str) -> list[Pair]:
        """Pairs of `tables:` (YAML list items)."""
        spec = parse(
            f"name: v\nsource: {{url: {self.source.url}}}\ntarget: {{url: {self.target.url}}}\nkafka: {{bootstrap: 'k:1'}}\n"
            f"connect: {{url: 'http://c'}}\nschema: existing\ntables:\n{tables}"
        )
        catalogs = [engine.module(side.product, "catalog").reflect(side.address) for side in (self.source, self.target)]
        pairs, findings = resolve(spec, *catalogs)
        assert pairs, findings
        return pairs

    def pair(self, name: str = "t", more: str = "") -> Pair:
        """The pair of one table. `more`: further keys of its entry, as flow YAML."""
        (pair,) = self.pairs(f"  - {{from: {self.source.schema}.{name}, to: {self.target.schema}.{name}{more}}}\n")
        return pair

    def verify(self, pair: Pair, settle: Callable[[], None] = lambda: None, limits: Limits = SMALL, **more: Any) -> Report:
        return verify([pair], self.databases, more.pop("store", None) or MemoryStore(), Hooks(settle, **more), limits=limits)


@pytest.fixture
def worlds(pg_database: Any, mariadb_database: Any) -> Iterator[Callable[[str], World]]:
    def make(way: str) -> World:
        sides = []
        for server, product in zip(("source", "target"), way.split("-"), strict=True):
            made = (pg_database if product == "pg" else mariadb_database)(server)
            sides.append(Database(made.url, Address(made.url, made.password), "public" if product == "pg" else made.name))
        return World(*sides)

    yield make


def found(report: Report) -> set[tuple[str, tuple[str, ...]]]:
    assert report.complete and report.unsettled == 0 and report.differences == len(report.found)
    return {(one.kind, one.key) for one in report.found}


def by_reading_everything(world: World, pair: Pair) -> tuple[int, set[tuple[str, tuple[str, ...]]]]:
    """The oracle: both tables read whole into Python."""
    sides = []
    shape = pair.shape_text() if pair.in_python else None
    source = pair.source_projection() or pair.raw_projection()
    for side, table, key, what in (
        (world.source, pair.source, pair.source_key, source),
        (world.target, pair.target, pair.key, pair.target_projection()),
    ):
        assert table is not None
        with contextlib.closing(side.access.reader()) as reader:
            rows = [row for block in reader.copy(table, key, what, Range(None, None)) for row in copytext.decode(block)]
        if shape is not None and table is pair.source:
            rows = [list(made) for row in rows if (made := shape(row)) is not None]
        sides.append({tuple(row[at] for at in pair.key_at): row for row in rows})
    ours, theirs = sides
    same = [pair.same(name) for name in pair.columns]
    wrong: set[Any] = {("missing", key) for key in ours.keys() - theirs.keys()} | {("extra", key) for key in theirs.keys() - ours.keys()}
    for key in ours.keys() & theirs.keys():
        if not all(alike(a, b) for alike, a, b in zip(same, ours[key], theirs[key], strict=True)):
            wrong.add(("different", key))
    return len(ours), wrong


# -- scenario 32 -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_s32_each_small_change_is_found_with_column_and_both_values(worlds: Any, way: str) -> None:
    world = worlds(way)
    ours, theirs = way.split("-")
    if ours == theirs:
        changes = [(c, (b, b), (a, a)) for c, b, a in (PG_CHANGES if ours == "pg" else MARIA_CHANGES)]
        types = [PG_TYPES] * 2 if ours == "pg" else [MARIA_TYPES] * 2
    else:
        at = {"pg": 0, "maria": 1}
        types = [", ".join(f"{c} {natives[at[side]]}" for c, natives in CROSS.items()) for side in (ours, theirs)]
        both = lambda value: tuple(value if isinstance(value, str) else value[at[side]] for side in (ours, theirs))  # noqa: E731
        changes = [(c, both(b), both(a)) for c, b, a in CROSS_CHANGES]
    for side, columns in zip((world.source, world.target), types, strict=True):
        # the default collation of MariaDB is a _ci one: letter case must be found under it
        side.run(f"CREATE TABLE t ({columns})")
    before: dict[int, list[str]] = {0: [], 1: []}
    for number, (column, values, _) in enumerate(changes, 1):
        for at_side, value in enumerate(values):
            before[at_side].append(f"INSERT INTO t (id, {column}) VALUES ({number}, {value})")
    filler = [f"INSERT INTO t (id) VALUES {', '.join(f'({n})' for n in range(-150, 0))}"]
    world.source.run(*filler, *before[0])
    world.target.run(*filler, *before[1])
    pair = world.pair()
    assert found(world.verify(pair)) == set()
    for number, (column, values, after) in enumerate(changes, 1):
        world.target.run(f"UPDATE t SET {column} = {after[1]} WHERE id = {number}")
        report = world.verify(pair, limits=dataclasses.replace(SMALL, chunk_rows=120))
        assert found(report) == {("different", (str(number),))}, (column, values, after)
        (one,) = report.found
        assert one.columns == (column,) and len(one.source) == len(one.target) == 1 and one.source != one.target
        assert report.tables[0].progress.rows == 150 + len(changes)
        world.target.run(f"UPDATE t SET {column} = {values[1]} WHERE id = {number}")


def test_s32_values_swapped_between_rows_and_rows_moved(worlds: Any) -> None:
    world = worlds("pg-pg")
    for side in (world.source, world.target):
        side.run("CREATE TABLE t (id integer PRIMARY KEY, v text)", "INSERT INTO t SELECT g, md5(g::text) FROM generate_series(1, 500) g")
    pair = world.pair()
    world.target.run("UPDATE t SET v = CASE id WHEN 7 THEN md5('400') ELSE md5('7') END WHERE id IN (7, 400)")
    assert found(world.verify(pair)) == {("different", ("7",)), ("different", ("400",))}
    world.target.run("UPDATE t SET id = -id WHERE id = 500", "UPDATE t SET id = 1000 WHERE id = 250")
    assert found(world.verify(pair)) == {
        ("different", ("7",)),
        ("different", ("400",)),
        ("missing", ("500",)),
        ("extra", ("-500",)),
        ("missing", ("250",)),
        ("extra", ("1000",)),
    }


# -- scenarios 12, 13: keys ----------------------------------------------------------------------------------------------------------------

KEYS: dict[str, tuple[str, str, str, str, Any]] = {
    # way: source and target key columns, the cut that is right, a strategy of keys
    "ci text to PostgreSQL": (
        "maria-pg", "a varchar(20) COLLATE utf8mb4_general_ci", "a varchar(20)", "buckets",
        st.tuples(st.text("aBéß_Z1 x", max_size=4).map(str.strip)),
    ),
    "text between collations": ("pg-pg", "a text", 'a text COLLATE "C"', "any", st.tuples(st.text("aBéß_Z1 ", max_size=4))),
    "text to _ci": (
        "pg-maria", "a varchar(20)", "a varchar(20) COLLATE utf8mb4_general_ci", "buckets", st.tuples(st.text("abz_19", max_size=4)),
    ),
    "char(36) to uuid": ("maria-pg", "a char(36)", "a uuid", "buckets", st.tuples(st.uuids().map(str))),
    "uuid to MariaDB's": ("pg-maria", "a uuid", "a uuid", "buckets", st.tuples(st.uuids(version=4).map(str))),
    "uuid": ("pg-pg", "a uuid", "a uuid", "ranges", st.tuples(st.uuids().map(str))),
    "negative and huge": ("maria-pg", "a bigint", "a numeric(20,0)", "ranges", st.tuples(st.integers(-(2**63), 2**63 - 1))),
    "binary": ("maria-pg", "a varbinary(8)", "a bytea", "ranges", st.tuples(st.binary(max_size=4))),
    "composite": (
        "pg-maria", "a integer, b text, c date", "a integer, b varchar(20) COLLATE utf8mb4_nopad_bin, c date", "ranges",
        st.tuples(st.integers(-3, 3), st.text("aB ", max_size=2), st.dates()),
    ),
    "same _ci": (
        "maria-maria", "a varchar(20) COLLATE utf8mb4_unicode_ci", "a varchar(20) COLLATE utf8mb4_unicode_ci", "ranges",
        st.tuples(st.text("abzé19", max_size=4)),
    ),
    "number to text": ("pg-maria", "a integer", "a varchar(20)", "buckets", st.tuples(st.integers(-99, 99))),
}  # fmt: skip


def fold(key: Sequence[object]) -> Sequence[object]:
    """Coarser than any collation used above, so that generated keys are keys to every side."""
    plain = str.maketrans({"é": "e", "ß": "s"})
    return tuple(part.casefold().translate(plain).rstrip(" ") if isinstance(part, str) else part for part in key)


@pytest.mark.parametrize("case", KEYS)
def test_s13_whatever_the_key_every_row_is_compared_once(worlds: Any, case: str) -> None:
    way, ours, theirs, cut, keys = KEYS[case]
    world = worlds(way)
    names = [column.strip().split(" ")[0] for column in ours.split(",")]
    for side, columns in ((world.source, ours), (world.target, theirs)):
        text = "text" if side.product == "postgresql" else "longtext"
        side.run(f"CREATE TABLE t ({columns}, v {text}, PRIMARY KEY ({', '.join(names)}))")
    pair = world.pair()
    cuts: set[str] = set()

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(keys, max_size=60, unique_by=fold), st.randoms(use_true_random=False))
    def compare(rows: list[Any], rng: random.Random) -> None:
        kept = [(*key, "v") for key in rows]
        there = [row if rng.random() > 0.2 else (*row[:-1], "w") for row in kept if rng.random() > 0.2]
        world.source.fill("t", [row for row in kept if rng.random() > 0.1])
        world.target.fill("t", there)
        count, wrong = by_reading_everything(world, pair)
        store = MemoryStore()
        report = world.verify(pair, store=store, limits=dataclasses.replace(SMALL, chunk_rows=7))
        assert found(report) == wrong
        assert report.tables[0].progress.rows == count
        cuts.add("buckets" if report.tables[0].progress.how.startswith("0") else "ranges")

    compare()
    assert cut == "any" or cuts == {cut}


def test_s12_a_key_that_differs_in_case_only_is_two_findings(worlds: Any) -> None:
    world = worlds("maria-maria")
    for side in (world.source, world.target):
        side.run("CREATE TABLE t (k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v text)")
    world.source.run("INSERT INTO t VALUES ('Google', 'x'), ('b', 'x')")
    world.target.run("INSERT INTO t VALUES ('google', 'x'), ('b', 'x')")
    assert found(world.verify(world.pair())) == {("missing", ("Google",)), ("extra", ("google",))}


# -- mappings ------------------------------------------------------------------------------------------------------------------------------


def test_a_mapping_that_only_python_knows_is_compared_in_python_and_masked(worlds: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VERIFY_SALT", "pepper")
    world = worlds("maria-pg")
    world.source.run("CREATE TABLE t (id integer PRIMARY KEY, email varchar(50), v text)")
    world.target.run("CREATE TABLE t (id integer PRIMARY KEY, email varchar(80), v text)")
    pair = world.pair(more=", columns: {email: {mask: email, method: hash, salt: {env: VERIFY_SALT}}}")
    assert pair.in_python and pair.masked == ("email",)
    shape = pair.shape_text()
    rows = [(n, f"u{n}@example.com", f"v{n}") for n in range(200)]
    world.source.fill("t", rows)
    world.target.fill("t", [shape([str(text) for text in row]) for row in rows])  # type: ignore[misc]
    assert found(world.verify(pair)) == set()
    world.target.run(
        "UPDATE t SET email = 'u7@example.com' WHERE id = 7", "UPDATE t SET v = 'x' WHERE id = 8", "DELETE FROM t WHERE id = 199"
    )
    report = world.verify(pair)
    assert found(report) == {("different", ("7",)), ("different", ("8",)), ("missing", ("199",))}
    assert "example.com" not in str(report.found)
    assert next(one for one in report.found if one.key == ("8",)).source == ("v8",)


def test_a_mapping_with_a_filter_is_compared_in_sql(worlds: Any) -> None:
    world = worlds("pg-maria")
    world.source.run("CREATE TABLE t (code text PRIMARY KEY, a text, b text, gone boolean NOT NULL)")
    world.target.run("CREATE TABLE t (id varchar(20) PRIMARY KEY, full_name text)")
    entry = ', columns: {id: code, full_name: {concat: [a, b], separator: " "}}, drop: [gone, code, a, b], where: "not gone"'
    pair = world.pair(more=entry)
    assert not pair.in_python
    world.source.fill("t", [(f"k{n}", f"a{n}", None if n % 3 else f"b{n}", n % 5 == 0) for n in range(120)])
    shape = pair.shape_text()
    with contextlib.closing(world.source.access.reader()) as reader:
        blocks = list(reader.copy(pair.source, pair.source_key, pair.raw_projection(), Range(None, None)))
    world.target.fill("t", [made for block in blocks for row in copytext.decode(block) if (made := shape(row)) is not None])
    assert found(world.verify(pair)) == set()
    world.target.run(
        "UPDATE t SET full_name = '' WHERE id = 'k7'",
        "INSERT INTO t VALUES ('k5', 'filtered out'), ('K', 'stray')",
        "DELETE FROM t WHERE id = 'k8'",
    )
    assert found(world.verify(pair)) == by_reading_everything(world, pair)[1]
    assert len(by_reading_everything(world, pair)[1]) == 4


# -- lag -----------------------------------------------------------------------------------------------------------------------------------


def people(world: World, rows: int = 300) -> Pair:
    """A table on both sides, equal."""
    for side in (world.source, world.target):
        text = "text" if side.product == "postgresql" else "longtext"
        side.run(f"CREATE TABLE t (id integer PRIMARY KEY, v varchar(40), big {text})")
        side.fill("t", [(n, f"v{n}", f"big{n}") for n in range(rows)])
    return world.pair()


def test_lag_is_never_a_difference(worlds: Any) -> None:
    world = worlds("pg-pg")
    pair = people(world)
    world.source.run("UPDATE t SET v = 'new' WHERE id < 30", "DELETE FROM t WHERE id = 40", "INSERT INTO t VALUES (1000, 'n', 'n')")
    world.target.run("UPDATE t SET v = 'wrong' WHERE id = 50")
    pending = [
        "UPDATE t SET v = 'new' WHERE id < 30",
        "DELETE FROM t WHERE id = 40",
        "INSERT INTO t VALUES (1000, 'n', 'n') ON CONFLICT DO NOTHING",
    ]
    markers = []

    def settle() -> None:
        markers.append(1)
        world.target.run(*pending)

    assert found(world.verify(pair, settle)) == {("different", ("50",))}
    assert len(markers) >= 2  # a difference is seen behind two markers


def test_a_row_under_constant_change_is_unsettled_and_one_that_comes_to_rest_is_judged(worlds: Any) -> None:
    world = worlds("pg-pg")
    pair = people(world)
    world.target.run("UPDATE t SET v = 'old' WHERE id IN (1, 2)")
    counter = iter(range(10_000))

    def settle() -> None:
        at = next(counter)
        world.source.run(f"UPDATE t SET v = 'n{at}' WHERE id = 1")  # the target never gets it: every look is in between
        if at < 3:
            world.source.run(f"UPDATE t SET v = 'n{at}' WHERE id = 2")

    report = world.verify(pair, settle)
    assert [(one.kind, one.key) for one in report.found] == [("different", ("2",))]
    assert report.unsettled == 1 and report.complete
    assert report.as_json()["tables"][0] | {"seconds": 0} == {
        "source": "public.t", "target": "public.t", "rows_compared": 300, "missing": 0, "extra": 0, "different": 1, "unsettled": 1,
        "seconds": 0, "complete": True,
    }  # fmt: skip


def test_only_chosen_keys(worlds: Any) -> None:
    world = worlds("maria-pg")
    pair = people(world)
    world.target.run(
        "UPDATE t SET v = 'x' WHERE id IN (3, 4)", "DELETE FROM t WHERE id = 5", "INSERT INTO t VALUES (5000000000 % 4999999000, 'x', '')"
    )
    progress, settled = check_keys(pair, [("3",), ("5",), ("6",), ("999",), ("1000",)], world.databases, lambda: None)
    assert (progress.rows, progress.missing, progress.extra, progress.different) == (5, 1, 1, 1)
    assert {one.key for one in settled.differences} == {("3",), ("5",), ("1000",)}


def test_stray_keys_that_are_no_value_of_the_other_side(worlds: Any) -> None:
    world = worlds("pg-pg")
    world.source.run("CREATE TABLE t (id integer PRIMARY KEY, v text)", "INSERT INTO t SELECT g, 'v' FROM generate_series(1, 200) g")
    world.target.run("CREATE TABLE t (id bigint PRIMARY KEY, v text)", "INSERT INTO t SELECT g, 'v' FROM generate_series(1, 200) g")
    world.target.run("INSERT INTO t VALUES (5000000000, 'stray'), (-5000000000, 'stray')")
    assert found(world.verify(world.pair())) == {("extra", ("5000000000",)), ("extra", ("-5000000000",))}


# -- scenario 33 ---------------------------------------------------------------------------------------------------------------------------


class Counted(SqlStore):
    """Remembers what was recorded since it was made."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.cursors: list[str] = []

    def record(self, run: int, source: Any, target: Any, progress: Any, found: Sequence[Difference]) -> None:
        super().record(run, source, target, progress, found)
        self.cursors.append(progress.cursor)


def _verify_and_die(world: World, migration: str, chunks: int) -> None:
    """In a process of its own: gone without a word in the middle of a chunk."""
    store = Store(world.target.address, migration)
    left = iter(range(chunks))

    def throttle(_: int) -> None:
        if next(left, None) is None:
            os.kill(os.getpid(), 9)

    kept = SqlStore(store.begin, control.verify, migration)
    verify([world.pair()], world.databases, kept, Hooks(lambda: None, throttle), limits=SMALL)


@pytest.mark.parametrize("way", ["pg-pg", "pg-maria"])
def test_s33_a_killed_verify_goes_on_and_counts_every_row_once(worlds: Any, way: str) -> None:
    world = worlds(way)
    pair = people(world, 1000)
    world.target.run(
        "DELETE FROM t WHERE id IN (3, 490)", "UPDATE t SET v = 'x' WHERE id IN (5, 60, 900)", "INSERT INTO t VALUES (5000, 'x', NULL)"
    )
    migration = f"v-{secrets.token_hex(4)}"
    store = Store(world.target.address, migration)
    try:
        store.create()
        for chunks in (5, 9):
            process = multiprocessing.get_context("spawn").Process(target=_verify_and_die, args=(world, migration, chunks))
            process.start()
            process.join(60)
            assert process.exitcode == -9
        kept = Counted(store.begin, control.verify, migration)
        before = kept.progress(kept.begin("full", _scope_of(pair)), pair.source.id, pair.target_id)
        assert 0 < before.rows < 1000 and before.cursor not in {"", "end"}
        report = world.verify(pair, store=kept)
        assert report.tables[0].progress.rows == 1000
        assert found(report) == by_reading_everything(world, pair)[1]
        assert len(kept.cursors) <= (1000 - before.rows) // SMALL.chunk_rows + 1  # what was looked at is not looked at again
        assert world.verify(pair, store=kept).run != report.run  # the next one is a new run
    finally:
        store.close()


def _scope_of(pair: Pair) -> str:
    from pipeline.verify.run import scope

    return scope([pair])


# -- repair --------------------------------------------------------------------------------------------------------------------------------


class Applying:
    """A target with a control store, a writer, and a stream that the test plays."""

    def __init__(self, world: World, pair: Pair) -> None:
        self.world, self.pair, self.target = world, pair, pair.target_table()
        self.migration = f"v-{secrets.token_hex(4)}"  # MariaDB's control store is the whole server's
        self.store = Store(world.target.address, self.migration)
        self.store.create()
        with self.store.begin() as db:
            db.execute(control.stream.insert().values(migration=self.migration, name="main", position=""))
        self.store.add_tables([{"number": pair.number, "source": str(pair.source.id), "target": str(pair.target_id)}])
        self.store.set_table(pair.number, phase="copied", tracked=False)
        self.writer = self._writer()
        self.writer.prepare([self.target])
        self.stream = self._writer()
        self.position = Applied("main", 0, "")

    def _writer(self) -> Writer:
        product = self.world.target.product
        made: Writer = getattr(engine.module(product, "writer"), WRITERS[product])(self.world.target.address, self.migration)
        return made

    def apply(self, batch: TableBatch) -> None:
        """The stream's next batch."""
        before = self.position
        self.position = structs.replace(before, position=str(int(before.position or 0) + 1), offset=before.offset + 1)
        self.stream.apply(self.migration, [batch], before, self.position)

    def repair(self, report: Report, settle: Callable[[], None] = lambda: None) -> Any:
        return repair(self.pair, self.world.databases, self.writer, report.found, settle, limits=SMALL)

    def close(self) -> None:
        self.writer.close()
        self.stream.close()
        self.store.close()


@pytest.fixture
def applying() -> Iterator[Callable[[World, Pair], Applying]]:
    made: list[Applying] = []

    def make(world: World, pair: Pair) -> Applying:
        made.append(Applying(world, pair))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.mark.parametrize("way", WAYS)
def test_repair_makes_rows_what_the_source_has(worlds: Any, applying: Any, way: str) -> None:
    world = worlds(way)
    pair = people(world)
    world.target.run(
        "DELETE FROM t WHERE id % 7 = 0", "UPDATE t SET v = 'x', big = NULL WHERE id % 11 = 0", "INSERT INTO t VALUES (5000, 'x', NULL)"
    )
    lab = applying(world, pair)
    report = world.verify(pair)
    assert report.differences == len(by_reading_everything(world, pair)[1]) > 60
    done = lab.repair(report)
    assert (done.repaired, done.left, done.unsettled) == (report.differences, (), ())
    assert by_reading_everything(world, pair)[1] == set()
    assert found(world.verify(pair)) == set()
    assert lab.writer.listed(lab.target, 10) == []


def test_s12_repair_of_a_key_in_another_case(worlds: Any, applying: Any) -> None:
    world = worlds("maria-maria")
    for side in (world.source, world.target):
        side.run("CREATE TABLE t (k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, v text)")
    world.source.run("INSERT INTO t VALUES ('Google', 'x'), ('b', 'x')")
    world.target.run("INSERT INTO t VALUES ('google', 'y'), ('b', 'x')")
    pair = world.pair()
    done = applying(world, pair).repair(world.verify(pair))
    assert (done.repaired, done.left) == (2, ())
    assert by_reading_everything(world, pair)[1] == set()


@pytest.mark.parametrize("way", ["pg-pg", "pg-maria"])
@pytest.mark.parametrize("event", ["whole", "partial", "delete"])
def test_repair_never_overwrites_what_the_stream_brought_since_the_row_was_read(worlds: Any, applying: Any, way: str, event: str) -> None:
    """The source's row changes after it was read and before it is merged, and the stream brings that first."""
    world = worlds(way)
    pair = people(world, 20)
    world.target.run("UPDATE t SET v = 'rogue', big = 'rogue' WHERE id = 7")
    lab = applying(world, pair)
    report = world.verify(pair)
    happened = []

    def settle() -> None:
        if happened:
            return
        happened.append(event)
        if event == "delete":
            world.source.run("DELETE FROM t WHERE id = 7")
            lab.apply(TableBatch(lab.target, deletes=[("7",)], events=1))
        else:
            world.source.run("UPDATE t SET v = 'newer' WHERE id = 7")
            row = ("7", "newer", "big7" if event == "whole" else UNCHANGED)
            lab.apply(TableBatch(lab.target, **{"rows" if event == "whole" else "partials": [row]}, events=1))

    done = lab.repair(report, settle)
    assert happened and done.left == () and done.unsettled == ()
    assert by_reading_everything(world, pair)[1] == set()
