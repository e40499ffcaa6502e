"""What every Debezium connector of ours shares: names of streams, the settings that do not depend on the product, name patterns.

One stream is one connector, one slot or binlog reader, one topic with one partition. Names are derived from the migration and
the stream alone, so every process of a migration finds the same things without asking anybody.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from pipeline.errors import BadInput
from pipeline.model import TableId

MARKER_PREFIX = "crossfade"
"""Prefix of the logical messages that are markers (PostgreSQL)."""
UNAVAILABLE = "__debezium_unavailable_value"
"""What stands in an event for a column that it does not carry."""
MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Largest record: a 20 MB row is 27 MB as base64 and twice that with its old image."""
HEARTBEAT_MS = 1000


_FIXED = frozenset(
    ("name", "tasks.max", "topic.prefix", "transforms", "provide.transaction.metadata", "tombstones.on.delete", "skipped.operations")
)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _tame(text: str, allowed: str, limit: int) -> str:
    """The text with every other character as `_`; a digest is added when that lost anything, so that two names never become one."""
    tame = re.sub(f"[^{allowed}]", "_", text)
    if tame == text and len(tame) <= limit:
        return tame
    return f"{tame[: limit - 9]}_{_digest(text)}"


def connector_name(migration: str, stream: str) -> str:
    """Name of the connector, and of its topic: `crossfade.<migration>.<stream>`."""
    return f"crossfade.{_tame(migration, 'a-zA-Z0-9_-', 100)}.{_tame(stream, 'a-zA-Z0-9_-', 100)}"


topic_name = connector_name


def history_topic(migration: str, stream: str) -> str:
    """Topic in which Debezium's MySQL and MariaDB connectors keep the history of table structures."""
    return f"{topic_name(migration, stream)}.schema-history"


def slot_name(migration: str, stream: str) -> str:
    """Name of the replication slot and of the publication: `[a-z0-9_]{1,63}`."""
    whole = f"crossfade_{migration}_{stream}"
    lower = whole.lower()
    tame = _tame(lower, "a-z0-9_", 63)
    # upper case would be lost silently: `Shop` and `shop` are two migrations
    return tame if lower == whole or tame != lower else f"{tame[:54]}_{_digest(whole)}"


def kept_name(slot: str) -> str:
    """Name of the copy of a replication slot that stays at what is applied."""
    return f"{slot}_kept" if len(slot) <= 58 else f"{slot[:48]}_{_digest(slot)}_kept"


def server_id(migration: str, stream: str) -> int:
    """Replication server id of a binlog reader: stable, and far above what people number their servers with."""
    return 1_000_000_000 + int(_digest(f"{migration}/{stream}"), 16) % 3_000_000_000


def name_pattern(*parts: str) -> str:
    """A pattern for `table.include.list` and its like that matches this dotted name and nothing else, whatever is in the name.

    Such a list is split at commas, trimmed, and each entry is a Java pattern: every character that is not plain is written as its
    code point. Debezium matches without regard to case: names that differ only in case both match, and the decoder goes by the
    exact name.
    """
    return r"\.".join("".join(c if c.isascii() and (c.isalnum() or c == "_") else f"\\x{{{ord(c):x}}}" for c in part) for part in parts)


def table_list(tables: Iterable[TableId]) -> str:
    """The tables as a `table.include.list`."""
    return ",".join(name_pattern(table.schema, table.name) for table in sorted(tables))


def base_config(*, migration: str, stream: str, heartbeat_ms: int = HEARTBEAT_MS) -> dict[str, str]:
    """Settings that hold for every product.

    Everything the connector makes (rows, BEGIN and END, messages, DDL, heartbeats) is routed into one topic: order within its one
    partition is commit order. The queue is bounded by bytes too, so large rows do not exhaust the worker's memory.
    """
    topic = topic_name(migration, stream)
    return {
        "name": connector_name(migration, stream),
        "tasks.max": "1",
        "topic.prefix": topic,
        "provide.transaction.metadata": "true",
        "transforms": "one",
        "transforms.one.type": "org.apache.kafka.connect.transforms.RegexRouter",
        "transforms.one.regex": ".*",
        "transforms.one.replacement": topic,
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        # the converter's own default writes a column's default where the row has NULL
        "key.converter.replace.null.with.default": "false",
        "value.converter.replace.null.with.default": "false",
        "decimal.handling.mode": "string",
        # base64 in JSON all the same; with `base64` an unchanged TOAST bytea arrives as NULL
        "binary.handling.mode": "bytes",
        "unavailable.value.placeholder": UNAVAILABLE,
        "tombstones.on.delete": "false",
        "skipped.operations": "none",
        "snapshot.mode": "no_data",
        "extended.headers.enabled": "false",
        "poll.interval.ms": "10",
        "max.batch.size": "8192",
        "max.queue.size": "32768",
        "max.queue.size.in.bytes": str(128 * 1024 * 1024),
        "heartbeat.interval.ms": str(heartbeat_ms),
        # connection faults are retried for ever, visibly; a record that cannot be converted stops the task, it is never skipped
        "errors.max.retries": "-1",
        "retriable.restart.connector.wait.ms": "2000",
        "errors.tolerance": "none",
        "producer.override.acks": "all",
        "producer.override.compression.type": "lz4",
        "producer.override.linger.ms": "2",
        "producer.override.batch.size": str(256 * 1024),
        "producer.override.max.request.size": str(MAX_MESSAGE_BYTES),
        "producer.override.buffer.memory": str(2 * MAX_MESSAGE_BYTES),
    }


_LOGIN = {"PLAIN": "plain.PlainLoginModule"}


def client_security(
    protocol: str,
    *,
    mechanism: str | None = None,
    username: str | None = None,
    password: str | None = None,
    ca: str | None = None,
    cert: str | None = None,
    key: str | None = None,
) -> tuple[dict[str, str], dict[str, str]]:
    """How a Java client gets into Kafka: its settings, and those of them that are secrets. `ca`, `cert` and `key` are PEM text: Connect may
    run where our files are not."""
    if protocol == "PLAINTEXT":
        return {}, {}
    plain, secret = {"security.protocol": protocol}, {}
    if protocol.startswith("SASL"):
        plain["sasl.mechanism"] = mechanism or "PLAIN"
        module = _LOGIN.get(plain["sasl.mechanism"], "scram.ScramLoginModule")
        user, word = (part.replace("\\", "\\\\").replace('"', '\\"') for part in (username or "", password or ""))
        login = f'org.apache.kafka.common.security.{module} required username="{user}" password="{word}";'
        secret["sasl.jaas.config"] = login
    if protocol.endswith("SSL"):
        if ca:
            plain |= {"ssl.truststore.type": "PEM", "ssl.truststore.certificates": ca}
        if cert and key:
            plain |= {"ssl.keystore.type": "PEM", "ssl.keystore.certificate.chain": cert}
            secret["ssl.keystore.key"] = key
    return plain, secret


def finished(config: dict[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """The configuration with the operator's own settings over it. Refused: what would break the stream, and a value that would make
    Connect resolve a reference into a setting that it shows to everybody."""
    for key, value in overrides.items():
        if key in _FIXED or key.startswith("transforms."):
            raise BadInput(f"streams[].config: {key} cannot be set: the stream depends on it")
        config[key] = value
    for key, value in config.items():
        if "${" in value and not key.endswith(("password", "sasl.jaas.config", "ssl.keystore.key", "secret")):
            raise BadInput(f"connector setting {key} holds a ${{…}} reference: only secrets may")
    return config
