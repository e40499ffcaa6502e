"""A Faust transport that hands an agent the list of records of one fetch instead of one record.

What an event costs in Faust is paid once a list (docs/decisions/batch-transport.md). The rest
of Faust stays its own: agents, group rebalancing, supervision.

What belongs to the group (membership, rebalancing, commits) is aiokafka's, as Faust has it; records are fetched by `Fetcher`.

Where to read from is not Kafka's committed offset but what the target says is applied: at each assignment the consumer asks
`app.conf.positions` and seeks there. What is committed to Kafka is that position too, as a hint for people and lag tools.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import faust
from aiokafka.errors import IllegalStateError
from aiokafka.structs import TopicPartition
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.threads import WorkerThread

from pipeline.stream.fetch import Fetcher

_LONGEST_WAIT = 0.5  # seconds: as long as that a stop may have to wait
STOP_SECONDS = 5.0
"""For leaving Kafka's group; with a broker that answers it takes well under one. Left without a word, the group finds out by itself."""
OPEN_SECONDS = 20.0
"""So long Faust is made to wait for streams to be opened."""
Opened = tuple[int, int]
"""(Kafka offset to read from, serial number of the opening)"""


@dataclasses.dataclass(frozen=True, slots=True)
class Fetched:
    """The records of one fetch of one partition, and the opening of the partition they were fetched under."""

    opening: int
    records: list[tuple[int, bytes | None]]
    waited: float = 0.0  # seconds, for the first of them
    took: float = 0.0  # seconds, to take them over


class Streams(Protocol):
    """What the transport asks of crossfade, by topic."""

    async def opened(self, topic: str) -> Opened:
        """Opens it (again): where it is to be read from."""

    def opening(self, topic: str) -> int | None:
        """The serial number of the opening that holds now; None while it is not open."""

    def applied(self, topic: str) -> int | None:
        """How far it is applied, while it is open."""

    async def close(self, topic: str) -> None:
        """Closes it, if it is open."""


class Positions:
    """Whom the transport asks; and how Kafka is reached: (bootstrap servers, group, librdkafka's options)."""

    def __init__(self, streams: Streams, kafka: tuple[str, str, Mapping[str, str]]) -> None:
        self.streams = streams
        self.kafka = kafka


class GroupThread(WorkerThread):
    """The thread in which aiokafka keeps up the group. Faust's own holds up the end of the process, and the event loop that stops it, until
    a broker that is away has answered: for ever, it may be."""

    def __init__(self, service: Any, **kwargs: Any) -> None:
        super().__init__(service, **kwargs)
        self.daemon = True

    def stop(self) -> None:
        self.is_stopped.wait(STOP_SECONDS)


class BatchConsumer(driver.Consumer):
    """Faust's aiokafka consumer, by the list."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._kafka_records: Fetcher | None = None
        self._waited = 0.0
        self._room = asyncio.Event()
        self._fetching = ThreadPoolExecutor(1, thread_name_prefix="fetch")
        self._seeks = 0
        self._openings: set[asyncio.Future[Mapping[TP, int]]] = set()
        self._crashing: asyncio.Future[None] | None = None

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return driver.AIOKafkaConsumerThread(self, loop=self.loop, beacon=self.beacon, Worker=GroupThread)

    @property
    def _positions(self) -> Positions:
        positions: Positions = self.app.positions  # type: ignore[attr-defined]
        return positions

    async def _wait_next_records(self, timeout: float) -> tuple[Any, set[TP] | None]:  # noqa: ASYNC109
        """Where every stream's buffer is full Faust sleeps a second and looks again; this goes on when there is room."""
        while self._buffered_partitions and not self._get_active_partitions() and not self.should_stop:
            self._room.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._room.wait(), _LONGEST_WAIT)
        found: tuple[Any, set[TP] | None] = await super()._wait_next_records(timeout)
        if not self.flow_active:
            # A rebalance has begun, at whose end everything is opened anew. Faust would do so here too, with what is being taken away.
            return None, None
        return found

    def on_buffer_drop(self, tp: TP) -> None:
        super().on_buffer_drop(tp)
        self._room.set()

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Mapping[TP, list[Fetched]]:  # noqa: ASYNC109
        if self._kafka_records is None:
            await self.sleep(0.01)  # nothing is assigned yet
            return {}
        seconds = min(timeout, _LONGEST_WAIT)
        got = await asyncio.get_running_loop().run_in_executor(self._fetching, self._kafka_records.fetch, active_partitions, seconds)
        self._waited += got.waited
        out: dict[TP, list[Fetched]] = {}
        took = got.took
        for tp, records in got.records.items():
            out[tp] = [Fetched(got.openings[tp], records, self._waited, took)]
            self._waited = took = 0.0  # counted once, where there are several
        return out

    def _to_message(self, tp: TP, record: Fetched) -> ConsumerMessage:
        last = record.records[-1][0]
        # Without the generation Faust takes every message for one of an earlier assignment and drops it.
        value: Any = record
        generation = self.app.consumer_generation_id
        return ConsumerMessage(tp.topic, tp.partition, last, 0.0, 0, [], None, value, None, 0, 0, tp, generation_id=generation)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Opens every assigned partition and reads on from what the target has applied.

        What takes longer goes on by itself: Faust waits for `broker_request_timeout`, and then takes in nothing any more, for good.
        """
        opening = asyncio.ensure_future(self._open_each(self.assignment()))
        self._openings.add(opening)
        opening.add_done_callback(self._openings.discard)
        try:
            done, _ = await asyncio.wait({opening}, timeout=OPEN_SECONDS)
        except asyncio.CancelledError:  # another rebalance
            opening.add_done_callback(self._opened_late)
            raise
        if not done:
            opening.add_done_callback(self._opened_late)
            return {}
        return opening.result()

    async def _open_each(self, partitions: set[TP]) -> Mapping[TP, int]:
        """Opening takes its time. Meanwhile a partition can be taken away, or be opened once more by whoever else calls this: what is
        placed is what holds at that moment, or its records would be of an opening that nobody has."""
        self._seeks += 1
        streams, offsets, mine = self._positions.streams, {}, self._seeks
        for tp in partitions:
            if self._seeks != mine:
                break  # somebody has begun anew with all of them
            if tp not in self.assignment():
                continue
            offset, serial = await streams.opened(tp.topic)
            if tp in self.assignment():
                with contextlib.suppress(IllegalStateError):  # taken away just now
                    await self.seek_wait({tp: offset})
                    self._hold_own_fetches({tp: offset})
            if tp not in self.assignment():
                await streams.close(tp.topic)
            elif streams.opening(tp.topic) == serial:
                if self._kafka_records is None:
                    self._kafka_records = Fetcher(*self._positions.kafka)
                self._kafka_records.place({tp: (offset, serial)})
                offsets[tp] = offset
        return offsets

    def _opened_late(self, opening: asyncio.Future[Mapping[TP, int]]) -> None:
        """Nobody waits for it: a fault ends the app, as it does where somebody does."""
        if not opening.cancelled() and (error := opening.exception()) is not None:
            self._crashing = asyncio.ensure_future(self.app.crash(error))

    def _hold_own_fetches(self, partitions: Mapping[TP, int]) -> None:
        """aiokafka is not to fetch what it is assigned: it would be fetched twice."""
        consumer = self._thread._ensure_consumer()
        consumer.pause(*(TopicPartition(tp.topic, tp.partition) for tp in partitions))

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """What somebody else is going to read is read here no more."""
        if self._kafka_records is not None:
            self._kafka_records.forget(revoked)
        await super().on_partitions_revoked(revoked)

    async def on_stop(self) -> None:
        """Ends the fetch that is under way, and openings."""
        await super().on_stop()
        for opening in list(self._openings):
            opening.cancel()
        self._fetching.shutdown(wait=False, cancel_futures=True)
        if self._kafka_records is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._kafka_records.close)

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust looks whether aiokafka fetches: it does not."""

    def ack(self, message: Message) -> bool:
        """Acknowledged means taken in, not applied: it moves nothing."""
        message.acked = True
        self._unacked_messages.discard(message)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Lists leave gaps between their last offsets, by design."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(list(self.assignment()))

    def _new_offset(self, tp: TP) -> int | None:
        return self._positions.streams.applied(tp.topic)


class BatchTransport(driver.Transport):
    """Faust's aiokafka transport with `BatchConsumer`."""

    Consumer = BatchConsumer


class StreamApp(faust.App):
    """A Faust app whose consumer asks `positions`."""

    positions: Positions
    own_folder: tempfile.TemporaryDirectory[str] | None

    def _new_transport(self) -> BatchTransport:
        return BatchTransport(self.conf.broker_consumer, self)
