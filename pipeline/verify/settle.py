"""Candidates looked at again until it is certain what they are: lag is never a difference.

While the application writes, the two databases are never read at one moment. So a key whose rows differ is only a candidate. A round reads
the source's row (S0), lets a marker come through the stream, reads the target's row (T), then the source's again (S1):

- T is S0 or S1: the target has a state that the source had in between. Clean.
- S0 = S1, and T is another one: what the source has was there before the marker was written, and the marker is applied. The target has
  missed it, or somebody else wrote there. Only a row that went A → B → A just in between could look the same, so the same must be seen in
  `confirmations` rounds one after the other, with the same rows, before it is a difference.
- S0 ≠ S1: the row is being written. Another round.

Keys that are still in motion after `rounds` rounds are *unsettled*: neither clean nor a difference, and said so. A key that is written
without pause can stay so; it is settled by the final verify, when nobody writes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from pipeline.model import Difference, Key
from pipeline.verify.rows import Judge
from pipeline.verify.side import Rows, Texts

_NOTHING: list[Texts] = []


@dataclasses.dataclass(frozen=True, slots=True)
class Settled:
    """What became of the candidates that are not clean."""

    differences: list[Difference]
    unsettled: list[Key]


def recheck(
    keys: Sequence[Key],
    judge: Judge,
    source: Callable[[Sequence[Key]], Rows],
    target: Callable[[Sequence[Key]], Rows],
    settle: Callable[[], None],
    *,
    rounds: int = 8,
    confirmations: int = 2,
) -> Settled:
    """`source`, `target` read rows by key; `settle` writes a marker and returns when it is applied."""
    open_keys = list(keys)
    differences: list[Difference] = []
    seen: dict[Key, tuple[list[Texts], int]] = {}  # the target's rows, and in how many rounds running
    before = source(open_keys) if open_keys else {}
    for _ in range(rounds):
        if not open_keys:
            break
        settle()
        there = target(open_keys)
        after = source(open_keys)
        still: list[Key] = []
        for key in open_keys:
            s0, t, s1 = before.get(key, _NOTHING), there.get(key, _NOTHING), after.get(key, _NOTHING)
            if judge.alike(s1, t) or judge.alike(s0, t):
                continue
            if s0 != s1:
                seen.pop(key, None)
                still.append(key)
                continue
            last, times = seen.get(key, (t, 0))
            seen[key] = (t, times + 1 if last == t else 1)
            if seen[key][1] >= confirmations:
                differences.append(judge.difference(key, s1, t))
            else:
                still.append(key)
        open_keys, before = still, after
    return Settled(differences, open_keys)
