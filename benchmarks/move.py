"""One migration by crossfade's own commands, each service a process of its own as in production, and what can be asked of it.

Times are taken where they happen: the worker notes in each target transaction when it wrote it (`stream.updated_at`, `marker.at`), and
that is what is read here, afterwards, over one connection. A harness that asked all the time would measure itself on two cores.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from typing import Any, Self, TypeAlias, TypeVar

import orjson
import yaml

from benchmarks import usage
from benchmarks.harness import Failed
from benchmarks.stage import Database, Stage
from deploy.local import process
from deploy.local.process import Process

T = TypeVar("T")
_CLI = (sys.executable, "-c", "from pipeline.cli import main; main()")
_numbers = itertools.count(1)
WAIT_SECONDS = 600.0
_LOOK_EVERY = 0.1
_MARKER_TABLE = "crossfade_marker"


@dataclasses.dataclass(frozen=True, slots=True)
class Applied:
    """How far the target was when: both are of one and the same target transaction."""

    events: int
    at: float


Place: TypeAlias = tuple[Any, ...]
"""Where a stream stands on its target."""
_PLACE = ("position", "partial_id", "partial_place", "kafka_offset", "applied_events", "applied_transactions")


class Move:
    """A migration from `source` to `target`; leaving it stops its services and takes back what it made."""

    def __init__(self, on: Stage, source: Database, target: Database, *, keeps_source: bool = False, **settings: Any) -> None:
        self.source, self.target, self._keeps_source = source, target, keeps_source
        self.name = f"bench-{next(_numbers)}"
        self.folder = on.root / self.name
        self.folder.mkdir()
        self._on = on
        self._env = {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")} | {
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
        self.file = self.folder / "migration.yaml"
        self.file.write_text(yaml.safe_dump(document))
        self._processes: dict[str, Process] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        for service in list(self._processes):
            self.stop(service)
        if kind is not None and not issubclass(kind, Exception):
            return  # Ctrl-C: the servers go anyway
        with contextlib.suppress(Failed) if kind is not None else contextlib.nullcontext():
            self._command("cancel", str(self.file))
            if not self._keeps_source:
                self._on.drop(self.source)
            self._on.drop(self.target)

    # -- its processes ---------------------------------------------------------------------------------------------------------------

    def begin(self, phase: str = "following") -> None:
        """Starts everything and waits for a phase."""
        self._command("start", str(self.file), "--detach")
        self.spawn("controller")
        self.spawn("worker")
        self._command("wait", str(self.file), "--for", phase, "--timeout", str(WAIT_SECONDS))

    def spawn(self, service: str) -> None:
        """Starts `controller` or `worker` (`worker-2`, … for more of them). It ends with this process, however that ends."""
        command = (*_CLI, service.partition("-")[0], str(self.file))
        log = self.folder / f"{service}.log"
        self._processes[service] = process.start(service, command, folder=self.folder, log=log, env=self._env, dies_with_us=signal.SIGTERM)

    def stop(self, service: str) -> None:
        """Stops it cleanly, and waits for that."""
        running = self._processes.pop(service, None)
        if running is not None and running.is_alive():
            running.stop(signal.SIGTERM, 30)

    def pid(self, service: str) -> int:
        """The service's process."""
        return self._processes[service].pid

    def processor_seconds(self, service: str) -> float:
        """Processor time that the service's process has used so far."""
        return usage.processor_seconds(self.pid(service))

    def largest_memory(self, service: str) -> float:
        """The largest resident memory that the service's process has had, in MiB."""
        return usage.largest_memory(self.pid(service))

    def verify(self) -> dict[str, Any]:
        """A full verify's report."""
        report: dict[str, Any] = json.loads(self._command("verify", str(self.file), "--full", "--json", accept=(0, 1)))
        return report

    def cross(self, command: str) -> dict[str, Any]:
        """`cutover` or `rollback`; what it said. Raises `Failed` when it was not crossed. Asked again while a gate is shut."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            said: dict[str, Any] = json.loads(self._command(command, str(self.file), "--json", accept=(0, 4)))
            if said["crossed"]:
                return said
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: {command}: {[gate for gate in said['gates'] if not gate['ok']]}")
            time.sleep(_LOOK_EVERY)

    def _command(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """One command, waited for; what it printed."""
        command = subprocess.Popen(
            (*_CLI, *arguments),
            env=self._env,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
        try:
            out, err = command.communicate()
        except BaseException:
            command.terminate()
            command.communicate()
            raise
        if command.returncode not in accept:
            raise Failed(f"crossfade {' '.join(arguments)}: exit code {command.returncode}\n{err}{self._logs()}")
        return out

    def _logs(self) -> str:
        """The end of every service's log."""
        return "\n".join(f"--- {log.name}: {process.tail(log)}" for log in sorted(self.folder.glob("*.log")))

    # -- the stream ------------------------------------------------------------------------------------------------------------------

    @property
    def topic(self) -> str:
        return self.topic_of("main")

    def topic_of(self, stream: str) -> str:
        """The topic of one of several streams."""
        return f"crossfade.{self.name}.{stream}"

    def mark(self, cursor: Any, token: str) -> None:
        """Writes a marker to the source, as the controller does."""
        if self.source.engine == "postgresql":
            cursor.execute("SELECT pg_logical_emit_message(true, 'crossfade', %s)", (token,))
        else:
            cursor.execute(
                f"INSERT INTO {_MARKER_TABLE} (id, token) VALUES (1, %s) ON DUPLICATE KEY UPDATE token = VALUES(token)", (token,)
            )

    def end_of_topic(self, stream: str = "main") -> int:
        """The offset that comes next in Kafka."""
        from connectors.topics import offsets_of

        return offsets_of(self._on.stack.kafka_bootstrap, self.topic_of(stream))[1]

    def wait_in_kafka(self, token: str, begin: int, stream: str = "main") -> int:
        """Reads the topic from an offset on until the marker is there; answers how many row events came before it, markers not counted."""
        from confluent_kafka import Consumer, TopicPartition

        consumer = Consumer(
            {"bootstrap.servers": self._on.stack.kafka_bootstrap, "group.id": "crossfade-bench", "enable.auto.commit": False}
        )
        events, quoted = 0, (token.encode(), base64.b64encode(token.encode()))
        try:
            consumer.assign([TopicPartition(self.topic_of(stream), 0, begin)])
            until = time.monotonic() + WAIT_SECONDS
            while time.monotonic() < until:
                for message in consumer.consume(5000, timeout=0.5):
                    value = message.value()
                    if not value or b'"op":"' not in value:
                        continue
                    if any(one in value for one in quoted):
                        return events
                    event = orjson.loads(value)
                    events += event["op"] in "cud" and event["source"]["table"] != _MARKER_TABLE
                self._check()
            raise Failed(f"{self.name}: the marker did not reach {self.topic_of(stream)}\n{self._logs()}")
        finally:
            consumer.close()

    def applied(self, cursor: Any) -> Applied:
        """How far the target is, by a cursor of it; several streams together, as of the newest."""
        cursor.execute("SELECT sum(applied_events), max(updated_at) FROM crossfade.stream WHERE migration = %s", (self.name,))
        events, at = cursor.fetchone()
        return Applied(int(events), float(at))

    def place(self, cursor: Any) -> Place:
        """Where the stream stands, with no worker there."""
        cursor.execute(f"SELECT {', '.join(_PLACE)} FROM crossfade.stream WHERE migration = %s", (self.name,))
        return tuple(cursor.fetchone())

    def go_back(self, cursor: Any, place: Place) -> None:
        """Has the stream stand where it stood, so that what came since is applied again; with no worker there."""
        cursor.execute("DELETE FROM crossfade.marker WHERE migration = %s", (self.name,))
        cursor.execute(
            f"UPDATE crossfade.stream SET {', '.join(f'{one} = %s' for one in _PLACE)} WHERE migration = %s", (*place, self.name)
        )

    def marked(self, cursor: Any, token: str, streams: int = 1) -> float | None:
        """When the marker was written to the target, by a cursor of it, by the last of so many streams; None when it is not there yet."""
        cursor.execute("SELECT count(*), max(at) FROM crossfade.marker WHERE migration = %s AND token = %s", (self.name, token))
        came, at = cursor.fetchone()
        return float(at) if came == streams else None

    def until(self, look: Callable[[], T | None], what: str) -> T:
        """Looks until there is an answer. Raises `Failed` when a service died or it takes too long."""
        deadline = time.monotonic() + WAIT_SECONDS
        while (found := look()) is None:
            self._check()
            if time.monotonic() > deadline:
                raise Failed(f"{self.name}: {what} not within {WAIT_SECONDS:.0f} s\n{self._logs()}")
            time.sleep(_LOOK_EVERY)
        return found

    def _check(self) -> None:
        for running in self._processes.values():
            if not running.is_alive():
                raise running.death()
