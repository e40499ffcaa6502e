"""Verify: every row of both sides compared by checksums, as `crossfade verify --full` does it and by its own clock. data-diff compares the
same tables."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.harness import Cannot, Failed, Sample
from benchmarks.move import Move
from benchmarks.peers import datadiff

_COMPARED = {
    "item": ("account", "amount", "name", "note"),
    "line": ("sale", "item", "quantity", "price"),
    "sale": ("customer", "state"),
    "customer": ("name", "city"),
}


def rate(report: dict[str, Any]) -> float:
    """Rows a second, from the report. A row that is on both sides counts once."""
    must_be_equal(report)
    tables = report["tables"]
    return float(sum(t["rows_compared"] for t in tables)) / float(sum(t["seconds"] for t in tables))


def must_be_equal(report: dict[str, Any]) -> None:
    """A rate of something that came out wrong would mean nothing. Raises `Failed`."""
    if report["differences"] or not report["complete"]:
        raise Failed(f"{report['differences']} differences at the end, complete: {report['complete']}")


def peer(move: Move, what: str) -> Iterator[Sample | Cannot]:
    """data-diff over what was copied."""
    rows = 0
    with move.target.session() as cursor:
        for table in _COMPARED:
            cursor.execute(f"SELECT count(*) FROM {table}")
            rows += int(cursor.fetchone()[0])
    try:
        took = sum(datadiff.seconds(move.source, move.target, table, columns) for table, columns in _COMPARED.items())
        yield Sample("verify", what, "rows/s", rows / took, datadiff.NAME)
    except Failed as error:
        yield Cannot("verify", what, "rows/s", datadiff.NAME, str(error))
