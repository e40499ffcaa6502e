"""The demo takes its application across: `cutover`, `rollback`, `cutover` again, each one asked for as anybody would, and what it cost."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from deploy.local.commands import Commands
from pipeline.errors import CrossfadeError

Direction: TypeAlias = Literal["cutover", "rollback"]
_PATIENCE = 60.0  # seconds for which gates may stay shut, under load, on a machine with too much to do
_UNDONE = 3  # so many times a crossing may be undone before the demo gives up
_WAITING, _BACK = 4, 5  # exit codes: a gate is shut, it was undone
_FELT = 1.0  # seconds after a crossing in which a query that it held up may still end


@dataclasses.dataclass(slots=True)
class Crossing:
    """One of them. Times in seconds since 1970."""

    direction: Direction
    began: float
    ended: float
    said: Mapping[str, Any]  # what the command answered
    undone: int  # how often it was undone before
    verify: Mapping[str, Any] | None = None  # the comparison of both sides after it, in the direction that applies then

    @property
    def leads(self) -> Literal["source", "target"]:
        """Where the application is afterwards."""
        return "target" if self.direction == "cutover" else "source"

    @property
    def equal(self) -> bool:
        return self.verify is not None and not self.verify["differences"]


def across(
    commands: Commands, migration: str, times: int, *, compare: Callable[[], dict[str, Any]], hold: float, say: Callable[[str], None]
) -> list[Crossing]:
    """There and back so often, each time after a comparison in the direction that applies, which is a gate too; `hold` seconds pass after
    each. The last one is still to be compared, when the application has stopped."""
    done: list[Crossing] = []
    for number in range(times):
        say(f"comparing every row of both sides under load, the {done[-1].leads if done else 'source'} leading")
        compared = compare()
        if done:
            done[-1].verify = compared
        direction: Direction = "rollback" if number % 2 else "cutover"
        say(f"crossfade {direction}")
        done.append(cross(commands, migration, direction))
        say(f"the application is on the {done[-1].leads}: writes waited {done[-1].said['pause_ms']:.0f} ms")
        commands.hold(hold)
    return done


def cross(commands: Commands, migration: str, direction: Direction) -> Crossing:
    """Asks until it is done. Raises CrossfadeError when gates stay shut, or it is undone again and again."""
    began, undone = time.time(), 0
    while True:
        asked = time.time()
        said = commands.document(direction, migration, accept=(0, _WAITING, _BACK))
        if said["crossed"]:
            return Crossing(direction, asked, time.time(), said, undone)
        shut = [f"{gate['id']}: {gate['value']} ({gate['limit']}) {gate['why']}" for gate in said["gates"] if not gate["ok"]]
        undone += not shut
        if undone >= _UNDONE or time.time() - began > _PATIENCE:
            raise CrossfadeError(f"{direction}: {'; '.join(shut) or said.get('reason')}")
        commands.hold(1.0)


def leading(crossings: Sequence[Crossing], at: float) -> Literal["source", "target"]:
    """The side on which the application was at that moment."""
    before = [crossing for crossing in crossings if crossing.ended <= at]
    return before[-1].leads if before else "source"


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What the load wrote down, once a second, for looking up what it felt when."""

    rows: Sequence[Mapping[str, Any]]
    driver: str  # of the traffic: with a pooler nothing may ever fail, without one a refusal is tried again on the other side

    def documents(self, crossings: Sequence[Crossing]) -> list[dict[str, Any]]:
        return [self._document(crossing) for crossing in crossings]

    def _document(self, crossing: Crossing) -> dict[str, Any]:
        before, after = self._at(crossing.began), self._at(crossing.ended + _FELT)
        verify = crossing.verify or {"tables": [], "differences": None}
        return {
            "direction": crossing.direction,
            "pause_ms": round(crossing.said["pause_ms"], 1),
            "steps": {step: round(ms, 1) for step, ms in crossing.said["step_ms"].items() if step != "done"},
            "seconds": round(crossing.ended - crossing.began, 3),
            "undone_before": crossing.undone,
            "queries": after.get("queries", 0) - before.get("queries", 0),
            "failed_queries": self.failed(after) - self.failed(before),
            "tried_again": self.tried_again(after) - self.tried_again(before),
            "slowest_query_ms": self._slowest("queries", crossing),
            "slowest_transaction_ms": self._slowest("transactions", crossing),
            "hashes_equal": crossing.equal,
            "differences": verify["differences"],
            "rows_compared": sum(int(table["rows_compared"] or 0) for table in verify["tables"]),
        }

    def failed(self, counts: Mapping[str, Any]) -> int:
        """What an application would have shown as an error. Behind a pooler a connection that breaks is one, too."""
        return int(counts.get("failed", 0)) + (self._trouble(counts) if self.driver != "none" else 0)

    def tried_again(self, counts: Mapping[str, Any]) -> int:
        """Without a pooler: transactions that a side refused or cut off, and that went through on the next try."""
        return self._trouble(counts) if self.driver == "none" else 0

    def _trouble(self, counts: Mapping[str, Any]) -> int:
        return sum(int(counts.get(what, 0)) for what in ("lost", "unknown", "refused"))

    def _at(self, when: float) -> Mapping[str, Any]:
        """The counts at the first line not before that; the last one where there is none."""
        return next((row for row in self.rows if row["at"] >= when), self.rows[-1] if self.rows else {})

    def _slowest(self, what: str, crossing: Crossing) -> float | None:
        first, last = int(crossing.began), crossing.ended + _FELT
        felt = [ms for row in self.rows for second, ms in row.get("slowest", {}).get(what, ()) if first <= second <= last]
        return round(max(felt), 1) if felt else None


def markdown(report: Mapping[str, Any]) -> list[str]:
    """Lines about crossings, for people."""
    crossings = report["crossings"]
    if not crossings:
        return ["", "The application stayed on the source (`--crossings 0`)."]
    how = (
        "through PgBouncer: clients hold one connection and try nothing twice"
        if report["driver"] == "pgbouncer"
        else "without a pooler: where a side refuses, the client tries the same transaction on the other one"
    )
    lines = [
        "",
        "## Crossings",
        "",
        f"The application was taken across {len(crossings)} times under load, {how}.",
        "",
        "| | writes waited | queries | failed | tried again | slowest query | slowest transaction | both sides equal |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for number, crossing in enumerate(crossings, 1):
        equal = f"yes, {crossing['rows_compared']:,} rows" if crossing["hashes_equal"] else f"NO, {crossing['differences']} differences"
        cells = [
            f"{number} {crossing['direction']}",
            _ms(crossing["pause_ms"]),
            f"{crossing['queries']:,}",
            str(crossing["failed_queries"]),
            str(crossing["tried_again"]),
            _ms(crossing["slowest_query_ms"]),
            _ms(crossing["slowest_transaction_ms"]),
            equal,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    steps = list(dict.fromkeys(step for crossing in crossings for step in crossing["steps"]))
    names = [f"{number} {crossing['direction']}" for number, crossing in enumerate(crossings, 1)]
    lines += ["", f"| step, ms | {' | '.join(names)} |", f"|---|{'--:|' * len(crossings)}"]
    for step in steps:
        lines.append(f"| {step} | {' | '.join(_one(crossing['steps'].get(step)) for crossing in crossings)} |")
    lines += ["", "`close` comes before the pause. Queries are those between the command and a second after its end."]
    return lines


def clean(report: Mapping[str, Any]) -> bool:
    """Whether every crossing kept what was promised."""
    return all(crossing["hashes_equal"] for crossing in report["crossings"]) and not report["load"].get("failed_queries", 0)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f} ms"


def _one(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
