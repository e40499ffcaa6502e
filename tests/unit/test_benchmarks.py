"""What benchmarks write down."""

from __future__ import annotations

from pathlib import Path

import orjson

from benchmarks import decode
from benchmarks.result import Figure, table, write


def test_the_results_file_has_what_scripts_rely_on(tmp_path: Path) -> None:
    alone = Figure("apply", "inserts", "events/s", (1000.0, 3000.0, 2000.0))
    beside = Figure("backfill", "wide", "rows/s", (300.0,), (100.0, 200.0), "pgcopydb")
    write([alone, beside], tmp_path / "results" / "latest.json")
    first, second = orjson.loads((tmp_path / "results" / "latest.json").read_bytes())
    assert set(first) == {"benchmark", "workload", "ours", "peer", "peer_name", "unit", "ratio", "runs", "machine", "date"}
    assert first["ours"] == 2000 and first["runs"] == [1000, 3000, 2000] and first["peer"] is None and first["ratio"] is None
    assert second["peer"] == 150 and second["ratio"] == 2.0 and second["peer_name"] == "pgcopydb"
    assert "| apply | inserts | 2,000 | ±50% | events/s | 3 |" in table([alone, beside])


def test_decode_measures_what_comes_through() -> None:
    assert decode.measure(events=500) > 0
