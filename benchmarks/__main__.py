"""`python -m benchmarks [--quick] [--only NAME] [--runs N]`: runs them, prints a table, writes results/latest.json."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

from benchmarks import apply, backfill, decode, lag, workloads
from benchmarks.result import Figure, machine, table, write
from benchmarks.stage import Stage, stage

T = TypeVar("T")
NAMES = ("decode", "apply", "backfill", "lag")
_PAIRS = (("postgresql", "postgresql"), ("mariadb", "postgresql"), ("postgresql", "mariadb"))
_SHORT = {"postgresql": "PG", "mariadb": "MariaDB"}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: under three minutes")
    parser.add_argument("--only", action="append", choices=NAMES, help="one of them; may be given several times")
    parser.add_argument("--runs", type=int, help="runs of each (3, quick: 1)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "latest.json")
    wish = parser.parse_args()
    runs = wish.runs or (1 if wish.quick else 3)
    names = wish.only or NAMES
    figures: list[Figure] = []
    try:
        if "decode" in names:
            events = 100_000 if wish.quick else 300_000
            figures.append(_figure("decode", "PG events, 10 a transaction", "events/s", runs, lambda: decode.measure(events=events)))
        if set(names) - {"decode"}:
            _say("starting PostgreSQL, MariaDB, Kafka and Connect")
            with stage() as on:
                _on_servers(on, names, runs, wish.quick, figures)
    except KeyboardInterrupt:
        print("stopped; nothing is written", file=sys.stderr)
        return 130
    write(figures, wish.out)
    print(f"{machine()}\n\n{table(figures)}\n\n{wish.out}")
    return 0


def _on_servers(on: Stage, names: list[str] | tuple[str, ...], runs: int, quick: bool, figures: list[Figure]) -> None:
    if "apply" in names:
        rows, events = (20_000, 40_000) if quick else (200_000, 200_000)
        for source, target in _PAIRS[:1] if quick else _PAIRS:
            for workload in workloads.ALL[:1] if quick else workloads.ALL:
                what = f"{_SHORT[source]} to {_SHORT[target]}, {workload.name}"

                one = partial(apply.measure, on, source, target, workload, rows=rows, events=events)
                figures.append(_figure("apply", what, "events/s", runs, one))
    if "backfill" in names:
        rows = 100_000 if quick else 1_000_000
        for source, target in _PAIRS[:2] if quick else _PAIRS:
            what = f"{_SHORT[source]} to {_SHORT[target]}, {rows:,} rows and {rows // 2:,} of a child table"
            rates = [_run("backfill", what, n, partial(backfill.measure, on, source, target, rows=rows)) for n in range(runs)]
            figures.append(Figure("backfill", what, "rows/s", tuple(copied for copied, _ in rates)))
            figures.append(Figure("verify", f"{what}, full", "rows/s", tuple(verified for _, verified in rates)))
    if "lag" in names:
        rate, seconds = (200, 8.0) if quick else (500, 20.0)
        for source, target in _PAIRS[:1] if quick else _PAIRS[:2]:
            what = f"{_SHORT[source]} to {_SHORT[target]}, {rate} transactions/s of 10 rows"
            measured = partial(lag.measure, on, source, target, rows=20_000, rate=rate, seconds=seconds)
            lags = [_run("lag", what, n, measured) for n in range(runs)]
            figures.append(Figure("lag", f"{what}, p50", "ms", tuple(p50 for p50, _, _ in lags)))
            figures.append(Figure("lag", f"{what}, p99", "ms", tuple(p99 for _, p99, _ in lags)))
            figures.append(Figure("lag", f"{what}, written", "transactions/s", tuple(wrote for *_, wrote in lags)))


def _figure(name: str, what: str, unit: str, runs: int, one: Callable[[], float]) -> Figure:
    return Figure(name, what, unit, tuple(_run(name, what, n, one) for n in range(runs)))


def _run(name: str, what: str, number: int, one: Callable[[], T]) -> T:
    value = one()
    _say(f"{name}: {what}: run {number + 1}: {value}")
    return value


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
