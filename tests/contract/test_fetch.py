"""What the fetcher promises, on a real broker: however often a partition is placed anew while a fetch is under way, nothing is left out."""

from __future__ import annotations

import random
import threading
import time
import uuid
from collections.abc import Iterator

import pytest
from confluent_kafka import Message, Producer
from faust.types import TP

from connectors.topics import ensure_topic, next_offset, remove_topic
from deploy.local.stack import Stack
from pipeline.stream.fetch import Fetcher

pytestmark = pytest.mark.system
RECORDS, PLACES = 3000, 60


def test_s08_placed_anew_in_the_middle_of_a_fetch_every_record_comes(stack: Stack) -> None:
    """Two partitions, one of them held now and then; both are placed anew again and again, somebody fetches all the time. What comes
    under one opening begins where that was placed and has no hole; what is not placed goes on where it was."""
    chance = random.Random(7)
    topics = [f"fetch-{uuid.uuid4().hex}" for _ in range(2)]
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "log_level": 2})
    partitions = [TP(topic, 0) for topic in topics]
    came: dict[tuple[TP, int], list[int]] = {}
    placed: dict[tuple[TP, int], int] = {}
    arrived, stop = threading.Condition(), threading.Event()
    errors: list[BaseException] = []
    fetcher = Fetcher(stack.kafka_bootstrap, "fetch-test", {})

    def fetch() -> None:
        try:
            while not stop.is_set():
                active = None if chance.random() < 0.8 else {partitions[0]}
                got = fetcher.fetch(active, 0.5)
                with arrived:
                    for tp, records in got.records.items():
                        came.setdefault((tp, got.openings[tp]), []).extend(offset for offset, _ in records)
                    arrived.notify_all()
        except BaseException as error:
            errors.append(error)
            raise

    for topic in topics:
        ensure_topic(stack.kafka_bootstrap, topic)
    thread = threading.Thread(target=fetch)
    try:
        for number in range(RECORDS // 2):
            for topic in topics:
                producer.produce(topic, b"%d" % number)
        producer.flush(60)
        thread.start()
        for opening in range(1, PLACES + 1):
            some = partitions if opening == 1 else [chance.choice(partitions)]
            offsets = {tp: (chance.randrange(RECORDS // 2), opening) for tp in some}
            placed |= {(tp, opening): offset for tp, (offset, _) in offsets.items()}
            fetcher.place(offsets)
            if opening % 3:
                with arrived:  # else it is placed anew at once, before anything of this opening has come
                    assert arrived.wait_for(lambda now=opening, tp=some[0]: came.get((tp, now)) or errors, 60) and not errors
            for topic in topics:
                producer.produce(topic, b"more")
            producer.flush(60)
        last = {tp: max(opening for at, opening in placed if at == tp) for tp in partitions}
        end = RECORDS // 2 + PLACES - 1
        with arrived:
            done = arrived.wait_for(lambda: errors or all(came.get((tp, last[tp]), [-1])[-1] == end for tp in partitions), 60)
            assert done and not errors, {tp.topic: came.get((tp, last[tp]), [])[-3:] for tp in partitions}
    finally:
        stop.set()
        thread.join(30)
        fetcher.close()
        for topic in topics:
            remove_topic(stack.kafka_bootstrap, topic)
    assert len(came) > PLACES // 2
    for key, offsets_ in came.items():
        assert offsets_ == list(range(placed[key], placed[key] + len(offsets_))), key


def test_s08_what_a_fetch_has_taken_of_a_new_place_is_not_lost_with_it(stack: Stack) -> None:
    """Placed anew between the first record and the rest: the rest is of the new place, and all of it comes again."""
    topic = f"fetch-{uuid.uuid4().hex}"
    tp = TP(topic, 0)
    taken: list[int | None] = []

    class Interrupted(Fetcher):
        def _what_is_here(self, first: Message) -> Iterator[list[Message]]:
            yield [first]
            if not taken:
                self.place({tp: (100, 2)})
                rest = self._consumer.consume(50, 30)
                taken.extend(message.offset() for message in rest)
                yield rest

    ensure_topic(stack.kafka_bootstrap, topic)
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "log_level": 2})
    for number in range(200):
        producer.produce(topic, b"%d" % number)
    producer.flush(60)
    fetcher = Interrupted(stack.kafka_bootstrap, "fetch-test", {})
    try:
        fetcher.place({tp: (0, 1)})
        came: dict[int, list[int]] = {1: [], 2: []}
        deadline = time.monotonic() + 60
        while (not came[2] or came[2][-1] < 199) and time.monotonic() < deadline:
            got = fetcher.fetch(None, 5.0)
            for at, records in got.records.items():
                came[got.openings[at]] += [offset for offset, _ in records]
    finally:
        fetcher.close()
        remove_topic(stack.kafka_bootstrap, topic)
    assert 100 in taken, taken
    assert came == {1: [], 2: list(range(100, 200))}


def test_s08_what_comes_next_in_a_topic_is_told(stack: Stack) -> None:
    """Also behind offsets that a producer's transaction takes, and where nothing has come."""
    topic = f"next-{uuid.uuid4().hex}"
    ensure_topic(stack.kafka_bootstrap, topic)
    try:
        producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "transactional.id": topic, "log_level": 2})
        producer.init_transactions(60)
        for value in (b"a", b"b"):
            producer.begin_transaction()
            producer.produce(topic, value)
            producer.commit_transaction(60)
        assert [next_offset(stack.kafka_bootstrap, topic, offset) for offset in (0, 1, 2, 4)] == [0, 2, 2, None]
    finally:
        remove_topic(stack.kafka_bootstrap, topic)


def test_s08_what_was_held_when_another_place_came_is_held_no_more(stack: Stack) -> None:
    """Two streams of one worker: the buffer of one is full when the other is opened again. librdkafka holds what it was told to hold,
    whatever it is assigned meanwhile."""
    topics = [f"fetch-{uuid.uuid4().hex}" for _ in range(2)]
    first, second = (TP(topic, 0) for topic in topics)
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "log_level": 2})
    fetcher = Fetcher(stack.kafka_bootstrap, "fetch-test", {})

    def until(wanted: TP, active: set[TP]) -> None:
        deadline = time.monotonic() + 60
        while wanted not in fetcher.fetch(active, 0.5).records:
            assert time.monotonic() < deadline, wanted

    for topic in topics:
        ensure_topic(stack.kafka_bootstrap, topic)
    try:
        for topic in topics:
            producer.produce(topic, b"one")
        producer.flush(60)
        fetcher.place({first: (0, 1), second: (0, 1)})
        until(first, {first})
        fetcher.place({first: (0, 2)})
        until(second, {first, second})
    finally:
        fetcher.close()
        for topic in topics:
            remove_topic(stack.kafka_bootstrap, topic)
