"""Plans chunks: walks each table's key once, some way ahead of the workers, and sizes chunks by how long merges hold the gate."""

from __future__ import annotations

import dataclasses

from connectors.base import Range, Reader
from connectors.ranges import Walk
from pipeline.backfill.queue import Queue
from pipeline.model import Key, Table

SMALLEST = 500
"""Rows: below that the round trips of a chunk cost more than the gate."""
FIRST = 5_000
"""Rows of a table's first chunks, while nothing is known of how fast the target takes them."""

AT_ONCE = 6
"""Chunks that go together into a queue that is nearly empty, as workers wait for them; else as many as there is room for: each transaction
waits for the disk."""


@dataclasses.dataclass(frozen=True, slots=True)
class ChunkSize:
    """How large chunks may be."""

    rows: int
    bytes: int
    gate_seconds: float

    def most(self, table: Table) -> int:
        """Rows that any chunk of the table may have, by the catalog's estimate of a row's width."""
        width = table.bytes / table.rows if table.rows > 0 and table.bytes > 0 else 200.0
        return max(1, min(self.rows, int(self.bytes / max(width, 1.0))))

    def next(self, rows: int, rate: float | None, table: Table) -> int:
        """Rows of the next chunk, when the newest merges took `rate` rows a second under the gate (None: none has been merged).

        Grows by no more than twice a step, since several chunks are planned before the first of them is measured.
        """
        if rate is None:
            return min(rows, self.most(table))
        fitting = int(rate * self.gate_seconds * 0.8)
        return max(min(SMALLEST, self.rows), min(self.most(table), rows * 2, fitting))


@dataclasses.dataclass(slots=True)
class _Walk:
    """Where the planning of one table stands."""

    table: Table
    bounds: Walk
    where: str | None
    rows: int


class Planner:
    """Keeps the queue filled for tables that are being copied. Call `step` now and then; it does a bounded amount of work."""

    def __init__(self, queue: Queue, reader: Reader, size: ChunkSize, *, ahead: int = 24) -> None:
        self._queue, self._reader, self._size, self._ahead = queue, reader, size, ahead
        self._walks: dict[int, _Walk] = {}

    def start(self, number: int, table: Table, key: tuple[str, ...], planned_to: Key | None, where: str | None = None) -> None:
        """A table is to be planned, from the start or from the last boundary that is in the queue."""
        if number not in self._walks:
            self._walks[number] = _Walk(table, Walk(self._reader, table, key, planned_to), where, min(FIRST, self._size.most(table)))

    def stop(self, number: int) -> None:
        """Its planning is over (planned, or thrown away by a truncate)."""
        self._walks.pop(number, None)

    def step(self, in_queue: int) -> int:
        """Adds chunks to so many, until there are `ahead`; answers how many were added."""
        added, room = 0, self._ahead - in_queue
        at_once = AT_ONCE if in_queue < AT_ONCE else room
        for number, walk in list(self._walks.items()):
            if room <= 0:
                break
            rate = self._queue.newest_rate(number)
            while room > 0:
                try:
                    some, last = self._next(walk, rate, min(room, at_once))
                    goes_on = self._queue.add(number, some, last=last, where=walk.where) and not last
                except BaseException:
                    self.stop(number)  # it is begun again from the bound that the queue has: nothing is left out
                    raise
                added += len(some)
                room -= len(some)
                if not goes_on:
                    self.stop(number)
                    break
        return added

    def _next(self, walk: _Walk, rate: float | None, most: int) -> tuple[list[Range], bool]:
        """The next few ranges of a table, and whether they are its last."""
        some: list[Range] = []
        while len(some) < most:
            walk.rows = self._size.next(walk.rows, rate, walk.table)
            lower, upper = walk.bounds.at, walk.bounds.upper(walk.rows)
            some.append(Range(lower, upper))
            if upper is None:
                return some, True
        return some, False
