"""Debezium's JDBC sink, fed by a Debezium source connector of its own: a topic a table, keys spread over partitions, records with schemas,
which the sink cannot do without (a snapshot that goes no further than Kafka can). It runs with the best settings of a small sweep on the
same backlog."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from benchmarks.harness import Failed
from benchmarks.stage import Database, Stage
from connectors.connect import ConnectClient
from pipeline.errors import ConnectError

NAME = "Debezium JDBC sink"
PARTITIONS = 4
WAIT_SECONDS = 600.0
_LOOK_EVERY = 0.05
_numbers = itertools.count(1)
_SOURCES = {
    "postgresql": "io.debezium.connector.postgresql.PostgresConnector",
    "mariadb": "io.debezium.connector.mariadb.MariaDbConnector",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What the sweep tries."""

    tasks: int
    batch: int
    reduction: bool
    unnest: bool = False

    def __str__(self) -> str:
        more = (", reduction buffer" if self.reduction else "") + (", unnest" if self.unnest else "")
        return f"{self.tasks} tasks, batches of {self.batch}{more}"


_SWEEP = (
    Settings(1, 2000, True),
    Settings(2, 2000, True),
    Settings(4, 500, False),
    Settings(4, 2000, False),
    Settings(4, 2000, True),
    Settings(4, 5000, True),
    Settings(4, 5000, True, unnest=True),
)
USUAL = Settings(4, 500, False)
"""What most sweeps came to."""
SAFE = Settings(4, 2000, True)
"""Without the reduction buffer a key that comes twice in one statement of several rows is an error of PostgreSQL's."""
_best: dict[str, tuple[Settings, dict[str, float]]] = {}


class Feed:
    """A source connector for some tables, from now on or with what is there (`initial`); its topics, one a table."""

    def __init__(self, on: Stage, source: Database, tables: Sequence[str], *, snapshot: str = "no_data", schemas: bool = True) -> None:
        self._on, self._source = on, source
        self.name = f"peer{next(_numbers)}"
        parts = urlsplit(source.address.url)
        database = parts.path.strip("/")
        schema = "public" if source.engine == "postgresql" else database
        self.tables = tuple(tables)
        self.topics = {table: f"{self.name}.{schema}.{table}" for table in tables}
        self._admin = AdminClient({"bootstrap.servers": on.stack.kafka_bootstrap, "log_level": 2})
        self._connect = ConnectClient(on.stack.connect_url)
        config = {
            "connector.class": _SOURCES[source.engine],
            "topic.prefix": self.name,
            "database.hostname": str(parts.hostname),
            "database.port": str(parts.port),
            "database.user": unquote(parts.username or ""),
            "database.password": _secret(on, self.name, source),
            "table.include.list": ",".join(f"{schema}\\.{table}" for table in tables),
            "snapshot.mode": snapshot,
            "tombstones.on.delete": "false",
            "poll.interval.ms": "10",
            "heartbeat.interval.ms": "1000",
            "max.batch.size": "8192",
            "max.queue.size": "32768",
            "producer.override.linger.ms": "5",
            "producer.override.batch.size": "262144",
            "producer.override.compression.type": "lz4",
            **_converters(schemas=schemas),
            "topic.creation.default.partitions": str(PARTITIONS),
            "topic.creation.default.replication.factor": "1",
        }
        if source.engine == "postgresql":
            config |= {
                "database.dbname": database,
                "plugin.name": "pgoutput",
                "slot.name": self.name,
                "publication.name": self.name,
                "publication.autocreate.mode": "filtered",
                "slot.drop.on.stop": "true",
            }
        else:
            config |= {
                "database.include.list": database,
                "database.server.id": str(77_000 + next(_numbers)),
                "schema.history.internal.kafka.bootstrap.servers": on.stack.kafka_bootstrap,
                "schema.history.internal.kafka.topic": f"{self.name}.history",
                "schema.history.internal.store.only.captured.tables.ddl": "true",
                "include.schema.changes": "false",
            }
        self._connect.register({"name": self.name, **config})
        if snapshot == "no_data":
            self._connect.wait_streaming(self.name, stored=source.engine != "postgresql")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        with contextlib.suppress(ConnectError):
            self._connect.remove(self.name)
        self._connect.close()

    def ends(self) -> dict[tuple[str, int], int]:
        """The next offset of each partition that is there."""
        there = self._admin.list_topics(timeout=30).topics
        wanted = {
            TopicPartition(topic, part): OffsetSpec.latest()
            for topic in self.topics.values()
            if topic in there
            for part in there[topic].partitions
        }
        if not wanted:
            return {}
        out = {}
        for at, found in self._admin.list_offsets(wanted).items():
            with contextlib.suppress(KafkaException):  # just made, and has no leader yet
                out[at.topic, at.partition] = found.result(30).offset
        return out

    def wait_for(self, records: int) -> dict[tuple[str, int], int]:
        """Until so many row events are in the topics in all; answers where they end."""
        until = time.monotonic() + WAIT_SECONDS
        while sum((ends := self.ends()).values()) < records:
            state = self._connect.status(self.name)
            if state is not None and state.failure:
                raise Failed(f"{self.name}: {state.failure}")
            if time.monotonic() > until:
                raise Failed(f"{self.name}: {sum(ends.values()):,} of {records:,} events came")
            time.sleep(_LOOK_EVERY)
        return ends

    def sink(self, target: Database, settings: Settings, begin: Mapping[tuple[str, int], int], end: Mapping[tuple[str, int], int]) -> float:
        """Row events a second over what lies between the two places: from the first look at which some was applied to the end."""
        name = f"sink{next(_numbers)}"
        topics = sorted({topic for (topic, _), last in end.items() if last > begin.get((topic, _), 0)})
        config = _sink_config(self._on, name, target, settings, topics)
        total = sum(last - begin.get(at, 0) for at, last in end.items())
        group = f"connect-{name}"
        if begin:
            self._start_at(group, {at: begin.get(at, 0) for at in end if at[0] in topics})
        self._connect.register({"name": name, **config})
        try:
            first: tuple[float, int] | None = None
            until = time.monotonic() + WAIT_SECONDS
            while True:
                done = sum(max(0, at - begin.get(where, 0)) for where, at in self._committed(group, end, topics))
                now = time.monotonic()
                if first is None and done:
                    first = (now, done)
                if done >= total:
                    break
                state = self._connect.status(name)
                if state is not None and state.failure:
                    raise Failed(f"{NAME}: {state.failure}")
                if now > until:
                    raise Failed(f"{NAME}: {done:,} of {total:,} events applied")
                time.sleep(_LOOK_EVERY)
        finally:
            with contextlib.suppress(ConnectError):
                self._connect.remove(name)
        assert first is not None
        if (total - first[1]) * 2 < total:
            raise Failed(f"{NAME}: {total - first[1]:,} of {total:,} events were left when first looked at: too small a backlog to measure")
        return (total - first[1]) / (now - first[0])

    def _committed(self, group: str, end: Mapping[tuple[str, int], int], topics: Sequence[str]) -> Iterator[tuple[tuple[str, int], int]]:
        wanted = [TopicPartition(topic, part) for topic, part in end if topic in topics]
        found = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group, wanted)])[group]
        with contextlib.suppress(KafkaException):  # the group is not there yet
            for at in found.result(30).topic_partitions:
                yield (at.topic, at.partition), max(0, at.offset)

    def _start_at(self, group: str, places: Mapping[tuple[str, int], int]) -> None:
        given = [TopicPartition(topic, part, offset) for (topic, part), offset in places.items()]
        self._admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, given)])[group].result(30)


def _converters(*, schemas: bool) -> dict[str, str]:
    return {
        f"{which}.converter{more}": value
        for which in ("key", "value")
        for more, value in (("", "org.apache.kafka.connect.json.JsonConverter"), (".schemas.enable", str(schemas).lower()))
    }


def _secret(on: Stage, name: str, database: Database) -> str:
    """The password in a file of Connect's secrets folder; what refers to it."""
    on.stack.secrets_dir.mkdir(parents=True, exist_ok=True)
    file = on.stack.secrets_dir / f"{name}.properties"
    file.touch(mode=0o600)
    file.write_text(f"password={database.address.password}\n")
    return f"${{file:{file}:password}}"


def _sink_config(on: Stage, name: str, target: Database, settings: Settings, topics: Sequence[str]) -> dict[str, str]:
    parts = urlsplit(target.address.url)
    if target.engine == "postgresql":
        url = f"jdbc:postgresql://{parts.hostname}:{parts.port}{parts.path}?reWriteBatchedInserts=true&stringtype=unspecified"
    else:
        url = f"jdbc:mariadb://{parts.hostname}:{parts.port}{parts.path}?useBulkStmts=true&rewriteBatchedStatements=true"
    return {
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "topics": ",".join(topics),
        "tasks.max": str(settings.tasks),
        "connection.url": url,
        "connection.username": unquote(parts.username or ""),
        "connection.password": _secret(on, name, target),
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "schema.evolution": "none",
        "collection.name.format": "${source.table}",
        "batch.size": str(settings.batch),
        "use.reduction.buffer": str(settings.reduction).lower(),
        "dialect.postgres.unnest.insert.enabled": str(settings.unnest).lower(),
        "consumer.override.max.poll.records": str(settings.batch),
        "consumer.override.auto.offset.reset": "earliest",
        "consumer.override.fetch.min.bytes": "1",
        **_converters(schemas=True),
    }


def best(feed: Feed, target: Database, end: Mapping[tuple[str, int], int]) -> Settings:
    """The settings that were fastest on this backlog; tried once for each product in a run of the benchmarks.
    Applying the same events again changes nothing, so all are tried on the same rows."""
    if target.engine not in _best:
        reached = {}
        for settings in _SWEEP:
            if settings.unnest and target.engine != "postgresql":
                continue
            with contextlib.suppress(Failed):
                reached[settings] = feed.sink(target, settings, {}, end)
        if not reached:
            raise Failed(f"{NAME}: it works with none of the settings")
        _best[target.engine] = (max(reached, key=lambda one: reached[one]), {str(one): rate for one, rate in reached.items()})
    return _best[target.engine][0]


def tried() -> Mapping[str, Any]:
    """What the sweeps came to."""
    return {engine: {"best": str(settings), "events/s": reached} for engine, (settings, reached) in _best.items()}
