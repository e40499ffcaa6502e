"""What every product's checksums keep: the number that Python makes of the same canonical texts, over exactly the rows that are meant."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from contract.conftest import Lab
from contract.typevalues import MARIADB, POSTGRES, POSTGRES_SETUP
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import Projection, Range, TargetTable
from connectors.digest import MODULUS, Digest, bucket, is_free
from connectors.postgres import types as postgres_types
from pipeline import copytext
from pipeline.errors import CrossfadeError
from pipeline.model import Table, Text

pytestmark = pytest.mark.system


def joined(row: Sequence[Text], free: Sequence[bool]) -> str:
    """A row's text, as `connectors.digest` words it."""
    return "".join(
        ("N0:" if text is None else f"{len(text)}:{text}") if any_text else f"{text or ''}|"
        for text, any_text in zip(row, free, strict=True)
    )


def expected(rows: Sequence[Sequence[Text]], digest: Digest) -> int:
    hashes = (hashlib.new(digest.rows, joined(row, digest.free).encode()).hexdigest() for row in rows)
    return sum(int(text[:16], 16) for text in hashes) % MODULUS


def checksum(lab: Lab, projection: Projection, digest: Digest, condition: str | None = None) -> tuple[int, int]:
    ((rows, total),) = lab.sql(lab.product.module("checksum").checksum_sql(projection, digest, condition))
    return int(rows), int(total or 0) % MODULUS


def digest_of(table: Table, rows: Any = "md5") -> Digest:
    same = tuple(postgres_types.same_in_binary(column.type) for column in table.columns) if rows == "binary" else ()
    return Digest(rows, "sha256" if rows == "sha256" else "md5", tuple(is_free(column.type) for column in table.columns), same)


@pytest.fixture
def every_type(lab: Lab) -> TargetTable:
    return made_of_every_type(lab)


def made_of_every_type(lab: Lab) -> TargetTable:
    """A table with a column of every type, and each of its extreme values in a row of its own. Made again, its own types are other ones."""
    if lab.product.engine == "postgresql":
        cases = POSTGRES
        with contextlib.suppress(Exception):
            lab.sql("DROP TYPE IF EXISTS mood CASCADE; DROP TYPE IF EXISTS pair CASCADE")
            lab.sql("DROP DOMAIN IF EXISTS posint CASCADE; DROP DOMAIN IF EXISTS code CASCADE; DROP DOMAIN IF EXISTS addr CASCADE")
        lab.sql(POSTGRES_SETUP)
    else:
        cases = MARIADB
    schema = lab.product.schema
    columns = ", ".join(f"{lab.quote(name)} {native}" for name, native, _ in cases)
    table = f"{lab.quote(schema)}.{lab.quote('every_type')}"
    lab.sql(f"DROP TABLE IF EXISTS {table}")
    lab.sql(f"CREATE TABLE {table} (id integer PRIMARY KEY, {columns})")
    number = itertools.count()
    lab.sql(f"INSERT INTO {table} (id) VALUES ({next(number)})")
    for name, _, values in cases:
        for value, _ in values:
            lab.sql(f"INSERT INTO {table} (id, {lab.quote(name)}) VALUES ({next(number)}, {value})")
    catalog = lab.product.module("catalog").reflect(lab.product.address)
    found = next(t for t in catalog.tables.values() if t.id.name == "every_type")
    return TargetTable(1, found, tuple(c.name for c in found.columns), ("id",))


@pytest.mark.parametrize("rows", ["md5", "sha256"])
def test_s17_s18_the_database_hashes_what_python_hashes(lab: Lab, every_type: TargetTable, rows: str) -> None:
    digest = digest_of(every_type.table, rows)
    projection = lab.projection(every_type)
    texts = lab.read(every_type, Range(None, None))
    assert checksum(lab, projection, digest) == (len(texts), expected(texts, digest))
    # column by column, so that a fault has a name
    for at, name in enumerate(every_type.columns):
        one = Projection(projection.table, (projection.expressions[at],))
        alone = Digest(digest.rows, digest.keys, (digest.free[at],))
        assert checksum(lab, one, alone)[1] == expected([(row[at],) for row in texts], alone), name


def test_bulk_expressions_hash_like_canonical_ones(lab: Lab, every_type: TargetTable) -> None:
    types, checks = lab.product.module("types"), lab.product.module("checksum")
    copy_sql = getattr(types, "copy_sql", types.canonical_sql)
    bulk = Projection(every_type.table.id, tuple(copy_sql(lab.quote(c), every_type.table.column(c).type) for c in every_type.columns))
    for way in ("binary", "quick", "md5"):
        digest = digest_of(every_type.table, way)
        if way != "md5" and lab.product.engine == "mysql":
            with pytest.raises(CrossfadeError):
                checks.probe_sql(way, "md5")
            continue
        if way == "binary":
            continue  # never of two expressions
        canonical = lab.projection(every_type)
        for at, name in enumerate(every_type.columns):
            alone = Digest(digest.rows, digest.keys, (digest.free[at],))
            one, other = (Projection(what.table, (what.expressions[at],)) for what in (bulk, canonical))
            assert checksum(lab, one, alone) == checksum(lab, other, alone), name
        assert checksum(lab, bulk, digest) == checksum(lab, canonical, digest)


def test_s17_s18_binary_hashes_do_not_know_the_numbers_of_types(lab: Lab, every_type: TargetTable) -> None:
    """Enums, domains, composite and extension types have other numbers on every server: made anew, they have here too."""
    if lab.product.engine == "mysql":
        pytest.skip("PostgreSQL's way")
    digest = digest_of(every_type.table, "binary")
    names = {name for name, is_same in zip(every_type.columns, digest.same, strict=True) if is_same}
    assert {"id", "c_bool", "c_int8", "c_numeric2", "c_real"} <= names
    natives = {name: every_type.table.column(name).type.native for name in names}
    assert not [
        name for name, native in natives.items() if "." in native or native.split("(")[0] in {"mood", "posint", "code", "addr", "citext"}
    ]

    def sums(table: TargetTable) -> list[tuple[int, int]]:
        whole, digest = lab.projection(table), digest_of(table.table, "binary")
        alone = [
            checksum(lab, Projection(whole.table, (expression,)), Digest("binary", "md5", (free,), (same,)))
            for expression, free, same in zip(whole.expressions, digest.free, digest.same, strict=True)
        ]
        return [checksum(lab, whole, digest), *alone]

    def number() -> list[tuple[Any, ...]]:
        return lab.sql("SELECT oid FROM pg_type WHERE typname = 'mood'")

    before, type_before = sums(every_type), number()
    again = made_of_every_type(lab)
    assert number() != type_before
    assert dict(zip(("", *again.columns), sums(again), strict=True)) == dict(zip(("", *every_type.columns), before, strict=True))


TEXTS = st.one_of(
    st.none(),
    st.sampled_from(["", "N", "NULL", "N0:", "0:", "1:a", "|", "a|b", " ", "a ", "\\", "\\N", "\t", "é", "e\u0301", "😀"]),
    st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=8),
)


NUMBERS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.sampled_from([-1, 2**32 - 1, 1, 2**32, 5, -5]))


@pytest.fixture
def readings(lab: Lab) -> TargetTable:
    """A table of two texts and a number."""
    text = lab.type(lab.product.pick("text", "longtext"), **({"collation": "utf8mb4_general_ci"} if lab.product.engine == "mysql" else {}))
    integer, number = lab.type(lab.product.pick("integer", "int(11)")), lab.type(lab.product.pick("bigint", "bigint(20)"))
    return lab.table({"id": integer, "a": text, "b": text, "n": number}, ["id"])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(TEXTS, TEXTS, NUMBERS), min_size=1, max_size=12))
def test_s32_every_row_has_one_reading(lab: Lab, readings: TargetTable, rows: list[tuple[str | None, str | None, int | None]]) -> None:
    """Two texts and a number: whatever stands in them, the checksum is Python's, and the quick one differs where rows do."""
    name = lab.name_of(readings)
    lab.sql(f"DELETE FROM {name}")
    with lab.db.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {name} VALUES (%s, %s, %s, %s)", [(at, *row) for at, row in enumerate(rows)])
    whole = lab.projection(readings)
    projection = Projection(whole.table, whole.expressions[1:])
    wanted = [(a, b, None if n is None else str(n)) for a, b, n in rows]
    digest = Digest("md5", "md5", (True, True, False))
    assert checksum(lab, projection, digest) == (len(rows), expected(wanted, digest))
    if lab.product.engine == "postgresql":
        for quick in (
            Digest("quick", "md5", digest.free),
            Digest("binary", "md5", digest.free, (True, True, True)),
            Digest("binary", "md5", digest.free, (False, True, False)),
        ):
            one_by_one = {row: checksum(lab, projection, quick, f"id = {at}")[1] for at, row in enumerate(wanted)}
            assert len(set(one_by_one.values())) == len(set(wanted))
            assert checksum(lab, projection, quick)[1] == sum(one_by_one[row] for row in wanted) % MODULUS


def test_values_swapped_between_rows_change_the_checksum(lab: Lab) -> None:
    target = lab.people()
    lab.sql(f"INSERT INTO {lab.name_of(target)} VALUES (1, 'a', 'x', NULL), (2, 'b', 'y', NULL)")
    ways = ["md5", "sha256"] + (["quick", "binary"] if lab.product.engine == "postgresql" else [])
    before = [checksum(lab, lab.projection(target), digest_of(target.table, way)) for way in ways]
    lab.sql(f"UPDATE {lab.name_of(target)} SET name = CASE id WHEN 1 THEN 'b' ELSE 'a' END")
    after = [checksum(lab, lab.projection(target), digest_of(target.table, way)) for way in ways]
    assert all(b[1] != a[1] and b[0] == a[0] for b, a in zip(before, after, strict=True))


def test_a_row_too_long_to_hash_never_passes_for_equal(lab: Lab) -> None:
    if lab.product.engine == "postgresql":
        pytest.skip("PostgreSQL refuses such a row with an error")
    target = lab.people()
    packet = int(lab.sql("SELECT @@max_allowed_packet")[0][0])
    lab.sql(f"INSERT INTO {lab.name_of(target)} (id, big, name) SELECT 1, REPEAT('x', {packet - 100}), REPEAT('y', 99)")
    ask_once = lambda: checksum(lab, lab.projection(target), digest_of(target.table))  # noqa: E731
    assert ask_once() != ask_once()


def test_buckets_are_the_keys_hash_and_add_up(lab: Lab) -> None:
    text = lab.type(
        lab.product.pick("character varying(40)", "varchar(40)"),
        **({} if lab.product.engine == "postgresql" else {"collation": "utf8mb4_general_ci"}),
    )
    number = lab.type(lab.product.pick("bigint", "bigint(20)"))
    target = lab.table({"k": text, "n": number, "v": text}, ["k", "n"])
    rng = random.Random(7)
    rows = [(f"{rng.choice(['é', 'a|', ' b', 'Ż😀', ''])}{n}", str(rng.randrange(-9, 9)), rng.choice([None, "", "v"])) for n in range(300)]
    with lab.db.cursor() as cursor:
        cursor.executemany(f"INSERT INTO {lab.name_of(target)} VALUES (%s, %s, %s)", rows)
    digest, checks, projection = digest_of(target.table), lab.product.module("checksum"), lab.projection(target)
    found = {prefix: (int(n), int(total) % MODULUS) for prefix, n, total in lab.sql(checks.buckets_sql(projection, [0, 1], digest, 2))}
    by_prefix: dict[str, list[Any]] = {}
    for row in rows:
        by_prefix.setdefault(bucket((row[0], row[1]), (True, False), "md5")[:2], []).append(row)
    assert found == {prefix: (len(some), expected(some, digest)) for prefix, some in by_prefix.items()}
    some = sorted(by_prefix)[:3]
    condition = checks.in_buckets(projection, [0, 1], digest, some)
    assert checksum(lab, projection, digest, condition) == (
        sum(found[p][0] for p in some),
        sum(found[p][1] for p in some) % MODULUS,
    )


@pytest.mark.parametrize("case", ["number", "text", "composite", "binary", "moment"])
def test_s13_ranges_hold_every_row_once(lab: Lab, case: str) -> None:
    pick, rng = lab.product.pick, random.Random(case)
    ci = {} if lab.product.engine == "postgresql" else {"collation": "utf8mb4_general_ci"}
    columns: dict[str, Any]
    match case:
        case "number":
            columns = {"k": lab.type(pick("bigint", "bigint(20)"))}
            keys = [(str(rng.randrange(-(2**63), 2**63)),) for _ in range(90)] + [("9007199254740993",), ("9007199254740992",)]
        case "text":
            columns = {"k": lab.type(pick("character varying(20)", "varchar(20)"), **ci)}
            keys = [(f"{rng.choice('aAbBéÉzß_')}{n:03}",) for n in range(90)]
        case "composite":
            columns = {
                "a": lab.type(pick("integer", "int(11)")), "b": lab.type(pick("character varying(20)", "varchar(20)"), **ci),
                "c": lab.type(pick("numeric(10,2)", "decimal(10,2)")),
            }  # fmt: skip
            keys = [(str(a), b, f"{c}.50") for a in (-2, -1, 7) for b in ("", "x", "it's", "\\") for c in (-3, 0, 5, 11)]
        case "binary":
            columns = {"k": lab.type(pick("bytea", "varbinary(20)"))}
            keys = [("\\x" + bytes([n, rng.randrange(256), 0][: rng.choice([1, 2, 3])]).hex(),) for n in range(0, 256, 3)]
        case _:
            columns = {"k": lab.type(pick("timestamp without time zone", "datetime(6)"))}
            keys = [(f"20{n % 90 + 10}-02-28 23:59:59.{rng.randrange(1, 10**6):06}".rstrip("0"),) for n in range(90)]
    target = lab.table(columns, list(columns))
    checks = lab.product.module("checksum")
    lab.writer.merge(target, lab.chunk(target), [copytext.encode(keys)])
    reader = lab.new_reader()
    bounds = [None, *reader.boundaries(target.table, target.key, 7), None]
    projection = lab.projection(target)
    seen: list[tuple[Text, ...]] = []
    for lower, upper in itertools.pairwise(bounds):
        condition = checks.in_range(target.table, target.key, Range(lower, upper))
        where = Projection(projection.table, projection.expressions, condition)
        part = [tuple(row) for block in reader.copy(target.table, target.key, where, Range(None, None)) for row in copytext.decode(block)]
        assert checksum(lab, projection, digest_of(target.table), condition) == (len(part), expected(part, digest_of(target.table)))
        seen += part
    assert sorted(seen) == sorted(keys)


def test_s13_orders_have_names(lab: Lab) -> None:
    """Numbers are ordered alike everywhere; text only where collation, and on PostgreSQL its version, is the same."""
    checks, product = lab.product.module("checksum"), lab.product
    if product.engine == "postgresql":
        natives = {
            "i": ("integer", ""),
            "c": ("text", 'COLLATE "C"'),
            "u": ("text", 'COLLATE "unicode"'),
            "x": ("citext", ""),
            "g": ("uuid", ""),
        }
        lab.sql("CREATE EXTENSION IF NOT EXISTS citext")
    else:
        natives = {
            "i": ("int(11)", ""), "c": ("varchar(20)", "COLLATE utf8mb4_nopad_bin"), "u": ("varchar(20)", "COLLATE utf8mb4_unicode_ci"),
            "x": ("float", ""), "g": ("uuid", ""),
        }  # fmt: skip
    name = f"{lab.quote(product.schema)}.{lab.quote('orders')}"
    lab.sql(f"DROP TABLE IF EXISTS {name}")
    lab.sql(f"CREATE TABLE {name} ({', '.join(f'{c} {native} {more} NOT NULL' for c, (native, more) in natives.items())})")
    catalog = product.module("catalog").reflect(product.address)
    table = next(t for t in catalog.tables.values() if t.id.name == "orders")
    orders = {column: checks.order(lab.db, table, column) for column in natives}
    assert orders["i"] == "number" and orders["c"] == "text by code point UTF8" and orders["x"] is None
    assert orders["g"] == ("uuid" if product.engine == "postgresql" else "MariaDB's uuid")
    words = ("icu", "UTF8") if product.engine == "postgresql" else ("MariaDB", "utf8mb4_unicode_ci")
    assert orders["u"] != orders["c"]
    if product.engine == "mysql":
        assert all(word in orders["u"] for word in words)
