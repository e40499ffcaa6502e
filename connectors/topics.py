"""Kafka topics of a stream: made by us with one partition and no retention limit but the file's, never left to a broker's defaults."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicCollection, TopicPartition, Uuid
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from connectors.streams import MAX_MESSAGE_BYTES
from pipeline.errors import BadInput, ConnectError, Transient

_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
    "compression.type": "producer",
}
_TIMEOUT = 30.0
_NO_ID = Uuid(0, 0)


def admin_of(bootstrap: str, options: Mapping[str, str] | None) -> AdminClient:
    """A connection to the cluster that looks after topics; it goes with the object. `options` are librdkafka's (TLS, SASL)."""
    # the client's own chatter would reach stderr uncontrolled; faults come back as exceptions
    settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 2}
    settings |= {"socket.timeout.ms": 10_000, "reconnect.backoff.max.ms": 1000}
    return AdminClient(settings | dict(options or {}))


def ids_of(admin: AdminClient, topics: Sequence[str], seconds: float = 10.0) -> dict[str, str | None]:
    """Kafka's own names of topics (KIP-516), 22 characters each: a topic that was deleted and made again has the name of before, and
    another id. None for a topic that is not there, "" where brokers know no ids (older than 2.8).

    Raises `Transient` when Kafka does not answer in so many seconds.
    """
    out: dict[str, str | None] = {}
    if not topics:
        return out
    for topic, answer in admin.describe_topics(TopicCollection(list(topics)), request_timeout=seconds).items():
        try:
            found = answer.result(seconds + 1).topic_id
            out[topic] = "" if found is None or str(found) == str(_NO_ID) else str(found)
        except KafkaException as error:
            if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                raise Transient(f"Kafka: topic {topic}: {error.args[0].str()}") from None
            out[topic] = None
        except TimeoutError:
            raise Transient(f"Kafka: topic {topic}: no answer") from None
    return out


def brokers(bootstrap: str, *, options: Mapping[str, str] | None = None) -> int:
    """How many brokers the cluster has. Raises `ConnectError` when none answers."""
    settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "socket.timeout.ms": 5_000, "log_level": 0}
    settings |= options or {}
    try:
        return len(AdminClient(settings).list_topics(timeout=10).brokers)
    except KafkaException as error:
        raise ConnectError(f"Kafka cannot be reached: {error.args[0].str()}") from None


def ensure_topic(
    bootstrap: str, topic: str, *, replication_factor: int = 1, retention_hours: int | None = None, options: Mapping[str, str] | None = None
) -> str:
    """Makes the topic, or sees that the one that is there will do: one partition, and nothing in it is thrown away, or not before
    `retention_hours`. Answers its id, or "" where that is not known (yet).

    `options` are librdkafka's (TLS, SASL). Raises `BadInput` for a topic with more partitions, `ConnectError` when Kafka does not answer.
    """
    admin = admin_of(bootstrap, options)
    settings = dict(_SETTINGS) if retention_hours is None else _SETTINGS | {"retention.ms": str(retention_hours * 3_600_000)}
    try:
        there = admin.list_topics(timeout=_TIMEOUT).topics
        if topic not in there:
            made = admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=replication_factor, config=settings)])
            try:
                made[topic].result(_TIMEOUT)
                return ids_of(admin, [topic])[topic] or ""
            except KafkaException as error:
                if error.args[0].name() != "TOPIC_ALREADY_EXISTS":  # somebody else was quicker
                    raise
                there = admin.list_topics(timeout=_TIMEOUT).topics
        if (partitions := len(there[topic].partitions)) != 1:
            raise BadInput(
                f"Kafka topic {topic} has {partitions} partitions",
                hint="a stream needs exactly one; remove the topic or rename the migration",
            )
        _settle(admin, topic, settings)
        return ids_of(admin, [topic])[topic] or ""
    except KafkaException as error:
        raise ConnectError(f"Kafka at {bootstrap}: topic {topic}: {error.args[0].str()}") from None


def _settle(admin: AdminClient, topic: str, settings: Mapping[str, str]) -> None:
    """Sets on an existing topic what a broker's defaults may have set otherwise."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    now = admin.describe_configs([resource])[resource].result(_TIMEOUT)
    if all(now[key].value == value for key, value in settings.items() if key in now):
        return
    changes = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()]
    admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, topic, incremental_configs=changes)])[resource].result(_TIMEOUT)


def remove_topic(bootstrap: str, topic: str, *, options: Mapping[str, str] | None = None) -> None:
    """Removes the topic and everything in it; one that is not there is fine."""
    admin = admin_of(bootstrap, options)  # held: a client that is collected gives up what it has under way
    try:
        admin.delete_topics([topic])[topic].result(_TIMEOUT)
    except KafkaException as error:
        if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
            raise ConnectError(f"Kafka at {bootstrap}: topic {topic}: {error.args[0].str()}") from None


@contextlib.contextmanager
def _look(bootstrap: str, topic: str, options: Mapping[str, str] | None, settings: Mapping[str, str | bool]) -> Iterator[Consumer]:
    """A consumer that belongs to nobody's group and commits nothing; what Kafka refuses it becomes `ConnectError`."""
    base: dict[str, str | int | bool] = {
        "bootstrap.servers": bootstrap,
        "group.id": "crossfade-look",
        "enable.auto.commit": False,
        "log_level": 2,
    }
    consumer = Consumer({**base, **settings, **(options or {})})
    try:
        yield consumer
    except KafkaException as error:
        raise ConnectError(f"Kafka at {bootstrap}: topic {topic}: {error.args[0].str()}") from None
    finally:
        consumer.close()


def offsets_of(bootstrap: str, topic: str, *, options: Mapping[str, str] | None = None) -> tuple[int, int]:
    """First offset that is still there and the next one to be written."""
    with _look(bootstrap, topic, options, {}) as consumer:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=_TIMEOUT)
        return int(low), int(high)


def next_offset(bootstrap: str, topic: str, offset: int, *, options: Mapping[str, str] | None = None) -> int | None:
    """The offset of the first record at or after this one; None where none has come yet. Offsets without a record are taken by
    transactions of producers, or compaction. Raises `ConnectError`."""
    with _look(bootstrap, topic, options, {"auto.offset.reset": "earliest", "enable.partition.eof": True}) as consumer:
        consumer.assign([TopicPartition(topic, 0, offset)])
        message = consumer.poll(_TIMEOUT)
        if message is None:
            raise ConnectError(f"Kafka at {bootstrap}: topic {topic} does not answer")
        if (error := message.error()) is None:
            return message.offset()
        if error.code() == KafkaError._PARTITION_EOF:
            return None
        raise KafkaException(error)


def offset_at(bootstrap: str, topic: str, since: str, *, options: Mapping[str, str] | None = None) -> int:
    """The offset of the first transaction that begins at or after `since`: `offset:123`, or a time (ISO 8601, or seconds since 1970).

    Raises `BadInput` for a time that cannot be read or for which nothing is left in the topic.
    """
    import orjson

    low, high = offsets_of(bootstrap, topic, options=options)
    try:
        with _look(bootstrap, topic, options, {}) as consumer:
            if since.startswith("offset:"):
                start = int(since.removeprefix("offset:"))
            else:
                wanted = consumer.offsets_for_times([TopicPartition(topic, 0, _milliseconds(since))], timeout=_TIMEOUT)
                start = wanted[0].offset
            if not low <= start < high:
                raise BadInput(f"topic {topic} holds offsets {low} to {high - 1}: there is nothing to replay from {since}")
            consumer.assign([TopicPartition(topic, 0, start)])
            at = start
            while at < high - 1:
                for message in consumer.consume(500, timeout=_TIMEOUT):
                    at = message.offset() or 0
                    event = orjson.loads(message.value() or b"{}")
                    if event.get("status") == "BEGIN":
                        return at
            raise BadInput(f"topic {topic}: no transaction begins after {since}")
    except ValueError:
        raise BadInput(f"--from {since}: not a time and not offset:NUMBER", hint="2024-01-31T12:00:00+00:00, or offset:123") from None


def _milliseconds(text: str) -> int:
    from datetime import UTC, datetime

    try:
        return int(float(text) * 1000)
    except ValueError:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


class Tail:
    """Reads a stream's topic from near its end on, beside whoever applies it: no group, nothing committed."""

    def __init__(self, bootstrap: str, topic: str, *, since_ms: int, at_most: int, options: Mapping[str, str] | None = None) -> None:
        """From what Kafka got at `since_ms` (milliseconds since 1970), but `at_most` records before the end."""
        from confluent_kafka import Consumer

        self._what, place = f"Kafka at {bootstrap}: topic {topic}", TopicPartition(topic, 0)
        own = {"group.id": "crossfade-look", "enable.auto.commit": False, "fetch.wait.max.ms": 10, "log_level": 2}
        self._consumer = Consumer({"bootstrap.servers": bootstrap, **own, **(options or {})})
        try:
            low, high = self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT)
            wanted = self._consumer.offsets_for_times([TopicPartition(topic, 0, since_ms)], timeout=_TIMEOUT)[0].offset
            start = high if wanted < 0 else wanted  # nothing is as young as that
            self.cut = start < high - at_most
            self.at = max(int(low), int(start), int(high) - at_most)
            self._consumer.assign([TopicPartition(topic, 0, self.at)])
        except KafkaException as error:
            self._consumer.close()
            raise ConnectError(f"{self._what}: {error.args[0].str()}") from None

    def read(self, seconds: float) -> list[bytes]:
        """Records that have come, waiting so long for the first; `at` moves on."""
        try:
            # Asked for many at once with a time limit, the client waits for as many until the time is up.
            first = self._consumer.poll(seconds)
            found = [] if first is None else [first, *self._consumer.consume(2000, timeout=0)]
        except KafkaException as error:
            raise ConnectError(f"{self._what}: {error.args[0].str()}") from None
        values: list[bytes] = []
        for message in found:
            if (fault := message.error()) is not None:
                raise ConnectError(f"{self._what}: {fault.str()}")
            self.at = int(message.offset() or 0) + 1
            value = message.value()
            if value:
                values.append(value)
        return values

    def close(self) -> None:
        """Lets go of the connection."""
        self._consumer.close()
