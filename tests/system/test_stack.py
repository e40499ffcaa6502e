"""The embedded stack: beside another one, after kill -9, with a server that dies, as root and as an ordinary user."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pymysql
import pytest
from confluent_kafka import Consumer, Producer

from deploy.local import place, process, state
from deploy.local.mariadb import MariaDB
from deploy.local.postgres import Postgres
from deploy.local.stack import Stack
from pipeline.errors import BadInput, StackError

pytestmark = pytest.mark.system

REPOSITORY = Path(__file__).parents[2]
ONLY_POSTGRES: dict[str, Any] = {"postgres": ("source",), "mariadb": (), "kafka": False, "connect": False, "durable": False}


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty folder for a stack of the test's own; whatever the test leaves running in it is ended."""
    folder = Path(tempfile.mkdtemp(prefix="crossfade-test-", dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    if (folder / "state.json").exists():
        Stack.at(folder).down(wipe=True)
    shutil.rmtree(folder, ignore_errors=True)


def cli(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.local.cli", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def query(server: Postgres, sql: str) -> Any:
    with psycopg.connect(server.url(), password=server.password, autocommit=True) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else None


def family(stack: Stack) -> list[int]:
    pids = [component.pid for component in stack.components]
    assert all(pids)
    return [who.pid for pid in pids if (parent := process.ident(pid or 0)) for who in (parent, *process.descendants(parent))]


def listening(pids: list[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket these processes listen on, from /proc."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(FileNotFoundError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    inodes.add(os.readlink(entry))
    found = set()
    for table, family_ in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                address, port = fields[1].split(":")
                words = bytes.fromhex(address)
                packed = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                found.add((socket.inet_ntop(family_, packed), int(port, 16)))
    return found


# the shared stack


def test_every_listener_is_on_loopback(stack: Stack) -> None:
    found = listening(family(stack))
    assert {port for component in stack.components for port in component.kept.ports.values()} <= {port for _, port in found}
    assert {address for address, _ in found} <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_passwords_are_in_no_command_line_environment_or_log(stack: Stack) -> None:
    servers: list[Postgres | MariaDB] = [*stack.postgres.values(), *stack.mariadb.values()]
    passwords = [server.password.encode() for server in servers]
    assert len(set(passwords)) == 4
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert not [p for p in passwords if p in entry.read_bytes()], f"{entry} has a password"
    for pid in family(stack):
        with contextlib.suppress(OSError):
            assert not [p for p in passwords if p in Path(f"/proc/{pid}/environ").read_bytes()]
    for log in (stack.root / "logs").iterdir():
        assert not [p for p in passwords if p in log.read_bytes()], f"{log} has a password"
    assert {path.stat().st_mode & 0o777 for path in (stack.root / "passwords").iterdir()} == {0o600}
    assert stack.secrets_dir.stat().st_mode & 0o777 == 0o700


def test_servers_want_a_password_and_have_the_settings_that_streams_need(stack: Stack) -> None:
    source, target = stack.postgres["source"], stack.postgres["target"]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(source.url(), password=target.password)
    assert query(source, "SHOW wal_level") == [("logical",)]
    assert query(source, "SELECT system_identifier FROM pg_control_system()") != query(
        target, "SELECT system_identifier FROM pg_control_system()"
    )
    ids = set()
    for server in stack.mariadb.values():
        with pytest.raises(pymysql.OperationalError, match="Access denied"):
            pymysql.connect(host="127.0.0.1", port=server.port, user="root")
        with pytest.raises(pymysql.OperationalError, match="Access denied"):
            pymysql.connect(host="127.0.0.1", port=server.port, user="nobody-at-all")
        with pymysql.connect(host="127.0.0.1", port=server.port, user="root", password=server.password) as connection:
            cursor = connection.cursor()
            cursor.execute(
                "SELECT @@server_id, @@binlog_format, @@binlog_row_image, @@binlog_row_metadata, @@gtid_strict_mode, @@local_infile"
            )
            server_id, *settings = cursor.fetchone() or ()
        assert settings == ["ROW", "FULL", "FULL", 1, 1]
        ids.add(server_id)
    assert len(ids) == 2


def test_a_message_of_20_mb_travels(stack: Stack) -> None:
    body = os.urandom(20_000_000)
    producer = Producer({"bootstrap.servers": stack.kafka_bootstrap, "message.max.bytes": 64_000_000})
    producer.produce("test-large", body)
    assert producer.flush(30) == 0
    consumer = Consumer({"bootstrap.servers": stack.kafka_bootstrap, "group.id": "test-large", "auto.offset.reset": "earliest"})
    consumer.subscribe(["test-large"])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (message := consumer.poll(1)) is None:
        pass
    consumer.close()
    assert message is not None
    assert message.value() == body


def test_connect_has_the_three_source_connectors(stack: Stack) -> None:
    found = {plugin["class"].rpartition(".")[2] for plugin in httpx.get(f"{stack.connect_url}/connector-plugins").json()}
    assert found >= {"PostgresConnector", "MariaDbConnector", "MySqlConnector"}


@pytest.mark.parametrize("name", ["postgres-target", "mariadb-target", "connect"])
def test_a_killed_server_comes_back_with_the_same_port(stack: Stack, name: str) -> None:
    component = next(component for component in stack.components if component.name == name)
    before = (component.port, component.pid)
    component.kill()
    assert component.pid is None
    component.start()
    assert component.port == before[0]
    assert component.pid not in (None, before[1])


def test_fresh_databases(pg_database: Any, mariadb_database: Any) -> None:
    one, two = pg_database("source"), pg_database("target")
    assert one.name != two.name
    with psycopg.connect(one.url, password=one.password) as connection:
        assert connection.execute("SELECT current_database()").fetchone() == (one.name,)
    assert mariadb_database("target").url.startswith("mysql://root@127.0.0.1:")


# stacks of their own


def test_up_status_env_down_beside_another_stack(stack: Stack, root: Path) -> None:
    assert cli("status", "--root", str(root)).returncode == 1
    first = cli("up", "--root", str(root), "--postgres", "source", "--no-durable", "--json")
    assert first.returncode == 0, first.stderr
    components = json.loads(first.stdout)["components"]
    assert {name: facts["state"] for name, facts in components.items()} == dict.fromkeys(
        ("postgres-source", "mariadb-source", "kafka", "connect"), "up"
    )
    assert not {facts["port"] for facts in components.values()} & {component.port for component in stack.components}

    again = json.loads(cli("up", "--root", str(root), "--json").stdout)["components"]
    assert again == components, "what runs is left alone"
    status = cli("status", "--root", str(root), "--json")
    assert (status.returncode, json.loads(status.stdout)["components"]) == (0, components)

    printed = cli("env", "--root", str(root))
    assert printed.returncode == 0
    variables = json.loads(cli("env", "--root", str(root), "--json").stdout)
    assert set(variables) == {"CROSSFADE_KAFKA", "CROSSFADE_CONNECT", "CROSSFADE_SECRETS_DIR", "PG_URL", "MARIADB_URL"}
    assert f"export PG_URL={variables['PG_URL']}" in printed.stdout.splitlines()
    psycopg.connect(variables["PG_URL"]).close()
    assert httpx.get(f"{variables['CROSSFADE_CONNECT']}/connectors").json() == []

    pids = [facts["pid"] for facts in components.values()]
    down = cli("down", "--root", str(root), "--wipe", "--no-color")
    assert down.returncode == 0, down.stderr
    assert not [pid for pid in pids if process.ident(pid)]
    assert not root.exists()
    assert query(stack.postgres["source"], "SELECT 1") == [(1,)], "the other stack goes on"


OWNER = """
import signal, sys
from pathlib import Path
from deploy.local.stack import Stack
stack = Stack(Path(sys.argv[1]), postgres=("source",), mariadb=("source",), connect=False)
stack.up()
print("ready", flush=True)
signal.pause()
"""


def test_kill_9_the_owner_then_up_recovers(root: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(root)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "ready\n"
    with pytest.raises(StackError, match=f"belongs to process {owner.pid}"):
        Stack.at(root).up()
    before = {component.name: (component.pid, component.port) for component in Stack.at(root).components}
    query(Stack.at(root).postgres["source"], "CREATE TABLE kept AS SELECT 1 AS one")
    owner.kill()
    owner.wait()

    with Stack.at(root) as again:
        after = {component.name: (component.pid, component.port) for component in again.components}
        assert {name: port for name, (_, port) in after.items()} == {name: port for name, (_, port) in before.items()}
        assert not [pid for pid, _ in before.values() if process.ident(pid or 0)]
        assert query(again.postgres["source"], "TABLE kept") == [(1,)]
        for component in again.components:
            assert [who.pid for who in process.leftovers(component.program, component.folder) if who.pid == component.pid]
    assert all(component.pid is None for component in again.components)


def test_a_server_that_dies_is_reported_with_the_end_of_its_log(root: Path) -> None:
    foreground = subprocess.Popen(
        [sys.executable, "-m", "deploy.local.cli", "up", "--foreground", "--root", str(root), "--mariadb", "", "--no-connect", "--json"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert foreground.stdout is not None
    components = json.loads(foreground.stdout.readline())["components"]
    os.kill(components["kafka"]["pid"], signal.SIGKILL)
    _, stderr = foreground.communicate(timeout=60)
    assert foreground.returncode == 1
    assert f"kafka (pid {components['kafka']['pid']}) was killed by SIGKILL; its log {components['kafka']['log']} ends:" in stderr
    assert "INFO" in stderr.rpartition("ends:")[2]
    assert "Traceback" not in stderr
    assert not [facts["pid"] for facts in components.values() if process.ident(facts["pid"])]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_stops_a_foreground_stack_cleanly(root: Path, how: signal.Signals) -> None:
    foreground = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "deploy.local.cli",
            "up",
            "--foreground",
            "--root",
            str(root),
            "--mariadb",
            "",
            "--no-kafka",
            "--no-connect",
            "--json",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert foreground.stdout is not None
    components = json.loads(foreground.stdout.readline())["components"]
    foreground.send_signal(how)
    _, stderr = foreground.communicate(timeout=60)
    assert (foreground.returncode, "Traceback" in stderr) == (0, False)
    assert not [facts["pid"] for facts in components.values() if process.ident(facts["pid"])]
    assert "database system is shut down" in Path(components["postgres-source"]["log"]).read_text()


def test_down_from_another_process_ends_a_foreground_stack(root: Path) -> None:
    foreground = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "deploy.local.cli",
            "up",
            "--foreground",
            "--root",
            str(root),
            "--mariadb",
            "",
            "--no-kafka",
            "--no-connect",
            "--json",
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert foreground.stdout is not None
    foreground.stdout.readline()
    Stack.at(root).down()
    foreground.communicate(timeout=60)
    assert foreground.returncode == 0


def test_a_port_that_somebody_else_took_is_chosen_anew(root: Path) -> None:
    with Stack(root, **ONLY_POSTGRES) as stack:
        query(stack.postgres["source"], "CREATE TABLE kept AS SELECT 1 AS one")
        port = stack.postgres["source"].port
    with contextlib.closing(socket.create_server(("127.0.0.1", port))), stack:
        assert stack.postgres["source"].port != port
        assert query(stack.postgres["source"], "TABLE kept") == [(1,)]
        port = stack.postgres["source"].port
    with stack:
        assert stack.postgres["source"].port == port


def test_a_server_that_cannot_start_says_why(root: Path) -> None:
    stack = Stack(root, **ONLY_POSTGRES)
    stack.up()
    stack.down()
    with (stack.postgres["source"].data / "postgresql.conf").open("a") as settings:
        settings.write("no_such_setting = 1\n")
    with pytest.raises(StackError, match=r"postgres-source \(pid \d+\) exited with 1; .*no_such_setting"):
        stack.up()
    assert stack.postgres["source"].pid is None


def test_a_reused_pid_is_never_signalled(root: Path) -> None:
    stack = Stack(root, **ONLY_POSTGRES)
    stack.up()
    stack.down()
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        found = state.read(root / "state.json")
        assert found is not None
        found.components["postgres-source"].process = process.Ident(innocent.pid, 1)
        found.owner = process.Ident(innocent.pid, 1)
        state.write(root / "state.json", found)
        with Stack.at(root) as again:
            assert again.postgres["source"].pid not in (None, innocent.pid)
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_leftovers_without_a_state_file_are_found(root: Path) -> None:
    stack = Stack(root, **ONLY_POSTGRES)
    stack.up(detached=True)
    lost = stack.postgres["source"].pid
    (root / "state.json").unlink()
    with Stack(root, **ONLY_POSTGRES) as again:
        assert again.postgres["source"].pid not in (None, lost)
        assert process.ident(lost or 0) is None


def test_a_folder_with_something_else_in_it_is_refused(root: Path) -> None:
    (root / "thesis.txt").touch()
    with pytest.raises(BadInput, match=r"thesis\.txt"):
        Stack(root, **ONLY_POSTGRES).up()
    (root / "thesis.txt").unlink()


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user runs all of this file as itself")
def test_an_ordinary_user_runs_it_as_itself(stack: Stack, root: Path) -> None:
    """The interpreter may be in root's home, so the user may read everything; it may write only its own."""
    user = pwd.getpwnam("nobody")
    home = root / "home"
    shutil.copytree(place.cache_dir() / "jars", home / "cache" / "jars")
    os.chown(home, user.pw_uid, user.pw_gid)
    for path in home.rglob("*"):
        os.chown(path, user.pw_uid, user.pw_gid)
    as_user = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    as_user += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*as_user, sys.executable, "-c", ""], check=False, capture_output=True).returncode:
        pytest.skip("no way to run this interpreter as another user")
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CROSSFADE_CACHE": str(home / "cache"),
        "CROSSFADE_STACK_DIR": str(home / "stack"),
    }

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*as_user, sys.executable, "-m", "deploy.local.cli", *arguments]
        return subprocess.run(command, cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=120, check=False)

    up = run("up", "--postgres", "source", "--no-durable", "--json")
    try:
        assert up.returncode == 0, up.stderr
        for facts in json.loads(up.stdout)["components"].values():
            assert Path(f"/proc/{facts['pid']}").stat().st_uid == user.pw_uid
        variables = json.loads(run("env", "--json").stdout)
        psycopg.connect(variables["PG_URL"]).close()
        assert httpx.get(f"{variables['CROSSFADE_CONNECT']}/connectors").json() == []
    finally:
        assert run("down", "--wipe").returncode == 0
    assert not (home / "stack").exists()
    assert query(stack.postgres["source"], "SELECT 1") == [(1,)]
