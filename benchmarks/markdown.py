"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], sides: str, rows: Iterable[Sequence[str]]) -> str:
    """`sides` has `l` or `r` for each column."""
    lines = [head, ["---" if side == "l" else "--:" for side in sides], *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
