"""One Kafka node, broker and controller in one (KRaft), that takes messages of 64 MB."""

from __future__ import annotations

import base64
import shutil
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from deploy.local import artifacts, java, place, process
from deploy.local.component import Component

MESSAGE_BYTES = 64 * 1024 * 1024


class Kafka(Component):
    """`bootstrap` is where clients begin."""

    port_names: ClassVar[tuple[str, ...]] = ("port", "controller")
    train_into: Path | None = None
    _heap_mb: ClassVar[int] = 512

    @property
    def folder(self) -> Path:
        return self._around.root / "kafka"

    @property
    def program(self) -> Path:
        return java.java()

    @property
    def bootstrap(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def _settings_file(self) -> Path:
        return self.folder / "server.properties"

    def prepare(self) -> None:
        place.own_dir(self.folder)
        place.write_private(self._settings_file, java.properties(self._settings()))
        data = self.folder / "data"
        if not (data / "meta.properties").exists():
            shutil.rmtree(data, ignore_errors=True)
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode().replace("-", "A", 1)
            format_log = ["kafka.tools.StorageTool", "format", "--cluster-id", cluster, "--config", str(self._settings_file)]
            command = [str(self.program), "-XX:TieredStopAtLevel=1", *self._java_options(), *format_log]
            process.run("formatting kafka's log", command, folder=self.folder, log=self.log, env=self.env)

    def arguments(self) -> Sequence[str]:
        start = java.start_options(self.name, artifacts.kafka_classpath(), self.train_into)
        return [*start, *self._java_options(), "kafka.Kafka", str(self._settings_file)]

    def is_ready(self) -> bool:
        try:
            client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0, "socket.timeout.ms": 2000})
            return bool(client.list_topics(timeout=0.5).brokers)
        except KafkaException:
            return False

    def _java_options(self) -> list[str]:
        return java.options(heap_mb=self._heap_mb, classpath=artifacts.kafka_classpath(), crash_dir=self.folder)

    def _settings(self) -> dict[str, object]:
        controller = f"127.0.0.1:{self.kept.ports['controller']}"
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{controller}",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": self.folder / "data",
            "message.max.bytes": MESSAGE_BYTES,
            "replica.fetch.max.bytes": MESSAGE_BYTES,
            "auto.create.topics.enable": "true",
            "num.partitions": 1,
            "default.replication.factor": 1,
            "min.insync.replicas": 1,
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 5,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.num.partitions": 5,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.num.partitions": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # A killed broker can come back only when its old session is over.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
            # Else the quorum, of one, writes and reads a record of nothing twice a second: half of what an idle broker takes.
            "metadata.max.idle.interval.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "log.retention.ms": -1,
            "log.retention.bytes": -1,
            "log.cleaner.dedupe.buffer.size": 32 * 1024 * 1024,
            "num.network.threads": 2,
            "num.io.threads": 4,
        }
