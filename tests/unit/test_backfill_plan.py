"""Chunks are cut so that every key is in exactly one of them, by looking for bounds or by counting, whatever goes wrong in between."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from connectors.base import Range
from connectors.ranges import Walk
from pipeline.backfill.plan import ChunkSize, Planner
from pipeline.errors import Transient
from pipeline.model import Column, Key, Kind, LogicalType, Table, TableId

INT, TEXT = LogicalType(Kind.INT, "bigint", bits=64), LogicalType(Kind.TEXT, "text")


def table_of(keys: Sequence[int], *, estimate: int | None = None, kind: LogicalType = INT) -> Table:
    rows = len(keys) if estimate is None else estimate
    return Table(TableId("public", "item"), (Column("id", kind, nullable=False),), ("id",), ("id",), rows=rows)


class Keys:
    """A reader of a table that has just these keys; `looked` counts how often it is asked for a bound."""

    def __init__(self, keys: Sequence[int]) -> None:
        self.keys, self.looked = sorted(keys), 0

    def extent(self, table: Table, column: str) -> tuple[str, str] | None:
        return (str(self.keys[0]), str(self.keys[-1])) if self.keys else None

    def boundaries(self, table: Table, key: Sequence[str], rows: int, after: Key | None = None) -> Iterator[Key]:
        self.looked += 1
        left = [k for k in self.keys if after is None or k > int(after[0])]
        yield from ((str(k),) for k in left[rows - 1 :: rows])


class Queue:
    """Keeps ranges; refuses the first few, some of them only after they were kept."""

    def __init__(self, rng: random.Random, faults: int) -> None:
        self.ranges: list[Range] = []
        self.rng, self.faults, self.planned, self.planned_to = rng, faults, False, None

    def newest_rate(self, number: int) -> float | None:
        return 1e6

    def add(self, number: int, some: Sequence[Range], *, last: bool, where: str | None = None) -> bool:
        fault = self.faults > 0 and self.rng.random() < 0.5
        self.faults -= fault
        if not fault or self.rng.random() < 0.5:
            assert not self.planned
            self.ranges += some
            self.planned, self.planned_to = last, some[-1].upper
        if fault:
            raise Transient("the control store is away")
        return True


@pytest.mark.parametrize("seed", range(60))
def test_s13_every_key_is_in_exactly_one_chunk_though_the_store_is_away_now_and_then(seed: int) -> None:
    rng = random.Random(seed)
    keys = rng.sample(range(-50, 400), rng.choice([0, 1, 5, 300, 449]))
    table = table_of(keys, estimate=rng.choice([len(keys), 0, 10_000]), kind=rng.choice([INT, TEXT]))
    reader: Any = Keys(keys)
    queue: Any = Queue(rng, faults=rng.choice([0, 3, 8]))
    planner = Planner(queue, reader, ChunkSize(rng.choice([1, 7, 40]), 1 << 20, 0.25), ahead=5)
    while not queue.planned:
        try:
            planner.start(1, table, ("id",), queue.planned_to)
            planner.step(0)
        except Transient:
            continue
    for key in [*keys, -1000, 1000]:
        found = [r for r in queue.ranges if (r.lower is None or int(r.lower[0]) < key) and (r.upper is None or key <= int(r.upper[0]))]
        assert len(found) == 1, (key, queue.ranges)


def test_numbers_with_few_gaps_are_counted_and_others_are_looked_for() -> None:
    dense, sparse = Keys(range(1000)), Keys(range(0, 10_000, 10))
    for reader, looks in ((dense, False), (sparse, True)):
        any_reader: Any = reader
        walk = Walk(any_reader, table_of(reader.keys), ("id",))
        uppers = list(iter(lambda w=walk: w.upper(100), None))
        assert len(uppers) >= 9 and (reader.looked > 0) == looks
        assert all(sum(int(a[0]) < key <= int(b[0]) for key in reader.keys) <= 100 for a, b in itertools.pairwise(uppers))


def test_the_head_of_a_longer_key_is_no_count_of_rows() -> None:
    reader: Any = Keys(range(100))
    table = Table(TableId("public", "line"), (Column("id", INT), Column("part", INT)), ("id", "part"), ("id", "part"), rows=100)
    assert Walk(reader, table, ("id",)).upper(10) == ("9",) and reader.looked == 1
