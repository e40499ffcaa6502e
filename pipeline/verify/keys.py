"""Compares chosen keys only, with a certain answer: what changed since a table's last clean check, or what was just repaired."""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Sequence

from pipeline.model import Difference, Key
from pipeline.verify import plan
from pipeline.verify.compare import DEFAULTS, Limits, judge_of
from pipeline.verify.settle import Settled, recheck
from pipeline.verify.side import Databases, Side, agree
from pipeline.verify.store import Progress
from transforms.pair import Pair


def check_keys(
    pair: Pair, keys: Sequence[Key], databases: Databases, settle: Callable[[], None], *, limits: Limits = DEFAULTS
) -> tuple[Progress, Settled]:
    """These keys (canonical text of the target's key): counts and what they are counts of.

    `final` runs this inside the write pause, over keys that changed since the last clean check: its time is that of `len(keys)` look-ups on
    both sides. Nobody writes then, so one confirmation is enough (`limits`).
    """
    started = time.monotonic()
    found = find_differences(pair, keys, databases, settle, limits=limits)
    counts = collections.Counter(one.kind for one in found.differences)
    seconds = time.monotonic() - started
    return Progress("end", "keys", len(keys), counts["missing"], counts["extra"], counts["different"], len(found.unsettled), seconds), found


def find_differences(
    pair: Pair, keys: Sequence[Key], databases: Databases, settle: Callable[[], None], *, limits: Limits = DEFAULTS
) -> Settled:
    """Differences among these keys, and keys that did not come to rest."""
    ours, theirs = plan.shapes(pair)
    source, target = Side(databases.source, ours), Side(databases.target, theirs)
    judge = judge_of(pair)
    differences: list[Difference] = []
    unsettled: list[Key] = []
    try:
        digest = agree(source, target, pair)
        for start in range(0, len(keys), limits.open_keys):
            found = recheck(
                keys[start : start + limits.open_keys],
                judge,
                lambda some: source.by_keys(digest, some),
                lambda some: target.by_keys(digest, some),
                settle,
                rounds=limits.rounds,
                confirmations=limits.confirmations,
            )
            differences += found.differences
            unsettled += found.unsettled
    finally:
        source.close()
        target.close()
    return Settled(differences, unsettled)
