"""What a stream costs while nobody writes: processor time, memory and connections of everything that serves it.

With the rates of `scale` it is what a plan for many shards is made of (docs/scaling.md): what grows with the streams, and what does not.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks import usage
from benchmarks.harness import Case, Sample
from benchmarks.move import Move
from benchmarks.stage import Stage

_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


def case(on: Stage, streams: int, *, seconds: float, at_most: int) -> Case:
    """One migration of as many tables as streams, a table each, applied by one worker; looked at for so long, heartbeats only."""
    what = f"PG to PG, nobody writes, {streams} streams, 1 worker"

    def run(_number: int) -> Iterator[Sample]:
        origin, target = on.database("postgresql", "source"), on.database("postgresql", "target")
        origin.run(*(f"CREATE TABLE part_{at} (id bigint PRIMARY KEY, note text)" for at in range(streams)))
        given = [{"name": f"s{at}", "tables": [f"part_{at}"]} for at in range(streams)]
        stack = on.stack
        with Move(on, origin, target, streams=given) as move, target.session() as cursor, origin.session() as beside:
            move.begin()
            token = f"bench:{uuid.uuid4().hex}"
            move.mark(beside, token)
            move.until(lambda: move.marked(cursor, token, streams), "a marker through every stream")
            watched: dict[str, Callable[[], float]] = {
                "worker": lambda: usage.processor_seconds(move.pid("worker")),
                "controller": lambda: usage.processor_seconds(move.pid("controller")),
                "Connect": lambda: usage.processor_seconds(_pid(stack.connect)),
                "Kafka": lambda: usage.processor_seconds(_pid(stack.kafka)),
                "source": lambda: usage.family_seconds(_pid(stack.postgres["source"])),
                "target": lambda: usage.family_seconds(_pid(stack.postgres["target"])),
            }
            before, begun = {name: used() for name, used in watched.items()}, time.monotonic()
            time.sleep(seconds)  # what is measured is this time
            took = time.monotonic() - begun
            for name, used in watched.items():
                yield Sample("scale", f"{what}, processor time of {name}", "% of a core", (used() - before[name]) / took * 100)
            for service in ("worker", "controller"):
                yield Sample("scale", f"{what}, memory of {service}", "MiB", usage.memory(move.pid(service)))
            for name, asked in (("source", beside), ("target", cursor)):
                yield Sample("scale", f"{what}, connections to {name}", "connections", _count(asked))

    return Case(f"scale, nobody writes, {streams} streams", run, at_most=at_most)


def _pid(component: Any) -> int:
    pid = component.pid
    assert isinstance(pid, int), component.name
    return pid


def _count(cursor: Any) -> float:
    cursor.execute(_CONNECTIONS)
    return float(cursor.fetchone()[0])
