"""Names, patterns, settings and secrets of connectors: what a hostile name or a password can do to them."""

from __future__ import annotations

import re
import stat
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors import secrets, streams
from connectors.base import Address
from connectors.connect import Access, ConnectClient
from connectors.mysql import debezium as mysql
from connectors.postgres import debezium as postgres
from pipeline.errors import BadInput, ConnectError, TimedOut
from pipeline.model import TableId

HOSTILE = [
    'we,ird."na me$',
    "a.b",
    "tab;drop table t",
    "new\nline",
    ".*",
    "[x]",
    "${file:/etc/passwd:root}",
    " lead",
    "ünï",
    "\\Q",
    "a|b",
    "😀",
]


def java(pattern: str) -> re.Pattern[str]:
    """The subset of Java's patterns that is written here, as Python's."""
    return re.compile(re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: re.escape(chr(int(m[1], 16))), pattern))


@given(st.lists(st.tuples(st.text(min_size=1), st.text(min_size=1)), min_size=1, max_size=4, unique=True))
def test_s23_table_list_survives_being_split_and_matches_each_name_only(names: list[tuple[str, str]]) -> None:
    tables = sorted(TableId(*name) for name in names)
    entries = [entry.strip() for entry in streams.table_list(tables).split(",")]
    assert len(entries) == len(tables)
    for table, entry in zip(tables, entries, strict=True):
        assert java(entry).fullmatch(f"{table.schema}.{table.name}")
        assert not java(entry).fullmatch(f"{table.schema}x.{table.name}")
        assert not java(entry).fullmatch(f"{table.schema}.{table.name}x")


@pytest.mark.parametrize("name", HOSTILE)
def test_s23_hostile_names_match_themselves(name: str) -> None:
    entry = streams.name_pattern("public", name)
    assert re.fullmatch(r"[\w\\{}.]+", entry), "nothing in it that a list or a config provider would read"
    assert java(entry).fullmatch(f"public.{name}")


def test_slot_names_are_what_postgresql_takes_and_never_meet() -> None:
    given_ = [
        ("shop", "main"),
        ("Shop", "main"),
        ("shop-1", "main"),
        ("shop_1", "main"),
        ("shop", "x" * 90),
        ("shop", "x" * 91),
        ("ä", "main"),
    ]
    names = [streams.slot_name(*pair) for pair in given_]
    assert all(re.fullmatch(r"[a-z0-9_]{1,63}", name) for name in names)
    assert len(set(names)) == len(given_)
    assert streams.slot_name("shop", "main") == "crossfade_shop_main"
    assert streams.topic_name("shop", "main") == "crossfade.shop.main"
    topics = [streams.topic_name(*pair) for pair in given_]
    assert len(set(topics)) == len(given_)
    assert all(len(topic) <= 249 and re.fullmatch(r"[\w.-]+", topic, re.ASCII) for topic in topics)
    assert 1_000_000_000 <= streams.server_id("shop", "main") < 2**32


ADDRESS = {
    "postgresql": Address(
        "postgresql://cross%20fade@db1:6543/my%2Fshop", "s3cret-pw", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}
    ),
    "mariadb": Address("mariadb://crossfade@db1/shop", "s3cret-pw", {"sslmode": "verify-full"}),
}


def config_of(product: str, **more: object) -> dict[str, str]:
    module = postgres if product == "postgresql" else mysql
    return module.source_config(  # type: ignore[no-any-return]
        migration="shop",
        stream="main",
        address=ADDRESS[product],
        tables=[TableId("shop", name) for name in HOSTILE],
        password="${file:/run/x.properties:source.password}",
        bootstrap="kafka:9092",
        flavour=product,
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("product", ["postgresql", "mariadb"])
def test_settings_that_exactness_rests_on(product: str) -> None:
    config = config_of(product)
    expected = {
        "transforms.one.replacement": "crossfade.shop.main",
        "provide.transaction.metadata": "true",
        "decimal.handling.mode": "string",
        "binary.handling.mode": "bytes",
        "time.precision.mode": "microseconds",
        "skipped.operations": "none",
        "tombstones.on.delete": "false",
        "snapshot.mode": "no_data",
        "producer.override.acks": "all",
        "errors.tolerance": "none",
    }
    expected |= (
        {
            "publication.autocreate.mode": "disabled",
            "slot.drop.on.stop": "false",
            "interval.handling.mode": "string",
            "database.port": "6543",
        }
        | {
            "database.user": "cross fade",
            "database.dbname": "my/shop",
            "database.sslmode": "verify-full",
            "include.unknown.datatypes": "true",
        }
        if product == "postgresql"
        else {"include.schema.changes": "true", "enable.time.adjuster": "false", "bigint.unsigned.handling.mode": "precise"}
        | {"snapshot.locking.mode": "none", "database.ssl.mode": "verify_identity", "database.port": "3306"}
    )
    assert expected.items() <= config.items()
    assert "s3cret-pw" not in str(config)
    assert "crossfade_marker" in config["table.include.list"] or product == "postgresql"


@pytest.mark.parametrize("key", ["transforms", "transforms.one.regex", "provide.transaction.metadata", "name", "skipped.operations"])
def test_own_settings_do_not_break_the_stream(key: str) -> None:
    with pytest.raises(BadInput, match=re.escape(key)):
        config_of("postgresql", overrides={key: "x"})


def test_a_reference_goes_into_secret_settings_only() -> None:
    with pytest.raises(BadInput, match=r"database\.initial\.statements"):
        config_of("postgresql", overrides={"database.initial.statements": "select '${file:/run/x.properties:source.password}'"})
    assert config_of("postgresql", overrides={"poll.interval.ms": "5"})["poll.interval.ms"] == "5"


def read_properties(text: str) -> dict[str, str]:
    """As java.util.Properties reads it."""
    out = {}
    for line in text.splitlines():
        parts = re.match(r"((?:\\.|[^=\\])*)=(.*)", line)
        assert parts is not None
        plain = [
            re.sub(
                r"\\(u[0-9a-f]{4}|.)",
                lambda m: chr(int(m[1][1:], 16)) if len(m[1]) > 1 else {"n": "\n", "r": "\r", "t": "\t", "f": "\f"}.get(m[1], m[1]),
                p,
            )
            for p in parts.groups()
        ]
        out[plain[0]] = plain[1].encode("utf-16", "surrogatepass").decode("utf-16")
    return out


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
def test_any_password_survives_the_properties_file(password: str) -> None:
    line = f"{secrets.escape('source.password')}={secrets.escape(password)}\n"
    assert line.isascii()
    assert read_properties(line) == {"source.password": password}


def test_secrets_file_is_private_and_referred_to(tmp_path: Path) -> None:
    references = secrets.write_secrets(tmp_path / "s", "shop", {"source.password": "p w=#!ü\n"})
    path = secrets.secrets_file(tmp_path / "s", "shop")
    assert references == {"source.password": f"${{file:{path}:source.password}}"}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path], "no half-written copy is left"
    secrets.remove_secrets(tmp_path / "s", "shop")
    secrets.remove_secrets(tmp_path / "s", "shop")
    assert not path.exists()


TRACE = (
    "org.apache.kafka.connect.errors.ConnectException: An exception occurred in the change event producer.\n\tat io.X.y(X.java:1)\n"
    "Caused by: io.debezium.DebeziumException: FATAL: password authentication failed, password=hunter2hunter2\n\tat z\n"
    "Caused by: java.io.EOFException\n\t... 6 more\n"
)


def client(answer: httpx.Response, **access: str) -> ConnectClient:
    return ConnectClient(Access("http://connect:8083", **access), transport=httpx.MockTransport(lambda _request: answer))


def test_a_failed_task_is_told_by_its_cause_and_without_its_secret() -> None:
    status = {
        "name": "c",
        "connector": {"state": "RUNNING", "worker_id": "w"},
        "tasks": [{"id": 0, "state": "FAILED", "worker_id": "w", "trace": TRACE}],
    }
    with pytest.raises(ConnectError) as caught:
        client(httpx.Response(200, json=status)).wait_running("c", timeout=1)
    assert str(caught.value) == ("connector c failed: task 0: DebeziumException: FATAL: password authentication failed, password=***")


def test_waiting_ends_with_the_state_it_is_in() -> None:
    status = {"name": "c", "connector": {"state": "UNASSIGNED", "worker_id": "w"}, "tasks": []}
    with pytest.raises(TimedOut, match=r"connector c is not running after 0\.2 s \(it is unassigned\)"):
        client(httpx.Response(200, json=status)).wait_running("c", timeout=0.2)


def test_refusals_hold_no_secret() -> None:
    refused = httpx.Response(400, json={"error_code": 400, "message": "Invalid value topsecretvalue for database.password"})
    with pytest.raises(ConnectError) as caught:
        client(refused).register({"name": "c", "connector.class": "x", "database.password": "topsecretvalue"})
    assert "topsecretvalue" not in str(caught.value)
    with pytest.raises(ConnectError, match="does not let us in") as denied:
        client(httpx.Response(401), user="u", password="restpassword").version()
    assert "restpassword" not in str(denied.value) + repr(Access("x", password="restpassword", token="restpassword"))


def test_credentials_are_sent() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("authorization", ""))
        return httpx.Response(200, json={"version": "4"})

    ConnectClient(Access("http://c", token="tok"), transport=httpx.MockTransport(answer)).version()
    ConnectClient(Access("http://c", user="u", password="p"), transport=httpx.MockTransport(answer)).version()
    assert seen == ["Bearer tok", "Basic dTpw"]


def test_history_topic_gets_into_a_kafka_that_asks_for_credentials(tmp_path: Path) -> None:
    plain, secret = streams.client_security(
        "SASL_SSL", mechanism="SCRAM-SHA-512", username="me", password='p"w\\d', ca="CA PEM", cert="CERT PEM", key="KEY PEM"
    )
    assert set(secret) == {"sasl.jaas.config", "ssl.keystore.key"}
    assert secret["sasl.jaas.config"] == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="p\\"w\\\\d";'
    )
    references = secrets.write_secrets(tmp_path, "m", {f"kafka.{name}": value for name, value in secret.items()})
    config = mysql.source_config(
        migration="m",
        stream="main",
        address=Address("mariadb://u@db/shop"),
        tables=[TableId("shop", "t")],
        password=None,
        bootstrap="k:9092",
        kafka=plain | {name: references[f"kafka.{name}"] for name in secret},
    )
    for client in ("producer", "consumer"):
        mine = {k.removeprefix(f"schema.history.internal.{client}."): v for k, v in config.items() if f"internal.{client}." in k}
        assert mine["security.protocol"] == "SASL_SSL" and mine["sasl.mechanism"] == "SCRAM-SHA-512"
        assert mine["ssl.truststore.certificates"] == "CA PEM" and mine["ssl.keystore.certificate.chain"] == "CERT PEM"
        assert mine["sasl.jaas.config"].startswith("${file:") and mine["ssl.keystore.key"].startswith("${file:")
    assert 'p"w' not in str(config) and "KEY PEM" not in str(config)
    assert streams.client_security("PLAINTEXT", password="x") == ({}, {})


def test_a_null_stays_null_though_the_column_has_a_default() -> None:
    """The converter's own setting writes the default in its place."""
    config = streams.base_config(migration="m", stream="main")
    assert config["value.converter.replace.null.with.default"] == config["key.converter.replace.null.with.default"] == "false"
