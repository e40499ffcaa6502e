"""From planned to streaming: control store, target tables, side tables, topic, publication and slot, connector. Each step is safe
to run twice; `cancel` takes each of them back and leaves the source as it was."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from connectors import secrets, streams, topics
from connectors.base import Writer
from connectors.connect import Access, ConnectClient
from connectors.engine import module
from pipeline.control.runtime import Runtime
from pipeline.control.schema import run_before
from pipeline.control.streamplans import StreamPlan, kafka_options, stream_plans
from pipeline.errors import BadInput, ConnectError, CrossfadeError

Say = Callable[[str], None]


def connect_client(runtime: Runtime) -> ConnectClient:
    """Kafka Connect's REST API as the file says."""
    connect = runtime.migration.connect
    secret = connect.secret()
    password = secret.get_secret_value() if secret else None
    return ConnectClient(Access(connect.url, user=connect.username, password=password, ca=connect.ca))


def password_reference(runtime: Runtime) -> str | None:
    """What stands for the source's password in the connector's settings; writes the secrets file when crossfade keeps it."""
    connect = runtime.migration.connect
    given = {f"kafka.{name}": value for name, value in _kafka_security(runtime)[1].items()}
    if connect.source_password is None and runtime.source.password is not None:
        if connect.secrets_dir is None:
            raise BadInput(
                runtime.migration.at("connect.secrets_dir") + " is missing: Kafka Connect must be able to read the source's password",
                hint="name a folder that Connect's file config provider reads, or set connect.source_password to a reference",
            )
        given["source.password"] = runtime.source.password
    references = secrets.write_secrets(connect.secrets_dir, runtime.name, given) if connect.secrets_dir is not None and given else {}
    return connect.source_password or references.get("source.password")


def _kafka_security(runtime: Runtime) -> tuple[dict[str, str], dict[str, str]]:
    """Settings of the connector's own Kafka clients, and their secrets. Only MySQL's connectors have such clients."""
    if runtime.source_engine != "mysql":
        return {}, {}
    kafka = runtime.migration.kafka
    secret = kafka.secret()

    def pem(key: str, path: str | None) -> str | None:
        try:
            return None if path is None else Path(path).read_text()
        except (OSError, ValueError) as error:
            raise BadInput(f"{runtime.migration.at(f'kafka.{key}')}: cannot read {path}: {getattr(error, 'strerror', error)}") from None

    return streams.client_security(
        kafka.protocol,
        mechanism=kafka.mechanism,
        username=kafka.username,
        password=secret.get_secret_value() if secret else None,
        ca=pem("ca", kafka.ca),
        cert=pem("cert", kafka.cert),
        key=pem("key", kafka.key),
    )


def _kafka_settings(runtime: Runtime, overrides: Mapping[str, str]) -> dict[str, str]:
    """The same with references for the secrets. Raises BadInput where Connect has no way to read them."""
    settings, hidden = _kafka_security(runtime)
    folder = runtime.migration.connect.secrets_dir
    for name in hidden:
        if folder is not None:
            settings[name] = secrets.reference(folder, runtime.name, f"kafka.{name}")
        elif not all(f"schema.history.internal.{client}.{name}" in overrides for client in ("producer", "consumer")):
            raise BadInput(
                runtime.migration.at("connect.secrets_dir") + f" is missing: the connector's history topic needs Kafka's {name}",
                hint=f"or give references as schema.history.internal.producer.{name} and ….consumer.{name} under streams[].config",
            )
    return settings


def connector_config(runtime: Runtime, plan: StreamPlan, password: str | None) -> dict[str, str]:
    """The connector's settings for one stream."""
    given = next(s for s in runtime.migration.streams if s.name == plan.name)
    address = runtime.source
    if runtime.migration.source.connector_url is not None:
        address = dataclasses.replace(address, url=runtime.migration.source.connector_url)
    config: dict[str, str] = module(runtime.source_engine, "debezium").source_config(
        migration=runtime.name,
        stream=plan.name,
        address=address,
        tables=plan.tables,
        password=password,
        bootstrap=runtime.migration.kafka.bootstrap,
        flavour=runtime.source_catalog.flavour,
        overrides=given.config,
        server_id=plan.server_id,
        kafka=_kafka_settings(runtime, given.config),
        **plan.names,
    )
    return config


def prepare(runtime: Runtime, say: Say = lambda _text: None) -> None:
    """Does it all. Raises CrossfadeError naming the step's object."""
    store = runtime.store
    _, findings = runtime.resolved
    errors = [f for f in findings if f.severity == "error"]
    if errors:
        raise CrossfadeError(f"{errors[0].object}: {errors[0].message}", hint=errors[0].fix or "see crossfade plan")
    if runtime.migration.schema_ == "create":
        say("target tables")
        run_before(runtime)
    say("control store")
    store.add_tables(
        [
            {
                "number": p.number,
                "source": str(p.source.id),
                "target": str(p.target_id),
                "rows_estimated": max(0, p.source.rows),
                "keyless": p.target_id in runtime.keyless,
            }
            for p in runtime.pairs.values()
        ]
    )
    writer = runtime.writer("crossfade prepare")
    try:
        writer.prepare([pair.target_table() for pair in runtime.pairs.values()])
        _keys_where_rows_are(runtime, writer)
    finally:
        writer.close()
    password = password_reference(runtime)
    with connect_client(runtime) as connect:
        for plan in stream_plans(runtime):
            _prepare_stream(runtime, plan, password, connect, say)


def _keys_where_rows_are(runtime: Runtime, writer: Writer) -> None:
    """A table that has rows before its first chunk must have its key too: chunks may bring the same rows."""
    waiting = {int(row.number) for row in runtime.store.tables() if row.phase == "waiting" and row.keyless}
    if not waiting:
        return
    with contextlib.closing(runtime.target_reader("crossfade prepare")) as reader:
        for number, pair in runtime.pairs.items():
            target = pair.target_table()
            if number in waiting and next(reader.boundaries(target.table, target.key, 1), None) is not None:
                writer.build_key(target)


def _prepare_stream(runtime: Runtime, plan: StreamPlan, password: str | None, connect: ConnectClient, say: Say) -> None:
    say(f"stream {plan.name}: topic {plan.topic}")
    kafka = runtime.migration.kafka
    wanted = [plan.topic] if runtime.source_engine == "postgresql" else [plan.topic, streams.history_topic(runtime.name, plan.name)]
    ids: dict[str, str] = {}
    for topic in wanted:
        # the history of table structures is never to be thrown away
        hours = kafka.retention_hours if topic == plan.topic else None
        ids[topic] = topics.ensure_topic(
            kafka.bootstrap, topic, replication_factor=kafka.replication_factor, retention_hours=hours, options=kafka_options(runtime)
        )
    say(f"stream {plan.name}: publication, slot or marker table on the source")
    started_at = module(runtime.source_engine, "debezium").prepare_source(
        runtime.source,
        migration=runtime.name,
        stream=plan.name,
        tables=list(plan.tables),
        flavour=runtime.source_catalog.flavour,
        **plan.names,
    )
    say(f"stream {plan.name}: connector {plan.connector}")
    config = connector_config(runtime, plan, password)
    faults = connect.validate(config)
    if faults:
        raise ConnectError(
            f"connector {plan.connector}: {faults[0]}", hint=f"{len(faults)} settings are refused" if len(faults) > 1 else None
        )
    connect.register(config)
    connect.wait_streaming(plan.connector, stored=runtime.source_engine != "postgresql")
    runtime.store.add_stream(plan.name, topic=plan.topic, topic_id=ids[plan.topic], connector=plan.connector, started_at=started_at)


def take_back(runtime: Runtime, plans: Sequence[StreamPlan], say: Say = lambda _text: None) -> None:
    """Removes connectors, topics, slots, publications and marker rows: the source is as it was."""
    kafka, options = runtime.migration.kafka, kafka_options(runtime)
    with connect_client(runtime) as connect:
        for plan in plans:
            say(f"connector {plan.connector}")
            connect.remove(plan.connector)
    for plan in plans:
        say(f"source of stream {plan.name}")
        module(runtime.source_engine, "debezium").cleanup_source(
            runtime.source, migration=runtime.name, stream=plan.name, flavour=runtime.source_catalog.flavour, **plan.names
        )
        say(f"topic {plan.topic}")
        for topic in (plan.topic, streams.history_topic(runtime.name, plan.name)):
            topics.remove_topic(kafka.bootstrap, topic, options=options)
    if runtime.migration.connect.secrets_dir is not None:
        secrets.remove_secrets(runtime.migration.connect.secrets_dir, runtime.name)
