"""The chunk queue in the control store: planned in key order, taken so by any worker, done in the target transaction of its rows."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from connectors.base import Range
from pipeline.model import Key
from pipeline.store import tables as t
from pipeline.store.store import Store

_OPEN = ("todo", "taken")
_AT_ONCE = 4
"""Chunks that are taken together, for all threads of a worker: each transaction costs a tenth of what a chunk does."""
WORKER_SILENT = 15.0
"""Seconds without a sign of life after which a worker's chunks are given to others. Being wrong costs time, not truth."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """One range of one table."""

    id: int
    number: int
    within: Range
    where: str | None
    attempts: int


@dataclasses.dataclass(frozen=True, slots=True)
class Counts:
    """How a table's chunks stand."""

    todo: int = 0
    taken: int = 0
    done: int = 0
    void: int = 0
    rows: int = 0

    @property
    def open(self) -> int:
        """Chunks still to be merged."""
        return self.todo + self.taken


def bound_key(text: str | None) -> Key | None:
    """A key as the queue kept it."""
    return None if text is None else tuple(orjson.loads(text))


def bound_text(bound: Key | None) -> str | None:
    """A key as the queue keeps it."""
    return None if bound is None else orjson.dumps(list(bound)).decode()


class Queue:
    """Chunks of one migration. Safe to use from several threads, which may then take chunks under one worker's name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._migration = store.migration
        self._in_hand: set[int] = set()
        self._next: deque[Chunk] = deque()  # taken, and not begun yet
        self._taking = threading.Lock()

    def add(self, number: int, some: Sequence[Range], *, last: bool, where: str | None = None) -> bool:
        """Puts the next chunks of a table into the queue; False when the table is not being planned any more (a truncate).

        Waits for the disk: who plans goes on from these in memory, and what a crash of the server took of them would be in no chunk.
        """
        with self._store.begin() as db:
            state = t.table_state
            mine = (state.c.migration == self._migration, state.c.number == number)
            planned = db.execute(sa.select(state.c.planned).where(*mine).with_for_update()).scalar()
            if planned:
                return False
            rows = [
                {
                    "migration": self._migration,
                    "number": number,
                    "lower": bound_text(within.lower),
                    "upper": bound_text(within.upper),
                    "where_sql": where,
                    "state": "todo",
                }
                for within in some
            ]
            db.execute(t.chunk.insert().values(rows))
            db.execute(state.update().where(*mine).values(planned=last, planned_to=rows[-1]["upper"]))
            return True

    def take(self, worker: str) -> Chunk | None:
        """The next chunk for this worker, or None; `put_down` when it is through with it.

        Chunks of workers that fell silent are taken again, and those that are said to be this worker's and are in none of its hands: they
        were done or given back, and a crash of the target's server took that.
        """
        with self._taking:
            if not self._next:
                self._next.extend(self._taken(worker))
                self._in_hand.update(chunk.id for chunk in self._next)
            return self._next.popleft() if self._next else None

    def leave(self) -> None:
        """This worker takes no more: others need not wait until it has fallen silent to have what it had not begun."""
        with self._taking:
            while self._next:
                chunk = self._next.popleft()
                self.give_back(chunk)
                self.put_down(chunk)

    def _taken(self, worker: str) -> list[Chunk]:
        chunk, worker_row = t.chunk, t.worker
        with self._store.begin(quick=True) as db:
            alive = sa.select(worker_row.c.id).where(worker_row.c.seen_at > time.time() - WORKER_SILENT)
            dropped = sa.and_(chunk.c.taken_by == worker, chunk.c.id.not_in(self._in_hand))
            free = sa.or_(chunk.c.state == "todo", sa.and_(chunk.c.state == "taken", sa.or_(chunk.c.taken_by.not_in(alive), dropped)))
            rows = db.execute(
                sa.select(chunk)
                # `+ 0` and a list of states: along the queue's own index, not the primary key, in which all that are done come first
                .where(chunk.c.migration == self._migration, chunk.c.state.in_(_OPEN), free)
                .order_by(chunk.c.id + 0)
                .limit(_AT_ONCE)
                .with_for_update(skip_locked=True)
            ).all()
            if rows:
                taken = {"state": "taken", "taken_by": worker, "taken_at": time.time(), "attempts": chunk.c.attempts + 1}
                db.execute(chunk.update().where(chunk.c.id.in_([row.id for row in rows])).values(**taken))
            return [
                Chunk(int(row.id), int(row.number), Range(bound_key(row.lower), bound_key(row.upper)), row.where_sql, int(row.attempts))
                for row in rows
            ]

    def put_down(self, chunk: Chunk) -> None:
        """This worker is through with it, however that went."""
        self._in_hand.discard(chunk.id)

    def give_back(self, chunk: Chunk, error: str | None = None, *, refused: bool = False) -> None:
        """Not done after all: somebody takes it again. `refused`: not for a passing reason."""
        values = {"state": "todo", "error": error, "refused": refused}
        with self._store.begin() as db:
            db.execute(t.chunk.update().where(t.chunk.c.id == chunk.id, t.chunk.c.state == "taken").values(**values))

    def try_again(self) -> None:
        """Chunks that were refused may be tried anew: somebody has seen to the reason."""
        with self._store.begin() as db:
            mine = (t.chunk.c.migration == self._migration, t.chunk.c.state == "todo")
            db.execute(t.chunk.update().where(*mine).values(attempts=0, refused=False, error=None))

    def unmerged(self) -> dict[int, int]:
        """How many chunks are still to be merged, per table number that has any. Costs no more for those that are done."""
        chunk = t.chunk.c
        mine = sa.select(chunk.number, sa.func.count()).where(chunk.migration == self._migration, chunk.state.in_(_OPEN))
        with self._store.look(quick=True) as db:
            return {int(number): int(count) for number, count in db.execute(mine.group_by(chunk.number)).all()}

    def rows(self, number: int) -> int:
        """Rows of a table that were copied."""
        chunk = t.chunk.c
        mine = (chunk.migration == self._migration, chunk.state == "done", chunk.number == number)
        with self._store.look(quick=True) as db:
            return int(db.execute(sa.select(sa.func.coalesce(sa.func.sum(chunk.rows_done), 0)).where(*mine)).scalar_one())

    def counts(self) -> dict[int, Counts]:
        """Per table number. Reads every chunk: for a person who looks, not for each turn."""
        chunk = t.chunk
        with self._store.look(quick=True) as db:
            rows = db.execute(
                sa.select(chunk.c.number, chunk.c.state, sa.func.count(), sa.func.coalesce(sa.func.sum(chunk.c.rows_done), 0))
                .where(chunk.c.migration == self._migration)
                .group_by(chunk.c.number, chunk.c.state)
            ).all()
        found: dict[int, dict[str, Any]] = {}
        for number, state, count, done in rows:
            entry = found.setdefault(int(number), {"rows": 0})
            entry[state] = int(count)
            entry["rows"] += int(done)
        return {number: Counts(**entry) for number, entry in found.items()}

    def newest_rate(self, number: int, last: int = 4) -> float | None:
        """Rows a second of the slowest of the last few merges, under the gate; None before there are any."""
        with self._store.look(quick=True) as db:
            query = sa.select(t.chunk.c.rows_done, t.chunk.c.seconds).where(
                t.chunk.c.migration == self._migration, t.chunk.c.number == number, t.chunk.c.state == "done", t.chunk.c.rows_done > 0
            )
            rows = db.execute(query.order_by(t.chunk.c.id.desc()).limit(last)).all()
        return min((done / max(seconds or 0.0, 1e-3) for done, seconds in rows), default=None)

    def refused(self, attempts: int = 4) -> tuple[int, str] | None:
        """(table number, error) of a chunk that was tried so often and is still refused."""
        with self._store.look(quick=True) as db:
            query = sa.select(t.chunk.c.number, t.chunk.c.error).where(
                t.chunk.c.migration == self._migration, t.chunk.c.state == "todo", t.chunk.c.attempts >= attempts, t.chunk.c.refused
            )
            row = db.execute(query.limit(1)).one_or_none()
            return None if row is None else (int(row.number), str(row.error))
