"""`python -m benchmarks [--quick] [--only …] [--ways …] [--workloads …] [--runs N] [--out PATH]`: runs them, writes table and results."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from benchmarks import apply, backfill, catchup, codec, cutover, decode, idle, lag, limits, scale, workloads
from benchmarks.harness import Case, measure
from benchmarks.peers import jdbcsink
from benchmarks.plot import draw
from benchmarks.result import Figure, machine, read, table, write
from benchmarks.screen import Screen
from benchmarks.stage import SHORT, Stage, stage
from deploy.local.deaf import deaf

NAMES = ("decode", "apply", "backfill", "verify", "lag", "catch-up", "scale", "codec", "cutover", "limits")
_WAYS = (("postgresql", "postgresql"), ("mariadb", "postgresql"), ("postgresql", "mariadb"), ("mariadb", "mariadb"))
_INTERRUPTED = 130
_ALONE = 3
"""Rounds of what has no peer, no aim and little spread: codecs, what streams cost while nobody writes, what servers take by themselves."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything."""

    runs: int
    decode_events: int
    apply_rows: int
    apply_events: int
    apply_ways: tuple[tuple[str, str], ...]
    workloads: tuple[workloads.Workload, ...]
    backfill_rows: int
    backfill_ways: tuple[tuple[str, str], ...]
    lag_rate: int
    lag_seconds: float
    lag_ways: tuple[tuple[str, str], ...]
    catchup_events: int
    scale_rows: int
    scale_streams: tuple[int, ...]
    idle_streams: tuple[int, ...]
    codecs: tuple[str, ...]
    crossings: int
    limit_rows: int
    sweep: bool
    apart: bool
    """What the sink takes part in has a stack of its own."""


FULL = Sizes(
    5,
    300_000,
    2_000_000,
    200_000,
    _WAYS,
    workloads.ALL,
    2_000_000,
    _WAYS,
    1000,
    20.0,
    _WAYS[:2],
    1_000_000,
    200_000,
    (1, 2, 4),
    (1, 4, 8),
    codec.CODECS,
    4,
    1_000_000,
    True,
    True,
)
QUICK = Sizes(
    1,
    100_000,
    20_000,
    100_000,
    _WAYS[:1],
    (workloads.UPDATES,),
    200_000,
    _WAYS[:1],
    200,
    5.0,
    _WAYS[:1],
    0,
    20_000,
    (),
    (),
    (),
    0,
    0,
    False,
    False,
)


def _named(way: tuple[str, str]) -> str:
    return "-to-".join(SHORT[engine].lower() for engine in way)


def cases(on: Stage, sizes: Sizes, names: Collection[str]) -> list[Case]:
    """What runs on servers."""
    found: list[Case] = []
    if "apply" in names:
        some = sizes.workloads
        found += [
            apply.case(on, *way, some, rows=sizes.apply_rows, events=sizes.apply_events, sweep=sizes.sweep) for way in sizes.apply_ways
        ]
    if {"backfill", "verify"} & set(names):
        found += [backfill.case(on, *way, names, rows=sizes.backfill_rows) for way in sizes.backfill_ways]
    if "lag" in names:
        found += [lag.case(on, *way, rows=20_000, rate=sizes.lag_rate, seconds=sizes.lag_seconds) for way in sizes.lag_ways]
    if "catch-up" in names and sizes.catchup_events:
        events = sizes.catchup_events
        found += [catchup.case(on, *way, rows=events + events // 10, events=events) for way in sizes.lag_ways]
    if "scale" in names:
        found += [scale.case(on, streams, rows=sizes.scale_rows, events=sizes.apply_events * 2) for streams in sizes.scale_streams]
        found += [idle.case(on, streams, seconds=10.0, at_most=_ALONE) for streams in sizes.idle_streams]
    if "codec" in names:
        found += [codec.case(on, one, rows=sizes.scale_rows, events=sizes.apply_events, at_most=_ALONE) for one in sizes.codecs]
    if "cutover" in names and sizes.crossings:
        found.append(cutover.case(on, crossings=sizes.crossings, rate=600))
    if "limits" in names and sizes.limit_rows:
        found += [
            limits.case(on, engine, rows=sizes.limit_rows, events=sizes.apply_events, at_most=_ALONE)
            for engine in ("postgresql", "mariadb")
        ]
    return found


def main() -> int:
    """The command. 0: all measured; 1: some runs failed; 130: interrupted; the runs that had ended are written."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run: under three minutes")
    parser.add_argument("--only", nargs="+", action="extend", choices=NAMES, metavar="NAME", help=f"some of them: {', '.join(NAMES)}")
    parser.add_argument(
        "--ways", nargs="+", choices=[_named(way) for way in _WAYS], metavar="WAY", help="some of " + ", ".join(map(_named, _WAYS))
    )
    parser.add_argument(
        "--workloads", nargs="+", choices=workloads.NAMED, metavar="WORKLOAD", help="of apply, some of " + ", ".join(workloads.NAMED)
    )
    parser.add_argument("--runs", type=_positive, metavar="N", help="runs of each (5, quick: 1)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "latest.json", metavar="PATH", help="the results file"
    )
    wish = parser.parse_args()
    sizes = QUICK if wish.quick else FULL
    if wish.ways:
        some = tuple(way for way in _WAYS if _named(way) in wish.ways)
        sizes = dataclasses.replace(sizes, apply_ways=some, backfill_ways=some, lag_ways=some)
    if wish.workloads:
        sizes = dataclasses.replace(sizes, workloads=tuple(workloads.NAMED[name] for name in wish.workloads))
    where, screen = machine(), Screen()
    try:
        with _terminated_like_interrupted():
            figures, failures = _measure(
                sizes,
                wish.runs or sizes.runs,
                tuple(wish.only or NAMES),
                screen,
                lambda figures: write(figures, wish.out, where),  # after each run: hours need not be lost by the last minute
            )
    except KeyboardInterrupt:
        screen.say("stopped, everything is down; the runs that had ended are written")
        return _INTERRUPTED
    if figures:
        every = read(wish.out)
        draw(every, wish.out.with_suffix(".png"), where)
        wish.out.with_suffix(".md").write_text(f"{where}\n\n{table(every)}\n")
        print(f"{where}\n\n{table(figures)}\n\n{wish.out}")
        for product, swept in jdbcsink.tried().items():
            print(f"\n{jdbcsink.NAME} on {product}, what its sweep reached, events/s: {swept['events/s']}; it ran with {swept['best']}")
    if failures:
        screen.say(f"{failures} runs failed; they are in no figure")
    return 1 if failures else 0


def _measure(
    sizes: Sizes, runs: int, names: tuple[str, ...], screen: Screen, keep: Callable[[list[Figure]], None]
) -> tuple[list[Figure], int]:
    figures: list[Figure] = []
    failures = 0

    def run(found: list[Case]) -> None:
        nonlocal figures, failures
        with screen.running(sum(case.parts * case.times(runs) for case in found)) as told:
            more, failed = measure(found, runs, told, keep)
        figures, failures = figures + more, failures + failed

    if "decode" in names:  # before the servers are there: it wants the processor for itself
        run([decode.case(events=sizes.decode_events)])
    others = [name for name in names if name != "decode"]
    parts = [[name for name in others if (name == "apply") is sinks] for sinks in (True, False)] if sizes.apart else [others]
    for part in filter(None, parts):
        screen.say("starting PostgreSQL, MariaDB, Kafka and Connect")
        with stage(sinks="apply" in part) as on:
            run(cases(on, sizes, part))
            screen.say("done")
        screen.say("servers are down")
    return figures, failures


@contextlib.contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
    """TERM and Ctrl-C end it in the same way: the servers go first. Further ones, while they go, are heard no more."""

    def stop(_number: int, _frame: object) -> None:
        deaf()
        raise KeyboardInterrupt

    before = {one: signal.signal(one, stop) for one in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return number


if __name__ == "__main__":
    sys.exit(main())
