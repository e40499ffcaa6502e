"""From a chunk whose checksums differ to the keys whose rows do.

No bisection: one query a side gives the checksums of all buckets of the chunk (rows sorted by the first digits of their key's hash), and
only rows of buckets that differ are read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from pipeline.verify.side import Sum

ROWS_A_BUCKET = 500
_DEEPEST = 32  # digits of the shortest hash
_PREFIXES_AT_ONCE = 2000


def depth_for(rows: int, above: int = 0) -> int:
    """Digits of a key's hash that leave at most about `ROWS_A_BUCKET` rows in a bucket; `above` digits are the same for all rows."""
    depth = above + 1
    while rows > ROWS_A_BUCKET * 16 ** (depth - above) and depth < _DEEPEST:
        depth += 1
    return depth


def differing(source: Mapping[str, Sum], target: Mapping[str, Sum]) -> dict[str, int]:
    """Buckets that are not the same, with the rows of the larger side."""
    nothing = Sum(0, 0)
    found = {}
    for prefix in sorted({*source, *target}):
        ours, theirs = source.get(prefix, nothing), target.get(prefix, nothing)
        if ours != theirs:
            found[prefix] = max(ours.rows, theirs.rows)
    return found


def together(buckets: Mapping[str, int], most: int) -> Iterator[Sequence[str]]:
    """Buckets to be read at once: at most `most` rows, or a single bucket."""
    held: list[str] = []
    rows = 0
    for prefix, count in buckets.items():
        if held and (rows + count > most or len(held) >= _PREFIXES_AT_ONCE):
            yield held
            held, rows = [], 0
        held.append(prefix)
        rows += count
    if held:
        yield held
