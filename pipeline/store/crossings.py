"""The journal of crossings, in the database of the side that is being left: it must be readable when the other side is away, and what
is decided there is decided once, whoever asks: the controller that crosses, its successor, or the watchdog."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.store import tables as t
from pipeline.store.store import Store


@dataclasses.dataclass(frozen=True, slots=True)
class Crossing:
    """One crossing as the journal has it."""

    id: int
    direction: str
    state: str
    record: Mapping[str, Any]
    steps: Mapping[str, tuple[str, float]]
    deadline: float
    at: float


class Crossings:
    """The journal of one migration's crossings from one side."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, direction: str, record: Mapping[str, Any], deadline: float) -> int:
        """Opens a crossing. Raises nothing when another one is open: `open` tells."""
        with self._store.begin() as db:
            values = {"migration": self._store.migration, "direction": direction, "state": "running", "at": time.time()}
            query = t.crossing.insert().values(**values, record=orjson.dumps(record).decode(), steps="{}", deadline=deadline)
            key = db.execute(query).inserted_primary_key
            assert key is not None
            return int(key[0])

    def open(self) -> Crossing | None:
        """The crossing that is neither done nor undone, if there is one."""
        with self._store.look() as db:
            c = t.crossing.c
            query = sa.select(t.crossing).where(c.migration == self._store.migration, c.state.in_(("running", "decided", "undoing")))
            row = db.execute(query.order_by(c.id.desc()).limit(1)).one_or_none()
            return None if row is None else _read(row)

    def last(self) -> Crossing | None:
        """The newest one."""
        with self._store.look() as db:
            query = sa.select(t.crossing).where(t.crossing.c.migration == self._store.migration)
            row = db.execute(query.order_by(t.crossing.c.id.desc()).limit(1)).one_or_none()
            return None if row is None else _read(row)

    def note(self, crossing: int, step: str, state: str, **record: object) -> bool:
        """Writes down how a step stands, and what else is to be remembered. False: the crossing is not running (or decided) any more,
        because somebody else has undone it."""
        with self._store.begin() as db:
            row = db.execute(sa.select(t.crossing).where(t.crossing.c.id == crossing).with_for_update()).one()
            if row.state in ("undone", "done") or (row.state == "undoing" and state in ("begun", "done")):
                return False
            steps = orjson.loads(row.steps) | {step: [state, time.time()]}
            kept = orjson.loads(row.record) | record
            values = {"steps": orjson.dumps(steps).decode(), "record": orjson.dumps(kept).decode()}
            db.execute(t.crossing.update().where(t.crossing.c.id == crossing).values(**values))
            return True

    def move(self, crossing: int, before: str, after: str) -> bool:
        """From one state to another; False when it is in another one. This is where it is decided."""
        with self._store.begin() as db:
            query = t.crossing.update().where(t.crossing.c.id == crossing, t.crossing.c.state == before).values(state=after)
            return bool(db.execute(query).rowcount)


def _read(row: Row[Any]) -> Crossing:
    steps = {name: (state, at) for name, (state, at) in orjson.loads(row.steps).items()}
    return Crossing(int(row.id), row.direction, row.state, orjson.loads(row.record), steps, float(row.deadline), float(row.at))
