"""One stream's applier against a target in memory: order, exactly-once effect and never half a transaction, whatever fails when."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from connectors.base import NO_NOTES, ApplyNotes, ApplyOutcome, TableBatch
from connectors.postgres.events import PostgresEvents
from pipeline.apply.applier import Applier, Limits
from pipeline.apply.batch import Intake
from pipeline.errors import CommitUnknown, CrossfadeError, DataRejected, Fenced, SchemaChanged, Transient
from pipeline.model import Applied, Change, Marker, SchemaChange, TableId, Transaction
from tests.model.source import SCHEMA, routes
from tests.model.target import ModelTable, ModelTarget, ModelWriter

ITEM = TableId(SCHEMA, "item")
ROUTES = routes(("item",))


def change(key: int, v: str | None, *, place: int = 1) -> Change:
    if v is None:
        return Change("d", ITEM, {"id": key, "v": None, "big": None, "u": None}, None, place, place)
    return Change("u", ITEM, None, {"id": key, "v": v, "big": "b", "u": None}, place, place)


def transaction(number: int, *changes: Change, markers: Sequence[str] = (), ddl: str = "") -> Transaction:
    """The `number`-th of the stream; its position is 1000 times that."""
    return Transaction(
        id=str(number),
        position=str(number * 1000),
        changes=list(changes),
        markers=[Marker(token, number) for token in markers],
        schema_changes=[SchemaChange(ddl, (ITEM,), number)] if ddl else [],
        begins=True,
        place=max((c.place for c in changes), default=0),
        last=True,
        next_offset=number + 1,
        full_id=str(number),
    )


Hook = Callable[[Sequence[TableBatch], Applied], None]


class Flaky(ModelWriter):
    """Fails as told, and keeps what it was asked to write."""

    def __init__(self, target: ModelTarget) -> None:
        super().__init__(target)
        self.before_write: list[Hook | CrossfadeError] = []  # one for each call
        self.after_write: list[CrossfadeError | None] = []
        self.poison: set[str] = set()  # values of v that the target refuses
        self.written: list[tuple[str, str]] = []  # positions before and after
        self.held: list[str] = []

    def apply(
        self,
        migration: str,
        batches: Sequence[TableBatch],
        before: Applied,
        after: Applied,
        notes: ApplyNotes = NO_NOTES,
        *,
        probe: bool = False,
    ) -> ApplyOutcome:
        if not probe and self.before_write:
            hook = self.before_write.pop(0)
            if isinstance(hook, CrossfadeError):
                raise hook
            hook(batches, after)
        for batch in batches:
            for row in batch.rows:
                if row[1] in self.poison:
                    raise DataRejected(f"value {row[1]} is refused")
        outcome = super().apply(migration, batches, before, after, notes, probe=probe)
        if not probe:
            self.written.append((before.position, after.position))
            self.held += [f"{h.state} {h.key}" for h in notes.held]
            if self.after_write and (error := self.after_write.pop(0)) is not None:
                raise error
        return outcome


@dataclasses.dataclass
class Lab:
    target: ModelTarget
    writer: Flaky
    applier: Applier
    failed: list[CrossfadeError]

    @property
    def rows(self) -> dict[str, Any]:
        return {key[0]: row[1] for key, row in self.target.tables[1].rows.items() if key[0] is not None}  # type: ignore[misc]


def lab(target: ModelTarget | None = None, **options: Any) -> Lab:
    (route,) = ROUTES[ITEM]
    target = target or ModelTarget({1: ModelTable(route.target, copying=False, tracked=False)})
    assert route.target.number == 1
    writer = Flaky(target)
    failed: list[CrossfadeError] = []

    def schema_change(t: Transaction) -> None:
        raise SchemaChanged(f"table {ITEM}: {t.schema_changes[0].ddl}")

    applier = Applier(
        migration="m",
        stream="main",
        writer=writer,
        events=PostgresEvents(),
        routes=ROUTES,
        applied=target.opened(),
        on_schema_change=schema_change,
        on_failed=failed.append,
        **options,
    )
    return Lab(target, writer, applier, failed)


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


@pytest.mark.parametrize("committed", [True, False])
def test_a_commit_of_unknown_outcome_is_read_back_and_never_assumed(committed: bool) -> None:
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


def test_what_comes_while_a_batch_is_written_is_taken_in_and_becomes_the_next_batch() -> None:
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


def test_s22_a_full_batch_makes_the_stream_wait_and_not_the_memory_grow() -> None:
    async def go() -> None:
        one = lab(limits=Limits(rows=10))
        taken, most = threading.Event(), 0

        def hold(_batches: Sequence[TableBatch], _after: Applied) -> None:
            assert taken.wait(30)

        one.writer.before_write = [hold]
        feeding = asyncio.create_task(one.applier.submit([transaction(n, change(n, "x")) for n in range(1, 201)]))
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


def test_a_stop_while_it_tries_again_ends_at_once_and_loses_nothing() -> None:
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


def test_s24_poison_goes_to_quarantine_and_nothing_later_of_its_key_overtakes_it() -> None:
    async def go() -> None:
        one = lab(on_error="quarantine")
        one.writer.poison = {"bad"}
        many = [transaction(n, change(n, "bad" if n in (7, 23) else f"v{n}")) for n in range(1, 41)]
        await one.applier.submit(many)
        await one.applier.drain()
        assert set(one.rows) == {str(n) for n in range(1, 41)} - {"7", "23"}
        assert sorted(one.writer.held) == ['held ["23"]', 'held ["7"]'] and one.target.applied.position == "40000"
        one.writer.held.clear()
        await one.applier.submit([transaction(41, change(7, "good"), change(8, "w")), transaction(42, change(7, None))])
        await one.applier.drain()
        assert one.rows["8"] == "w" and "7" not in one.rows
        assert one.writer.held and all(h == 'waiting ["7"]' for h in one.writer.held)
        await one.applier.stop()
        later = lab(one.target, on_error="quarantine", held=[(1, ("7",)), (1, ("23",))])  # as the store tells the next opening
        await later.applier.submit([transaction(43, change(23, "good"))])
        await later.applier.drain()
        assert later.writer.held == ['waiting ["23"]'] and "23" not in later.rows
        await later.applier.stop()

    asyncio.run(go())


def test_s4_commit_order_decides_and_not_the_places_of_events() -> None:
    """A transaction that began early and commits late has events from before what is applied: it is new all the same."""
    intake = Intake(PostgresEvents(), ROUTES, Applied("main", 1, "5000"))
    late = dataclasses.replace(transaction(6, change(1, "late", place=17)), position="6000")
    intake.add(late, lambda _t: None)
    again = dataclasses.replace(transaction(5, change(1, "old", place=99_999)), position="5000")
    intake.add(again, lambda _t: None)
    batch = intake.take()
    assert batch.after.position == "6000" and batch.events == 1
    assert [row[1] for table in batch.collapse.batches() for row in table.rows] == ["late"]


def test_s5_a_marker_that_only_measures_lag_leaves_nothing_and_an_empty_transaction_moves_the_position() -> None:
    intake = Intake(PostgresEvents(), ROUTES, Applied("main", 1, "1000"))
    intake.add(transaction(2, markers=["hb:1.0", "m:1"]), lambda _t: None)
    batch = intake.take()
    assert batch.notes().markers == ("m:1",) and batch.after.position == "2000" and batch.markers == ["hb:1.0", "m:1"]
