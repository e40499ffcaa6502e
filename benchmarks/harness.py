"""Runs cases in rounds, ours and a peer in turns, and gathers what they measured into figures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias

from benchmarks.result import Figure


class Failed(RuntimeError):
    """A benchmark could not be run, or what it measured was not right."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """One value of one run: crossfade's, or that of the peer that is named."""

    benchmark: str
    workload: str
    unit: str
    value: float
    by: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Cannot:
    """What a peer cannot do, in place of a value."""

    benchmark: str
    workload: str
    unit: str
    by: str
    why: str


Run = Callable[[int], Iterable[Sample | Cannot]]
"""What is called with the number of the round, from 1 on. Where a peer is measured on the same things, the number says who goes first:
crossfade in odd rounds, the peer in even ones."""
Rounds = Callable[[int], Iterable[Sequence[Sample | Cannot]]]
"""What is called once with how many rounds there are, and answers one after the other: of each of its `parts` all of them."""


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """Something that is set up once a round and answers one value or several, peers' values among them; or, where setting up takes far
    longer than what is measured, once for all `rounds`. It takes part in no more than `at_most` of the rounds."""

    title: str
    run: Run = lambda _number: ()
    rounds: Rounds | None = None
    parts: int = 1
    at_most: int | None = None

    def times(self, runs: int) -> int:
        """In how many of so many rounds it takes part."""
        return runs if self.at_most is None else min(runs, self.at_most)


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """What the screen is told: `begins` before a run with its number, `ends` after it with its samples."""

    begins: Callable[[str, int], None] = lambda _title, _run: None
    ends: Callable[[str, int, Sequence[Sample | Cannot]], None] = lambda _title, _run, _samples: None
    failed: Callable[[str, int, Exception], None] = lambda _title, _run, _error: None


def in_turns(
    number: int, ours: Callable[[], Iterable[Sample | Cannot]], *peers: Callable[[], Iterable[Sample | Cannot]]
) -> list[Sample | Cannot]:
    """Runs each, one after the other: in the order given in odd rounds, in the other one in even rounds."""
    order = [ours, *peers] if number % 2 else [*reversed(peers), ours]
    return [sample for one in order for sample in one()]


def measure(
    cases: Sequence[Case], runs: int, told: Told = Told(), keep: Callable[[list[Figure]], None] = lambda figures: None
) -> tuple[list[Figure], int]:
    """Figures in the order in which they came up, one a peer where there are several, and how many runs failed; `keep` is given those
    so far after each run.

    Round after round over all cases: what else the machine does for a while falls on one run of each instead of on all runs of one. Those
    that are set up once come first, one after the other. A run that fails counts for nothing; the others go on.
    """
    ours: dict[tuple[str, str, str], list[float]] = {}
    peers: dict[tuple[str, str, str], dict[str, list[float]]] = {}
    cannot: dict[tuple[str, str, str], dict[str, str]] = {}
    failures = 0

    def took(case: Case, number: int, samples: Sequence[Sample | Cannot]) -> None:
        for sample in samples:
            key = (sample.benchmark, sample.workload, sample.unit)
            if isinstance(sample, Cannot):
                cannot.setdefault(key, {})[sample.by] = sample.why
            elif sample.by is None:
                ours.setdefault(key, []).append(sample.value)
            else:
                peers.setdefault(key, {}).setdefault(sample.by, []).append(sample.value)
        told.ends(case.title, number, samples)
        keep(_figures(ours, peers, cannot))

    for case in cases:
        if case.rounds is None:
            continue
        number = 1
        told.begins(case.title, number)
        try:
            times = case.times(runs)
            for at, samples in enumerate(case.rounds(times), 1):
                took(case, number, samples)
                number = at % times + 1
        except Exception as error:
            failures += 1
            told.failed(case.title, number, error)
    for number in range(1, runs + 1):
        for case in cases:
            if case.rounds is not None or number > case.times(runs):
                continue
            told.begins(case.title, number)
            try:
                samples = list(case.run(number))
            except Exception as error:
                failures += 1
                told.failed(case.title, number, error)
                continue
            took(case, number, samples)
    return _figures(ours, peers, cannot), failures


_Key: TypeAlias = tuple[str, str, str]


def _figures(
    ours: Mapping[_Key, list[float]], peers: Mapping[_Key, Mapping[str, list[float]]], cannot: Mapping[_Key, Mapping[str, str]]
) -> list[Figure]:
    figures = []
    for key, values in ours.items():
        beside = peers.get(key, {})
        figures += [Figure(*key, tuple(values), tuple(theirs), name) for name, theirs in beside.items()]
        figures += [Figure(*key, tuple(values), (), name, why) for name, why in cannot.get(key, {}).items() if name not in beside]
        if not beside and key not in cannot:
            figures.append(Figure(*key, tuple(values)))
    return figures
