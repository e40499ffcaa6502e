"""One measured figure, and how figures are summed up and written."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import platform
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from benchmarks import markdown


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """The runs of one benchmark on one workload, and those of one peer, if one was measured beside it. `cannot` says why a peer was not."""

    benchmark: str
    workload: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    peer_name: str | None = None
    cannot: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def spread(self) -> float:
        return spread(self.ours)

    def document(self, machine: str, date: str) -> dict[str, object]:
        """As `results/latest.json` has it. `ratio` is ours / peer, whichever way is better for the unit."""
        peer = statistics.median(self.peer) if self.peer else None
        return {
            "benchmark": self.benchmark,
            "workload": self.workload,
            "ours": _rounded(self.median),
            "peer": None if peer is None else _rounded(peer),
            "peer_name": self.peer_name,
            "unit": self.unit,
            "ratio": None if not peer else round(self.median / peer, 2),
            "runs": [_rounded(one) for one in self.ours],
            "peer_runs": [_rounded(one) for one in self.peer],
            "peer_cannot": self.cannot,
            "machine": machine,
            "date": date,
        }


def spread(runs: Sequence[float]) -> float:
    """Half of the distance between the slowest and the fastest run, as a share of the median."""
    middle = statistics.median(runs)
    return (max(runs) - min(runs)) / 2 / middle if middle else 0.0


def _rounded(value: float) -> float:
    return round(value, 1) if value < 1000 else float(round(value))


def machine() -> str:
    """What it runs on, and how busy that is by now: to be asked before anything of ours has made it busy."""
    memory = "unknown memory"
    with contextlib.suppress(ValueError, OSError):
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    said = f"{os.cpu_count()} cores, {memory}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{said}, load {os.getloadavg()[0]:.1f} before the run"


def write(figures: Sequence[Figure], path: Path, where: str | None = None) -> None:
    """Writes the results file. What did not run this time keeps what stands there, with its own date."""
    path.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    where = where or machine()
    ran = {(figure.benchmark, figure.workload) for figure in figures}
    kept = [record for record in records(path) if (record["benchmark"], record["workload"]) not in ran]
    document = [*kept, *(figure.document(where, date) for figure in figures)]
    fresh = path.with_suffix(".tmp")
    fresh.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")
    fresh.replace(path)


def read(path: Path) -> list[Figure]:
    """All figures of a results file."""
    return [
        Figure(
            record["benchmark"],
            record["workload"],
            record["unit"],
            tuple(record["runs"]),
            tuple(record["peer_runs"]),
            record["peer_name"],
            record["peer_cannot"],
        )
        for record in records(path)
    ]


def records(path: Path) -> list[dict[str, Any]]:
    """All of a results file as it stands there; none where there is no file."""
    if not path.exists():
        return []
    return list(orjson.loads(path.read_bytes()))


def table(figures: Sequence[Figure]) -> str:
    """Two tables in Markdown: all medians, and what was measured beside a peer."""
    medians: dict[tuple[str, str, str], tuple[str, ...]] = {}
    beside: list[tuple[str, ...]] = []
    for figure in figures:
        what, middle = (figure.benchmark, figure.workload), _told(figure.median)
        # One more peer is one more figure of the same.
        medians.setdefault((*what, figure.unit), (*what, middle, f"±{figure.spread:.0%}", figure.unit, str(len(figure.ours))))
        if figure.peer_name:
            if figure.peer:
                peer = statistics.median(figure.peer)
                its = f"{_told(peer)} ±{spread(figure.peer):.0%}", f"{figure.median / peer:.2f}" if peer else ""
            else:
                its = f"cannot: {figure.cannot}", ""
            beside.append((*what, figure.unit, middle, figure.peer_name, *its))
    told = markdown.table(("benchmark", "workload", "median", "spread", "unit", "runs"), "llrrlr", medians.values())
    if beside:
        told += "\n\n" + markdown.table(("benchmark", "workload", "unit", "ours", "beside", "its median", "ours / its"), "lllrlrr", beside)
    return told


def _told(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
