"""`plan` changes nothing, names each right that a least-privilege role lacks, and its fix is the statement that puts it right."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pymysql
import pytest

from deploy.local.stack import Stack
from pipeline.cli import execute
from pipeline.control.plan import Plan, make_plan
from pipeline.model import Finding
from pipeline.spec import parse
from tests.conftest import MakeDatabase

pytestmark = pytest.mark.system

PASSWORD = "plan-sentinel-4711"
Run = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture(autouse=True)
def passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN_PASSWORD", PASSWORD)


def postgres(url: str) -> Iterator[Run]:
    with psycopg.connect(url, autocommit=True) as db:

        def run(statement: str) -> list[tuple[Any, ...]]:
            cursor = db.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

        yield run


def mariadb(stack: Stack, server: str) -> Iterator[Run]:
    of = stack.mariadb[server]
    with pymysql.connect(host="127.0.0.1", port=of.port, user=of.superuser, password=of.password, autocommit=True) as db:

        def run(statement: str) -> list[tuple[Any, ...]]:
            with db.cursor() as cursor:
                cursor.execute(statement)
                return list(cursor.fetchall())

        yield run


def text_of(stack: Stack, source: str, target: str, tables: str, schema: str = "create") -> str:
    return f"""
name: plan-test
source: {{url: "{source}", password: {{env: PLAN_PASSWORD}}}}
target: {{url: "{target}", password: {{env: PLAN_PASSWORD}}}}
kafka: {{bootstrap: "{stack.kafka_bootstrap}"}}
connect: {{url: "{stack.connect_url}", secrets_dir: "{stack.secrets_dir}"}}
schema: {schema}
tables: {tables}
"""


def plan_of(text: str) -> Plan:
    return make_plan(parse(text))


def as_user(url: str, user: str) -> str:
    return re.sub(r"://[^@]*@", f"://{user}@", url)


def mended(plan: Plan, run: Run) -> None:
    """Runs every error's fix as it stands (the first of its alternatives)."""
    for finding in plan.errors:
        run(finding.fix.split("; or")[0])


@pytest.fixture
def pg(stack: Stack, pg_database: MakeDatabase) -> Iterator[tuple[str, Run, Run]]:
    """A migration's text, and what runs statements on its source and its target as their superuser."""
    source, target = pg_database("source"), pg_database("target")
    for on in postgres(source.url_with_password):
        for to in postgres(target.url_with_password):
            on(f"CREATE ROLE plan_source LOGIN REPLICATION PASSWORD '{PASSWORD}'")
            on("CREATE ROLE plan_owner")
            on("CREATE SCHEMA app AUTHORIZATION plan_owner")
            on('CREATE TABLE app."or,der" (id int PRIMARY KEY, v text)')
            on('ALTER TABLE app."or,der" OWNER TO plan_owner')
            on("GRANT USAGE ON SCHEMA app TO plan_source")
            on('GRANT SELECT ON app."or,der" TO plan_source')
            on("GRANT SELECT ON ALL TABLES IN SCHEMA app TO plan_source")
            to(f"CREATE ROLE plan_target LOGIN PASSWORD '{PASSWORD}'")
            to(f"REVOKE TEMPORARY ON DATABASE {target.name} FROM PUBLIC")
            to(f"GRANT CREATE, TEMPORARY ON DATABASE {target.name} TO plan_target")
            to("GRANT SET ON PARAMETER session_replication_role TO plan_target")
            to('CREATE TABLE "or,der" (id int PRIMARY KEY, v text)')
            to('GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON "or,der" TO plan_target')
            text = text_of(
                stack,
                as_user(source.url, "plan_source"),
                as_user(target.url, "plan_target"),
                "[{from: 'app.\"or,der\"', to: '\"or,der\"'}]",
                "existing",
            )
            yield text, on, to
            on("DROP SCHEMA app CASCADE")
            to('DROP TABLE IF EXISTS "or,der"')
            for act, roles in ((on, ("plan_source", "plan_owner")), (to, ("plan_target",))):
                for role in roles:
                    act(f"DROP OWNED BY {role} CASCADE")
                    act(f"DROP ROLE {role}")


def test_a_role_that_may_not_publish_is_told_both_ways_out(pg: tuple[str, Run, Run]) -> None:
    text, on, _ = pg
    told = {finding.id: finding for finding in plan_of(text).errors}
    assert told.keys() == {"grant.create", "grant.owner"}
    assert told["grant.owner"].object == "app.or,der" and "plan_owner" in told["grant.owner"].message
    publication = told["grant.owner"].fix.partition("as the owner of the tables: ")[2]
    mended(plan_of(text), on)
    assert plan_of(text).errors == ()
    on("REVOKE plan_owner FROM plan_source")
    on(publication)
    assert plan_of(text).errors == (), "a publication that a DBA has made will do"


def test_each_right_taken_away_is_named_and_its_fix_gives_it_back(pg: tuple[str, Run, Run]) -> None:
    text, on, to = pg
    on(plan_of(text).errors[0].fix.rpartition(": ")[2])  # the publication, by a DBA
    assert plan_of(text).errors == ()
    database = str(to("SELECT current_database()")[0][0])
    taken = [
        (on, "ALTER ROLE plan_source NOREPLICATION", "grant.replication", "127.0.0.1"),
        (on, "REVOKE USAGE ON SCHEMA app FROM plan_source", "grant.usage", "app"),
        (on, 'REVOKE SELECT ON app."or,der" FROM plan_source', "grant.select", "app.or,der"),
        (to, f"REVOKE CREATE ON DATABASE {database} FROM plan_target", "grant.create", database),
        (to, f"REVOKE TEMPORARY ON DATABASE {database} FROM plan_target", "grant.temp", database),
        (
            to,
            "REVOKE SET ON PARAMETER session_replication_role FROM plan_target",
            "grant.session_replication_role",
            "session_replication_role",
        ),
        *(
            (to, f'REVOKE {right} ON "or,der" FROM plan_target', f"grant.{right.lower()}", "public.or,der")
            for right in ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE")
        ),
    ]
    for run_, statement, id_, object_ in taken:
        run_(statement)
        plan = plan_of(text)
        assert [finding.id for finding in plan.errors] == [id_], statement
        assert object_ in plan.errors[0].object
        mended(plan, run_)
        assert plan_of(text).errors == (), plan.errors[0].fix


def test_what_the_cutover_and_the_way_back_will_need_is_told_before_the_start(pg: tuple[str, Run, Run]) -> None:
    """As warnings, which hold up no start; with every fix made nothing is left to say."""
    text, on, to = pg
    on(plan_of(text).errors[0].fix.rpartition(": ")[2])
    text += "cutover: {fence: {roles: [plan_app]}}\n"

    def later() -> list[Finding]:
        found = [f for f in plan_of(text).findings if f.id.startswith(("reverse.", "grant.", "fence."))]
        assert {finding.severity for finding in found} <= {"warning"}, found
        return found

    assert {(finding.id, "plan_source" in finding.message) for finding in later() if finding.id.startswith("reverse.")} == {
        ("reverse.grant.replication", False),
        ("reverse.grant.owner", False),
        *((f"reverse.grant.{right}", True) for right in ("create", "insert", "update", "delete", "truncate")),
        ("reverse.grant.session_replication_role", True),
    }
    assert [finding.message for finding in later() if finding.id == "fence.role"] == [
        "at the cutover: cutover.fence.roles names plan_app, and there is no such role"
    ] * 2
    for act in (on, to):
        act("CREATE ROLE plan_app")
    try:
        for _ in range(3):
            for finding in later():
                (on if "plan_source" in finding.message else to)(finding.fix.split("; or")[0])
        assert later() == []
    finally:
        on("REVOKE ALL ON PARAMETER session_replication_role FROM plan_source")
        for act, role in ((on, "plan_source"), (to, "plan_target")):
            act(f"REVOKE plan_app FROM {role}")
            act("DROP ROLE plan_app")


def test_s23_what_tables_lack_is_told_before_it_breaks_the_application(
    pg: tuple[str, Run, Run], pg_database: MakeDatabase, stack: Stack
) -> None:
    text, on, to = pg
    on("GRANT plan_owner TO plan_source")
    on("ALTER ROLE plan_source SUPERUSER")
    on("CREATE UNLOGGED TABLE app.quick (id int PRIMARY KEY)")
    on("CREATE TABLE app.silent (id int PRIMARY KEY)")
    on("ALTER TABLE app.silent REPLICA IDENTITY NOTHING")
    on("CREATE TABLE app.uniq (id int NOT NULL, CONSTRAINT uniq_id UNIQUE (id))")
    on("CREATE TABLE app.keyless (a int)")
    to("ALTER ROLE plan_target SUPERUSER")
    to("INSERT INTO \"or,der\" VALUES (1, 'already')")
    to("CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    to('CREATE TRIGGER t AFTER INSERT ON "or,der" FOR EACH ROW EXECUTE FUNCTION f()')
    to('ALTER TABLE "or,der" ENABLE ALWAYS TRIGGER t')
    plan = plan_of(re.sub(r"schema: existing\ntables: .*", "schema: create\ntables: [{from: app.*}]", text))
    told = {(finding.id, finding.object) for finding in plan.findings}
    assert {
        ("table.unlogged", "app.quick"),
        ("identity.missing", "app.silent"),
        ("identity.missing", "app.uniq"),
        ("key.missing", "app.keyless"),
        ("target.trigger", "public.or,der.t"),
        ("target.not_empty", "public.or,der"),
    } <= told
    assert next(f.fix for f in plan.findings if f.object == "app.uniq") == 'ALTER TABLE "app"."uniq" REPLICA IDENTITY USING INDEX "uniq_id"'
    assert any("quick" in statement for statement in plan.ddl)


def test_plan_changes_nothing_and_shows_no_secret(
    pg: tuple[str, Run, Run], tmp_path: Any, capsys: pytest.CaptureFixture[str], stack: Stack
) -> None:
    text, on, to = pg
    file = tmp_path / "migration.yaml"
    file.write_text(text)

    def state(run_: Run) -> list[object]:
        return [
            run_("SELECT pg_snapshot_xmax(pg_current_snapshot())::text"),  # no transaction has written anything in the whole server
            run_("SELECT count(*), sum(oid::int8) FROM pg_class"),
            run_("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()"),
            run_("SELECT pubname FROM pg_publication"),
        ]

    for attempt in range(3):  # autovacuum may come in between
        before = state(on), state(to), sorted(stack.secrets_dir.iterdir())
        assert execute(["plan", str(file), "--json"]) == 1
        if (state(on), state(to), sorted(stack.secrets_dir.iterdir())) == before:
            break
        assert attempt < 2
    said = capsys.readouterr()
    assert '"grant.owner"' in said.out and PASSWORD not in said.out + said.err
    assert execute(["plan", str(file)]) == 1
    assert "not ready to start" in capsys.readouterr().out


def test_wrong_password_is_a_finding(pg: tuple[str, Run, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN_PASSWORD", "not-the-password-4711")
    plan = plan_of(pg[0])
    assert [finding.id for finding in plan.errors] == ["connection.source", "connection.target"]
    assert "not-the-password-4711" not in str(plan)


@pytest.fixture
def my(stack: Stack, mariadb_database: MakeDatabase) -> Iterator[tuple[str, Run, Run, str, str]]:
    source, target = mariadb_database("source"), mariadb_database("target")
    s, t = source.name, target.name
    for on in mariadb(stack, "source"):
        for to in mariadb(stack, "target"):
            on(f"CREATE USER plan_source@'%' IDENTIFIED BY '{PASSWORD}'")
            on(f"CREATE TABLE {s}.`or,der` (id int PRIMARY KEY, v varchar(20))")
            on("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO plan_source@'%'")
            on(f"GRANT SELECT, REFERENCES ON {s}.`or,der` TO plan_source@'%'")
            on(f"GRANT CREATE, SELECT, INSERT, UPDATE, DELETE, DROP ON {s}.crossfade_marker TO plan_source@'%'")
            to(f"CREATE USER plan_target@'%' IDENTIFIED BY '{PASSWORD}'")
            to(f"CREATE TABLE {t}.`or,der` (id int PRIMARY KEY, v varchar(20))")
            to(
                "GRANT CREATE, SELECT, INSERT, UPDATE, DELETE, DROP, ALTER, INDEX, CREATE TEMPORARY TABLES"
                " ON crossfade.* TO plan_target@'%'"
            )
            to(f"GRANT CREATE TEMPORARY TABLES ON {t}.* TO plan_target@'%'")
            to(f"GRANT SELECT, INSERT, UPDATE, DELETE, DROP, TRIGGER ON {t}.`or,der` TO plan_target@'%'")
            tables = f"[{{from: '{s}.`or,der`', to: '`or,der`'}}]"
            yield text_of(stack, as_user(source.url, "plan_source"), as_user(target.url, "plan_target"), tables, "existing"), on, to, s, t
            on("DROP USER plan_source@'%'")
            to("DROP USER plan_target@'%'")


def test_mariadb_each_right_taken_away_is_named_and_its_fix_gives_it_back(my: tuple[str, Run, Run, str, str]) -> None:
    text, on, to, s, t = my
    assert plan_of(text).errors == ()
    taken = [
        (on, "REVOKE REPLICATION SLAVE ON *.* FROM plan_source@'%'", "grant.replication_slave", ""),
        (on, f"REVOKE REFERENCES ON {s}.`or,der` FROM plan_source@'%'", "grant.references", f"{s}.or,der"),
        (on, "REVOKE BINLOG MONITOR ON *.* FROM plan_source@'%'", "grant.replication_client", ""),
        (on, f"REVOKE INSERT, DROP ON {s}.crossfade_marker FROM plan_source@'%'", "grant.marker", f"{s}.crossfade_marker"),
        (to, "REVOKE CREATE ON crossfade.* FROM plan_target@'%'", "grant.create", "crossfade"),
        (to, f"REVOKE CREATE TEMPORARY TABLES ON {t}.* FROM plan_target@'%'", "grant.create_temporary_tables", t),
        *(
            (to, f"REVOKE {right} ON {t}.`or,der` FROM plan_target@'%'", f"grant.{right.lower()}", f"{t}.or,der")
            for right in ("INSERT", "UPDATE", "DELETE", "DROP", "TRIGGER")
        ),
    ]
    for run_, statement, id_, object_ in taken:
        run_(statement)
        plan = plan_of(text)
        assert [finding.id for finding in plan.errors] == [id_], statement
        assert object_ in plan.errors[0].object
        mended(plan, run_)
        assert plan_of(text).errors == (), plan.errors[0].fix


def test_s19_mariadb_cascades_and_triggers_are_told(my: tuple[str, Run, Run, str, str]) -> None:
    text, on, to, s, t = my
    on(f"CREATE TABLE {s}.child (id int PRIMARY KEY, p int, CONSTRAINT c1 FOREIGN KEY (p) REFERENCES {s}.`or,der` (id) ON DELETE CASCADE)")
    on(f"CREATE TABLE {s}.old (id int PRIMARY KEY) ENGINE=MyISAM")
    on(f"CREATE TABLE {s}.`tick``` (id int PRIMARY KEY)")
    on(f"GRANT SELECT, REFERENCES ON {s}.* TO plan_source@'%'")
    to(f"GRANT ALL ON {t}.* TO plan_target@'%'")
    to(f"CREATE TRIGGER {t}.tr BEFORE INSERT ON {t}.`or,der` FOR EACH ROW SET NEW.v = 'x'")
    before = on("SELECT @@gtid_binlog_pos"), to("SELECT @@gtid_binlog_pos")
    plan = plan_of(re.sub(r"schema: existing\ntables: .*", f"schema: create\ntables: [{{from: {s}.*}}]", text))
    assert (on("SELECT @@gtid_binlog_pos"), to("SELECT @@gtid_binlog_pos")) == before, "nothing was written on either side"
    told = {(finding.id, finding.severity, finding.object) for finding in plan.findings}
    assert {
        ("fk.cascade", "error", f"{s}.child.c1"),
        ("table.engine", "warning", f"{s}.old"),
        ("name.backtick", "error", f"{s}.tick`"),
        ("target.trigger", "error", f"{t}.or,der.tr"),
    } <= told
