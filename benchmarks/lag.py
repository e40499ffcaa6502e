"""Lag: from just before a commit on the source to just after the target's commit that holds it, at a steady rate, by markers.

Markers go the whole way in line with the rows: source log, Debezium, Kafka, worker, target commit. The worker notes for each of them
how long it was under way (that is how `crossfade status` knows the lag); both clocks are this machine's.
"""

from __future__ import annotations

import statistics
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Case, Failed, Sample
from benchmarks.move import Move
from benchmarks.stage import SHORT, Stage
from benchmarks.workloads import UPDATES, Sizes, fill, filled_in

WARM_SHARE, FIRST_WARM_SHARE = 0.5, 2.0
"""As much of the time that is measured comes before it: Java's compiler is at work in Connect's first half minute (so the first round has
more), a new cluster makes its log files, and a migration lives for days."""
MARKERS = 50.0  # a second, so that a p99 is not one sample
WRITERS = 4
"""Sessions that write: what a server waits for at each commit (MariaDB twice for its disk) keeps one of them from 1,000 a second."""
_HEARTBEAT = "hb:"
_PAUSE = 0.001


def case(on: Stage, source: str, target: str, *, rows: int, rate: int, seconds: float) -> Case:
    """`WRITERS` sessions that write `rate` transactions a second of 10 narrow updates each, and one that writes markers beside them."""
    what = f"{SHORT[source]} to {SHORT[target]}, {rate} transactions/s of 10 narrow updates asked for, {seconds:.0f} s"

    def run(number: int) -> Iterator[Sample]:
        origin = on.database(source, "source")
        fill(origin, Sizes(rows))
        with Move(on, origin, on.database(target, "target")) as move:
            move.begin()
            warm = seconds * (FIRST_WARM_SHARE if number == 1 else WARM_SHARE)
            begun, written = _load(move, rows=rows, rate=rate, warm=warm, seconds=seconds)
            token = f"bench:{uuid.uuid4().hex}"
            with move.source.session() as source_cursor, move.target.session() as cursor:
                move.mark(source_cursor, token)
                done = move.until(lambda: move.marked(cursor, token), "the last marker")
                lags = _samples(move, cursor, begun, begun + seconds, done)
            if len(lags) < 100:
                raise Failed(f"{len(lags)} markers came through: too few for a p99")
            cuts = statistics.quantiles(lags, n=100)
            yield Sample("lag", f"{what}, p50", "ms", cuts[49])
            yield Sample("lag", f"{what}, p99", "ms", cuts[98])
            yield Sample("lag", f"{what}, written", "transactions/s", written / seconds)

    return Case(f"lag, {what}", run)


def _load(move: Move, *, rows: int, rate: int, warm: float, seconds: float) -> tuple[float, int]:
    """Writes for so long, after as long as `warm`. Answers when what counts began and how many transactions it wrote from then on."""
    statement = UPDATES.body.rstrip(";")
    ended = threading.Event()
    failed: list[BaseException] = []

    def markers() -> None:
        try:
            with move.source.session() as cursor:
                while not ended.wait(1 / MARKERS):
                    move.mark(cursor, f"{_HEARTBEAT}{time.time() * 1000:.1f}")
        except Exception as error:
            failed.append(error)

    begun = time.time()
    counted = [0] * WRITERS  # transactions from `begun + warm` on

    def writer(own: int) -> None:
        """Its share of the transactions: neighbours are far apart in the table, so no session waits for another one's rows."""
        try:
            with move.source.session() as cursor:
                done = 0
                while (now := time.time()) < begun + warm + seconds and not failed and not ended.is_set():
                    if done < (now - begun) * rate / WRITERS:
                        cursor.execute(filled_in(statement, str(done * WRITERS + own + 1), Sizes(rows)))
                        done += 1
                        counted[own] += now >= begun + warm
                    else:
                        time.sleep(_PAUSE)
        except Exception as error:
            failed.append(error)

    beside = threading.Thread(target=markers, name="markers", daemon=True)
    writers = [threading.Thread(target=writer, args=(own,), name=f"writer {own}", daemon=True) for own in range(WRITERS)]
    for thread in (beside, *writers):
        thread.start()
    try:
        for thread in writers:
            thread.join()
    finally:
        ended.set()
        beside.join()
    if failed:
        raise Failed(f"nothing more was written: {failed[0]}")
    return begun + warm, sum(counted)


def _samples(move: Move, cursor: Any, since: float, until: float, done: float) -> list[float]:
    """The lag of every marker sent between `since` and `until`, none left out: the worker reports them with a delay."""

    def reported() -> bool | None:
        cursor.execute("SELECT max(at) FROM crossfade.lag_sample WHERE migration = %s", (move.name,))
        newest = cursor.fetchone()[0]
        return True if newest is not None and float(newest) > done else None  # the controller's own heartbeats go on

    move.until(reported, "the lag samples")
    cursor.execute(
        "SELECT lag_ms FROM crossfade.lag_sample WHERE migration = %s AND at - lag_ms / 1000 BETWEEN %s AND %s", (move.name, since, until)
    )
    return [float(row[0]) for row in cursor.fetchall()]
