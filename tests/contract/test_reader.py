"""What every reader keeps: ranges that hold each row exactly once, whatever the key's type and collation; COPY text that loses nothing."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence

import pytest
from contract.conftest import Lab, Product

from connectors.base import Range, TableBatch, TargetTable
from pipeline import copytext
from pipeline.model import Key, LogicalType, Text

pytestmark = pytest.mark.system


@dataclasses.dataclass(frozen=True, slots=True)
class KeyCase:
    """A key column: how the product declares it, and values in canonical text."""

    native: str
    values: Sequence[str]
    collation: str | None = None
    labels: tuple[str, ...] = ()


_WORDS = ["", "a", "aa", "Ab", "aC", "B", "b'", "ß", "Ä", "z\\", "z\t", "%", "_", "0", "10", "9", "NULL", "\\N", "日本", "\U0001f600"]
_INTEGERS = ["-2", "-1", "0", "1", "7", "10", "888887", "2147483647", "-2147483648", "99"]
_DAYS = ["0001-01-01", "1582-10-15", "1970-01-01", "2024-02-29", "9999-12-31", "2001-09-09", "1999-12-31"]
_MOMENTS = [
    "1970-01-01 00:00:01",
    "2024-03-31 01:30:00.5",
    "2024-03-31 02:30:00.000001",
    "2037-12-31 23:59:59.999999",
    "2024-10-27 01:30:00",
]
_UUIDS = [f"{n:02x}00{255 - n:02x}aa-0{n % 9}ff-4{n:02x}b-8{n % 7}00-0000000000{n:02x}" for n in range(3, 250, 23)]
_BYTES = ["\\x", "\\x00", "\\x0000", "\\x61", "\\x6100", "\\xff", "\\x5c4e", "\\x0a", "\\x7f80", "\\x41"]
_LABELS = ("small", "medium", "large", "a,b", "x'y")

CASES: dict[str, dict[str, KeyCase]] = {
    "postgresql": {
        "integer": KeyCase("integer", _INTEGERS),
        "bigint": KeyCase("bigint", [*_INTEGERS, "9223372036854775807", "-9223372036854775808"]),
        "numeric": KeyCase("numeric(30,10)", [f"{n}.{n % 7}000000000" for n in range(-4, 9)]),
        "numeric without scale": KeyCase("numeric", ["1", "2.50", "-Infinity", "NaN", "100", "0.0001", "-7"]),
        "real": KeyCase("real", ["0.1", "-0.2", "1e+20", "3", "1.6777216e+07", "0.3", "-Infinity", "NaN"]),
        "text": KeyCase("text", _WORDS),
        "text C": KeyCase("text", _WORDS, collation="C"),
        "varchar": KeyCase("character varying(20)", _WORDS),
        "char": KeyCase("character(5)", ["a", "b", "ab", "B", "aa", "1", "zz"]),
        "bytea": KeyCase("bytea", _BYTES),
        "uuid": KeyCase("uuid", _UUIDS),
        "date": KeyCase("date", [*_DAYS, "infinity", "-infinity", "0044-03-15 BC"]),
        "timestamp": KeyCase("timestamp without time zone", [*_MOMENTS, "infinity"]),
        "timestamptz": KeyCase("timestamp with time zone", [f"{m}+00" for m in _MOMENTS]),
        "bit": KeyCase("bit(9)", [format(n, "09b") for n in (0, 1, 255, 256, 511, 300, 77)]),
        "boolean": KeyCase("boolean", ["t", "f"]),
        "enum": KeyCase("contract_size", _LABELS, labels=_LABELS),
        "inet": KeyCase("inet", ["10.0.0.1", "10.0.0.10", "9.0.0.0/8", "::1"]),
    },
    "mysql": {
        "int": KeyCase("int(11)", _INTEGERS),
        "tinyint": KeyCase("tinyint(4)", ["-128", "-1", "0", "1", "127"]),
        "bigint unsigned": KeyCase(
            "bigint(20) unsigned", ["0", "1", "9223372036854775807", "9223372036854775808", "18446744073709551615", "5"]
        ),
        "decimal": KeyCase("decimal(40,10)", [f"{n}.{abs(n) % 7}000000000" for n in range(-4, 9)]),
        "float": KeyCase("float", ["0.1", "-0.2", "1e+20", "3", "1.6777216e+07", "0.3"]),
        "double": KeyCase("double", ["0.1", "-0.2", "1e+20", "3", "1e-300", "0.3"]),
        "varchar general_ci": KeyCase(
            "varchar(20)", [*(w for w in _WORDS if w != "Ä"), "AAA", "x", "Y", "y1"], collation="utf8mb4_general_ci"
        ),
        "varchar unicode_ci": KeyCase(
            "varchar(20)", ["a", "B", "b1", "C", "côte", "Cotf", "É1", "z", "Z1", "'"], collation="utf8mb4_unicode_ci"
        ),
        "varchar bin": KeyCase("varchar(20)", [*_WORDS, "A", "ab", "AB"], collation="utf8mb4_bin"),
        "varchar latin1": KeyCase("varchar(20)", ["a", "B", "é", "ü", "z"], collation="latin1_swedish_ci"),
        "char": KeyCase("char(5)", ["a", "b", "ab", "c", "aa", "1", "zz"], collation="utf8mb4_general_ci"),
        "varbinary": KeyCase("varbinary(20)", _BYTES),
        "binary padded": KeyCase("binary(4)", ["\\x61000000", "\\x61620000", "\\x00000000", "\\xffffffff", "\\x61000001", "\\x5c4e0a09"]),
        "uuid": KeyCase("uuid", _UUIDS),
        "date": KeyCase("date", _DAYS),
        "datetime": KeyCase("datetime(6)", _MOMENTS),
        "timestamp": KeyCase("timestamp(6)", [f"{m}+00" for m in _MOMENTS]),
        "time": KeyCase("time(6)", ["-838:59:59", "-00:00:00.000001", "00:00:00", "24:00:00", "838:59:59", "23:59:59.5", "-01:00:00"]),
        "bit": KeyCase("bit(9)", [format(n, "09b") for n in (0, 1, 255, 256, 511, 300, 77)]),
        "enum": KeyCase("enum('small','medium','large','a,b','x''y')", _LABELS, collation="utf8mb4_general_ci"),
        "set": KeyCase("set('c','b','a')", ["", "c", "b", "a", "c,a", "c,b,a"], collation="utf8mb4_general_ci"),
        "year": KeyCase("year(4)", ["1901", "2000", "2155", "1999", "2024"]),
    },
}


def _type(lab: Lab, case: KeyCase) -> LogicalType:
    if lab.product.engine == "postgresql":
        if case.labels:
            lab.sql("DROP TYPE IF EXISTS contract_size")
            lab.sql("CREATE TYPE contract_size AS ENUM ('small', 'medium', 'large', 'a,b', 'x''y')")
            return lab.type("contract_size", labels=case.labels)
        return lab.type(case.native)
    return lab.type(case.native, collation=case.collation)


def _declared(lab: Lab, case: KeyCase) -> str:
    if case.collation is None or (case.collation.startswith("utf8mb4_general_ci") and case.native.startswith(("enum", "set"))):
        return case.native
    if lab.product.engine == "postgresql":
        return f'{case.native} COLLATE "{case.collation}"'
    return f"{case.native} CHARACTER SET {case.collation.partition('_')[0]} COLLATE {case.collation}"


def _filled(lab: Lab, case: KeyCase) -> TargetTable:
    text = lab.type(lab.product.pick("character varying(100)", "varchar(100)"))
    target = lab.table({"k": _type(lab, case), "v": text}, ["k"], declared={"k": _declared(lab, case)})
    lab.apply(TableBatch(target, rows=[(value, f"of {value}") for value in case.values]))
    return target


def _ranges(lab: Lab, target: TargetTable, rows: int) -> list[Range]:
    cuts: list[Key] = list(lab.reader.boundaries(target.table, target.key, rows))
    again = list(lab.reader.boundaries(target.table, target.key, rows, cuts[0])) if cuts else []
    assert again == cuts[1:]  # planning goes on where it stopped
    return [Range(lower, upper) for lower, upper in zip([None, *cuts], [*cuts, None], strict=True)]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case_name" in metafunc.fixturenames:
        metafunc.parametrize("case_name", sorted(set(CASES["postgresql"]) | set(CASES["mysql"])))


def test_s13_ranges_hold_every_row_exactly_once_whatever_the_key(lab: Lab, case_name: str) -> None:
    case = CASES[lab.product.engine].get(case_name)
    if case is None:
        pytest.skip("not a type of this product")
    target = _filled(lab, case)
    expected = sorted((value, f"of {value}") for value in case.values)
    assert sorted(lab.rows(target)) == expected  # what was written is what is read
    for rows in (1, 2, 3, 1000):
        ranges = _ranges(lab, target, rows)
        parts = [lab.read(target, within) for within in ranges]
        assert sorted(row for part in parts for row in part) == expected
        assert all(len(part) == rows for part in parts[:-1])
    for value in case.values:
        blocks = list(lab.reader.by_keys(target.table, target.key, lab.projection(target), [(value,)]))
        assert copytext.decode(b"".join(blocks)) == [[value, f"of {value}"]]
    lab.apply(TableBatch(target, deletes=[(value,) for value in case.values]))
    assert lab.rows(target) == []


def test_s13_composite_keys(lab: Lab) -> None:
    number = lab.type(lab.product.pick("integer", "int(11)"))
    text = lab.type(lab.product.pick("character varying(20)", "varchar(20)"))
    target = lab.table({"v": text, "c": text, "b": number, "a": text}, ["a", "b", "c"])
    random_ = random.Random(13)
    keys = {(random_.choice("abC"), str(random_.randrange(-3, 3)), random_.choice(["", "x", "y'"])) for _ in range(60)}
    rows: list[tuple[Text, ...]] = [("v", c, b, a) for a, b, c in keys]
    lab.apply(TableBatch(target, rows=rows))
    for size in (1, 4, 7):
        parts = [lab.read(target, within) for within in _ranges(lab, target, size)]
        assert sorted(row for part in parts for row in part) == sorted(rows)
        assert all(len(part) == size for part in parts[:-1])
    wanted = [*sorted(keys)[:5], ("nobody", "1", "x")]
    found = copytext.decode(b"".join(lab.reader.by_keys(target.table, target.key, lab.projection(target), wanted)))
    assert sorted((a, b, c) for _, c, b, a in found) == sorted(keys)[:5]


def test_a_filter_and_expressions_are_the_servers_own(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[(str(n), f"n{n}", None, f"{n}@x") for n in range(1, 8)]))
    what = dataclasses.replace(lab.projection(target), expressions=("UPPER(name)", "big"), where="id <> 3 OR name = 'n3'")
    found = copytext.decode(b"".join(lab.reader.copy(target.table, ("id",), what, Range(("2",), ("5",)))))
    assert sorted(found, key=str) == [["N3", None], ["N4", None], ["N5", None]]
    what = dataclasses.replace(what, where="name <> 'n4'")
    found = copytext.decode(b"".join(lab.reader.by_keys(target.table, ("id",), what, [("4",), ("5",), ("77",)])))
    assert found == [["N5", None]]
    assert list(lab.reader.by_keys(target.table, ("id",), what, [])) == []


def test_long_rows_and_many_rows(lab: Lab) -> None:
    target = lab.people()
    long = [("1", "n", "x" * 17_000_000 + "\\", None), ("2", "n", "", None), ("3", "n", "ä" * 70_000, None), ("4", "n", "y" * 250, None)]
    lab.apply(TableBatch(target, rows=long))
    assert lab.rows(target) == long
    many = [(str(n), f"name {n}", "z" * (n % 300), None) for n in range(10, 20_010)]
    lab.merge(target, *many)
    read = lab.read(target, Range(("9",), None))
    assert sorted(read) == sorted(many)


def test_a_reader_left_in_the_middle_is_good_for_more(lab: Lab) -> None:
    target = lab.people()
    rows = [(str(n), "n" * 90, "b" * 400, None) for n in range(10_000)]
    lab.merge(target, *rows)
    blocks = lab.reader.copy(target.table, ("id",), lab.projection(target), Range(None, None))
    next(blocks)
    blocks.close()
    found = b"".join(lab.reader.by_keys(target.table, ("id",), lab.projection(target), [("77",)]))
    assert copytext.decode(found) == [list(rows[77])]


def test_a_marker_is_committed_and_moves_the_position(lab: Lab, product: Product) -> None:
    if product.engine == "mysql":
        lab.sql("CREATE TABLE IF NOT EXISTS crossfade_marker (id INT PRIMARY KEY, token VARCHAR(190) NOT NULL)")
    beyond = product.module("position").beyond
    before = lab.reader.position()
    lab.reader.marker("one")
    between = lab.reader.position()
    lab.reader.marker("two")
    after = lab.reader.position()
    assert beyond(between, before)
    assert beyond(after, between)
    assert not beyond(before, after)
    assert not beyond(after, after)
    if product.engine == "mysql":
        assert lab.sql("SELECT id, token FROM crossfade_marker") == [(1, "two")]
