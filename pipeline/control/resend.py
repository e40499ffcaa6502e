"""A gap in a stream, healed: what the target has not got is sent again by the source, from a slot that was kept for it.

Without such a slot (another product, no room, too much WAL meanwhile) a gap ends in `failed`, as it must: changes are lost.
"""

from __future__ import annotations

import time

import structlog
from sqlalchemy.engine import Row

from connectors import streams, topics
from connectors.engine import module
from pipeline.control.prepare import connect_client
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import StreamPlan, kafka_options, stream_plans
from pipeline.errors import CrossfadeError, GapInStream

log = structlog.get_logger("resend")

AGAIN_SECONDS = 5.0  # while Connect or Kafka is away
TRIES = 3  # at one position; then the source itself has not got it any more


class Resender:
    """Keeps the slots of one migration's streams where the target stands, and uses them."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime, self._store = runtime, runtime.store
        self._can = runtime.source_engine == "postgresql"
        self._before: dict[str, str] = {}  # positions of the last look
        self._tried: dict[str, tuple[str, int]] = {}
        self._again: dict[str, float] = {}  # when to try again, by the monotonic clock

    def keep(self) -> None:
        """Moves the kept slots on. To the position of the look before: what the target had then is on its disk by now."""
        if not self._can:
            return
        plans = {plan.name: plan for plan in stream_plans(self._runtime)}
        for row in self._store.streams():
            before, self._before[row.name] = self._before.get(row.name), row.position
            if not before or row.name not in plans:
                continue
            try:
                module("postgresql", "slots").advance(self._runtime.source, self._slot(plans[row.name]), before)
            except CrossfadeError as error:
                log.warning("the kept slot does not move", stream=row.name, error=str(error))

    def heal(self, row: Row[object]) -> None:
        """Has a stream sent again from the applied position on. Safe to run twice. Raises `GapInStream` when that cannot be."""
        name, position = str(row.name), str(row.position)
        if time.monotonic() < self._again.get(name, 0.0):
            return
        self._again[name] = time.monotonic() + AGAIN_SECONDS
        gap = GapInStream(f"stream {name} stopped: {row.error}")
        plan = next((plan for plan in stream_plans(self._runtime) if plan.name == name), None)
        tried = self._tried.get(name, ("", 0))
        count = tried[1] + 1 if tried[0] == position else 1
        if not self._can or plan is None or count > TRIES:
            raise gap
        log.warning("a gap: having it sent again", stream=name, position=position, error=str(row.error))
        kafka, options = self._runtime.migration.kafka, kafka_options(self._runtime)
        with connect_client(self._runtime) as connect:
            if connect.status(plan.connector) is None:
                raise gap
            connect.stop(plan.connector)
            if not module("postgresql", "slots").rewind(self._runtime.source, self._slot(plan), position):
                raise gap
            connect.forget_offsets(plan.connector)
            topic_id = topics.ensure_topic(
                kafka.bootstrap,
                plan.topic,
                replication_factor=kafka.replication_factor,
                retention_hours=kafka.retention_hours,
                options=options,
            )
            _, end = topics.offsets_of(kafka.bootstrap, plan.topic, options=options)
            connect.resume(plan.connector)
            connect.wait_streaming(plan.connector, stored=False)
        self._store.sent_again(name, topic_id, end)
        self._tried[name] = (position, count)
        log.info("sent again", stream=name, position=position, offset=end)

    def _slot(self, plan: StreamPlan) -> str:
        return plan.slot or streams.slot_name(self._runtime.name, plan.name)
