"""What benchmarks write down, and how runs become figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from benchmarks import decode, pages, workloads
from benchmarks.aims import aims
from benchmarks.harness import Cannot, Case, Failed, Sample, Told, in_turns, measure
from benchmarks.records import Missing, Records
from benchmarks.result import Figure, records, table, write
from benchmarks.verify import rate


def test_the_results_file_has_what_scripts_rely_on(tmp_path: Path) -> None:
    alone = Figure("apply", "inserts", "events/s", (1000.0, 3000.0, 2000.0))
    beside = Figure("backfill", "wide", "rows/s", (300.0,), (100.0, 200.0), "pgcopydb")
    away = Figure("backfill", "wide", "rows/s", (300.0,), (), "pgloader", "it reads no PostgreSQL")
    write([alone, beside, away], tmp_path / "results" / "latest.json", "a machine")
    first, second, third = orjson.loads((tmp_path / "results" / "latest.json").read_bytes())
    assert set(first) == {
        "benchmark",
        "workload",
        "ours",
        "peer",
        "peer_name",
        "unit",
        "ratio",
        "runs",
        "peer_runs",
        "peer_cannot",
        "machine",
        "date",
    }
    assert first["ours"] == 2000 and first["runs"] == [1000, 3000, 2000] and first["machine"] == "a machine"
    assert first["peer"] is None and first["peer_name"] is None and first["ratio"] is None
    assert second["peer"] == 150 and second["ratio"] == 2.0 and second["peer_name"] == "pgcopydb"
    assert third["peer"] is None and third["peer_cannot"] == "it reads no PostgreSQL"
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["latest.json"]
    told = table([alone, beside, away])
    assert "| apply | inserts | 2,000 | ±50% | events/s | 3 |" in told and told.count("| backfill | wide | 300 |") == 1
    assert "| backfill | wide | rows/s | 300 | pgcopydb | 150 ±33% | 2.00 |" in told
    assert "| backfill | wide | rows/s | 300 | pgloader | cannot: it reads no PostgreSQL |  |" in told


def test_benchmarks_that_did_not_run_keep_what_they_had(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    write([Figure("decode", "a", "events/s", (1.0,)), Figure("lag", "p50", "ms", (9.0,))], path, "then")
    write([Figure("decode", "a", "events/s", (2.0,))], path, "now")
    assert {(r["benchmark"], r["workload"], r["machine"]) for r in orjson.loads(path.read_bytes())} == {
        ("lag", "p50", "then"),
        ("decode", "a", "now"),
    }


def test_ours_and_the_peers_take_turns_round_after_round() -> None:
    seen: list[str] = []
    values = iter(range(1, 100))

    def one(by: str | None) -> Iterator[Sample]:
        seen.append(by or "ours")
        yield Sample("apply", "inserts", "events/s", next(values), by)

    def cannot() -> Iterator[Cannot]:
        yield Cannot("apply", "inserts", "events/s", "DMS", "it is not to be had")

    def run(number: int) -> list[Sample | Cannot]:
        return in_turns(number, lambda: one(None), lambda: one("sink"), cannot)

    figures, failures = measure([Case("apply", run)], 3)
    assert seen == ["ours", "sink", "sink", "ours", "ours", "sink"] and failures == 0
    assert figures == [
        Figure("apply", "inserts", "events/s", (1, 4, 5), (2, 3, 6), "sink"),
        Figure("apply", "inserts", "events/s", (1, 4, 5), (), "DMS", "it is not to be had"),
    ]


def test_what_is_set_up_once_keeps_the_rounds_before_the_one_that_fails_and_another_has_no_more_than_it_asks_for() -> None:
    def rounds(runs: int) -> Iterator[list[Sample | Cannot]]:
        for number in range(1, runs + 1):
            if number == 3:
                raise Failed("not equal")
            yield [Sample("apply", "inserts", "events/s", float(number))]

    figures, failures = measure(
        [Case("apply", rounds=rounds), Case("lag", lambda _number: [Sample("lag", "p50", "ms", 5.0)], at_most=2)], 4
    )
    assert figures == [Figure("apply", "inserts", "events/s", (1, 2)), Figure("lag", "p50", "ms", (5, 5))] and failures == 1


def test_a_run_that_fails_is_in_no_figure_and_the_others_go_on() -> None:
    runs = iter([True, False, True])
    told: list[str] = []

    def one(_number: int) -> Iterator[Sample]:
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
    for workload in workloads.ALL:
        assert "{" not in workloads.filled_in(workload.body, "n", workloads.Sizes(1000, people=100, wides=100))


def test_the_documentation_shows_what_the_results_file_says() -> None:
    found = Records(records(pages.RESULTS))
    for page in pages.PAGES:
        assert "<!-- figures: " in page.read_text() and pages.fill(page.read_text(), found) == page.read_text(), page


def test_an_aim_that_was_missed_is_told_as_missed_and_a_figure_that_is_not_there_is_named() -> None:
    every = records(pages.RESULTS)
    for one in every:
        if one["benchmark"] == "apply" and one["peer_name"]:
            one["ratio"] = 2.9 if one["workload"].startswith("MariaDB to PG, deletes") else 3.0
        if one["benchmark"] == "lag" and one["workload"].endswith("p99"):
            one["ours"] = 151.0
    on_postgres, on_mariadb = (aim for aim in aims(Records(every)) if aim.what.startswith("apply, "))
    assert not on_postgres.reached and "2.90 to 3.00 from MariaDB; on 13 of 14 workloads" in on_postgres.was
    assert on_mariadb.reached and "on 14 of 14 workloads" in on_mariadb.was
    (late,) = (aim for aim in aims(Records(every)) if " p99 " in aim.what)
    assert not late.reached and "151 and 151 ms" in late.was
    assert "| 50 |" in pages.fill("<!-- figures: limits -->\nold\n<!-- end of figures -->", Records(every))
    for name in ("limits", "cutover"):
        less = Records([one for one in every if one["benchmark"] != name])
        with pytest.raises(Missing, match=name):
            pages.fill(f"<!-- figures: {name} -->\n<!-- end of figures -->", less)
    with pytest.raises(KeyError, match="speed"):
        pages.fill("<!-- figures: speed -->\n<!-- end of figures -->", Records(every))


def test_decode_measures_what_comes_through() -> None:
    assert min(decode.measure(events=500)) > 0
