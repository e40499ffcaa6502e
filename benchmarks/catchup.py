"""Catch-up: what waits after an outage, one transaction as large as a table, and a backlog beside a controller with its background verify.

Nothing is beside them: of the peers only the sink applies a stream, and it knows no transactions (`apply` has its rates).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.apply import Backlog, caught_up, waiting
from benchmarks.harness import Cannot, Case, Sample
from benchmarks.move import Move
from benchmarks.stage import SHORT, Stage
from benchmarks.verify import must_be_equal
from benchmarks.workloads import UPDATES, Sizes, fill, write

_LEADS = "SELECT count(*) FROM crossfade.lease WHERE name = %s AND expires_at > extract(epoch FROM now())"
"""Every target here is PostgreSQL."""


def case(on: Stage, source: str, target: str, *, rows: int, events: int) -> Case:
    """One pair of databases for all rounds, and each backlog written to the source once: that takes longer than applying it. In each round
    it is applied from the same place in Kafka on."""
    pair = f"{SHORT[source]} to {SHORT[target]}"
    sizes = Sizes(rows)

    def rounds(runs: int) -> Iterator[list[Sample | Cannot]]:
        origin = on.database(source, "source")
        fill(origin, sizes)

        def backlog(share: int = 1) -> None:
            write(origin, UPDATES, events // share // 10, sizes)

        def transaction() -> None:
            origin.run(f"UPDATE item SET amount = amount + 1 WHERE id <= {events}")

        # `interval`: the next round of the background verify begins at once.
        settings = {"continuous": True, "interval": 0.1}
        with Move(on, origin, on.database(target, "target"), verify=settings) as move, move.target.session() as cursor:
            move.begin()
            move.stop("controller")
            for what, made in (("a backlog of {:,} narrow updates", backlog), ("one transaction of {:,} narrow updates", transaction)):
                written = waiting(move, cursor, made)
                for _ in range(runs):
                    yield list(_caught_up(move, cursor, f"{pair}, {what.format(events)}", written))
            written = waiting(move, cursor, lambda: backlog(2))
            for number in range(1, runs + 1):
                yield list(_beside_verify(number, move, cursor, f"{pair}, {events // 2:,} narrow updates", written))
            move.spawn("worker")
            move.spawn("controller")
            must_be_equal(move.verify())

    return Case(f"catch-up, {pair}", rounds=rounds, parts=3)


def _caught_up(move: Move, cursor: Any, what: str, backlog: Backlog) -> Iterator[Sample]:
    move.go_back(cursor, backlog.place)
    rate, by_processor, memory = caught_up(move, cursor, backlog)
    yield Sample("catch-up", what, "events/s", rate)
    yield Sample("catch-up", f"{what}, by the worker's processor time", "events/s of CPU", by_processor)
    yield Sample("catch-up", f"{what}, memory of the worker", "MiB", memory)


def _beside_verify(number: int, move: Move, cursor: Any, what: str, backlog: Backlog) -> Iterator[Sample]:
    """The same backlog with the background verify and without it, in turns: with and without the controller, in which it runs. It gives way
    to a stream that lags, which is a part of what is measured."""
    for verifying in (True, False) if number % 2 else (False, True):
        move.go_back(cursor, backlog.place)
        if verifying:
            move.spawn("controller")
            move.until(lambda: _leads(cursor, move.name), "the controller")
        rate, _, _ = caught_up(move, cursor, backlog)
        yield Sample("catch-up", what + (" while the background verify runs" if verifying else ""), "events/s", rate)
        if verifying:
            move.stop("controller")


def _leads(cursor: Any, name: str) -> bool | None:
    cursor.execute(_LEADS, (name,))
    return True if cursor.fetchone()[0] else None
