"""What verify decides without any database: when a candidate is a difference, what is shown of it, and where a run goes on."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.digest import bucket
from pipeline.model import Difference, Key, TableId
from pipeline.verify.narrow import ROWS_A_BUCKET, depth_for, differing, together
from pipeline.verify.rows import Judge
from pipeline.verify.settle import recheck
from pipeline.verify.side import Rows, Sum
from pipeline.verify.store import MemoryStore, Progress

TABLE, OTHER = TableId("public", "t"), TableId("public", "u")
JUDGE = Judge(TABLE, ("id", "v"), (None, None))


class Pipe:
    """A source, a target that follows it some events behind, and a row that somebody else wrote on the target."""

    def __init__(self, writes: Sequence[int], rogue: str | None = None, lost: bool = False) -> None:
        self.writes = iter(writes)  # how many times the source is written before each settle
        self.value, self.applied, self.rogue, self.lost = 0, 0, rogue, lost
        self.settled = 0

    def settle(self) -> None:
        self.settled += 1
        self.applied = self.value if not self.lost else self.applied
        self.value += next(self.writes, 0)

    def rows(self, value: int | str, keys: Sequence[Key]) -> Rows:
        return {key: [(key[0], str(value))] for key in keys}

    def source(self, keys: Sequence[Key]) -> Rows:
        return self.rows(self.value, keys)

    def target(self, keys: Sequence[Key]) -> Rows:
        return self.rows(self.applied if self.rogue is None else self.rogue, keys)

    def look(self, **options: int) -> tuple[list[str], list[Key]]:
        found = recheck([("1",)], JUDGE, self.source, self.target, self.settle, **options)
        return [one.kind for one in found.differences], found.unsettled


@given(st.lists(st.integers(0, 2), max_size=12))
def test_a_target_that_only_lags_is_never_a_difference_nor_unsettled(writes: list[int]) -> None:
    assert Pipe(writes).look() == ([], [])


@given(st.lists(st.integers(0, 1), max_size=5))
def test_a_value_the_source_never_had_is_found_once_the_source_rests(writes: list[int]) -> None:
    pipe = Pipe(writes, rogue="never")
    assert pipe.look() == (["different"], [])
    assert pipe.settled >= 2


def test_a_lost_event_is_found() -> None:
    pipe = Pipe([1], lost=True)
    assert pipe.look() == ([], [])  # still what the source had when the look began
    assert pipe.look() == (["different"], [])


def test_a_row_written_without_pause_is_unsettled_and_rounds_are_bounded() -> None:
    pipe = Pipe([1] * 100, rogue="never")
    assert pipe.look(rounds=5) == ([], [("1",)])
    assert pipe.settled == 5


def test_a_row_that_went_there_and_back_between_two_looks_is_no_difference() -> None:
    """S0 = A, then B and A again; the target was read when it had B. The next round shows it."""
    source, target = iter(["A", "A", "A"]), iter(["B", "A"])
    found = recheck(
        [("1",)], JUDGE, lambda keys: {keys[0]: [("1", next(source))]}, lambda keys: {keys[0]: [("1", next(target))]}, lambda: None
    )
    assert (found.differences, found.unsettled) == ([], [])


def test_a_target_that_keeps_changing_by_itself_needs_the_same_twice() -> None:
    target = iter(["x", "y", "y"])
    found = recheck([("1",)], JUDGE, lambda keys: {keys[0]: [("1", "A")]}, lambda keys: {keys[0]: [("1", next(target))]}, lambda: None)
    assert [one.target for one in found.differences] == [("y",)]


def test_findings_say_columns_and_values_and_mask() -> None:
    judge = Judge(TABLE, ("id", "a", "b"), (None, None, lambda x, y: (x or "").lower() == (y or "").lower()), frozenset({"a"}))
    assert judge.alike([("1", "x", "T")], [("1", "x", "t")]) and not judge.alike([("1", "x", "T")], [])
    assert judge.difference(("1",), [("1", "x", "T")], [("1", None, "u")]) == Difference(
        TABLE, ("1",), "different", ("a", "b"), ("***", "T"), (None, "u")
    )
    assert judge.difference(("1",), [("1", "x", None)], []).source == ("1", "***", None)
    assert judge.difference(("1",), [], [("1", "x", None)]).kind == "extra"
    twice = judge.difference(("1",), [("1", "x", "a"), ("1", "y", "a")], [("1", "x", "a")])
    assert twice.kind == "missing"  # two source rows of one key: the mapping made one of them


def test_long_values_are_shown_where_they_differ() -> None:
    judge = Judge(TABLE, ("id", "a"), (None, None))
    one = judge.difference(("1",), [("1", "x" * 5000 + "here" + "y" * 5000)], [("1", "x" * 5000 + "HERE" + "y" * 5000)])
    ours, theirs = one.source[0], one.target[0]
    assert ours is not None and theirs is not None
    assert "here" in ours and "HERE" in theirs and ours.startswith("…") and ours.endswith("…") and len(ours) < 500


@given(st.dictionaries(st.integers(0, 40).map(lambda n: f"{n:02x}"), st.integers(0, 5000), max_size=20), st.integers(1, 6000))
def test_buckets_are_read_together_within_bounds_and_none_is_left_out(rows: dict[str, int], most: int) -> None:
    parts = list(together(rows, most))
    assert [prefix for part in parts for prefix in part] == list(rows)
    assert all(len(part) == 1 or sum(rows[prefix] for prefix in part) <= most for part in parts)


def test_buckets() -> None:
    assert differing({"a": Sum(2, 5), "b": Sum(1, 1)}, {"a": Sum(2, 5), "c": Sum(7, 1)}) == {"b": 1, "c": 7}
    assert depth_for(10) == 1 and ROWS_A_BUCKET * 16 ** depth_for(10**8) >= 10**8 and depth_for(10, above=2) == 3
    # texts that can hold anything cannot be mistaken for each other's ends
    assert bucket(("a", "bc"), (True, True), "md5") != bucket(("ab", "c"), (True, True), "md5")


def test_s33_a_run_is_taken_up_by_the_same_question_only(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    run = store.begin("full", "all")
    assert store.progress(run, TABLE, TABLE) == Progress()
    store.record(run, TABLE, TABLE, Progress('["5"]', "1/0", 5, missing=1), [Difference(TABLE, ("3",), "missing")])
    assert store.begin("full", "all") == run
    assert run not in {store.begin("full", "one table"), store.begin("continuous", "all"), store.begin("full", "all", within=-1)}
    assert store.differences(run, TABLE) == [Difference(TABLE, ("3",), "missing")] and store.differences(run, OTHER) == []
    store.repaired([Difference(TABLE, ("3",), "missing")])
    assert store.differences(run) == []
    store.finish(run)
    assert store.begin("full", "all") != run
