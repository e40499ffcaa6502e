"""What is taken in: commit order decides, each event counts once, and only transactions move the position."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from connectors.postgres.events import PostgresEvents
from pipeline.apply.batch import Intake
from pipeline.errors import GapInStream
from pipeline.model import Applied, Transaction
from pipeline.stream.assembler import Assembler
from tests.unit.applylab import ROUTES, change, transaction


def intake(position: str = "") -> Intake:
    return Intake(PostgresEvents(), ROUTES, Applied("main", 1, position))


def values(taken: Intake) -> dict[str, Any]:
    return {str(row[0]): row[1] for table in taken.take().collapse.batches() for row in table.rows}


def test_s4_commit_order_decides_and_not_the_places_of_events() -> None:
    """A transaction that began early and commits late has events from before what is applied: it is new all the same."""
    taken = intake("5000")
    late = structs.replace(transaction(6, change(1, "late", place=17)), position="6000")
    taken.add(late, lambda _t: None)
    again = structs.replace(transaction(5, change(1, "old", place=99_999)), position="5000")
    taken.add(again, lambda _t: None)
    batch = taken.take()
    assert batch.after.position == "6000" and batch.events == 1
    assert [row[1] for table in batch.collapse.batches() for row in table.rows] == ["late"]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.data())
def test_s4_interleaved_transactions_are_applied_in_the_order_of_their_commits(data: st.DataObject) -> None:
    """Many sessions write at once: places interleave, a long transaction has places from before all the others, and all of them are
    taken; from any position on, sent again from anywhere before it, each is taken once."""
    count = data.draw(st.integers(2, 12))
    places = data.draw(st.permutations(range(1, count * 3 + 1)))
    stream = []
    for n in range(1, count + 1):
        mine = sorted(places[(n - 1) * 3 : n * 3])
        changes = [change(data.draw(st.integers(0, 3)), f"v{n}.{p}", place=p) for p in mine]
        stream.append(structs.replace(transaction(n, *changes), position=str(1000 + n)))
    expected: dict[str, Any] = {}
    for t in stream:
        expected |= {str(row["id"]): row["v"] for c in t.changes if c.after and (row := orjson.loads(bytes(c.after)))}
    cut = data.draw(st.integers(0, count))
    applied: dict[str, Any] = {}
    if cut:
        first = intake()
        for t in stream[:cut]:
            first.add(t, lambda _t: None)
        assert first.batch.whole == cut and first.after.position == str(1000 + cut)
        applied = values(first)
    again = intake(str(1000 + cut) if cut else "")
    for t in stream[data.draw(st.integers(0, cut)) :]:
        again.add(t, lambda _t: None)
    assert again.batch.whole == count - cut
    assert applied | values(again) == expected


def test_s5_a_heartbeat_moves_no_position_and_nothing_that_waits_for_its_commit() -> None:
    """Debezium's own heartbeat records come in the middle of an open transaction, with a later clock."""
    assembler, taken = Assembler(PostgresEvents(), "1000"), intake("1000")

    def feed(offset: int, **record: Any) -> list[Transaction]:
        out = assembler.feed([(offset, orjson.dumps(record))])
        for t in out:
            taken.add(t, lambda _t: None)
        return out

    source = {"schema": "public", "table": "item", "txId": 7, "lsn": 1500, "ts_ms": 5}
    row = {"op": "c", "before": None, "after": {"id": 1, "v": "a", "big": "b", "u": None}, "source": source}
    feed(10, status="BEGIN", id="7:1500", event_count=None)
    feed(11, ts_ms=99_999_999)
    feed(12, **row, transaction={"id": "7:1500", "total_order": 1})
    assert feed(13, ts_ms=99_999_999) == []
    assert taken.after == Applied("main", 1, "1000") and not taken.pending
    assert len(feed(14, status="END", id="7:1600", event_count=1)) == 1
    feed(15, ts_ms=99_999_999)
    assert taken.after == Applied("main", 1, "1600", offset=15) and values(taken) == {"1": "a"}


def test_s5_a_marker_that_only_measures_lag_leaves_nothing_and_an_empty_transaction_moves_the_position() -> None:
    taken = intake("1000")
    taken.add(transaction(2, markers=["hb:1.0", "m:1"]), lambda _t: None)
    batch = taken.take()
    assert batch.notes().markers == ("m:1",) and batch.after.position == "2000" and batch.markers == ["hb:1.0", "m:1"]


def test_s6_i9_a_transaction_without_its_first_events_is_a_gap_unless_it_was_applied() -> None:
    headless = structs.replace(transaction(3, change(1, "x")), begins=False)
    taken = intake("2000")
    with pytest.raises(GapInStream, match="comes without its first events"):
        taken.add(headless, lambda _t: None)
    assert not taken.pending
    taken = intake("3000")
    taken.add(headless, lambda _t: None)
    assert taken.batch.events == 0 and taken.after.position == "3000"


def test_s1_the_first_transactions_of_a_batch_are_a_batch_with_a_position_of_its_own() -> None:
    taken = intake("1000")
    for n in range(2, 7):
        taken.add(transaction(n, change(1, f"v{n}"), change(n, "x"), markers=[f"m:{n}"], size=10), lambda _t: None)
    taken.add(transaction(1, change(1, "sent again")), lambda _t: None)
    batch = taken.take()
    part = batch.first(3, ROUTES)
    assert (part.before.position, part.after.position, part.after.offset) == ("1000", "4000", 5)
    assert part.markers == ["m:2", "m:3", "m:4"] and (part.whole, part.events, part.bytes) == (3, 6, 30)
    assert {row[0]: row[1] for t in part.collapse.batches() for row in t.rows} == {"1": "v4", "2": "x", "3": "x", "4": "x"}
    assert (batch.whole, batch.bytes, batch.after.position) == (5, 50, "6000")
