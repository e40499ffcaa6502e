"""Streams in the control store: their positions, states and topics, markers, and what is told of them while they run."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.errors import CrossfadeError
from pipeline.model import Applied
from pipeline.stages import Stages
from pipeline.store import tables as t
from pipeline.store.room import Room

LOST_TOPIC = "lost"
CLAIM_SECONDS, MUTE_SECONDS = 10, 2
"""A worker that is asked to give up its stream is given so long to end its batch; less where writes wait."""


class Streams(Room):
    """Every method is one transaction."""

    def add_stream(self, name: str, *, topic: str, topic_id: str, connector: str, started_at: str) -> None:
        """Records a stream at its beginning; safe to run twice: what is there stays as it is."""
        with self.begin() as db:
            if db.execute(sa.select(t.stream.c.name).where(*self._stream(name))).one_or_none() is None:
                db.execute(
                    t.stream.insert().values(
                        migration=self.migration,
                        name=name,
                        position="",
                        topic=topic,
                        topic_id=topic_id,
                        connector=connector,
                        started_at=started_at,
                    )
                )

    def set_topic_id(self, name: str, topic_id: str) -> None:
        """Whose offsets the stream's are, where that was not known."""
        with self.begin() as db:
            db.execute(t.stream.update().where(*self._stream(name), t.stream.c.topic_id == "").values(topic_id=topic_id))

    def lose_topic(self, name: str) -> None:
        """The stream's topic was made again, and what is applied may have a hole: nothing opens it any more."""
        with self.begin() as db:
            db.execute(t.stream.update().where(*self._stream(name)).values(topic_id=LOST_TOPIC))

    def streams(self) -> list[Row[Any]]:
        """Every stream's row."""
        with self.look() as db:
            return list(db.execute(sa.select(t.stream).where(t.stream.c.migration == self.migration).order_by(t.stream.c.name)).all())

    def claim_stream(self, name: str) -> tuple[Row[Any], Applied]:
        """Takes the stream over: a new epoch fences whoever had it. Answers its row and, of the same moment, where it stands: whoever has
        it muted, rewound or claimed since then fences who goes on from there. Raises `Transient` when somebody is in the middle of a batch
        and does not end it."""
        with self.begin() as db:
            if db.dialect.name == "postgresql":
                db.execute(sa.text(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'"))
            row = db.execute(sa.select(t.stream).where(*self._stream(name)).with_for_update()).one_or_none()
            if row is None:
                raise CrossfadeError(f"stream {name} of migration {self.migration} is not set up")
            db.execute(t.stream.update().where(*self._stream(name)).values(epoch=row.epoch + 1))
            row = db.execute(sa.select(t.stream).where(*self._stream(name))).one()
            place = int(row.partial_place)
            return row, Applied(name, int(row.epoch), row.position, row.partial_id, place, int(row.kafka_offset))

    def set_stream(self, name: str, *, state: str, error: str | None = None) -> None:
        """running, paused, stopped, or gap (stopped, and the controller tries to have it sent again); with why."""
        with self.begin() as db:
            db.execute(t.stream.update().where(*self._stream(name)).values(state=state, error=error))

    def _stream(self, name: str) -> tuple[sa.ColumnElement[bool], ...]:
        return (t.stream.c.migration == self.migration, t.stream.c.name == name)

    def markers_applied(self, token: str) -> int:
        """In how many streams this marker came out and is applied."""
        with self.look() as db:
            query = sa.select(sa.func.count()).select_from(t.marker)
            return int(db.execute(query.where(t.marker.c.migration == self.migration, t.marker.c.token == token)).scalar() or 0)

    def marker_came(self, stream: str, token: str) -> bool:
        """Whether this marker came out of this stream and is applied."""
        with self.look() as db:
            query = sa.select(t.marker.c.token).where(
                t.marker.c.migration == self.migration, t.marker.c.stream == stream, t.marker.c.token == token
            )
            return db.execute(query).one_or_none() is not None

    def forget_markers(self, before: float) -> None:
        """Takes out markers nobody waits for any more."""
        with self.begin() as db:
            kept = sa.select(t.stream.c.muted).where(t.stream.c.migration == self.migration)
            old = (t.marker.c.migration == self.migration, t.marker.c.at < before, t.marker.c.token.not_in(kept))
            db.execute(t.marker.delete().where(*old))

    def add_lag(self, stream: str, samples: Sequence[tuple[float, float, int, int]]) -> None:
        """(at, lag in ms, events in all, transactions in all) of one stream."""
        with self.begin() as db:
            db.execute(
                t.lag_sample.insert(),
                [
                    {"migration": self.migration, "stream": stream, "at": a, "lag_ms": lag, "events_total": e, "transactions_total": n}
                    for a, lag, e, n in samples
                ],
            )

    def set_stages(self, stream: str, stages: Stages) -> None:
        """Where the time of a stream's applier went so far."""
        mine = (t.stage.c.migration == self.migration, t.stage.c.stream == stream)
        seconds = orjson.dumps({name: round(value, 3) for name, value in stages.seconds().items()}).decode()
        values = {"since": stages.since, "seconds": seconds, "batches": stages.batches, "events": stages.events, "at": time.time()}
        with self.begin() as db:
            if not db.execute(t.stage.update().where(*mine).values(**values)).rowcount:
                db.execute(t.stage.delete().where(*mine))  # MySQL answers 0 where nothing changed
                db.execute(t.stage.insert().values(migration=self.migration, stream=stream, **values))

    def stages(self) -> list[Row[Any]]:
        """Where each stream's time went, as its worker said last."""
        with self.look() as db:
            return list(db.execute(sa.select(t.stage).where(t.stage.c.migration == self.migration)).all())

    def lag(self, since: float) -> list[Row[Any]]:
        """Lag samples, oldest first."""
        with self.look() as db:
            query = sa.select(t.lag_sample).where(t.lag_sample.c.migration == self.migration, t.lag_sample.c.at >= since)
            return list(db.execute(query.order_by(t.lag_sample.c.id)).all())

    def newest_lag(self, since: float) -> dict[str, Row[Any]]:
        """The newest sample of each stream that has one."""
        return {str(sample.stream): sample for sample in self.lag(since)}

    def rewind(self, stream: str, offset: int) -> None:
        """The stream is to be applied again from a Kafka offset on; the new epoch makes its worker open it anew."""
        with self.begin() as db:
            row = db.execute(sa.select(t.stream).where(*self._stream(stream)).with_for_update()).one()
            values = {"epoch": row.epoch + 1, "position": "", "partial_id": "", "partial_place": 0, "kafka_offset": offset}
            db.execute(t.stream.update().where(*self._stream(stream)).values(**values))
            self._audit(db, "replay", None, None, f"stream {stream} from offset {offset}, was {row.kafka_offset}")

    def sent_again(self, stream: str, topic_id: str, offset: int) -> None:
        """What comes after the applied position is in the topic once more, from this Kafka offset of this topic on; the new epoch makes the
        stream's worker go on there."""
        with self.begin() as db:
            row = db.execute(sa.select(t.stream).where(*self._stream(stream)).with_for_update()).one()
            values = {"epoch": row.epoch + 1, "topic_id": topic_id, "kafka_offset": offset, "state": "running", "error": None}
            db.execute(t.stream.update().where(*self._stream(stream)).values(**values))
            since = row.position or "the beginning"
            self._audit(db, "sent-again", None, None, f"stream {stream} from {since} on: {row.error or ''}")

    def muted(self) -> frozenset[str]:
        """What the streams wait for, or have waited for: markers' tokens, and "" for one that was never muted."""
        return frozenset(str(row.muted) for row in self.streams())

    def mute(self, token: str, *, instead_of: Collection[str]) -> bool:
        """The streams take nothing but markers in until this one has come: "" for taking all in. The new epoch fences whoever is at a
        batch, so nothing that was taken in before is written after this.

        `instead_of`: what `muted` said to whoever decided this. False, and nothing is done, when it is something else by now: another one
        has crossed since, and who was frozen in between must not mute the direction that applies.

        Raises `Transient` when somebody is in the middle of a batch and does not end it.
        """
        with self.begin() as db:
            if db.dialect.name == "postgresql":
                db.execute(sa.text(f"SET LOCAL lock_timeout = '{MUTE_SECONDS}s'"))
            query = sa.select(t.stream).where(t.stream.c.migration == self.migration).order_by(t.stream.c.name).with_for_update()
            rows = db.execute(query).all()
            if any(row.muted not in instead_of for row in rows):
                return False
            for row in rows:
                db.execute(t.stream.update().where(*self._stream(row.name)).values(epoch=row.epoch + 1, muted=token))
            return True
