"""Preflight: what stands in the way of a migration, what it would do, and how long that takes. Nothing is changed on either side."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from connectors import topics
from connectors.engine import module
from pipeline.control.later import later_findings
from pipeline.control.runtime import Runtime
from pipeline.control.schema import plan_schema
from pipeline.control.streamplans import kafka_options, stream_plans
from pipeline.control.unused import unused
from pipeline.errors import BadInput, ConnectError, CrossfadeError
from pipeline.model import Engine, Finding, TableId
from pipeline.spec.migration import Migration
from transforms.pairing import Pair

_ORDER = {"error": 0, "warning": 1, "info": 2}
# Rows and bytes a second of one machine with two cores, as measured with pgbench_accounts (100 bytes a row). A copy is bound by whichever
# of them is slower; more workers help until the machine is busy, which two are here.
_RATES: dict[tuple[Engine, Engine], tuple[float, float]] = {
    ("postgresql", "postgresql"): (800_000, 80e6),
    ("postgresql", "mysql"): (200_000, 40e6),
    ("mysql", "postgresql"): (480_000, 50e6),
    ("mysql", "mysql"): (250_000, 45e6),
}
_SHAPED_IN_PYTHON = 150_000
_TABLE_SECONDS = 0.2
_PAUSE_SECONDS = 0.3
_PAUSE_PER_TABLE = 0.01


@dataclasses.dataclass(frozen=True, slots=True)
class TablePlan:
    """One table pair with the source's own estimate of its size."""

    source: TableId
    target: TableId
    key: tuple[str, ...]
    rows: int
    bytes: int
    seconds: float
    exists: bool  # on the target


@dataclasses.dataclass(frozen=True, slots=True)
class Estimate:
    """What the whole takes. A guess from catalogs and from rates of a small machine: real rates show as soon as the copy runs."""

    rows: int
    bytes: int
    copy_seconds: float
    pause_seconds: float


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """What `crossfade plan` shows. Any finding with severity `error` refuses `start`."""

    name: str
    source: str
    target: str
    findings: tuple[Finding, ...]
    tables: tuple[TablePlan, ...]
    streams: tuple[tuple[str, tuple[TableId, ...]], ...]
    ddl: tuple[str, ...]  # what `start` would run on the target before the copy
    ddl_after: tuple[str, ...]  # and after it
    estimate: Estimate

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that refuse a start."""
        return tuple(finding for finding in self.findings if finding.severity == "error")


def make_plan(migration: Migration) -> Plan:
    """Looks at both databases, Kafka and Kafka Connect. Raises BadInput for what is wrong in the file itself."""
    migration.check_secrets()
    runtime = Runtime(migration)
    unreachable = [*_reached(runtime, "source"), *_reached(runtime, "target")]
    if unreachable:
        return Plan(migration.name, migration.source.url, migration.target.url, _sorted(unreachable), (), (), (), (), Estimate(0, 0, 0, 0))
    pairs, findings = runtime.resolved
    found = [*findings, *unused(migration)]
    if migration.reverse != "none":
        found += [finding for pair in pairs for finding in pair.inverse()[1]]
    plans = stream_plans(runtime)
    sources = list({pair.source.id: pair.source for pair in pairs}.values())
    given = {stream.name: stream for stream in migration.streams}
    found += module(runtime.source_engine, "preflight").source_findings(
        runtime.source,
        sources,
        migration=migration.name,
        stream_tables={plan.name: plan.tables for plan in plans},
        slots={name: stream.slot for name, stream in given.items() if stream.slot},
        publications={name: stream.publication for name, stream in given.items() if stream.publication},
        server_ids={name: stream.server_id for name, stream in given.items() if stream.server_id},
    )
    create = migration.schema_ == "create"
    found += module(runtime.target_engine, "preflight").target_findings(
        runtime.target, [pair.target_id for pair in pairs], create=create, reverse=migration.reverse != "none"
    )
    found += later_findings(runtime) + kafka_findings(runtime) + connect_findings(runtime)
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    if create:
        try:
            schema = plan_schema(runtime)
            before, after = tuple(s.sql for s in schema.before), tuple(s.sql for s in schema.after)
            found += schema.findings
        except BadInput:
            raise
        except CrossfadeError as error:
            found.append(Finding("schema.create", "error", str(migration.target.database), str(error)))
    tables = tuple(_table(pair, runtime) for pair in pairs)
    return Plan(
        name=migration.name,
        source=_server(runtime.source_catalog.flavour, runtime.source_catalog.version, migration.source.url),
        target=_server(runtime.target_catalog.flavour, runtime.target_catalog.version, migration.target.url),
        findings=_sorted(_accepted(found, migration.accept)),
        tables=tables,
        streams=tuple((plan.name, plan.tables) for plan in plans),
        ddl=before,
        ddl_after=after,
        estimate=_estimate(tables),
    )


def _server(flavour: str, version: str, url: str) -> str:
    return f"{flavour} {version} at {url}" if flavour not in version.lower() else f"{version} at {url}"


def _accepted(findings: Iterable[Finding], accept: Collection[str]) -> Iterator[Finding]:
    """Errors that the file accepts by their id become warnings, and stay to be seen."""
    for finding in findings:
        if finding.severity == "error" and finding.id in accept:
            yield dataclasses.replace(finding, severity="warning", message=f"{finding.message} (accepted)")
        else:
            yield finding


def _sorted(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """Errors first; each finding once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda f: (_ORDER[f.severity], f.id, f.object)))


def _reached(runtime: Runtime, side: str) -> list[Finding]:
    """A finding when a side's catalog cannot be read. The catalog is kept for what follows."""
    try:
        _ = runtime.source_catalog if side == "source" else runtime.target_catalog
    except BadInput:
        raise
    except CrossfadeError as error:
        endpoint = runtime.migration.source if side == "source" else runtime.migration.target
        return [Finding(f"connection.{side}", "error", endpoint.url, str(error), f"check url, password and TLS of `{side}`")]
    return []


def kafka_findings(runtime: Runtime) -> list[Finding]:
    """Whether Kafka answers and has brokers enough."""
    kafka = runtime.migration.kafka
    try:
        brokers = topics.brokers(kafka.bootstrap, options=kafka_options(runtime))
    except ConnectError as error:
        fix = "check kafka.bootstrap, its TLS and its credentials"
        return [Finding("connection.kafka", "error", kafka.bootstrap, str(error), fix)]
    if brokers < kafka.replication_factor:
        message = f"there are {brokers} brokers and kafka.replication_factor is {kafka.replication_factor}"
        return [Finding("kafka.replication_factor", "error", kafka.bootstrap, message, "lower it, or add brokers")]
    if kafka.replication_factor < min(3, brokers):
        message = (
            f"topics get {kafka.replication_factor} copies though there are {brokers} brokers: a broker that is lost takes changes with it"
        )
        return [Finding("kafka.replication_factor", "warning", kafka.bootstrap, message, "set kafka.replication_factor: 3")]
    return []


def connect_findings(runtime: Runtime) -> list[Finding]:
    """Whether Kafka Connect answers, has the connector and can be given the password."""
    from pipeline.control.prepare import connect_client

    connect = runtime.migration.connect
    wanted = "io.debezium.connector."
    kind = {"postgresql": "postgresql.PostgresConnector", "mariadb": "mariadb.MariaDbConnector", "mysql": "mysql.MySqlConnector"}
    try:
        with connect_client(runtime) as client:
            plugins = client.plugins()
    except CrossfadeError as error:
        return [Finding("connection.connect", "error", connect.url, str(error), "check connect.url, username and password")]
    # the URL says whether it is MySQL or MariaDB as long as nobody has asked the server
    flavour = runtime.__dict__["source_catalog"].flavour if "source_catalog" in runtime.__dict__ else urlsplit(runtime.source.url).scheme
    name = wanted + kind.get(flavour, kind["postgresql"])
    found = []
    if name not in plugins:
        message = f"the plugin {name} is not installed"
        found.append(Finding("connect.plugin", "error", connect.url, message, "put Debezium 3 into Connect's plugin.path"))
    elif (major := plugins[name].partition(".")[0]).isdigit() and int(major) < 3:
        message = f"Debezium {plugins[name]} is older than 3"
        found.append(Finding("connect.plugin", "error", connect.url, message, "put Debezium 3.5 into Connect's plugin.path"))
    if runtime.source.password is not None and connect.source_password is None and connect.secrets_dir is None:
        message = "Kafka Connect has no way to read the source's password"
        fix = "set connect.secrets_dir to a folder that its file config provider reads, or connect.source_password to a reference"
        found.append(Finding("connect.password", "error", connect.url, message, fix))
    way_back = runtime.migration.reverse != "none" and runtime.target.password is not None
    if way_back and connect.target_password is None and connect.secrets_dir is None:
        message = "Kafka Connect has no way to read the target's password: a cutover could not set up the way back"
        fix = "set connect.target_password to a reference, or reverse: none"
        found.append(Finding("connect.password", "warning", connect.url, message, fix))
    return found


def _table(pair: Pair, runtime: Runtime) -> TablePlan:
    rows, size = max(pair.source.rows, 0), max(pair.source.bytes, 0)
    by_rows, by_bytes = _RATES[runtime.source_engine, runtime.target_engine]
    if pair.source_projection(runtime.source_engine) is None:
        by_rows = min(by_rows, _SHAPED_IN_PYTHON)
    seconds = _TABLE_SECONDS + max(rows / by_rows, size / by_bytes)
    return TablePlan(pair.source.id, pair.target_id, pair.key, rows, size, round(seconds, 1), pair.target is not None)


def _estimate(tables: Sequence[TablePlan]) -> Estimate:
    seconds = math.fsum(table.seconds for table in tables)
    pause = _PAUSE_SECONDS + _PAUSE_PER_TABLE * len(tables)
    return Estimate(sum(t.rows for t in tables), sum(t.bytes for t in tables), round(seconds, 1), round(pause, 2))
