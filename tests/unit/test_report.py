"""The demo's report: the keys that scripts rely on, percentiles and rates that are right, and a verdict that does not flatter."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from deploy.local.crossings import Crossing
from deploy.local.reckoning import Fault, Reckoning
from deploy.local.report import Facts, document, is_clean, markdown, write
from deploy.local.timeline import Lag, Span, percentile, rates

ZERO = 1_700_000_000.0


def crossing(direction: Any, at: float, *, differences: int = 0) -> Crossing:
    said = {"crossed": True, "pause_ms": 212.34, "step_ms": {"close": 900.0, "pause": 12.34, "drain": 200.0, "done": 0.0}}
    verify = {"tables": [{"rows_compared": 700}, {"rows_compared": 800}], "differences": differences}
    return Crossing(direction, ZERO + at, ZERO + at + 1.5, said, 0, verify)


def facts(*, lost: int = 0, differences: int = 0, failed: int = 0, after_crossing: int = 0) -> Facts:
    faults = (Fault("missing", "reservation", ("7",)),) * lost
    table: dict[str, Any] = {"source": "public.booking", "target": "public.reservation"}
    return Facts(
        scenario="pg-to-pg",
        rows_loaded=1000,
        began=ZERO,
        spans=[Span("preparing", ZERO + 2, ZERO + 4), Span("copying", ZERO + 4, ZERO + 14), Span("following", ZERO + 14, ZERO + 34)],
        tables=[{**table, "rows_copied": 1000, "seconds": 10.0, "rows_per_second": 100.0}],
        streams=[{"name": "main", "applied": 9_000, "transactions": 3_000}],
        verify={
            "tables": [{**table, "rows_compared": 1500, "missing": 0, "extra": 0, "different": differences}],
            "differences": differences,
        },
        reckonings={
            "source": Reckoning(acknowledged=3_000, rolled_back=100, keys=5_000, lost=0, unexpected=0, details=()),
            "target": Reckoning(acknowledged=3_000, rolled_back=100, keys=5_000, lost=lost, unexpected=0, details=faults),
        },
        load=[
            {
                "at": ZERO + second,
                "committed": 100 * second,
                "failed": 0,
                "lost": failed if second >= 21 else 0,
                "queries": 1_000 * second,
                "slowest_query_ms": 215.0,
                "slowest": {
                    "queries": [[int(ZERO) + second, 215.0 if second == 20 else 3.0]],
                    "transactions": [[int(ZERO) + second, 220.0]],
                },
            }
            for second in range(1, 31)
        ],
        lag=[Lag(ZERO + 4 + 0.2 * n, 10.0 + n % 10, 60 * n, 20 * n) for n in range(151)],
        copied=[(ZERO + 4 + n, 100.0 * n) for n in range(11)],
        load_seconds=30.0,
        rate_wanted=100.0,
        driver="pgbouncer",
        crossings=[crossing("cutover", 19.5), crossing("rollback", 25.0, differences=after_crossing)],
    )


def test_the_document_has_what_scripts_rely_on_and_the_folder_what_people_read(tmp_path: Path) -> None:
    write(facts(), tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    assert (found["rows_copied"], found["copy_seconds"]) == (1000, 10.0)
    assert (found["events_applied"], found["transactions_applied"], found["differences"]) == (9_000, 3_000, 0)
    assert (found["lag_ms"]["p50"], found["lag_ms"]["p99"]) == (14.0, 19.0)
    assert {key: found["ledger"][key] for key in ("acknowledged", "lost", "unexpected")} == {
        "acknowledged": 3_000,
        "lost": 0,
        "unexpected": 0,
    }
    assert (found["events_per_second"], found["load"]["transactions_per_second"]) == (300.0, 100.0)
    assert found["tables"][0]["rows_compared"] == 1500
    assert is_clean(found)
    text = (tmp_path / "report.md").read_text()
    assert "Every promise was kept." in text and "1,000 in 10.0 s (100 rows/s)" in text and "p50 14 ms, p99 19 ms" in text
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")


def test_crossings_are_told_with_what_the_application_felt() -> None:
    found = document(facts())
    first, second = found["crossings"]
    assert (first["direction"], first["pause_ms"], first["steps"]) == ("cutover", 212.3, {"close": 900.0, "pause": 12.3, "drain": 200.0})
    assert (first["queries"], first["failed_queries"], first["tried_again"]) == (2_000, 0, 0)  # seconds 20 to 22, as far as lines tell
    assert (first["slowest_query_ms"], second["slowest_query_ms"], second["slowest_transaction_ms"]) == (215.0, 3.0, 220.0)
    assert first["hashes_equal"] and first["rows_compared"] == 1_500
    text = markdown(found)
    assert "| 1 cutover | 212 ms | 2,000 | 0 | 0 | 215 ms | 220 ms | yes, 1,500 rows |" in text and "| drain | 200.0 | 200.0 |" in text
    alone = document(dataclasses.replace(facts(failed=2), driver="none"))
    assert (alone["crossings"][0]["failed_queries"], alone["crossings"][0]["tried_again"]) == (0, 2) and is_clean(alone)
    assert document(facts(failed=2))["crossings"][0]["failed_queries"] == 2  # behind a pooler a lost connection is a failure


@pytest.mark.parametrize("broken", [{"lost": 1}, {"differences": 1}, {"failed": 2}, {"after_crossing": 1}])
def test_a_broken_promise_is_said(broken: dict[str, int], tmp_path: Path) -> None:
    found = write(facts(**broken), tmp_path)
    assert not is_clean(found)
    text = (tmp_path / "report.md").read_text()
    assert "Promises were broken" in text and ("missing: reservation 7" in text) == ("lost" in broken)


def test_percentiles_and_rates() -> None:
    hundred = [float(n) for n in range(100, 0, -1)]
    assert (percentile(hundred, 0.5), percentile(hundred, 0.99), percentile([3.0], 0.99), percentile([], 0.5)) == (50.0, 99.0, 3.0, None)
    assert rates([(0.0, 0), (1.0, 100), (2.0, 300)], 1.0) == [(1.0, 100.0), (2.0, 200.0)]
