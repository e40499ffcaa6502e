"""The demo's report: one JSON document (keys as docs/cli.md promises), the same for people in Markdown, and a picture."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
from pathlib import Path
from typing import Any

import orjson

from deploy.local import crossings
from deploy.local.crossings import Crossing
from deploy.local.picture import Curves, draw
from deploy.local.reckoning import Reckoning
from deploy.local.timeline import Lag, Span, percentile, rates

_MEASURED = ("copying", "following")


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """Everything that one run found out."""

    scenario: str
    rows_loaded: int
    began: float  # when the load started, seconds since 1970
    spans: list[Span]
    tables: list[dict[str, Any]]  # as `crossfade status` has them
    streams: list[dict[str, Any]]
    verify: dict[str, Any]
    reckonings: dict[str, Reckoning]  # the ledger against the source and against the target
    load: list[dict[str, Any]]  # counts over time; the last is the sum
    lag: list[Lag]
    copied: list[tuple[float, float]]
    load_seconds: float
    rate_wanted: float
    driver: str  # who led the application across
    crossings: list[Crossing]


def document(facts: Facts) -> dict[str, Any]:
    """The JSON document."""
    copied = sum(int(table["rows_copied"]) for table in facts.tables)
    copy_seconds = _seconds(facts.spans, "copying")
    events = sum(int(stream["applied"]) for stream in facts.streams)
    transactions = sum(int(stream["transactions"]) for stream in facts.streams)
    applying = (facts.lag[-1].at - facts.lag[0].at) if len(facts.lag) > 1 else 0.0
    lag = [sample.ms for sample in facts.lag]
    counts = facts.load[-1] if facts.load else {}
    felt = crossings.Load(facts.load, facts.driver)
    # the application may be on the target: then that is the side that was compared from
    checked = {frozenset((table["source"], table["target"])): table for table in facts.verify["tables"]}
    return {
        "scenario": facts.scenario,
        "rows_copied": copied,
        "copy_seconds": round(copy_seconds, 3),
        "copy_rows_per_second": _rate(copied, copy_seconds),
        "events_applied": events,
        "events_per_second": _rate(events, applying),
        "transactions_applied": transactions,
        "transactions_per_second": _rate(transactions, applying),
        "lag_ms": {
            "p50": _round(percentile(lag, 0.50)),
            "p99": _round(percentile(lag, 0.99)),
            "max": _round(max(lag, default=None)),
            "markers": len(lag),
        },
        "lag_ms_following": _lag_within(facts, "following"),
        "lag_ms_copying": _lag_within(facts, "copying"),
        "differences": facts.verify["differences"],
        "ledger": _ledger(facts.reckonings),
        "driver": facts.driver,
        "crossings": felt.documents(facts.crossings),
        "load": {
            "seconds": round(facts.load_seconds, 3),
            "transactions_per_second": _rate(counts.get("committed", 0), facts.load_seconds),
            "wanted_per_second": facts.rate_wanted,
            "failed_queries": felt.failed(counts),
            "tried_again": felt.tried_again(counts),
            **{key: counts[key] for key in counts if key not in ("at", "fence", "slowest")},
        },
        "tables": [
            {
                **{key: table[key] for key in ("source", "target", "rows_copied", "seconds", "rows_per_second")},
                **{
                    key: checked.get(frozenset((table["source"], table["target"])), {}).get(key)
                    for key in ("rows_compared", "missing", "extra", "different")
                },
            }
            for table in facts.tables
        ],
        "phases": [{"phase": span.name, "seconds": round(span.seconds, 3)} for span in facts.spans],
        "machine": {"cores": os.cpu_count(), "system": platform.platform(terse=True), "python": platform.python_version()},
        "at": datetime.datetime.fromtimestamp(facts.began, datetime.UTC).isoformat(timespec="seconds"),
    }


def is_clean(report: dict[str, Any]) -> bool:
    """Whether every promise was kept."""
    ledger = report["ledger"]
    return not report["differences"] and not ledger["lost"] and not ledger["unexpected"] and crossings.clean(report)


def write(facts: Facts, folder: Path) -> dict[str, Any]:
    """Writes report.json, report.md and report.png; answers the document."""
    report = document(facts)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    (folder / "report.md").write_text(markdown(report), encoding="utf-8")
    draw(curves(facts, report), folder / "report.png")
    return report


def curves(facts: Facts, report: dict[str, Any]) -> Curves:
    """What the picture shows, in seconds since the load began."""
    zero = facts.began
    first = min((span.start for span in facts.spans), default=zero)
    before = [Span("before", 0.0, first - zero)] if first > zero else []
    committed = [(0.0, 0.0), *((row["at"] - zero, float(row["committed"])) for row in facts.load)]
    applied = [(sample.at - zero, float(sample.transactions)) for sample in facts.lag]
    verdict = "every promise kept" if is_clean(report) else "PROMISES BROKEN"
    return Curves(
        title=f"crossfade demo {facts.scenario}: {report['rows_copied']:,} rows copied under load, {verdict}",
        spans=[*before, *(Span(span.name, span.start - zero, span.end - zero) for span in facts.spans)],
        source_rate=rates(committed, 2.0),
        target_rate=rates(applied, 2.0),
        copied=[(at - zero, rows) for at, rows in facts.copied],
        lag_ms=[(sample.at - zero, sample.ms) for sample in facts.lag],
        p50=report["lag_ms"]["p50"],
        p99=report["lag_ms"]["p99"],
        crossings=[(one.ended - zero, f"{one.direction}, {one.said['pause_ms']:,.0f} ms") for one in facts.crossings],
    )


def markdown(report: dict[str, Any]) -> str:
    """The document for people."""
    ledger, lag, load = report["ledger"], report["lag_ms"], report["load"]
    verdict = (
        "Every promise was kept." if is_clean(report) else "**Promises were broken: see the ledger's details and the differences below.**"
    )
    lines = [
        f"# crossfade demo: {report['scenario']}",
        "",
        f"{report['at']}, {report['machine']['cores']} cores. {verdict}",
        "",
        "![throughput, copy and lag over time](report.png)",
        "",
        "| | |",
        "|---|---|",
        f"| rows copied | {report['rows_copied']:,} in {report['copy_seconds']:.1f} s ({report['copy_rows_per_second']:,.0f} rows/s) |",
        f"| events applied | {report['events_applied']:,} ({report['events_per_second']:,.0f}/s) |",
        f"| transactions applied | {report['transactions_applied']:,} ({report['transactions_per_second']:,.0f}/s) |",
        f"| end-to-end lag | p50 {_ms(lag['p50'])}, p99 {_ms(lag['p99'])}, max {_ms(lag['max'])} over {lag['markers']:,} markers |",
        f"| … while following | p50 {_ms(report['lag_ms_following']['p50'])}, p99 {_ms(report['lag_ms_following']['p99'])} |",
        f"| differences after a full comparison | {report['differences']:,} |",
        f"| ledger | {ledger['acknowledged']:,} acknowledged, {ledger['rolled_back']:,} rolled back transactions; "
        f"of {ledger['keys']:,} rows on each side {ledger['lost']:,} lost, {ledger['unexpected']:,} unexpected |",
        f"| load | {load['transactions_per_second']:,.0f} transactions/s for {load['seconds']:.0f} s; {load.get('queries', 0):,} queries, "
        f"{load['failed_queries']:,} failed, slowest {_ms(load.get('slowest_query_ms'))} |",
        *crossings.markdown(report),
        "",
        "| table | to | rows copied | rows/s | compared | missing | extra | different |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for table in report["tables"]:
        checked = [_count(table[key]) for key in ("rows_compared", "missing", "extra", "different")]
        numbers = [f"{table['rows_copied']:,}", f"{table['rows_per_second']:,.0f}", *checked]
        lines.append(f"| {table['source']} | {table['target']} | {' | '.join(numbers)} |")
    lines += ["", "| phase | seconds |", "|---|--:|", *(f"| {phase['phase']} | {phase['seconds']:.1f} |" for phase in report["phases"])]
    if ledger["details"]:
        lines += ["", "## What the ledger found", "", *(f"- {detail}" for detail in ledger["details"])]
    return "\n".join(lines) + "\n"


def _ledger(reckonings: dict[str, Reckoning]) -> dict[str, Any]:
    """Both sides together; each by itself under its name."""
    one = next(iter(reckonings.values()))
    both = {what: sum(getattr(found, what) for found in reckonings.values()) for what in ("lost", "unexpected")}
    details = [f"{side}: {fault}" for side, found in reckonings.items() for fault in found.details]
    sides = {side: {"lost": found.lost, "unexpected": found.unexpected} for side, found in reckonings.items()}
    known = {"acknowledged": one.acknowledged, "rolled_back": one.rolled_back, "keys": one.keys}
    return {**known, **both, "sides": sides, "details": details}


def _lag_within(facts: Facts, phase: str) -> dict[str, float | None]:
    within = [span for span in facts.spans if span.name == phase]
    values = [sample.ms for sample in facts.lag if any(span.start <= sample.at < span.end for span in within)]
    return {"p50": _round(percentile(values, 0.50)), "p99": _round(percentile(values, 0.99))}


def _seconds(spans: list[Span], name: str) -> float:
    return sum(span.seconds for span in spans if span.name == name)


def _rate(count: int, seconds: float) -> float:
    return round(count / seconds, 1) if seconds > 0 else 0.0


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def _count(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"
