"""A row filter as rows meet it. What reads one (`where.py`) is loaded only where an entry has one: its parser of SQL takes 7 MiB."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pipeline.model import Engine


@dataclasses.dataclass(frozen=True)
class Filter:
    """`passes` answers True, False or None (unknown) over canonical text of `columns`; `sql` is the same condition for the source."""

    text: str
    columns: tuple[str, ...]
    passes: Callable[..., bool | None] = dataclasses.field(compare=False)
    sql: Callable[[Engine], str | None] = dataclasses.field(compare=False)
