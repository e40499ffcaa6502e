"""A migration's streams as processes need them: what each is called, which tables it carries, and how Kafka is reached."""

from __future__ import annotations

import dataclasses
from fnmatch import fnmatchcase

from connectors import streams
from pipeline.control.runtime import Runtime
from pipeline.model import TableId
from pipeline.spec.migration import Migration, Stream


@dataclasses.dataclass(frozen=True, slots=True)
class StreamPlan:
    """One stream: what it is called and which source tables it carries."""

    name: str
    topic: str
    connector: str
    tables: tuple[TableId, ...]
    slot: str | None = None  # names that the file gives; None: crossfade's own
    publication: str | None = None
    server_id: int | None = None

    @property
    def names(self) -> dict[str, str | None]:
        """What `prepare_source` and `cleanup_source` are told."""
        return {"slot": self.slot, "publication": self.publication}


def stream_plans(runtime: Runtime) -> list[StreamPlan]:
    """The migration's streams with their tables; a stream without patterns takes what the others leave."""
    migration = runtime.migration
    left = sorted({pair.source.id for pair in runtime.resolved[0]})
    plans: dict[str, tuple[TableId, ...]] = {}
    for stream in migration.streams:
        if stream.tables:
            mine = [t for t in left if any(_matches(p, t, migration.source.schema_name) for p in stream.tables)]
            left = [t for t in left if t not in mine]
            plans[stream.name] = tuple(mine)
    for stream in migration.streams:
        if not stream.tables:
            plans[stream.name] = tuple(left)
    return [stream_plan(migration, name, tables) for name, tables in plans.items() if tables]


def stream_plan(migration: Migration, name: str, tables: tuple[TableId, ...] = ()) -> StreamPlan:
    """The stream of that name; it may have left the file since."""
    given = next((s for s in migration.streams if s.name == name), Stream(name=name))
    topic, connector = streams.topic_name(migration.name, name), streams.connector_name(migration.name, name)
    return StreamPlan(name, topic, connector, tables, given.slot, given.publication, given.server_id)


def _matches(pattern: str, table: TableId, default_schema: str) -> bool:
    schema, _, name = pattern.rpartition(".")
    return table.schema == (schema or default_schema) and fnmatchcase(table.name, name)


def kafka_options(runtime: Runtime) -> dict[str, str]:
    """librdkafka's settings for the file's Kafka."""
    kafka = runtime.migration.kafka
    secret = kafka.secret()
    given = {
        "security.protocol": kafka.protocol if kafka.protocol != "PLAINTEXT" else None,
        "sasl.mechanism": kafka.mechanism,
        "sasl.username": kafka.username,
        "sasl.password": secret.get_secret_value() if secret else None,
        "ssl.ca.location": kafka.ca,
        "ssl.certificate.location": kafka.cert,
        "ssl.key.location": kafka.key,
    }
    return {key: value for key, value in given.items() if value} | dict(kafka.options)
