"""What happened when: phases, throughput and lag of one demo, sampled while it runs and read back from the control store at its end."""

from __future__ import annotations

import bisect
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson

from pipeline.control.status import status, turned
from pipeline.errors import CrossfadeError
from pipeline.store.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """A phase of the demo, in seconds since 1970."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclasses.dataclass(frozen=True, slots=True)
class Lag:
    """One heartbeat marker: written to the source, applied on the target `ms` later."""

    at: float
    ms: float
    events: int
    transactions: int


def read_lag(store: Store, since: float) -> list[Lag]:
    """Every marker since then, of all streams, in time order."""
    rows = store.lag(since)
    return sorted((Lag(float(r.at), float(r.lag_ms), int(r.events_total), int(r.transactions_total)) for r in rows), key=lambda lag: lag.at)


def one_lag(there: Sequence[Lag], back: Sequence[Lag], leads: Callable[[float], str]) -> list[Lag]:
    """The samples of the direction that applied at the time; what was applied is counted over both."""
    found, last = [], dict.fromkeys(("source", "target"), Lag(0.0, 0.0, 0, 0))
    samples = [("source", lag) for lag in there] + [("target", lag) for lag in back]
    for side, lag in sorted(samples, key=lambda sample: sample[1].at):
        last[side] = lag
        if leads(lag.at) == side:
            events, transactions = sum(one.events for one in last.values()), sum(one.transactions for one in last.values())
            found.append(dataclasses.replace(lag, events=events, transactions=transactions))
    return found


def read_spans(store: Store, since: float, until: float) -> list[Span]:
    """The phases of the migration from its audit trail."""
    changes = sorted(
        (float(row.at), str(row.to_phase)) for row in store.audit_trail(10_000) if row.to_phase and row.from_phase != row.to_phase
    )
    changes = [change for change in changes if change[0] >= since]
    ends = [at for at, _ in changes[1:]] + [until]
    return [Span(phase, start, end) for (start, phase), end in zip(changes, ends, strict=True)]


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that `share` of all are not above; None without values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, math.ceil(share * len(ordered) - 1e-9) - 1))] if ordered else None


def rates(points: Sequence[tuple[float, float]], width: float = 1.0) -> list[tuple[float, float]]:
    """A growing count, as (time, count), turned into a rate over the last `width` seconds at each point (at least half of them)."""
    times = [at for at, _ in points]
    found = []
    for at, count in points:
        before = max(0, bisect.bisect_right(times, at - width) - 1)
        if at - times[before] >= width / 2:
            found.append((at, (count - points[before][1]) / (at - times[before])))
    return found


def read_load(path: Path) -> list[dict[str, Any]]:
    """What the load wrote down once a second."""
    if not path.exists():
        return []
    return [orjson.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]


class Observer(threading.Thread):
    """Looks at the migration's status twice a second, as `crossfade status` shows it; keeps how far the copy was."""

    def __init__(self, forward: Store, back: Store, show: Callable[[dict[str, Any]], None], interval: float = 0.5) -> None:
        super().__init__(name="observer", daemon=True)
        self._store, self._back = forward, back
        self._show = show
        self._interval = interval
        self._ended = threading.Event()
        self.copied: list[tuple[float, float]] = []

    def run(self) -> None:
        try:
            while not self._ended.wait(self._interval):
                try:
                    found = status(self._store)
                    if found["phase"] == "switched":
                        found = turned(found, self._back)
                except CrossfadeError:
                    continue  # not started yet, or the target is busy starting: the next look will tell
                self.copied.append((time.time(), float(sum(table["rows_copied"] for table in found["tables"]))))
                self._show(found)
        finally:
            self._store.close()
            self._back.close()

    def end(self) -> None:
        """Stops looking."""
        self._ended.set()
        self.join()
