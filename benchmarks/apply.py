"""Apply: a backlog that lies in Kafka, caught up by one worker, from its first target commit to that of the marker behind the last row.

Debezium's JDBC sink has the same events, written to the source once, in topics of its own, and a target of its own on the same server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.harness import Cannot, Case, Failed, Sample, in_turns
from benchmarks.move import Applied, Move, Place
from benchmarks.peers import jdbcsink
from benchmarks.stage import SHORT, Database, Stage
from benchmarks.verify import must_be_equal
from benchmarks.workloads import MAPPING, SHOP, Sizes, Workload, fill, write

_TABLES = (*SHOP, "wide", "person")


@dataclasses.dataclass(frozen=True, slots=True)
class Backlog:
    """What waits for both: how many row events, where the stream stands before them, and where they lie in the sink's topics."""

    events: int
    begin: dict[tuple[str, int], int]
    end: dict[tuple[str, int], int]
    token: str
    place: Place


def case(on: Stage, source: str, target: str, some: Sequence[Workload], *, rows: int, events: int, sweep: bool = True) -> Case:
    """One source and two targets, filled once, and each workload's backlog written to the source once: that takes minutes, applying it
    seconds. Then crossfade and the sink apply it in turns, round after round. At the end all rows are compared."""
    pair = f"{SHORT[source]} to {SHORT[target]}"

    def rounds(runs: int) -> Iterator[list[Sample | Cannot]]:
        sizes = Sizes(rows, people=rows // 10, wides=max(1000, rows // 100), visits=events)
        origin, beside = on.database(source, "source"), on.database(target, "target")
        fill(origin, sizes)
        # The sink writes table by table and task by task, whatever the order of commits was: foreign keys would stop it.
        fill(beside, sizes, foreign_keys=False, json_as_text=source != "postgresql")
        with contextlib.ExitStack() as after:
            feed = after.enter_context(jdbcsink.Feed(on, origin, _TABLES))
            move = after.enter_context(Move(on, origin, on.database(target, "target"), keeps_source=True, tables=[{"from": "*"}, MAPPING]))
            both = _Both(move, after.enter_context(move.target.session()), feed, beside, sizes, sweep)
            move.begin()
            for workload in some:
                yield from both.rounds(f"{pair}, {workload.name}", workload, int(events * workload.share), runs)
            move.spawn("worker")
            must_be_equal(move.verify())
        on.drop(origin)
        on.drop(beside)

    return Case(f"apply, {pair}", rounds=rounds, parts=len(some))


@dataclasses.dataclass(frozen=True, slots=True)
class _Both:
    """crossfade and the sink over one source: `cursor` is of crossfade's target, `beside` the sink's."""

    move: Move
    cursor: Any
    feed: jdbcsink.Feed
    beside: Database
    sizes: Sizes
    sweep: bool

    def rounds(self, what: str, workload: Workload, events: int, runs: int) -> Iterator[list[Sample | Cannot]]:
        """One workload, written once, applied by both in turns: from the same place in Kafka each time, on tables in which it has the same
        to do."""
        backlog = self._written(workload, events)

        def ours() -> Iterator[Sample]:
            rate, by_processor, memory = caught_up(self.move, self.cursor, backlog)
            yield Sample("apply", what, "events/s", rate)
            yield Sample("apply", f"{what}, by the worker's processor time", "events/s of CPU", by_processor)
            yield Sample("apply", f"{what}, memory of the worker", "MiB", memory)

        def theirs() -> Iterator[Sample | Cannot]:
            yield self._sunk(what, backlog)

        for number in range(1, runs + 1):
            if number > 1:
                for target in (self.move.target, self.beside):
                    target.run(*workload.undo(target.engine, self.sizes))
                self.move.go_back(self.cursor, backlog.place)
            yield in_turns(number, ours, theirs)

    def _written(self, workload: Workload, events: int) -> Backlog:
        """Writes the workload, and waits until it lies in Kafka for both."""
        before = self.feed.ends()
        backlog = waiting(
            self.move, self.cursor, lambda: write(self.move.source, workload, int(events / workload.per_transaction), self.sizes)
        )
        return dataclasses.replace(backlog, begin=before, end=self.feed.wait_for(sum(before.values()) + backlog.events))

    def _sunk(self, what: str, backlog: Backlog) -> Sample | Cannot:
        # The sweep is on the first backlog of a product; the others run with what it found, or with what cannot fail as that does.
        settings = jdbcsink.best(self.feed, self.beside, backlog.end) if self.sweep else jdbcsink.USUAL
        faults = []
        for one in (settings, jdbcsink.SAFE):
            try:
                rate = self.feed.sink(self.beside, one, backlog.begin, backlog.end)
                return Sample("apply", what, "events/s", rate, jdbcsink.NAME)
            except Failed as error:
                faults.append(str(error))
        return Cannot("apply", what, "events/s", jdbcsink.NAME, "; ".join(faults))


def waiting(move: Move, cursor: Any, write_it: Callable[[], None]) -> Backlog:
    """Writes with no worker there, and waits until all of it lies in Kafka; `cursor` is the target's."""
    move.stop("worker")
    place = move.place(cursor)
    begin, token = move.end_of_topic(), f"bench:{uuid.uuid4().hex}"
    write_it()
    with move.source.session() as writing:
        move.mark(writing, token)
    return Backlog(move.wait_in_kafka(token, begin), {}, {}, token, place)


def caught_up(move: Move, cursor: Any, backlog: Backlog) -> tuple[float, float, float]:
    """Row events a second of one backlog, the same per second of processor time that the worker used, and its largest memory in MiB;
    `cursor` is the target's.

    The second is what one core of the worker is good for when it has it for itself: on a shared machine the steadier of the two.
    """
    before = move.applied(cursor)
    move.spawn("worker")

    def begun() -> tuple[Applied, float] | None:
        now, used = move.applied(cursor), move.processor_seconds("worker")
        return (now, used) if now.events > before.events else None

    first, used = move.until(begun, "the first batch")
    ended = move.until(lambda: move.marked(cursor, backlog.token), "the marker behind the backlog")
    used = move.processor_seconds("worker") - used
    memory = move.largest_memory("worker")
    applied = move.applied(cursor).events - before.events
    if applied != backlog.events:
        raise Failed(f"{backlog.events:,} row events are in Kafka, {applied:,} were applied: a rate would mean nothing")
    left = applied - (first.events - before.events)
    if left * 2 < applied:
        raise Failed(f"{left:,} of {applied:,} events were left when first looked at: too small a backlog to measure")
    move.stop("worker")
    return left / (ended - first.at), left / used, memory
