"""Makes rows of the target what the source has, beside the running stream.

A row read from the source is older than what the stream may have written by the time it is merged, so it goes the way of the re-read list
(`connectors.base.Writer.relist`): the key is listed → the row is read on the source → a marker is written and has been applied → the row is
merged over whatever is there, only if the list entry is still the one it was read for. Every event of the key in between takes the entry
off or renews it; the events up to the marker are in the row that was read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import structlog

from connectors.base import TargetTable, Writer
from connectors.digest import Digest
from pipeline.model import Difference, Key, Text
from pipeline.verify import plan
from pipeline.verify.compare import DEFAULTS, Limits
from pipeline.verify.keys import find_differences
from pipeline.verify.side import Databases, Side, agree
from pipeline.verify.store import VerifyStore
from transforms.pair import Pair

log = structlog.get_logger("repair")


@dataclasses.dataclass(frozen=True, slots=True)
class Repaired:
    """What became of the differences. `left` are still there: the target refuses the row, or something keeps writing it."""

    repaired: int
    left: tuple[Difference, ...]
    unsettled: tuple[Key, ...]


def repair(
    pair: Pair,
    databases: Databases,
    writer: Writer,
    differences: Sequence[Difference],
    settle: Callable[[], None],
    *,
    store: VerifyStore | None = None,
    limits: Limits = DEFAULTS,
    attempts: int = 3,
) -> Repaired:
    """Repairs these differences of one pair, looks whether they are gone, and tries again with those that are not."""
    target = pair.target_table()
    left: list[Difference] = [one for one in differences if one.table == pair.target_id]
    unsettled: list[Key] = []
    asked = {one.key: one for one in left}
    ours, theirs = plan.shapes(pair)
    source = Side(databases.source, ours)
    try:
        digest = _digest(pair, source, Side(databases.target, theirs))
        for _ in range(attempts):
            # What is to go goes first: it may stand in the way of what is to come (a key in another spelling, a unique value).
            extra = [one.key for one in left if one.kind == "extra"]
            other = [one.key for one in left if one.kind != "extra"]
            for keys in (extra, other):
                for start in range(0, len(keys), limits.open_keys):
                    _reread(target, source, digest, writer, keys[start : start + limits.open_keys], settle, limits.rounds)
            again = find_differences(pair, [one.key for one in left], databases, settle, limits=limits)
            left, unsettled = again.differences, again.unsettled
            if not left:
                break
    finally:
        source.close()
    not_gone = {one.key for one in left} | set(unsettled)
    gone = [one for key, one in asked.items() if key not in not_gone]
    if store is not None:
        store.repaired(gone)
    log.info("repaired", table=str(pair.target_id), rows=len(gone), left=len(left), unsettled=len(unsettled))
    return Repaired(len(gone), tuple(left), tuple(unsettled))


def _digest(pair: Pair, source: Side, target: Side) -> Digest:
    try:
        return agree(source, target, pair)
    finally:
        target.close()


def _reread(  # noqa: PLR0917
    target: TargetTable, source: Side, digest: Digest, writer: Writer, keys: Sequence[Key], settle: Callable[[], None], rounds: int
) -> None:
    """Lists the keys and works the list off, as far as it lets itself be worked off in `rounds` rounds."""
    if not keys:
        return
    writer.relist(target, keys)
    for _ in range(rounds):
        listed = writer.listed(target, 2 * len(keys))
        if not listed:
            return
        spelled = _spelling(target, keys)
        # The source's own equality is not asked: under a case-insensitive collation it would answer with another key's row.
        rows = source.by_keys(digest, [spelled(key) for key, _ in listed])
        read: dict[Key, tuple[int, tuple[Text, ...] | None]] = {}
        for key, sequence in listed:
            found = rows.get(spelled(key))
            read[key] = (sequence, found[-1] if found else None)
        settle()
        writer.merge_listed(target, read, overwrite=True)


def _spelling(target: TargetTable, keys: Sequence[Key]) -> Callable[[Key], Key]:
    """The list holds a key in the spelling it first came by; the target may call another spelling the same key. We want that of `keys`."""
    if not any(target.table.column(name).type.case_insensitive for name in target.key):
        return lambda key: key
    folded = {_folded(key): key for key in keys}
    return lambda key: folded.get(_folded(key), key)


def _folded(key: Key) -> Key:
    return tuple(part.casefold().rstrip(" ") for part in key)
