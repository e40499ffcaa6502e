"""Apply: a backlog that lies in Kafka, caught up by one worker. From the first batch that is applied to the marker behind the last."""

from __future__ import annotations

import time
import uuid

from benchmarks.stage import Move, Stage
from benchmarks.workloads import Workload, fill, write


def measure(on: Stage, source: str, target: str, workload: Workload, *, rows: int, events: int) -> float:
    """Row events a second."""
    origin = on.database(source, "source")
    fill(origin, rows)
    move = Move(on, origin, on.database(target, "target"))
    try:
        move.begin()
        move.stop("worker")
        begin = move.end_of_topic()
        write(origin, workload, events // workload.per_transaction, rows)
        token = f"bench:{uuid.uuid4().hex}"
        move.mark(token)
        behind = move.wait_in_kafka(token, begin)
        before = move.applied_events()
        move.spawn("worker")
        move.until(lambda: move.applied_events() > before, pause=0.005)
        started, first = time.monotonic(), move.applied_events()
        move.wait_applied(token)
        seconds = time.monotonic() - started
        return (behind - (first - before)) / seconds
    finally:
        move.end()
