"""Backfill: whole tables through the real workers, until they follow: rows, indexes, foreign keys, and the marker behind the last chunk.

The stream runs all the time, and what is copied can be resumed; neither is so for the tools that it is measured beside. What comes before,
the connector's start, is not in it.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from benchmarks import verify
from benchmarks.harness import Cannot, Case, Failed, Sample, in_turns
from benchmarks.move import Move
from benchmarks.peers import jdbcsink, tools
from benchmarks.stage import SHORT, Stage
from benchmarks.workloads import SHOP, Sizes, fill

_ROWS = "SELECT sum(rows_copied) FROM crossfade.table_state WHERE migration = %s"
_BEGUN = "SELECT min(started_at) FROM crossfade.table_state WHERE migration = %s"
_FOLLOWED = "SELECT max(at) FROM crossfade.audit WHERE migration = %s AND to_phase = 'following'"
_SNAPSHOT = "Debezium snapshot into Kafka, without its sink"


def case(on: Stage, source: str, target: str, names: Collection[str], *, rows: int) -> Case:
    """A copy and a full verify of what it copied, from one source for all rounds; `names` says which of the two are asked for. Debezium's
    snapshot, which takes longest, ends in Kafka whatever the target is: it is measured beside the copies to PostgreSQL."""
    sizes = Sizes(rows)
    total = sizes.rows + sizes.lines + sizes.sales + sizes.customers
    what = f"{SHORT[source]} to {SHORT[target]}, {total:,} rows of four tables, {rows:,} of them of 160 bytes, with foreign keys"

    def rounds(runs: int) -> Iterator[list[Sample | Cannot]]:
        origin = on.database(source, "source")
        fill(origin, sizes)

        def ours() -> Iterator[Sample | Cannot]:
            with Move(on, origin, on.database(target, "target"), keeps_source=True) as move:
                yield from _ours(move, names, what)
                if "verify" in names:
                    yield from verify.peer(move, what)

        def copied_by(tool: str) -> Iterator[Sample | Cannot]:
            there = on.database(target, "target")
            try:
                yield Sample("backfill", what, "rows/s", total / getattr(tools, tool)(origin, there), tool)
            except Failed as error:
                yield Cannot("backfill", what, "rows/s", tool, str(error))
            on.drop(there)

        def nobody() -> Iterator[Cannot]:
            for tool, way in tools.WAYS.items():
                yield Cannot("backfill", what, "rows/s", tool, f"copies from {SHORT[way[0]]} to {SHORT[way[1]]}")

        def snapshot() -> Iterator[Sample]:
            began = time.monotonic()
            with jdbcsink.Feed(on, origin, SHOP, snapshot="initial", schemas=False) as feed:
                feed.wait_for(total)
                yield Sample("backfill", what, "rows/s", total / (time.monotonic() - began), _SNAPSHOT)

        peers: list[Callable[[], Iterable[Sample | Cannot]]] = []
        if "backfill" in names:
            peers += [functools.partial(copied_by, tool) for tool, way in tools.WAYS.items() if (source, target) == way]
            if not peers:
                peers.append(nobody)
            if target == "postgresql":
                peers.append(snapshot)
        for number in range(1, runs + 1):
            yield in_turns(number, ours, *peers)
        on.drop(origin)

    return Case(f"backfill and verify, {what}", rounds=rounds)


def _ours(move: Move, names: Collection[str], what: str) -> Iterator[Sample]:
    move.begin()
    with move.target.session() as cursor:
        rows, begun, followed = (_one(cursor, query, move.name) for query in (_ROWS, _BEGUN, _FOLLOWED))
    memory = move.largest_memory("worker")
    report = move.verify()
    verify.must_be_equal(report)
    if "backfill" in names:
        yield Sample("backfill", what, "rows/s", rows / (followed - begun))
        yield Sample("backfill", f"{what}, memory of the worker", "MiB", memory)
    if "verify" in names:
        yield Sample("verify", what, "rows/s", verify.rate(report))


def _one(cursor: Any, query: str, name: str) -> float:
    cursor.execute(query, (name,))
    return float(cursor.fetchone()[0])
