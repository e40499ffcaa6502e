"""Registered connectors stream, through least-privilege roles, hostile names included, and no password is to be seen anywhere."""

from __future__ import annotations

import dataclasses
import json
import secrets as random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest
from confluent_kafka import Consumer, TopicPartition
from psycopg import sql

from connectors import secrets, streams, topics
from connectors.base import Address
from connectors.connect import ConnectClient
from connectors.engine import module
from deploy.local.stack import Stack
from pipeline.errors import BadInput, ConnectError
from pipeline.model import TableId
from pipeline.records import Record, read
from tests.conftest import MakeDatabase

pytestmark = pytest.mark.system

SENTINEL = "sentinel-" + random.token_hex(8) + "=:#! ü"
EVIL = 'we,ird."na me$;drop`x'
EVIL_COLUMN = 'c"o.l, `x'


@dataclasses.dataclass
class Source:
    """A source database with its least-privilege address, and ways to act on it as its owner."""

    engine: str
    flavour: str
    address: Address
    tables: list[TableId]
    run: Callable[[str], list[tuple[Any, ...]]]
    quote: Callable[[str], str]
    leftovers: str  # counts what a migration may have left


@pytest.fixture(params=["postgresql", "mariadb"])
def source(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Source]:
    made = _postgres if request.param == "postgresql" else _mariadb
    yield from made(request, stack)


def _postgres(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Source]:
    database = request.getfixturevalue("pg_database")("source")
    quote = module("postgresql", "ddl").quote
    with psycopg.connect(database.url_with_password, autocommit=True) as db:

        def run(statement: str) -> list[tuple[Any, ...]]:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        db.execute(sql.SQL("CREATE ROLE connect_cdc LOGIN REPLICATION PASSWORD {}").format(SENTINEL))
        run("CREATE ROLE connect_owner")
        for name in ("plain", EVIL):
            run(f"CREATE TABLE {quote(name)} (id int PRIMARY KEY, {quote(EVIL_COLUMN)} text)")
            run(f"ALTER TABLE {quote(name)} OWNER TO connect_owner")
        run(f"GRANT CREATE ON DATABASE {database.name} TO connect_cdc")
        run("GRANT connect_owner TO connect_cdc")
        url = database.url.replace("://", "://connect_cdc@").replace("://connect_cdc@postgres@", "://connect_cdc@")
        yield Source(
            "postgresql",
            "postgresql",
            Address(url, SENTINEL),
            [TableId("public", "plain"), TableId("public", EVIL)],
            run,
            quote,
            "SELECT count(*) FROM (SELECT slot_name FROM pg_replication_slots UNION ALL SELECT pubname FROM pg_publication) x"
            " WHERE slot_name LIKE 'crossfade%'",
        )
        for table in ("plain", EVIL):
            run(f"DROP TABLE {quote(table)}")
        run("DROP OWNED BY connect_cdc")
        run("DROP ROLE connect_cdc")
        run("DROP ROLE connect_owner")


def _mariadb(request: pytest.FixtureRequest, stack: Stack) -> Iterator[Source]:
    database = request.getfixturevalue("mariadb_database")("source")
    quote = module("mysql", "ddl").quote
    server = stack.mariadb["source"]
    with pymysql.connect(
        host="127.0.0.1", port=server.port, user=server.superuser, password=server.password, database=database.name, autocommit=True
    ) as db:

        def run(statement: str) -> list[tuple[Any, ...]]:
            with db.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())

        with db.cursor() as cursor:
            cursor.execute("CREATE USER connect_cdc@'%%' IDENTIFIED BY %s", (SENTINEL,))
        run("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO connect_cdc@'%'")
        for name in ("plain", EVIL):
            run(f"CREATE TABLE {quote(name)} (id int PRIMARY KEY, {quote(EVIL_COLUMN)} text)")
            run(f"GRANT SELECT ON {quote(name)} TO connect_cdc@'%'")
        run("GRANT CREATE, SELECT, INSERT, UPDATE, DELETE, DROP ON crossfade_marker TO connect_cdc@'%'")
        yield Source(
            "mysql",
            "mariadb",
            Address(f"mariadb://connect_cdc@127.0.0.1:{server.port}/{database.name}", SENTINEL),
            [TableId(database.name, "plain"), TableId(database.name, EVIL)],
            run,
            quote,
            f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{database.name}' AND table_name LIKE 'crossfade%'",
        )
        run("DROP USER connect_cdc@'%'")


def read_until(bootstrap: str, topic: str, done: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    """All records of the topic's only partition up to the first for which `done`."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "test", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[dict[str, Any]] = []
    try:
        while True:
            message = consumer.poll(30)
            assert message is not None, f"nothing more after {found[-3:]}"
            found.append(json.loads(message.value()))
            if done(found[-1]):
                return found
    finally:
        consumer.close()


def typed(event: dict[str, Any]) -> Record:
    """A record as crossfade reads it."""
    return read(json.dumps(event).encode())


def shown_anywhere(stack: Stack, secret: str) -> list[str]:
    """Command lines and files of the stack (but for its secrets) in which the secret can be read."""
    found = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if secret.encode() in line.read_bytes():
                found.append(str(line))
        except OSError:
            continue
    connect = Path(stack.root) / "connect"
    return found + [str(file) for file in connect.rglob("*") if file.is_file() and secret.encode() in file.read_bytes()]


def test_s23_a_registered_connector_streams_and_leaves_nothing_behind(source: Source, stack: Stack, tmp_path: Path) -> None:
    debezium = module(source.engine, "debezium")
    migration, stream = f"conn-{source.flavour}", "main"
    name = streams.connector_name(migration, stream)
    history = streams.history_topic(migration, stream)
    for _ in range(2):
        for topic in (name, history):
            topics.ensure_topic(stack.kafka_bootstrap, topic)
        position = debezium.prepare_source(source.address, migration=migration, stream=stream, tables=source.tables, flavour=source.flavour)
    assert position
    reference = secrets.write_secrets(stack.secrets_dir, migration, {"source.password": SENTINEL})["source.password"]

    def config(password: str) -> dict[str, str]:
        made: dict[str, str] = debezium.source_config(
            migration=migration,
            stream=stream,
            address=source.address,
            tables=source.tables,
            password=password,
            bootstrap=stack.kafka_bootstrap,
            flavour=source.flavour,
        )
        return made

    evil = source.quote(EVIL)
    with ConnectClient(stack.connect_url) as connect:
        assert connect.validate(config(reference)) == []
        wrong = "wr0ng-" + random.token_hex(8)
        refused = connect.validate(config(wrong))
        assert refused and not any(wrong in line for line in refused)
        if source.engine == "postgresql":
            source.run(f"INSERT INTO {evil} VALUES (0, 'between slot and connector')")
        connect.register(config(reference))
        connect.wait_streaming(name, stored=True)

        source.run(f"INSERT INTO {evil} VALUES (1, 'a')")
        source.run(f"ALTER TABLE {evil} ADD COLUMN more int")
        source.run("BEGIN")
        source.run(f"INSERT INTO {evil} VALUES (2, 'b', 5)")
        source.run(f"UPDATE {evil} SET id = 3 WHERE id = 2")
        source.run("INSERT INTO plain VALUES (1, 'x')")
        source.run("COMMIT")
        source.run("TRUNCATE plain")
        reader = module(source.engine, "reader")
        marking = (reader.PostgresReader if source.engine == "postgresql" else reader.MysqlReader)(source.address)
        marking.marker("the-token")
        marking.close()
        events = module(source.engine, "events")
        dialect = events.PostgresEvents() if source.engine == "postgresql" else events.MysqlEvents()
        records = read_until(stack.kafka_bootstrap, name, lambda e: dialect.marker(typed(e)) == "the-token")

        rows = [
            (e["op"], dialect.table(typed(e).source).name, (e["after"] or e["before"] or {}).get("id"), (e["after"] or {}).get(EVIL_COLUMN))
            for e in records
            if e.get("op") in {"c", "u", "d", "t"} and dialect.marker(typed(e)) is None
        ]
        expected = [
            ("c", EVIL, 1, "a"),
            ("c", EVIL, 2, "b"),
            ("d", EVIL, 2, None),
            ("c", EVIL, 3, "b"),
            ("c", "plain", 1, "x"),
            ("t", "plain", None, None),
        ]
        before = [("c", EVIL, 0, "between slot and connector")] if source.engine == "postgresql" else []
        assert [row for row in rows if row[1] != "crossfade_marker"] == before + expected
        ddl = [at for at, e in enumerate(records) if "ddl" in e and e["source"]["snapshot"] in (None, "false")]
        if source.engine == "mysql":
            inserts = [at for at, e in enumerate(records) if e.get("op") == "c" and e["source"]["table"] == EVIL]
            assert len(ddl) == 1 and inserts[0] < ddl[0] < inserts[1], "DDL is in line"

        shown = connect.config(name)
        assert shown is not None and shown["database.password"] == reference
        assert SENTINEL not in json.dumps([shown, [dataclasses.asdict(connect.status(name) or object())]], ensure_ascii=False)  # type: ignore[call-overload]
        assert shown_anywhere(stack, SENTINEL[:25]) == []

        connect.pause(name)
        connect.wait(name, lambda state: state.state == "PAUSED", "paused", timeout=30)
        connect.resume(name)
        connect.restart_all(name)
        connect.wait_running(name)

        with pytest.raises(ConnectError, match=f"connector {name}: ") as failed:
            connect.register(config(wrong))
        assert wrong not in str(failed.value)
        connect.remove(name)
        connect.remove(name)
        assert connect.status(name) is None
    for _ in range(2):
        debezium.cleanup_source(source.address, migration=migration, stream=stream, flavour=source.flavour)
        for topic in (name, history):
            topics.remove_topic(stack.kafka_bootstrap, topic)
        secrets.remove_secrets(stack.secrets_dir, migration)
    assert source.run(source.leftovers) == [(0,)]


def test_a_topic_with_more_partitions_is_refused(stack: Stack) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    admin.create_topics([NewTopic("wide", num_partitions=2, replication_factor=1)])["wide"].result(30)
    with pytest.raises(BadInput, match="wide has 2 partitions"):
        topics.ensure_topic(stack.kafka_bootstrap, "wide")
    topics.remove_topic(stack.kafka_bootstrap, "wide")


def test_a_topic_that_would_forget_is_mended(stack: Stack) -> None:
    from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

    admin = AdminClient({"bootstrap.servers": stack.kafka_bootstrap})
    admin.create_topics(
        [NewTopic("short", num_partitions=1, replication_factor=1, config={"retention.ms": "60000", "segment.ms": "9000"})]
    )["short"].result(30)
    topics.ensure_topic(stack.kafka_bootstrap, "short")
    resource = ConfigResource(ResourceType.TOPIC, "short")
    now = admin.describe_configs([resource])[resource].result(30)
    assert (now["retention.ms"].value, now["segment.ms"].value) == ("-1", "9000")
    assert topics.offsets_of(stack.kafka_bootstrap, "short") == (0, 0)
    topics.remove_topic(stack.kafka_bootstrap, "short")


def test_unreachable_services_are_named(stack: Stack, pg_database: MakeDatabase) -> None:
    with pytest.raises(ConnectError, match=r"Kafka Connect at http://127\.0\.0\.1:1 cannot be reached"):
        ConnectClient("http://127.0.0.1:1").version()
    with ConnectClient(stack.connect_url) as connect, pytest.raises(ConnectError, match="connector nobody"):
        connect.restart("nobody")
    with ConnectClient(stack.connect_url) as connect, pytest.raises(ConnectError, match=r"no plugin no\.such\.Connector"):
        connect.register({"name": "x", "connector.class": "no.such.Connector"})
