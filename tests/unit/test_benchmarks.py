"""What benchmarks write down, and how runs become figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from benchmarks import decode, workloads
from benchmarks.harness import Case, Failed, Sample, Told, count, measure
from benchmarks.result import Figure, table, write
from benchmarks.verify import rate


def test_the_results_file_has_what_scripts_rely_on(tmp_path: Path) -> None:
    alone = Figure("apply", "inserts", "events/s", (1000.0, 3000.0, 2000.0))
    beside = Figure("backfill", "wide", "rows/s", (300.0,), (100.0, 200.0), "pgcopydb")
    write([alone, beside], tmp_path / "results" / "latest.json", "a machine")
    first, second = orjson.loads((tmp_path / "results" / "latest.json").read_bytes())
    assert set(first) == {"benchmark", "workload", "ours", "peer", "peer_name", "unit", "ratio", "runs", "machine", "date"}
    assert first["ours"] == 2000 and first["runs"] == [1000, 3000, 2000] and first["machine"] == "a machine"
    assert first["peer"] is None and first["peer_name"] is None and first["ratio"] is None
    assert second["peer"] == 150 and second["ratio"] == 2.0 and second["peer_name"] == "pgcopydb"
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["latest.json"]
    told = table([alone, beside])
    assert "| apply | inserts | 2,000 | ±50% | events/s | 3 |" in told
    assert "| backfill | wide | 300 | pgcopydb | 150 | 2.00 |" in told


def test_benchmarks_that_did_not_run_keep_what_they_had(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write([Figure("decode", "a", "events/s", (1.0,)), Figure("lag", "p50", "ms", (9.0,))], path, "then")
    write([Figure("decode", "b", "events/s", (2.0,))], path, "now")
    assert {(r["benchmark"], r["workload"], r["machine"]) for r in orjson.loads(path.read_bytes())} == {
        ("lag", "p50", "then"),
        ("decode", "b", "now"),
    }


def test_ours_and_the_peer_take_turns_round_after_round() -> None:
    seen: list[str] = []
    values = iter(range(1, 100))

    def one(name: str) -> Iterator[Sample]:
        seen.append(name)
        yield Sample("apply", "inserts", "events/s", next(values))

    with_peer = Case("apply", lambda: one("ours"), lambda: one("sink"), "JDBC sink")
    other = Case("other", lambda: one("other"))
    (figure, *_), failures = measure([with_peer], 3)
    assert seen == ["ours", "sink", "sink", "ours", "ours", "sink"] and failures == 0 and count([with_peer, other], 3) == 9
    assert figure == Figure("apply", "inserts", "events/s", (1, 4, 5), (2, 3, 6), "JDBC sink")
    seen.clear()
    measure([other, with_peer], 1)
    assert seen == ["other", "ours", "sink"]


def test_a_run_that_fails_is_in_no_figure_and_the_others_go_on() -> None:
    runs = iter([True, False, True])
    told: list[str] = []

    def one() -> Iterator[Sample]:
        yield Sample("lag", "p50", "ms", 5.0)
        if not next(runs):
            raise Failed("the end was not reached")

    figures, failures = measure([Case("lag", one)], 3, Told(failed=lambda title, run, error: told.append(f"{title} {run}: {error}")))
    assert figures == [Figure("lag", "p50", "ms", (5.0, 5.0))] and failures == 1
    assert told == ["lag 2: the end was not reached"]


def test_a_rate_is_only_given_for_what_came_out_right() -> None:
    tables = [{"rows_compared": 300, "seconds": 1.0}, {"rows_compared": 100, "seconds": 1.0}]
    assert rate({"differences": 0, "complete": True, "tables": tables}) == 200
    with pytest.raises(Failed, match="1 differences"):
        rate({"differences": 1, "complete": True, "tables": tables})


def test_mixed_transactions_have_1_to_50_rows_and_the_average_that_is_said() -> None:
    """The same arithmetic as its SQL."""
    mixed = workloads.MIXED
    sizes = [1 + n % 7 + 4 * (n % 2 == 0) + (1 + n % 37) * (n % 3 == 0) + 2 * (n % 5 == 0) for n in range(1, 5001)]
    assert min(sizes) == 1 and max(sizes) == 50 and abs(sum(sizes) / len(sizes) - mixed.per_transaction) < 0.5
    assert "{" not in workloads.filled_in(mixed.body, "n", 1000)


def test_decode_measures_what_comes_through() -> None:
    assert min(decode.measure(events=500)) > 0
