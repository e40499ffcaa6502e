"""The processes of one demo in its folder: started, watched while anything is waited for, stopped; crossfade's commands run to the end."""

from __future__ import annotations

import contextlib
import dataclasses
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from deploy.local import process
from deploy.local.process import Process
from deploy.local.stack import Stack
from pipeline.errors import CrossfadeError, StackError, TimedOut

_CROSSFADE = (sys.executable, "-c", "from pipeline.cli import main; main()")
_LOOK_EVERY = 0.2
_LAST_WORD_S = 120.0


@dataclasses.dataclass(slots=True)
class Runner:
    """`env` is that of crossfade's processes."""

    folder: Path
    stack: Stack
    env: dict[str, str] = dataclasses.field(default_factory=dict)
    running: list[Process] = dataclasses.field(default_factory=list)

    def start(self, name: str, command: list[str], env: Mapping[str, str]) -> Process:
        """One more process; its death ends whatever is waited for."""
        log = self.folder / f"{name}.log"
        started = process.start(name, command, folder=self.folder, log=log, env=env, dies_with_us=signal.SIGTERM)
        self.running.append(started)
        return started

    def service(self, name: str, file: Path) -> None:
        """crossfade's controller or worker."""
        self.start(name, [*_CROSSFADE, name, str(file)], self.env)

    def crossfade(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Runs a crossfade command to its end; answers its stdout. Raises CrossfadeError with its error line."""
        command = subprocess.Popen(
            [*_CROSSFADE, *arguments],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is for the demo to pass on
        )
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    out, err = command.communicate(timeout=_LOOK_EVERY)
                    break
                self.check()
        finally:
            if command.poll() is None:
                command.terminate()
                command.communicate()
        if command.returncode not in accept:
            last = (err.strip().splitlines() or ["(nothing)"])[-1]
            raise CrossfadeError(f"crossfade {arguments[0]} ended with {command.returncode}: {last.removeprefix('crossfade: ')}")
        return out

    def check(self) -> None:
        """Raises StackError when a server or one of our processes has died."""
        self.stack.check()
        for one in self.running:
            if not one.is_alive():
                raise one.death()

    def until(self, condition: Callable[[], bool], otherwise: str, timeout: float = _LAST_WORD_S) -> None:
        """Waits for it, while everything lives."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TimedOut(f"{otherwise} after {timeout:.0f} s")
            time.sleep(0.02)

    def hold(self, seconds: float) -> None:
        """Lets so much time pass, while everything lives."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(_LOOK_EVERY, left))

    def stop_everything(self, before_servers: Callable[[], None]) -> None:
        """In the order in which nobody loses what it needs. Ctrl-C is not heard meanwhile: it would leave something running."""
        with _deaf():
            for one in self.running:
                with contextlib.suppress(StackError):
                    one.stop(signal.SIGTERM, 30.0)
            self.running.clear()
            with contextlib.suppress(StackError):
                before_servers()
            self.stack.down(wipe=True)


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, how in before.items():
            signal.signal(number, how)
