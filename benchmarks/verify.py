"""Verify: every row of both sides compared by checksums, as `crossfade verify --full` does it and by its own clock."""

from __future__ import annotations

from typing import Any

from benchmarks.harness import Failed


def rate(report: dict[str, Any]) -> float:
    """Rows a second, from the report. A row that is on both sides counts once."""
    must_be_equal(report)
    tables = report["tables"]
    return float(sum(t["rows_compared"] for t in tables)) / float(sum(t["seconds"] for t in tables))


def must_be_equal(report: dict[str, Any]) -> None:
    """A rate of something that came out wrong would mean nothing. Raises `Failed`."""
    if report["differences"] or not report["complete"]:
        raise Failed(f"{report['differences']} differences at the end, complete: {report['complete']}")
