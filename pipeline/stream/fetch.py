"""Reads Kafka partitions for the transport: librdkafka fetches, unpacks and checks outside of Python's lock, a list of records at a time.

aiokafka, which Faust brings, does that in Python beside the decoder: a third of the time of a worker that catches up
(docs/decisions/batch-transport.md). It keeps what belongs to the group: membership, rebalancing, commits.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Iterable, Iterator, Mapping

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from faust.types import TP

from connectors.streams import MAX_MESSAGE_BYTES

log = structlog.get_logger("stream")

AT_ONCE, BYTES_AT_ONCE = 5000, 3 << 20
"""Records that one call answers at most: so many that what a call costs does not count, so few that others get their turn; and bytes, since
several such lists wait in memory."""
_SOME = 500
_POLL_SECONDS = 0.05
"""librdkafka shows a poll that is under way nothing of new places: so long they wait for it."""
_SETTINGS: Mapping[str, str | int | bool] = {
    "enable.auto.commit": False,
    "auto.offset.reset": "earliest",  # an offset that is gone: the hole shows, and is judged by position
    "fetch.wait.max.ms": 250,
    "fetch.message.max.bytes": 512 << 10,  # as they are sent: unpacked, LZ4 makes them ten to fifteen times as many
    "receive.message.max.bytes": MAX_MESSAGE_BYTES + (64 << 20),
    "queued.max.messages.kbytes": 8 << 10,
    "queued.min.messages": 100_000,
    "fetch.queue.backoff.ms": 5,
    "reconnect.backoff.max.ms": 1000,
    "check.crcs": True,
    "log_level": 2,
}


@dataclasses.dataclass(frozen=True, slots=True)
class Got:
    """(offset, value) by partition, and the opening that each was fetched under; seconds waited for the first of them, and for taking them
    over."""

    records: Mapping[TP, list[tuple[int, bytes | None]]]
    openings: Mapping[TP, int]
    waited: float
    took: float


class Fetcher:
    """Partitions given by hand, each from an offset on. `place` and `forget` may be called while another thread is in `fetch`.

    What a fetch hands over continues what was handed over before it, or begins at the offset of the newest `place`; nothing is left out.
    """

    def __init__(self, bootstrap: str, group: str, options: Mapping[str, str]) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, **_SETTINGS, **options})
        self._lock = threading.Lock()
        self._places: dict[TP, tuple[int, int]] = {}  # (offset that comes next, opening)
        self._active: set[TP] = set()
        self._serial = 0

    def place(self, places: Mapping[TP, tuple[int, int]]) -> None:
        """Reads these from there on, (offset, opening); what else is read goes on where it is."""
        with self._lock:
            self._places.update(places)
            self._assign()

    def forget(self, partitions: Iterable[TP]) -> None:
        """Reads these no more."""
        with self._lock:
            for tp in partitions:
                self._places.pop(tp, None)
            self._assign()

    def _assign(self) -> None:
        self._serial += 1
        self._active = set(self._places)
        places = [TopicPartition(tp.topic, tp.partition, offset) for tp, (offset, _) in self._places.items()]
        self._consumer.assign(places)
        self._consumer.resume(places)  # what was held before would stay held: librdkafka's hold is the partition's, not the assignment's

    def fetch(self, active: set[TP] | None, seconds: float) -> Got:
        """Waits so long for the first record, and answers with it what else is here already: (offset, value) by partition.

        Partitions that are not `active` are held; nothing of them is lost.
        """
        with self._lock:
            serial = self._serial
            self._hold(active)
        began = time.perf_counter()
        first = None
        while first is None and serial == self._serial and (left := began + seconds - time.perf_counter()) > 0:
            first = self._consumer.poll(min(left, _POLL_SECONDS))
        here = time.perf_counter()
        if first is None:
            return Got({}, {}, here - began, 0.0)
        out: dict[TP, list[tuple[int, bytes | None]]] = {}
        for some in self._what_is_here(first):
            messages = _good(some)
            topics = {message.topic() for message in messages}
            for topic in topics:
                mine = messages if len(topics) == 1 else [message for message in messages if message.topic() == topic]
                # One partition a topic: all of them are of the first one's.
                records = out.setdefault(TP(str(topic), mine[0].partition() or 0), [])
                records += [(message.offset() or 0, message.value()) for message in mine]
        with self._lock:
            if serial != self._serial:
                # Some of it is of before, some of it of the new places already: all of it is fetched again.
                self._assign()
                return Got({}, {}, here - began, 0.0)
            openings = {tp: self._places[tp][1] for tp in out}
            self._places.update({tp: (records[-1][0] + 1, openings[tp]) for tp, records in out.items()})
        return Got(out, openings, here - began, time.perf_counter() - here)

    def _what_is_here(self, first: Message) -> Iterator[list[Message]]:
        yield [first]
        count, size = 1, len(first)
        while count < AT_ONCE and size < BYTES_AT_ONCE:
            some = self._consumer.consume(_SOME, 0)
            if some:
                yield some
            if len(some) < _SOME:
                return
            count, size = count + len(some), size + sum(map(len, some))

    def _hold(self, active: set[TP] | None) -> None:
        wanted = set(self._places) if active is None else set(self._places) & active
        if wanted != self._active:
            for change, tps in ((self._consumer.pause, self._active - wanted), (self._consumer.resume, wanted - self._active)):
                if tps:
                    change([TopicPartition(tp.topic, tp.partition) for tp in tps])
            self._active = wanted

    def close(self) -> None:
        """Lets go of the connections."""
        self._consumer.close()


def _good(messages: list[Message]) -> list[Message]:
    """Those that are records. Raises `KafkaException` where librdkafka does not go on by itself."""
    faults = [error for message in messages if (error := message.error()) is not None]
    if not faults:
        return messages
    for error in faults:
        if error.fatal():
            raise KafkaException(error)
        log.debug("kafka", error=error.str())
    return [message for message in messages if message.error() is None]
