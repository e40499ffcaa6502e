"""The whole embedded stack on one machine: PostgreSQL and MariaDB servers, Kafka, Kafka Connect.

    with Stack() as stack:
        stack.postgres["source"].url()

Servers end with the process that started them, unless it asked for `up(detached=True)`: then any later process finds them by the
stack's folder, and `down` may come from there.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import select
import shutil
import threading
import types
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from deploy.local import artifacts, place, process, state
from deploy.local.component import Component, Kept, Surroundings
from deploy.local.connect import Connect
from deploy.local.filelock import locked
from deploy.local.kafka import Kafka
from deploy.local.mariadb import MariaDB
from deploy.local.postgres import Postgres
from deploy.local.process import Process
from deploy.local.state import Layout, State
from pipeline.errors import BadInput, StackError

_OURS = ("connect", "data", "kafka", "logs", "passwords", "secrets", "state.json")
_LOCK = "lock"


class Stack:
    """The servers of one folder. `kafka` and `connect` raise StackError on a stack without them."""

    def __init__(
        self,
        root: Path | None = None,
        *,
        postgres: Sequence[str] = ("source", "target"),
        mariadb: Sequence[str] = ("source",),
        kafka: bool = True,
        connect: bool = True,
        durable: bool = True,
        jdbc_sink: bool = False,
        roomy: bool = False,
    ) -> None:
        """`roomy`: each MariaDB has 2 GiB for its cache and as much for its log, each PostgreSQL 1 GiB; else 256 MiB."""
        if connect and not kafka:
            raise BadInput("a stack with Connect needs Kafka")
        self.root = (root or place.default_root()).absolute()
        self.secrets_dir = self.root / "secrets"
        self._layout = Layout(tuple(postgres), tuple(mariadb), kafka, connect, jdbc_sink, durable, roomy)
        self._writing = threading.Lock()
        self._user = place.server_user()
        self._state = state.read(self.root / "state.json") or State(self._layout, place.server_data(self.root, self._user))
        around = Surroundings(
            self.root, self._state.data, self._user, durable, self._ports_taken, self._save, lambda: self._state.owner is not None
        )
        self.postgres = {name: Postgres(f"postgres-{name}", around, roomy=roomy) for name in postgres}
        self.mariadb = {name: MariaDB(f"mariadb-{name}", around, roomy=roomy) for name in mariadb}
        self._kafka = Kafka("kafka", around) if kafka else None
        self._connect = Connect("connect", around, kafka=self.kafka, secrets_dir=self.secrets_dir, jdbc_sink=jdbc_sink) if connect else None
        self._load()

    @classmethod
    def at(cls, root: Path | None = None, *, new: bool = False, **changes: Any) -> Self:
        """The stack that is in a folder already, with the servers it was started with but for `changes`.

        Raises StackError when there is none, unless it may be `new`.
        """
        root = (root or place.default_root()).absolute()
        found = state.read(root / "state.json")
        if found is None and not new:
            raise StackError(f"there is no stack in {root}", hint="start one with `crossfade stack up`")
        return cls(root, **{**dataclasses.asdict(found.layout if found else Layout()), **changes})

    # its parts

    @property
    def kafka(self) -> Kafka:
        if self._kafka is None:
            raise StackError("this stack has no Kafka")
        return self._kafka

    @property
    def connect(self) -> Connect:
        if self._connect is None:
            raise StackError("this stack has no Kafka Connect")
        return self._connect

    @property
    def kafka_bootstrap(self) -> str:
        return self.kafka.bootstrap

    @property
    def connect_url(self) -> str:
        return self.connect.url

    @property
    def components(self) -> list[Component]:
        """All servers, in the order in which they may be stopped."""
        return [*filter(None, (self._connect, self._kafka)), *self.postgres.values(), *self.mariadb.values()]

    def env(self) -> dict[str, str]:
        """What a shell or an application needs. URLs carry passwords."""
        found: dict[str, str] = {"CROSSFADE_SECRETS_DIR": str(self.secrets_dir)}
        if self._kafka is not None:
            found["CROSSFADE_KAFKA"] = self._kafka.bootstrap
        if self._connect is not None:
            found["CROSSFADE_CONNECT"] = self._connect.url
        for prefix, servers in (("PG", self.postgres), ("MARIADB", self.mariadb)):
            for name, server in servers.items():
                found[f"{prefix}_URL" if name == "source" else f"{prefix}_{name.upper().replace('-', '_')}_URL"] = server.url(
                    with_password=True
                )
        return found

    def status(self) -> dict[str, dict[str, Any]]:
        """Each server's `state` (up, dead, down), pid, port, URL without password, log."""
        return {component.name: _status(component) for component in self.components}

    # up and down

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self.down()

    def up(self, *, detached: bool = False) -> None:
        """Starts what does not run, and returns when all of it answers. Raises StackError; then nothing of it runs."""
        self._make_root()
        with locked(self.root / _LOCK):
            self._load()
            self._settle_with_the_past()
            layout = self._layout
            artifacts.everything(
                self._user, kafka=layout.kafka, connect=layout.connect, mariadb=bool(layout.mariadb), jdbc_sink=layout.jdbc_sink
            )
            self._state.owner = None if detached else state.myself()
            self._state.wanted = "up"
            self._state.layout = layout
            self._save()
            try:
                self._start_all()
            except BaseException:
                self._stop_all()
                raise

    def down(self, *, wipe: bool = False) -> None:
        """Stops all servers, whoever started them; with `wipe`, removes their data, logs and passwords too."""
        if not self.root.is_dir():
            return
        with locked(self.root / _LOCK):
            self._load()
            self._stop_all()
            if wipe:
                self._wipe()
                (self.root / _LOCK).unlink()
                with contextlib.suppress(OSError):
                    self.root.rmdir()

    def check(self) -> None:
        """Raises StackError with the end of its log when a server has died."""
        for component in self.components:
            component.check()

    def watch(self) -> None:
        """Waits until a server dies and raises what `check` would; returns when another process takes the stack down."""
        poll = select.poll()
        with contextlib.ExitStack() as descriptors:
            for component in self.components:
                if (pid := component.pid) is None:
                    return self._report()
                descriptor = os.pidfd_open(pid)
                descriptors.callback(os.close, descriptor)
                poll.register(descriptor, select.POLLIN)
            poll.poll()
        self._report()

    def _report(self) -> None:
        now = state.read(self.root / "state.json")
        if now is not None and now.wanted == "up":
            self.check()

    # how

    def _load(self) -> None:
        """Reads the state file: servers in it that run are taken over."""
        self._state = state.read(self.root / "state.json") or State(self._layout, self._state.data)
        for component in self.components:
            component.take_over(self._state.components.get(component.name) or Kept())

    def _save(self) -> None:
        with self._writing:
            for component in self.components:
                self._state.components[component.name] = component.kept
            state.write(self.root / "state.json", self._state)

    def _ports_taken(self) -> set[int]:
        return {port for component in self.components for port in component.kept.ports.values()}

    def _make_root(self) -> None:
        """Makes the folders. An existing folder that is not a stack's is refused, since `wipe` would empty it."""
        if self.root.is_dir():
            strangers = [
                entry.name
                for entry in self.root.iterdir()
                if entry.name not in (*_OURS, _LOCK) and not entry.name.startswith(".state.json.")
            ]
            if strangers:
                raise BadInput(f"{self.root} holds something else than a stack ({sorted(strangers)[0]})", hint="name an empty folder")
        else:
            missing = [folder for folder in (self.root, *self.root.parents) if not folder.exists()]
            for folder in reversed(missing):
                folder.mkdir(mode=0o755, exist_ok=True)
                folder.chmod(0o755 if self._user or folder != self.root else 0o700)
        for name in ("logs", "passwords", "secrets"):
            place.own_dir(self.root / name)
        place.own_dir(self._state.data, 0o755 if self._user else 0o700)

    def _settle_with_the_past(self) -> None:
        """Servers of an owner that is dead are on their way out: see them off. So are those that this stack no longer has."""
        owner = self._state.owner
        orphaned = owner is not None and owner != state.myself()
        if orphaned and owner is not None and process.is_alive(owner):
            raise StackError(f"the stack in {self.root} belongs to process {owner.pid}, which runs", hint="end that, or use another folder")
        mine = {component.name: component for component in self.components}
        for component in mine.values():
            if orphaned and component.is_alive():
                component.stop()
        for name, kept in self._state.components.items():
            if name not in mine and kept.process is not None and process.is_alive(kept.process):
                Process(name, kept.process, self.root / "logs" / f"{name}.log").stop(Component.stop_signal, Component.stop_seconds)
                kept.process = None
        if orphaned:
            self._load()

    def _start_all(self) -> None:
        def kafka_then_connect() -> None:
            for component in filter(None, (self._kafka, self._connect)):
                component.start()

        together([kafka_then_connect, *(server.start for server in (*self.mariadb.values(), *self.postgres.values()))])

    def _stop_all(self) -> None:
        self._state.wanted = "down"
        self._save()
        if self._connect is not None:
            self._connect.stop()
        together([component.stop for component in self.components if component is not self._connect])
        self._state.owner = None
        self._save()

    def _wipe(self) -> None:
        shutil.rmtree(self._state.data, ignore_errors=True)
        for name in _OURS:
            path = self.root / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        self._state = State(self._layout, self._state.data)


def _status(component: Component) -> dict[str, Any]:
    alive = component.is_alive()
    found: dict[str, Any] = {
        "state": "up" if alive else "dead" if component.kept.process is not None else "down",
        "pid": component.pid,
        "port": component.kept.ports.get("port"),
        "log": str(component.log),
    }
    if isinstance(component, Postgres | MariaDB) and found["port"] is not None:
        found["url"] = component.url()
    elif isinstance(component, Connect) and found["port"] is not None:
        found["url"] = component.url
    elif isinstance(component, Kafka) and found["port"] is not None:
        found["bootstrap"] = component.bootstrap
    return found


def together(jobs: Iterable[Callable[[], None]]) -> None:
    """Runs all at once, waits for all, raises the first error."""
    jobs = list(jobs)
    if not jobs:
        return
    with concurrent.futures.ThreadPoolExecutor(len(jobs), "stack") as pool:
        running = [pool.submit(job) for job in jobs]
    for done in running:
        done.result()
