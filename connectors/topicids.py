"""Kafka's own names of topics (KIP-516): a topic that was deleted and made again has the name of before, and another id.

librdkafka goes on in the new one at the offset of the old one, if there is a record at it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from confluent_kafka import KafkaException, TopicCollection, Uuid
from confluent_kafka.admin import AdminClient

from pipeline.errors import Transient

_NONE = Uuid(0, 0)


class TopicIds:
    """Asks a cluster for the ids of topics. Holds a connection for as long as it is alive."""

    def __init__(self, bootstrap: str, options: Mapping[str, str] | None = None) -> None:
        """`options` are librdkafka's (TLS, SASL)."""
        self._bootstrap = bootstrap
        settings: dict[str, str | int | float | bool] = {"bootstrap.servers": bootstrap, "log_level": 2}
        settings |= {"socket.timeout.ms": 10_000, "reconnect.backoff.max.ms": 1000}
        self._admin = AdminClient(settings | dict(options or {}))

    def of(self, topics: Sequence[str], seconds: float = 10.0) -> dict[str, str | None]:
        """The ids by name, 22 characters each: None for a topic that is not there, "" where brokers know no ids (older than 2.8).

        Raises `Transient` when Kafka does not answer in so many seconds.
        """
        out: dict[str, str | None] = {}
        if not topics:
            return out
        for topic, answer in self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=seconds).items():
            try:
                found = answer.result(seconds + 1).topic_id
                out[topic] = "" if found is None or str(found) == str(_NONE) else str(found)
            except KafkaException as error:
                if error.args[0].name() != "UNKNOWN_TOPIC_OR_PART":
                    raise Transient(f"Kafka at {self._bootstrap}: topic {topic}: {error.args[0].str()}") from None
                out[topic] = None
            except TimeoutError:
                raise Transient(f"Kafka at {self._bootstrap}: topic {topic}: no answer") from None
        return out
