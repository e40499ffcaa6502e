"""Kafka Connect with the Debezium connectors: JSON without schemas, REST on loopback, passwords read from the secrets folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import httpx

from deploy.local import artifacts, java, place
from deploy.local.component import Component, Surroundings
from deploy.local.kafka import MESSAGE_BYTES, Kafka


class Connect(Component):
    """`url` is its REST interface. Needs Kafka to be up."""

    train_into: Path | None = None
    _heap_mb: ClassVar[int] = 768

    def __init__(self, name: str, around: Surroundings, *, kafka: Kafka, secrets_dir: Path, jdbc_sink: bool) -> None:
        super().__init__(name, around)
        self._kafka = kafka
        self._secrets_dir = secrets_dir
        self._jdbc_sink = jdbc_sink

    @property
    def folder(self) -> Path:
        return self._around.root / "connect"

    @property
    def program(self) -> Path:
        return java.java()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def env(self) -> Mapping[str, str]:
        return {**super().env, "CROSSFADE_SECRETS_DIR": str(self._secrets_dir)}

    @property
    def _settings_file(self) -> Path:
        return self.folder / "connect.properties"

    def prepare(self) -> None:
        place.own_dir(self.folder)
        place.own_dir(self._secrets_dir)
        place.write_private(self._settings_file, java.properties(self._settings()))

    def arguments(self) -> Sequence[str]:
        options = java.options(heap_mb=self._heap_mb, classpath=artifacts.kafka_classpath(), crash_dir=self.folder)
        start = java.start_options(self.name, artifacts.kafka_classpath(), self.train_into)
        return [*start, *options, "org.apache.kafka.connect.cli.ConnectDistributed", str(self._settings_file)]

    def is_ready(self) -> bool:
        """It also answers before it has joined its group, but then knows no connectors yet and says 404 or 500."""
        try:
            return httpx.get(f"{self.url}/connectors", timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    def _settings(self) -> dict[str, object]:
        plugins = [artifacts.debezium_plugin(), *([artifacts.jdbc_sink_plugin()] if self._jdbc_sink else [])]
        return {
            "bootstrap.servers": self._kafka.bootstrap,
            "group.id": "crossfade-connect",
            "listeners": self.url,
            "rest.advertised.host.name": "127.0.0.1",
            "rest.advertised.port": self.port,
            "plugin.path": ",".join(map(str, plugins)),
            "plugin.discovery": "service_load",
            "key.converter": "org.apache.kafka.connect.json.JsonConverter",
            "key.converter.schemas.enable": "false",
            "value.converter": "org.apache.kafka.connect.json.JsonConverter",
            "value.converter.schemas.enable": "false",
            "config.storage.topic": "crossfade-connect-configs",
            "config.storage.replication.factor": 1,
            "offset.storage.topic": "crossfade-connect-offsets",
            "offset.storage.replication.factor": 1,
            "offset.storage.partitions": 5,
            "status.storage.topic": "crossfade-connect-status",
            "status.storage.replication.factor": 1,
            "status.storage.partitions": 2,
            # The sink is only there to be measured, and how far it is shows when offsets are flushed.
            "offset.flush.interval.ms": 200 if self._jdbc_sink else 1000,
            "config.providers": "file,env",
            "config.providers.file.class": "org.apache.kafka.common.config.provider.FileConfigProvider",
            "config.providers.file.param.allowed.paths": self._secrets_dir,
            "config.providers.env.class": "org.apache.kafka.common.config.provider.EnvVarConfigProvider",
            "connector.client.config.override.policy": "All",
            "scheduled.rebalance.max.delay.ms": 0,
            "session.timeout.ms": 6000,
            "heartbeat.interval.ms": 2000,
            "task.shutdown.graceful.timeout.ms": 5000,
            "producer.max.request.size": MESSAGE_BYTES,
            "producer.buffer.memory": 2 * MESSAGE_BYTES,
            "consumer.max.partition.fetch.bytes": MESSAGE_BYTES,
            "consumer.fetch.max.bytes": MESSAGE_BYTES,
        }
