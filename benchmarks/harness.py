"""Runs cases in rounds, ours and a peer in turns, and gathers what they measured into figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

from benchmarks.result import Figure


class Failed(RuntimeError):
    """A benchmark could not be run, or what it measured was not right."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One value of one run."""

    benchmark: str
    workload: str
    unit: str
    value: float


Run = Callable[[], Iterable[Sample]]


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Something that is set up once a run and answers one value or several.

    A peer answers samples of the same benchmarks and workloads, measured in the same way; what only one of the two answers stands alone.
    """

    title: str
    ours: Run
    peer: Run | None = None
    peer_name: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What the screen is told: `begins` before a run with its number, `ends` after it with its samples."""

    begins: Callable[[str, int], None] = lambda _title, _run: None
    ends: Callable[[str, int, Sequence[Sample]], None] = lambda _title, _run, _samples: None
    failed: Callable[[str, int, Exception], None] = lambda _title, _run, _error: None


def count(cases: Sequence[Case], runs: int) -> int:
    """How many times something is run in all."""
    return runs * sum(2 if case.peer is not None else 1 for case in cases)


def measure(cases: Sequence[Case], runs: int, told: Told = Told()) -> tuple[list[Figure], int]:
    """Figures in the order in which they came up, and how many runs failed.

    Round after round over all cases: what else the machine does for a while falls on one run of each instead of on all runs of one.
    Who goes first, ours or the peer, changes with the round. A run that fails counts for nothing; the others go on.
    """
    ours: dict[tuple[str, str, str], list[float]] = {}
    peers: dict[tuple[str, str, str], list[float]] = {}
    names: dict[tuple[str, str, str], str | None] = {}
    failures = 0
    for number in range(1, runs + 1):
        for case in cases:
            turns: list[tuple[str, Run, dict[tuple[str, str, str], list[float]]]] = [(case.title, case.ours, ours)]
            if case.peer is not None:
                turns.append((f"{case.title}: {case.peer_name}", case.peer, peers))
                if number % 2 == 0:
                    turns.reverse()
            for title, run, into in turns:
                told.begins(title, number)
                try:
                    samples = list(run())
                except Exception as error:
                    failures += 1
                    told.failed(title, number, error)
                    continue
                for sample in samples:
                    key = (sample.benchmark, sample.workload, sample.unit)
                    into.setdefault(key, []).append(sample.value)
                    if into is peers:
                        names[key] = case.peer_name
                told.ends(title, number, samples)
    figures = [Figure(*key, tuple(values), tuple(peers.get(key, ())), names.get(key)) for key, values in ours.items()]
    return figures, failures
