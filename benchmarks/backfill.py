"""Backfill: a whole table through the real workers, from its first chunk to the marker behind its last; indexes are not in it."""

from __future__ import annotations

from benchmarks.stage import Move, Stage
from benchmarks.workloads import fill


def measure(on: Stage, source: str, target: str, *, rows: int) -> tuple[float, float]:
    """Rows a second of the copy, and of a full verify afterwards."""
    origin = on.database(source, "source")
    fill(origin, rows)
    move = Move(on, origin, on.database(target, "target"))
    try:
        move.begin()
        query = "SELECT sum(rows_copied) / (max(copied_at) - min(started_at)) FROM crossfade.table_state WHERE migration = %s"
        copied = float(move.target.value(query, move.name))
        report = move.verify()
        if report["differences"]:
            raise RuntimeError(f"{report['differences']} differences after the copy: a rate would mean nothing")
        tables = report["tables"]
        return copied, sum(t["rows_compared"] for t in tables) / sum(t["seconds"] for t in tables)
    finally:
        move.end()
