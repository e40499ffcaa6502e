"""Whether what comes next for a stream is in its topic, and whether that is the topic it was (docs/decisions/topic-identity.md)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Row

from connectors.topics import admin_of, ids_of, next_offset, offsets_of
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import kafka_options
from pipeline.errors import CrossfadeError, GapInStream
from pipeline.model import Applied
from pipeline.store.streams import LOST_TOPIC
from pipeline.stream.session import StreamSession

LOOK_SECONDS = 2.0
"""A Kafka that does not answer holds up whoever looks no longer than that."""
_LOST = "changes are lost: cancel and start again"


class TopicWatch:
    """The topics that one worker reads. Everything raises `Transient` or `ConnectError` when Kafka does not answer."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._options = runtime, kafka_options(runtime)
        self._admin = admin_of(runtime.migration.kafka.bootstrap, self._options)
        self._known: dict[str, str] = {}  # the id that each had at its opening
        self._met: dict[str, tuple[int, int]] = {}
        self._gone: set[str] = set()  # not there at the last look

    def gap(self, row: Row[Any], applied: Applied) -> CrossfadeError | None:
        """At the opening of a stream, given its row in the control store: whether what comes next is there no more. Anything but a
        `GapInStream` is not to be healed."""
        topic = str(row.topic)
        if row.topic_id == LOST_TOPIC:
            return _lost(topic)
        found = ids_of(self._admin, [topic])[topic]
        if found is None:
            return GapInStream(f"topic {topic} is gone", hint=_LOST)
        if row.topic_id and found and found != row.topic_id:
            return _made_again(topic)
        low, high = self._offsets(topic)
        if applied.offset < low:
            return GapInStream(f"topic {topic} begins at offset {low}, but only what is before {applied.offset} is applied", hint=_LOST)
        if applied.offset > high:
            return GapInStream(f"topic {topic} ends at offset {high}, but {applied.offset} was applied", hint=_LOST)
        if found and not row.topic_id:
            self._runtime.store.set_topic_id(row.name, found)
        self._known[topic] = found
        return None

    def met(self, stream: str, hole: tuple[int, int]) -> None:
        """A session stopped at a hole: (offset that came next, offset that came)."""
        self._met[stream] = hole

    def hole(self, row: Row[Any], applied: Applied) -> tuple[int, int] | None:
        """The hole that the last opening met and is still to come, if the topic really has no record in it."""
        met = self._met.get(row.name)
        if met is None or met[0] < applied.offset:
            return None
        found = next_offset(self._runtime.migration.kafka.bootstrap, str(row.topic), met[0], options=self._options)
        return met if found == met[1] else None

    async def look(self, reading: Mapping[str, StreamSession]) -> None:
        """Fails sessions, by topic, whose topic is another one by now. One that is made anew while it is read begins at 0, which shows,
        unless it is longer than the old one was by then."""
        before = [
            (topic, session, at, known)
            for topic, session in reading.items()
            if (at := session.next_offset) is not None and (known := self._known.get(topic))
        ]
        gone, self._gone = self._gone, set()
        ids = await asyncio.to_thread(ids_of, self._admin, [topic for topic, *_ in before], LOOK_SECONDS)
        for topic, session, at, known in before:
            found = ids[topic]
            if reading.get(topic) is not session or found in ("", known):
                continue
            if found is None:
                if topic in gone:
                    session.fail(GapInStream(f"topic {topic} is gone", hint=_LOST))
                self._gone.add(topic)
                continue
            _, high = await asyncio.to_thread(self._offsets, topic)
            if high <= at:  # nothing of the new one can have been taken in
                session.fail(_made_again(topic))
            else:
                await asyncio.to_thread(self._runtime.store.lose_topic, session.stream)
                session.fail(_lost(topic))

    def _offsets(self, topic: str) -> tuple[int, int]:
        return offsets_of(self._runtime.migration.kafka.bootstrap, topic, options=self._options)


def _lost(topic: str) -> CrossfadeError:
    return CrossfadeError(f"topic {topic} was deleted and made again while it was read", hint=_LOST)


def _made_again(topic: str) -> GapInStream:
    return GapInStream(f"topic {topic} was deleted and made again", hint=_LOST)
