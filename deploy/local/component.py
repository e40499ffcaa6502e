"""What every server of the stack has: a port, a folder, a process; start, stop, kill, restart.

A component prepares its folder, starts one process and knows when that answers. What it has to keep from one run to the next
(port, process) is a `Kept`, which the stack writes to its state file whenever `changed` is called.
"""

from __future__ import annotations

import abc
import dataclasses
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from deploy.local import ports, process
from deploy.local.place import User
from deploy.local.process import Ident, Process
from pipeline.errors import StackError

_PORT_TRIES = 3
_GRACE_S = 1.0
_LOG_BYTES = 16 * 1024 * 1024


@dataclasses.dataclass(slots=True)
class Kept:
    """What outlives the process that started the stack."""

    ports: dict[str, int] = dataclasses.field(default_factory=dict)
    process: Ident | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Surroundings:
    """What the stack hands to each of its components."""

    root: Path
    data: Path
    user: User | None
    durable: bool
    taken: Callable[[], set[int]]
    changed: Callable[[], None]
    owned: Callable[[], bool]


class Component(abc.ABC):
    """One server. `name` is unique in its stack and names its folder and its log."""

    port_names: ClassVar[tuple[str, ...]] = ("port",)
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    stop_seconds: float = 20
    ready_seconds: ClassVar[float] = 180  # a death is noticed at once; this is for machines with too much to do

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self.kept = Kept()
        self._around = around
        self._process: Process | None = None

    def take_over(self, kept: Kept) -> None:
        """Goes on from what the state file says: another process may have started or stopped it in the meantime."""
        if kept.process != self.kept.process:
            self._process = Process(self.name, kept.process, self.log) if kept.process is not None else None
        self.kept = kept

    # what each server says about itself

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """Its own folder, which is also its working directory."""

    @property
    @abc.abstractmethod
    def program(self) -> Path:
        """The file that it runs."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Makes its folder ready for `command`: data directory on the first start, settings on every start."""

    @abc.abstractmethod
    def arguments(self) -> Sequence[str]:
        """What comes after the program. Never a secret."""

    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers as itself, asked again and again while it starts."""

    def settle(self) -> None:  # noqa: B027 - nothing to do for most
        """Called once it is ready."""

    @property
    def runs_as(self) -> User | None:
        """Another user than the caller, for servers that refuse root."""
        return None

    @property
    def env(self) -> Mapping[str, str]:
        """Its whole environment. TMPDIR matters: a MariaDB that starts removes temporary tables it finds there, whoever's they are."""
        return {
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "TZ": "UTC",
            "HOME": str(self.folder),
            "TMPDIR": str(self.folder),
        }

    # what everybody may ask of it

    @property
    def log(self) -> Path:
        return self._around.root / "logs" / f"{self.name}.log"

    @property
    def port(self) -> int:
        """Where it listens on loopback."""
        try:
            return self.kept.ports["port"]
        except KeyError:
            raise StackError(f"{self.name} has never been started") from None

    @property
    def pid(self) -> int | None:
        """None when it does not run."""
        return self._process.pid if self._process is not None and self._process.is_alive() else None

    @property
    def process(self) -> Process | None:
        """The one started last, running or not."""
        return self._process

    def is_alive(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        """Starts it, or leaves it alone when it runs; returns when it answers. Keeps its ports unless somebody else has taken one."""
        if self.is_alive():
            return self._wait()
        for tries in range(_PORT_TRIES):
            self._clear_leftovers()
            self._choose_ports()
            self._turn_log()
            self.prepare()
            self._process = process.start(
                self.name,
                [str(self.program), *self.arguments()],
                folder=self.folder,
                log=self.log,
                env=self.env,
                user=self.runs_as,
                dies_with_us=self.stop_signal if self._around.owned() else None,
            )
            self.kept.process = self._process.ident
            self._around.changed()
            try:
                return self._wait()
            except StackError:
                lost_a_port = not self._process.is_alive() and not all(map(ports.is_free, self.kept.ports.values()))
                if not lost_a_port or tries == _PORT_TRIES - 1:
                    raise
        return None

    def stop(self) -> None:
        """Stops it cleanly, by force when that takes too long."""
        if self._process is not None:
            self._process.stop(self.stop_signal, self.stop_seconds)
        self._gone()

    def kill(self) -> None:
        """SIGKILL to it and all its children; returns when they are gone. Ports and data stay."""
        if self._process is not None:
            self._process.kill()
        self._gone()

    def restart(self) -> None:
        """Stop and start, same port, same data."""
        self.stop()
        self.start()

    def check(self) -> None:
        """Raises StackError with the end of its log when it was started and is dead."""
        if self._process is not None and self.kept.process is not None and not self._process.is_alive():
            raise self._process.death()

    def _wait(self) -> None:
        assert self._process is not None
        self._process.wait_ready(self.is_ready, self.ready_seconds)
        self.settle()

    def _gone(self) -> None:
        self.kept.process = None
        self._around.changed()

    def _clear_leftovers(self) -> None:
        """Ends what an earlier run left behind in this folder, so that no two servers share its data."""
        if self.folder.is_dir():
            for who in process.leftovers(self.program, self.folder):
                Process(self.name, who, self.log).stop(self.stop_signal, self.stop_seconds)

    def _turn_log(self) -> None:
        """A long log goes aside; the one before it is forgotten."""
        if self.log.exists() and self.log.stat().st_size > _LOG_BYTES:
            self.log.replace(self.log.with_suffix(".log.1"))

    def _choose_ports(self) -> None:
        for name in self.port_names:
            if name not in self.kept.ports or not ports.becomes_free(self.kept.ports[name], _GRACE_S):
                self.kept.ports = {**self.kept.ports, name: ports.choose(self._around.taken())}
        self._around.changed()
