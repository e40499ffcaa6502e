"""One stream's applier against a target in memory: order, exactly-once effect and never half a transaction, whatever fails when."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from connectors.base import TableBatch
from pipeline.apply.applier import Limits
from pipeline.errors import CommitUnknown, DataRejected, Fenced, SchemaChanged, Transient
from pipeline.model import Applied, Change
from tests.unit.applylab import ITEM, change, lab, transaction


def test_s1_passing_faults_in_the_middle_skip_nothing_and_keep_the_order() -> None:
    async def go() -> None:
        one = lab()
        one.writer.before_write = [Transient("deadlock"), Transient("the target is away")]
        await one.applier.submit([transaction(n, change(1, f"v{n}"), change(n, "x")) for n in range(1, 6)])
        await one.applier.drain()
        assert one.rows == {"1": "v5", "2": "x", "3": "x", "4": "x", "5": "x"}
        assert one.target.applied.position == "5000" and one.applier.progress.retries == 2
        ends = [after for _, after in one.writer.written]
        assert [b for b, _ in one.writer.written] == ["", *ends[:-1]]  # each batch begins where the one before ended
        await one.applier.stop()

    asyncio.run(go())


def test_s1_a_fault_in_the_middle_stops_there_and_the_next_opening_goes_on_there() -> None:
    async def go() -> None:
        one = lab()
        one.writer.poison = {"bad"}
        stream = [transaction(1, change(1, "a")), transaction(2, change(2, "bad"), change(3, "c")), transaction(3, change(1, "z"))]
        await one.applier.submit(stream[:1])
        await one.applier.drain()
        with pytest.raises(DataRejected, match="key id=2: value bad is refused"):
            await one.applier.submit(stream[1:])
            await one.applier.drain()
        assert one.rows == {"1": "a"} and one.target.applied.position == "1000"  # of the second one nothing, of the third nothing
        assert isinstance(one.failed[0], DataRejected)
        with pytest.raises(DataRejected):
            await one.applier.submit(stream[2:])
        await one.applier.stop()
        again = lab(one.target)  # the target was mended
        await again.applier.submit(stream)  # the whole stream comes again: what was applied is recognised
        await again.applier.drain()
        assert again.rows == {"1": "z", "2": "bad", "3": "c"} and again.applier.progress.transactions == 2
        await again.applier.stop()

    asyncio.run(go())


@pytest.mark.parametrize("bad", [1, 2, 7, 16, 39, 40])
def test_s1_s24_what_comes_before_the_fault_in_the_same_batch_is_applied(bad: int) -> None:
    """The batch is refused as a whole; the target still ends up right before the transaction with the fault in it."""

    async def go() -> None:
        one = lab()
        one.writer.poison = {"bad"}
        stream = [transaction(n, change(n, "bad" if n >= bad else f"v{n}"), change(100, f"w{n}")) for n in range(1, 41)]
        with pytest.raises(DataRejected, match=f"key id={bad}: value bad is refused"):
            await one.applier.submit(stream)
            await one.applier.drain()
        assert one.rows == {str(n): f"v{n}" for n in range(1, bad)} | ({"100": f"w{bad - 1}"} if bad > 1 else {})
        assert one.target.applied.position == one.applier.applied.position == (str((bad - 1) * 1000) if bad > 1 else "")
        assert one.applier.progress.transactions == bad - 1 and len(one.failed) == 1
        await one.applier.stop()
        again = lab(one.target)
        await again.applier.submit(stream)
        await again.applier.drain()
        assert again.applier.progress.transactions == 41 - bad and again.rows["100"] == "w40" and len(again.rows) == 41
        await again.applier.stop()

    asyncio.run(go())


@pytest.mark.parametrize("committed", [True, False])
def test_s1_a_commit_of_unknown_outcome_is_read_back_and_never_assumed(committed: bool) -> None:
    async def go() -> None:
        one = lab()
        if committed:
            one.writer.after_write = [CommitUnknown("the connection broke inside COMMIT")]
        else:
            one.writer.before_write = [CommitUnknown("the connection broke inside COMMIT")]
        await one.applier.submit([transaction(1, change(1, "a"), markers=["m:1"])])
        await one.applier.drain()
        await one.applier.submit([transaction(2, change(1, "b"))])
        await one.applier.drain()
        assert one.rows == {"1": "b"} and one.target.markers == {"m:1"}
        assert one.writer.written == [("", "1000"), ("1000", "2000")]
        await one.applier.stop()

    asyncio.run(go())


def test_s27_a_deposed_applier_changes_nothing_and_says_so() -> None:
    async def go() -> None:
        one = lab()
        await one.applier.submit([transaction(1, change(1, "a"))])
        await one.applier.drain()
        other = lab(one.target)  # opens the stream: a new epoch
        await one.applier.submit([transaction(2, change(1, "old"))])
        with pytest.raises(Fenced):
            await one.applier.drain()
        assert one.rows == {"1": "a"} and one.target.applied.position == "1000"
        await other.applier.submit([transaction(2, change(1, "new"))])
        await other.applier.drain()
        assert other.rows == {"1": "new"}
        await one.applier.stop()
        await other.applier.stop()

    asyncio.run(go())


def test_s1_what_comes_while_a_batch_is_written_is_decoded_meanwhile_and_becomes_the_next_batch() -> None:
    """The writer is held until more has been taken in: decoding and collapsing do not wait for it."""

    async def go() -> None:
        one = lab()
        taken = threading.Event()

        def hold(_batches: Sequence[TableBatch], _after: Applied) -> None:
            assert taken.wait(30)

        one.writer.before_write = [hold]
        await one.applier.submit([transaction(1, change(1, "a"))])
        await asyncio.sleep(0)  # the write begins
        await one.applier.submit([transaction(n, change(n, "x")) for n in range(2, 40)])
        taken.set()
        await one.applier.drain()
        assert one.writer.written == [("", "1000"), ("1000", "39000")]
        await one.applier.stop()

    asyncio.run(go())


@pytest.mark.parametrize("limits", [Limits(rows=10), Limits(bytes=10_000)])
def test_s22_a_full_batch_makes_the_stream_wait_and_not_the_memory_grow(limits: Limits) -> None:
    async def go() -> None:
        one = lab(limits=limits)
        taken, most = threading.Event(), 0

        def hold(_batches: Sequence[TableBatch], _after: Applied) -> None:
            assert taken.wait(30)

        one.writer.before_write = [hold]
        feeding = asyncio.create_task(one.applier.submit([transaction(n, change(n, "x"), size=1000) for n in range(1, 201)]))
        for _ in range(50):
            await asyncio.sleep(0)
            most = max(most, one.applier._intake.batch.events)
        assert not feeding.done() and most <= 11
        taken.set()
        await feeding
        await one.applier.drain()
        assert len(one.rows) == 200 and all(int(a) // 1000 - int(b or 0) // 1000 <= 11 for b, a in one.writer.written)
        await one.applier.stop()

    asyncio.run(go())


def test_s1_a_stop_while_it_tries_again_ends_at_once_and_loses_nothing() -> None:
    async def go() -> None:
        one = lab()
        one.writer.before_write = [Transient("away")] * 1000
        await one.applier.submit([transaction(1, change(1, "a"))])
        await asyncio.wait_for(one.applier.stop(), 30)
        assert one.rows == {} and one.target.applied.position == ""
        again = lab(one.target)
        await again.applier.submit([transaction(1, change(1, "a"))])
        await again.applier.drain()
        assert again.rows == {"1": "a"}
        await again.applier.stop()

    asyncio.run(go())


def test_s27_a_stream_that_is_closed_in_the_middle_of_a_fetch_waits_for_nothing() -> None:
    """Nobody takes a full batch away any more: whoever feeds it, one after the other for all streams, must not wait for room."""

    async def go() -> None:
        one = lab(limits=Limits(rows=1))
        await one.applier.stop()
        await asyncio.wait_for(one.applier.submit([transaction(n, change(n, "a")) for n in range(1, 5)]), 20)
        assert one.rows == {}

    asyncio.run(go())


def test_s21_what_came_before_a_schema_change_is_applied_and_nothing_of_what_comes_after() -> None:
    async def go() -> None:
        one = lab()
        stream = [transaction(1, change(1, "a")), transaction(2, ddl="ALTER TABLE item DROP v"), transaction(3, change(1, "b"))]
        with pytest.raises(SchemaChanged, match="DROP v"):
            await one.applier.submit(stream)
        assert one.rows == {"1": "a"} and one.target.applied.position == "1000"
        await one.applier.stop()

    asyncio.run(go())


def test_s24_an_event_that_cannot_be_read_leaves_nothing_of_its_transaction_behind() -> None:
    """Its first changes were in the net effect of the batch already when the bad one came."""

    async def go() -> None:
        one = lab()
        broken = Change("u", ITEM, None, None, 3, 3)
        with pytest.raises(DataRejected, match="without a row"):
            await one.applier.submit([transaction(1, change(1, "a")), transaction(2, change(1, "half"), change(2, "half"), broken)])
        assert one.rows == {"1": "a"} and one.target.applied.position == "1000"
        await one.applier.stop()

    asyncio.run(go())
