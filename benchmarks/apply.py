"""Apply: a backlog that lies in Kafka, caught up by one worker, from its first target commit to that of the marker behind the last row."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.harness import Case, Failed, Sample
from benchmarks.move import Applied, Move
from benchmarks.stage import SHORT, Stage
from benchmarks.verify import must_be_equal
from benchmarks.workloads import Workload, fill, write


def case(on: Stage, source: str, target: str, workloads: Sequence[Workload], *, rows: int, events: int) -> Case:
    """One fresh pair of databases a run, on which the workloads follow each other, each with a backlog and a worker of its own."""
    pair = f"{SHORT[source]} to {SHORT[target]}"

    def run() -> Iterator[Sample]:
        origin = on.database(source, "source")
        fill(origin, rows, visits=events)
        with Move(on, origin, on.database(target, "target")) as move, move.target.session() as cursor:
            move.begin()
            for workload in workloads:
                what = f"{pair}, {workload.name}, {events:,} events"
                rate, by_processor = caught_up(move, cursor, workload, rows=rows, events=events)
                yield Sample("apply", what, "events/s", rate)
                yield Sample("apply", f"{what}, by the worker's processor time", "events/s of CPU", by_processor)
            must_be_equal(move.verify())

    return Case(f"apply, {pair}", run)


def caught_up(move: Move, cursor: Any, workload: Workload, *, rows: int, events: int) -> tuple[float, float]:
    """Row events a second of one backlog, and per second of processor time that the worker used; `cursor` is the target's.

    The second is what one core of the worker is good for when it has it for itself: on a shared machine the steadier of the two.
    """
    move.stop("worker")
    begin, before = move.end_of_topic(), move.applied(cursor)
    write(move.source, workload, events // workload.per_transaction, rows)
    token = f"bench:{uuid.uuid4().hex}"
    with move.source.session() as writing:
        move.mark(writing, token)
    behind = move.wait_in_kafka(token, begin)
    move.spawn("worker")

    def begun() -> tuple[Applied, float] | None:
        now, used = move.applied(cursor), move.processor_seconds("worker")
        return (now, used) if now.events > before.events else None

    first, used = move.until(begun, "the first batch")
    ended = move.until(lambda: move.marked(cursor, token), "the marker behind the backlog")
    used = move.processor_seconds("worker") - used
    applied = move.applied(cursor).events - before.events
    if applied != behind:
        raise Failed(f"{workload.name}: {behind:,} row events are in Kafka, {applied:,} were applied: a rate would mean nothing")
    left = applied - (first.events - before.events)
    if left * 2 < applied:
        raise Failed(f"{workload.name}: {left:,} of {applied:,} events were left when first looked at: too small a backlog to measure")
    return left / (ended - first.at), left / used
