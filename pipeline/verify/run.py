"""A verify of many tables: one run after the other, to its end or for as long as it is let."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from typing import Any

from pipeline.model import Difference
from pipeline.verify.compare import DEFAULTS, Hooks, Limits, TableResult, verify_table
from pipeline.verify.side import Databases
from pipeline.verify.store import Mode, VerifyStore
from transforms.pair import Pair


@dataclasses.dataclass(frozen=True, slots=True)
class Report:
    """What a run knows. Not `complete`: it was stopped; the next run of its mode goes on."""

    run: int
    tables: tuple[TableResult, ...]
    found: tuple[Difference, ...]  # open ones, at most `Limits.listed` a table, the first `Limits.shown` with their values
    complete: bool

    @property
    def differences(self) -> int:
        """Rows that are not the same."""
        return sum(table.progress.differences for table in self.tables)

    @property
    def unsettled(self) -> int:
        """Rows that did not come to rest."""
        return sum(table.progress.unsettled for table in self.tables)

    def as_json(self) -> dict[str, Any]:
        """As `crossfade verify --json` has it."""
        return {
            "tables": [table.as_json() for table in self.tables],
            "differences": self.differences,
            "unsettled": self.unsettled,
            "complete": self.complete,
        }


def verify(
    pairs: Sequence[Pair],
    databases: Databases,
    store: VerifyStore,
    hooks: Hooks,
    *,
    mode: Mode = "full",
    limits: Limits = DEFAULTS,
) -> Report:
    """Every pair, one after the other: both databases are at work on each. A recent unfinished run of this mode over the same pairs is
    gone on with."""
    run = store.begin(mode, scope(pairs))
    results: list[TableResult] = []
    for pair in pairs:
        if hooks.stop.is_set():
            break
        results.append(verify_table(pair, databases, store, run, hooks=hooks, limits=limits))
    complete = len(results) == len(pairs) and all(result.complete for result in results)
    if complete:
        store.finish(run)
    return Report(run, tuple(results), tuple(store.differences(run)), complete)


def scope(pairs: Sequence[Pair]) -> str:
    """What tells a verify of these tables from one of others."""
    names = sorted([pair.source.id.schema, pair.source.id.name, pair.target_id.schema, pair.target_id.name] for pair in pairs)
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


def continuous(
    pairs: Callable[[], Sequence[Pair]],
    databases: Databases,
    store: VerifyStore,
    hooks: Hooks,
    *,
    pause: float,
    on_round: Callable[[Report], None] = lambda report: None,
    limits: Limits = DEFAULTS,
) -> None:
    """Round after round, `pause` seconds apart, until `hooks.stop`. `pairs` is asked before each: tables become copied one by one."""
    while not hooks.stop.is_set():
        report = verify(pairs(), databases, store, hooks, mode="continuous", limits=limits)
        if report.complete:
            on_round(report)
            hooks.stop.wait(pause)
