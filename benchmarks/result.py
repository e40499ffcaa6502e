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

import orjson


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """The runs of one benchmark on one workload. `peer` stays empty until something is measured beside it."""

    benchmark: str
    workload: str
    unit: str
    ours: tuple[float, ...]
    peer: tuple[float, ...] = ()
    peer_name: str | None = None

    @property
    def median(self) -> float:
        return statistics.median(self.ours)

    @property
    def spread(self) -> float:
        """Half of the distance between the slowest and the fastest run, as a share of the median."""
        return (max(self.ours) - min(self.ours)) / 2 / self.median if self.median else 0.0

    def document(self, machine: str, date: str) -> dict[str, object]:
        """As `results/latest.json` has it."""
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
            "machine": machine,
            "date": date,
        }


def _rounded(value: float) -> float:
    return round(value, 1) if value < 1000 else float(round(value))


def machine() -> str:
    """What it ran on."""
    memory = "unknown memory"
    with contextlib.suppress(ValueError, OSError):
        memory = f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    return f"{os.cpu_count()} cores, {memory}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def write(figures: Sequence[Figure], path: Path) -> None:
    """Writes the results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    document = [figure.document(machine(), date) for figure in figures]
    path.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2) + b"\n")


def table(figures: Sequence[Figure]) -> str:
    """A table in Markdown."""
    lines = ["| benchmark | workload | median | spread | unit | runs |", "|---|---|---:|---:|---|---:|"]
    for figure in figures:
        row = (figure.benchmark, figure.workload, f"{figure.median:,.0f}", f"±{figure.spread:.0%}", figure.unit, str(len(figure.ours)))
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)
