"""Lag: from a commit on the source to the row's being visible on the target, at a steady rate, by the controller's own heartbeats."""

from __future__ import annotations

import statistics
import time

from benchmarks.stage import Move, Stage
from benchmarks.workloads import UPDATES, fill


def measure(on: Stage, source: str, target: str, *, rows: int, rate: int, seconds: float) -> tuple[float, float, float]:
    """Milliseconds at p50 and p99, and the transactions a second that were really written."""
    origin = on.database(source, "source")
    fill(origin, rows)
    move = Move(on, origin, on.database(target, "target"))
    try:
        move.begin()
        statement = UPDATES.body.rstrip(";").replace("{rows}", str(rows))
        begun, done = time.time(), 0
        with origin.session() as cursor:
            while (now := time.time()) < begun + seconds:
                if done < (now - begun) * rate:
                    done += 1
                    cursor.execute(statement.replace("{n}", str(done)))
                else:
                    time.sleep(0.0005)
        with move.target.session() as cursor:
            cursor.execute("SELECT lag_ms FROM crossfade.lag_sample WHERE migration = %s AND at > %s", (move.name, begun + 2))
            lags = sorted(float(row[0]) for row in cursor.fetchall())
        cuts = statistics.quantiles(lags, n=100)
        return cuts[49], cuts[98], done / seconds
    finally:
        move.end()
