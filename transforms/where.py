"""Row filters: the `where:` of an entry, as a Python predicate over canonical text and as SQL of the source."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from pipeline.errors import BadInput
from pipeline.model import Column, Engine


@dataclasses.dataclass(frozen=True)
class Filter:
    """`passes` answers True, False or None (unknown) over canonical text of `columns`; `sql` the same for the source, or None."""

    text: str
    columns: tuple[str, ...]
    passes: Callable[..., bool | None]
    sql: Callable[[Engine], str | None]


def read_filter(text: str, engine: Engine, columns: Mapping[str, Column], path: str) -> Filter:
    """Raises BadInput naming `path`."""
    raise BadInput(f"{path}: row filters are not there yet")
