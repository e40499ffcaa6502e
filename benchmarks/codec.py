"""Compression in Kafka: the same backlog by each codec, from the source's log to the target. What the default rests on
(docs/decisions/compression.md)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks import usage
from benchmarks.apply import caught_up, waiting
from benchmarks.harness import Case, Sample
from benchmarks.move import Move
from benchmarks.stage import Stage
from benchmarks.workloads import UPDATES, Sizes, fill, write

CODECS = ("lz4", "none", "zstd", "snappy", "gzip")


def case(on: Stage, codec: str, *, rows: int, events: int, at_most: int) -> Case:
    """One fresh pair of databases a round. The connector's own setting is overridden, as `streams[].config` allows."""
    what = f"PG to PG, {events:,} narrow updates, {codec}"
    sizes = Sizes(rows)

    def run(_number: int) -> Iterator[Sample]:
        origin = on.database("postgresql", "source")
        fill(origin, sizes)
        streams = [{"name": "main", "config": {"producer.override.compression.type": codec}}]
        with Move(on, origin, on.database("postgresql", "target"), streams=streams) as move, move.target.session() as cursor:
            move.begin()
            # Java's compiler is at work on the first of them.
            caught_up(move, cursor, waiting(move, cursor, lambda: write(origin, UPDATES, events // 10, sizes)))
            connect, kafka = on.stack.connect.pid, on.stack.kafka.pid
            assert connect is not None and kafka is not None
            used, stored, begun = usage.processor_seconds(connect), _stored(on, move.topic), time.monotonic()
            backlog = waiting(move, cursor, lambda: write(origin, UPDATES, events // 10, sizes))
            took = time.monotonic() - begun
            yield Sample("codec", f"{what}, into Kafka", "events/s", backlog.events / took)
            of_connect = (usage.processor_seconds(connect) - used) / backlog.events * 1e6
            yield Sample("codec", f"{what}, processor time of Connect", "µs/event", of_connect)
            yield Sample("codec", f"{what}, in Kafka", "bytes/event", (_stored(on, move.topic) - stored) / backlog.events)
            used = usage.processor_seconds(kafka)
            rate, by_processor, memory = caught_up(move, cursor, backlog)
            of_kafka = (usage.processor_seconds(kafka) - used) / backlog.events * 1e6
            yield Sample("codec", f"{what}, processor time of Kafka, read", "µs/event", of_kafka)
            yield Sample("codec", f"{what}, applied", "events/s", rate)
            yield Sample("codec", f"{what}, applied, by the worker's processor time", "events/s of CPU", by_processor)
            yield Sample("codec", f"{what}, memory of the worker", "MiB", memory)

    return Case(f"codec, {codec}", run, at_most=at_most)


def _stored(on: Stage, topic: str) -> int:
    """Bytes of the topic's one partition, as they lie on disk."""
    return sum(file.stat().st_size for file in (on.stack.kafka.folder / "data" / f"{topic}-0").glob("*.log"))
