"""What a benchmark runs on: fresh databases of the embedded stack, and crossfade's own commands between them."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import psycopg
import yaml

from connectors.base import Address
from connectors.engine import connect
from deploy.local.stack import Stack

_CLI = (sys.executable, "-c", "from pipeline.cli import main; main()")
_numbers = itertools.count(1)
WAIT_SECONDS = 900.0


class Failed(RuntimeError):
    """A benchmark could not be run."""


@dataclasses.dataclass(frozen=True, slots=True)
class Database:
    """A fresh database on one of the stack's servers."""

    engine: str  # postgresql | mariadb
    address: Address

    def run(self, *statements: str) -> None:
        """Runs statements, each in a transaction of its own."""
        with self.session() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def value(self, query: str, *parameters: object) -> Any:
        """The first column of the first row."""
        with self.session() as cursor:
            cursor.execute(query, parameters or None)
            row = cursor.fetchone()
            return None if row is None else row[0]

    @contextlib.contextmanager
    def session(self) -> Iterator[Any]:
        connection = connect(self.address, autocommit=True)
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


class Stage:
    """The embedded stack for the time of a run, durable as in production."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.stack = Stack(root, postgres=("source", "target"), mariadb=("source", "target"), durable=True)

    def database(self, engine: str, server: str) -> Database:
        name = f"bench_{next(_numbers)}"
        if engine == "postgresql":
            postgres = self.stack.postgres[server]
            with psycopg.connect(postgres.url(), password=postgres.password, autocommit=True) as db:
                db.execute(f'CREATE DATABASE "{name}"'.encode())
            return Database(engine, Address(postgres.url(name), postgres.password))
        mariadb = self.stack.mariadb[server]
        Database(engine, Address(mariadb.url("mysql"), mariadb.password)).run(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")
        return Database(engine, Address(mariadb.url(name), mariadb.password))


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """A stack that is gone at the end."""
    root = Path(tempfile.mkdtemp(prefix="crossfade-bench-", dir="/var/tmp"))
    root.chmod(0o755 if os.geteuid() == 0 else 0o700)
    made = Stage(root)
    try:
        made.stack.up()
        yield made
    finally:
        made.stack.down(wipe=True)


class Move:
    """One migration by crossfade's commands, each service a process of its own as in production."""

    def __init__(self, on: Stage, source: Database, target: Database, **settings: Any) -> None:
        self.source, self.target = source, target
        self.name = f"bench-{next(_numbers)}"
        self.folder = on.root / self.name
        self.folder.mkdir()
        self._env = os.environ | {
            "SOURCE_PASSWORD": source.address.password or "",
            "TARGET_PASSWORD": target.address.password or "",
            "CROSSFADE_HOME": str(self.folder / "home"),
            "CROSSFADE_LOG_LEVEL": "warning",
            "NO_COLOR": "1",
        }
        document = {
            "name": self.name,
            "source": {"url": source.address.url, "password": {"env": "SOURCE_PASSWORD"}},
            "target": {"url": target.address.url, "password": {"env": "TARGET_PASSWORD"}},
            "kafka": {"bootstrap": on.stack.kafka_bootstrap},
            "connect": {"url": on.stack.connect_url, "secrets_dir": str(on.stack.secrets_dir)},
            "tables": [{"from": "*"}],
            "verify": {"continuous": False},
            "reverse": "none",
            **settings,
        }
        self.bootstrap = on.stack.kafka_bootstrap
        self.file = self.folder / "migration.yaml"
        self.file.write_text(yaml.safe_dump(document))
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def command(self, *arguments: str) -> str:
        """One command, waited for; what it printed."""
        done = subprocess.run((*_CLI, *arguments), env=self._env, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode not in (0, 1):
            raise Failed(f"crossfade {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}{self.logs()}")
        return done.stdout

    def begin(self, phase: str = "following") -> None:
        """Starts everything and waits for a phase."""
        self.command("start", str(self.file), "--detach")
        self.spawn("controller")
        self.spawn("worker")
        self.command("wait", str(self.file), "--for", phase, "--timeout", str(WAIT_SECONDS))

    def spawn(self, service: str) -> None:
        log = (self.folder / f"{service}.log").open("ab")
        command = (*_CLI, service, str(self.file))
        self._processes[service] = subprocess.Popen(command, env=self._env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)

    def stop(self, service: str) -> None:
        process = self._processes.pop(service, None)
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def peak_memory(self, service: str) -> int:
        """The most memory the service's process has had, in bytes."""
        status = Path(f"/proc/{self._processes[service].pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024

    def verify(self) -> Any:
        """A full verify's report."""
        return json.loads(self.command("verify", str(self.file), "--full", "--json"))

    def end(self) -> None:
        """Stops the services and takes back what the migration made."""
        for service in list(self._processes):
            self.stop(service)
        self.command("cancel", str(self.file))

    def logs(self) -> str:
        """The end of every service's log."""
        return "\n".join(f"--- {p.name}\n" + "\n".join(p.read_text().splitlines()[-15:]) for p in sorted(self.folder.glob("*.log")))

    # -- the stream ------------------------------------------------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        return f"crossfade.{self.name}.main"

    def mark(self, token: str) -> None:
        """Writes a marker to the source, as the controller does."""
        if self.source.engine == "postgresql":
            self.source.run(f"SELECT pg_logical_emit_message(true, 'crossfade', '{token}')")
        else:
            self.source.run(f"INSERT INTO crossfade_marker (id, token) VALUES (1, '{token}') ON DUPLICATE KEY UPDATE token = VALUES(token)")

    def wait_in_kafka(self, token: str, begin: int) -> int:
        """Reads the topic from an offset on until the marker is there; answers how many row events came before it."""
        import base64

        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": "crossfade-bench", "enable.auto.commit": False})
        events, quoted = 0, {token.encode(), base64.b64encode(token.encode())}
        try:
            consumer.assign([TopicPartition(self.topic, 0, begin)])
            until = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < until:
                for message in consumer.consume(5000, timeout=1.0):
                    value = message.value()
                    if not value or b'"op":"' not in value:
                        continue
                    if any(one in value for one in quoted):
                        return events
                    events += orjson.loads(value)["op"] in "cud"
            raise Failed(f"the marker did not reach {self.topic}\n{self.logs()}")
        finally:
            consumer.close()

    def end_of_topic(self) -> int:
        from connectors.topics import offsets_of

        return offsets_of(self.bootstrap, self.topic)[1]

    def applied_events(self) -> int:
        """Row events applied so far, as the control store has it."""
        return int(self.target.value("SELECT applied_events FROM crossfade.stream WHERE migration = %s", self.name) or 0)

    def wait_applied(self, token: str) -> None:
        """Waits until the marker is applied."""
        self.until(lambda: self.target.value("SELECT 1 FROM crossfade.marker WHERE token = %s", token) is not None)

    def until(self, done: Callable[[], bool], pause: float = 0.02) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} did not get there in {WAIT_SECONDS:.0f} s\n{self.logs()}")
            time.sleep(pause)
