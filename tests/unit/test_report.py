"""The demo's report: the keys that scripts rely on, percentiles and rates that are right, and a verdict that does not flatter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.local.crossings import Crossed
from deploy.local.reckoning import Fault, Reckoning
from deploy.local.report import Facts, is_clean, write
from deploy.local.timeline import Lag, Span, percentile, rates

ZERO = 1_700_000_000.0


def facts(*, lost: int = 0, differences: int = 0) -> Facts:
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
        reckoning=Reckoning(acknowledged=3_000, rolled_back=100, keys=5_000, lost=lost, unexpected=0, details=faults),
        load=[{"at": ZERO + second, "committed": 100 * second, "failed": 0, "slowest_ms": 12.0} for second in range(1, 31)],
        lag=[Lag(ZERO + 4 + 0.2 * n, 10.0 + n % 10, 60 * n, 20 * n) for n in range(151)],
        copied=[(ZERO + 4 + n, 100.0 * n) for n in range(11)],
        load_seconds=30.0,
        rate_wanted=100.0,
        crossed=Crossed(pooler=None, wanted=0),
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


@pytest.mark.parametrize("broken", [{"lost": 1}, {"differences": 1}])
def test_a_broken_promise_is_said(broken: dict[str, int], tmp_path: Path) -> None:
    found = write(facts(**broken), tmp_path)
    assert not is_clean(found)
    text = (tmp_path / "report.md").read_text()
    assert "Promises were broken" in text and ("missing: reservation 7" in text) == ("lost" in broken)


def test_percentiles_and_rates() -> None:
    hundred = [float(n) for n in range(100, 0, -1)]
    assert (percentile(hundred, 0.5), percentile(hundred, 0.99), percentile([3.0], 0.99), percentile([], 0.5)) == (50.0, 99.0, 3.0, None)
    assert rates([(0.0, 0), (1.0, 100), (2.0, 300)], 1.0) == [(1.0, 100.0), (2.0, 200.0)]
