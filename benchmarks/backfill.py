"""Backfill: whole tables through the real workers, from the first chunk to the marker behind the last. What comes after is not in it."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from benchmarks import verify
from benchmarks.harness import Case, Sample
from benchmarks.move import Move
from benchmarks.stage import SHORT, Stage
from benchmarks.workloads import fill

_COPIED = "SELECT sum(rows_copied), max(copied_at) - min(started_at) FROM crossfade.table_state WHERE migration = %s"


def case(on: Stage, source: str, target: str, names: Collection[str], *, rows: int) -> Case:
    """A copy and a full verify of what it copied; `names` says which of the two are asked for."""
    what = f"{SHORT[source]} to {SHORT[target]}, {rows:,} rows of 160 bytes and {rows // 2:,} of a narrow child table"

    def run() -> Iterator[Sample]:
        origin = on.database(source, "source")
        fill(origin, rows)
        with Move(on, origin, on.database(target, "target")) as move:
            move.begin()
            with move.target.session() as cursor:
                cursor.execute(_COPIED, (move.name,))
                copied, seconds = cursor.fetchone()
            report = move.verify()
            verify.must_be_equal(report)
            if "backfill" in names:
                yield Sample("backfill", what, "rows/s", float(copied) / float(seconds))
            if "verify" in names:
                yield Sample("verify", what, "rows/s", verify.rate(report))

    return Case(f"backfill and verify, {what}", run)
