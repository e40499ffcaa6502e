"""What crossfade is to reach on two cores that it shares with databases, Kafka, Connect and the peer, and whether it did in a results file.

Rates and lags are judged by the median, memory by the largest of all runs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from benchmarks.records import COPIED, MEMORY, PRODUCTS, TO_POSTGRES, WAYS, Missing, Records

_SINK = {"PG": 3.0, "MariaDB": 2.0}
_COPY_TIME, _PGLOADER = 1.15, 1.5
_COPIER_MIB, _WORKER_MIB = 150.0, 250.0
_SAME_PRODUCT, _UNLIKE_PRODUCTS = 1e6, 5e5
_BESIDE_VERIFY, _FULL_RATE = 0.9, 0.9
_LAG_MS = {"p50": 40.0, "p99": 150.0}


@dataclasses.dataclass(frozen=True, slots=True)
class Aim:
    """`was` is what the file says."""

    what: str
    was: str
    reached: bool


def aims(found: Records) -> Iterator[Aim]:
    """Every aim in order. Raises `Missing` when the file has not every figure."""
    yield from _applied(found)
    yield from _copied(found)
    yield from _verified(found)
    yield from _behind(found)
    yield from _memory(found)


def _applied(found: Records) -> Iterator[Aim]:
    for target, times in _SINK.items():
        ways = [way for way in WAYS if way.endswith(f" to {target}")]
        ratios = {way: [one["ratio"] for one in found.some("apply", f"{way}, ") if one["ratio"]] for way in ways}
        every = [one for of in ratios.values() for one in of]
        above = sum(one >= times for one in every)
        was = ", ".join(f"{min(of):.2f} to {max(of):.2f} from {PRODUCTS[way.split(' to ')[0]]}" for way, of in ratios.items() if of)
        yield Aim(
            f"apply, {PRODUCTS[target]} target: {times:.0f} times the sink's rate at least",
            f"{was}; on {above} of {len(every)} workloads",
            bool(every) and above == len(every),
        )


def _copied(found: Records) -> Iterator[Aim]:
    beside = {one["peer_name"]: one for way in TO_POSTGRES for one in found.some("backfill", f"{way}, ", COPIED) if one["peer"]}
    if missing := {"pgcopydb", "pgloader"} - set(beside):
        raise Missing(f"backfill: {', '.join(sorted(missing))}")
    time = beside["pgcopydb"]["peer"] / beside["pgcopydb"]["ours"]
    rate = beside["pgloader"]["ours"] / beside["pgloader"]["peer"]
    yield Aim(
        f"copy PostgreSQL to PostgreSQL: {_COPY_TIME} times pgcopydb's time at most, with indexes, resumable, the stream running",
        f"{time:.2f}",
        time <= _COPY_TIME,
    )
    yield Aim(f"copy MariaDB to PostgreSQL: {_PGLOADER} times pgloader's rate at least", f"{rate:.2f}", rate >= _PGLOADER)
    memory = [run for one in found.some("backfill", end=MEMORY) for run in one["runs"]]
    yield Aim(
        f"a worker that copies: under {_COPIER_MIB:.0f} MiB", f"{min(memory):.0f} to {max(memory):.0f} MiB", max(memory) < _COPIER_MIB
    )


def _verified(found: Records) -> Iterator[Aim]:
    full = {way: found.median("verify", f"{way}, ") for way in WAYS}
    alike, mixed = full["PG to PG"], (full["MariaDB to PG"], full["PG to MariaDB"])
    yield Aim(f"verify, full: {_SAME_PRODUCT:,.0f} rows/s PostgreSQL beside PostgreSQL", f"{alike:,.0f}", alike >= _SAME_PRODUCT)
    yield Aim(
        f"… {_UNLIKE_PRODUCTS:,.0f} rows/s MariaDB beside PostgreSQL",
        f"{mixed[0]:,.0f}; the other way round {mixed[1]:,.0f}",
        min(mixed) >= _UNLIKE_PRODUCTS,
    )
    alone, beside = ", 500,000 narrow updates", "while the background verify runs"
    kept = [found.median("catch-up", f"{way}, ", beside) / found.median("catch-up", f"{way}, ", alone) for way in TO_POSTGRES]
    yield Aim(
        f"applied beside the background verify: {_BESIDE_VERIFY} of the rate without at least",
        f"{kept[0]:.2f} from PostgreSQL, {kept[1]:.2f} from MariaDB",
        min(kept) >= _BESIDE_VERIFY,
    )


def _behind(found: Records) -> Iterator[Aim]:
    for what, most in _LAG_MS.items():
        lag = [found.one("lag", f"{way}, ", f", {what}") for way in TO_POSTGRES]
        middle, worst = [one["ours"] for one in lag], [max(one["runs"]) for one in lag]
        yield Aim(
            f"lag at 1,000 transactions/s: {what} of {most:.0f} ms at most",
            f"{middle[0]:.0f} and {middle[1]:.0f} ms; the worst rounds {worst[0]:.0f} and {worst[1]:.0f}",
            max(middle) <= most,
        )
    whole = [found.median("catch-up", f"{way}, ", "a backlog of 1,000,000 narrow updates") for way in TO_POSTGRES]
    usual = [found.median("apply", f"{way}, narrow updates, 10 a transaction") for way in TO_POSTGRES]
    yield Aim(
        "catch-up of a million events at the full rate of apply",
        f"{whole[0]:,.0f} and {whole[1]:,.0f} events/s, where 200,000 events were applied at {usual[0]:,.0f} and {usual[1]:,.0f}",
        all(one >= _FULL_RATE * other for one, other in zip(whole, usual, strict=True)),
    )


def _memory(found: Records) -> Iterator[Aim]:
    runs = [run for name in ("apply", "catch-up", "codec") for one in found.some(name, end=MEMORY) for run in one["runs"]]
    one = [max(found.one("catch-up", f"{way}, one transaction", MEMORY)["runs"]) for way in TO_POSTGRES]
    yield Aim(
        f"a worker that applies: under {_WORKER_MIB:.0f} MiB, a transaction of a million rows included",
        f"{min(runs):.0f} to {max(runs):.0f} MiB; with that transaction {one[0]:.0f} and {one[1]:.0f}",
        max(runs) < _WORKER_MIB,
    )
