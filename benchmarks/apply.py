"""Apply: a backlog that lies in Kafka, caught up by one worker, from its first target commit to that of the marker behind the last row.

Debezium's JDBC sink has the same events, written to the source once, in topics of its own, and a target of its own on the same server.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterator, Sequence
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
    """What waits for both: how many row events, and where they lie in the sink's topics."""

    events: int
    begin: dict[tuple[str, int], int]
    end: dict[tuple[str, int], int]
    token: str


def case(on: Stage, source: str, target: str, some: Sequence[Workload], *, rows: int, events: int, sweep: bool = True) -> Case:
    """One source and two targets, filled once, and each workload's backlog written to the source once: that takes minutes, applying it
    seconds. Then crossfade and the sink apply it in turns, round after round, from the same place in Kafka, with rows that it inserted or
    deleted put back before. At the end all rows are compared."""
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
            cursor = after.enter_context(move.target.session())
            move.begin()
            for workload in some:
                what = f"{pair}, {workload.name}"
                backlog, begin = _written(move, feed, workload, sizes, int(events * workload.share)), move.place(cursor)
                for number in range(1, runs + 1):
                    yield _one(number, move, cursor, feed, beside, workload, sizes, what, backlog, begin, sweep)
            move.spawn("worker")
            must_be_equal(move.verify())
        on.drop(origin)
        on.drop(beside)

    return Case(f"apply, {pair}", rounds=rounds, parts=len(some))


def _one(
    number: int,
    move: Move,
    cursor: Any,
    feed: jdbcsink.Feed,
    beside: Database,
    workload: Workload,
    sizes: Sizes,
    what: str,
    backlog: Backlog,
    begin: Place,
    sweep: bool,
) -> list[Sample | Cannot]:
    """One workload applied by both in turns."""

    def again(target: Database) -> None:
        if number > 1:
            target.run(*workload.undo(target.engine, sizes))

    def ours() -> Iterator[Sample]:
        again(move.target)
        if number > 1:
            move.go_back(cursor, begin)
        rate, by_processor, memory = caught_up(move, cursor, backlog)
        yield Sample("apply", what, "events/s", rate)
        yield Sample("apply", f"{what}, by the worker's processor time", "events/s of CPU", by_processor)
        yield Sample("apply", f"{what}, memory of the worker", "MiB", memory)

    def theirs() -> Iterator[Sample | Cannot]:
        # The sweep is on the first backlog of a product; the others run with what it found, or with what cannot fail as that does.
        settings = jdbcsink.best(feed, beside, backlog.end) if sweep else jdbcsink.USUAL
        again(beside)
        faults = []
        for one in (settings, jdbcsink.SAFE):
            try:
                yield Sample("apply", what, "events/s", feed.sink(beside, one, backlog.begin, backlog.end), jdbcsink.NAME)
                return
            except Failed as error:
                faults.append(str(error))
        yield Cannot("apply", what, "events/s", jdbcsink.NAME, "; ".join(faults))

    return in_turns(number, ours, theirs)


def _written(move: Move, feed: jdbcsink.Feed, workload: Workload, sizes: Sizes, events: int) -> Backlog:
    """Writes the workload with no worker there, and waits until it lies in Kafka for both."""
    move.stop("worker")
    begin, before = move.end_of_topic(), feed.ends()
    write(move.source, workload, int(events / workload.per_transaction), sizes)
    token = f"bench:{uuid.uuid4().hex}"
    with move.source.session() as writing:
        move.mark(writing, token)
    behind = move.wait_in_kafka(token, begin)
    return Backlog(behind, before, feed.wait_for(sum(before.values()) + behind), token)


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
