"""What the demo's crossings were: each with its pause, step by step, what the application felt of it, and the comparison after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from deploy.local.timeline import Lag


@dataclasses.dataclass(slots=True)
class Crossing:
    """One cutover or rollback."""

    command: str
    asked: float  # seconds since 1970
    ended: float
    outcome: Mapping[str, Any]  # what the command said
    verify: Mapping[str, Any] | None = None  # the full comparison after it, while the other side leads

    @property
    def crossed(self) -> bool:
        return bool(self.outcome.get("crossed"))

    @property
    def differences(self) -> int | None:
        """None: nobody looked."""
        return None if self.verify is None else int(self.verify["differences"])


@dataclasses.dataclass(frozen=True, slots=True)
class Crossed:
    """All of them, and what the way back did."""

    pooler: str | None  # None: the application tries either side itself
    wanted: int
    crossings: Sequence[Crossing] = ()
    lag_back: Sequence[Lag] = ()

    @property
    def leads(self) -> str:
        """The side that the application is on at the end."""
        return "target" if sum(crossing.crossed for crossing in self.crossings) % 2 else "source"


def document(crossed: Crossed, load: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The report's part about them. `load`: the application's counts over time, the last is the sum."""
    counts = load[-1] if load else {}
    failed = int(counts.get("failed", 0))
    if crossed.pooler is not None:  # nothing may be seen of a crossing: a connection that breaks was a failed query
        failed += int(counts.get("reconnects", 0))
    return {
        "leads": crossed.leads,
        "pooler": crossed.pooler,
        "queries": {
            "all": counts.get("queries", 0),
            "failed": failed,
            "retried": 0 if crossed.pooler is not None else counts.get("reconnects", 0),
            "slowest_ms": _round(counts.get("slowest_query_ms")),
            "first_error": counts.get("first_error", ""),
        },
        "crossings_wanted": crossed.wanted,
        "crossings": [_one(crossing, load) for crossing in crossed.crossings],
    }


def is_clean(report: Mapping[str, Any]) -> bool:
    """Whether every crossing that was wanted was made, was felt by no query as a failure, and left both sides equal."""
    if not report["crossings_wanted"]:
        return True
    kept = all(crossing["crossed"] and crossing["differences"] == 0 for crossing in report["crossings"])
    return kept and len(report["crossings"]) == report["crossings_wanted"] and report["queries"]["failed"] == 0


def markdown(report: Mapping[str, Any]) -> list[str]:
    """The same for people."""
    if not report["crossings_wanted"]:
        return ["", "No crossing was asked for (`--crossings`): the application stayed on the source."]
    queries, crossings = report["queries"], report["crossings"]
    through = f"through {report['pooler']}" if report["pooler"] else f"without a pooler, {queries['retried']:,} transactions begun again"
    lines = [
        "",
        "## Crossings",
        "",
        f"The application ends on the {report['leads']}. {queries['all']:,} queries {through}: {queries['failed']:,} failed, "
        f"the slowest took {_ms(queries['slowest_ms'])}.",
        "",
        "| crossing | writes waited | slowest query | differences after it |",
        "|---|--:|--:|--:|",
    ]
    for number, crossing in enumerate(crossings, 1):
        waited = _ms(crossing["pause_ms"]) if crossing["crossed"] else f"not crossed: {crossing['reason']}"
        after = "not compared" if crossing["differences"] is None else f"{crossing['differences']:,} of {crossing['rows_compared']:,} rows"
        lines.append(f"| {number} {crossing['command']} | {waited} | {_ms(crossing['slowest_query_ms'])} | {after} |")
    steps = list(dict.fromkeys(step for crossing in crossings for step in crossing["step_ms"]))
    if steps:
        heads = [f"{number} {crossing['command']}" for number, crossing in enumerate(crossings, 1)]
        lines += ["", f"| step, ms | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
        for step in steps:
            took = ["–" if (ms := crossing["step_ms"].get(step)) is None else f"{ms:.1f}" for crossing in crossings]
            lines.append(f"| {step} | {' | '.join(took)} |")
    if queries["first_error"]:
        lines += ["", f"The first error: `{queries['first_error']}`"]
    return lines


def _one(crossing: Crossing, load: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    # a line of the load covers the second before it
    felt = [float(line["recent_query_ms"]) for line in load if crossing.asked <= line["at"] <= crossing.ended + 1.5]
    outcome = crossing.outcome
    return {
        "command": crossing.command,
        "crossed": crossing.crossed,
        "reason": outcome.get("reason") or _closed(outcome),
        "seconds": round(crossing.ended - crossing.asked, 3),
        "pause_ms": _round(outcome.get("pause_ms")),
        "step_ms": {step: round(float(ms), 1) for step, ms in outcome.get("step_ms", {}).items()},
        "slowest_query_ms": _round(max(felt, default=None)),
        "differences": crossing.differences,
        "rows_compared": None if crossing.verify is None else sum(int(table["rows_compared"] or 0) for table in crossing.verify["tables"]),
    }


def _closed(outcome: Mapping[str, Any]) -> str | None:
    """The gate that a crossing waits at."""
    for gate in outcome.get("gates", ()):
        if not gate["ok"]:
            return f"{gate['id']}: {gate['value']}, limit {gate['limit']}: {gate['why']}"
    return None


def _round(value: float | None) -> float | None:
    return None if value is None else round(float(value), 1)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"
