"""The demo's hands: crossfade's commands run as anybody would, services and the load kept going, a look whether all still lives."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import orjson

from deploy.local import process
from deploy.local.process import Process
from pipeline.errors import CrossfadeError, StackError, TimedOut

_CROSSFADE = (sys.executable, "-c", "from pipeline.cli import main; main()")
_LOOK_EVERY = 0.2


class Commands:
    """Runs in `folder`, with `env`. `check` raises when a server has died; nothing is waited for any longer then."""

    def __init__(self, folder: Path, env: Mapping[str, str], check: Callable[[], None]) -> None:
        self._folder, self._env, self._check_servers = folder, dict(env), check
        self._running: list[Process] = []

    def crossfade(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> str:
        """Runs a crossfade command to its end; answers its stdout. Raises CrossfadeError with its error line."""
        command = subprocess.Popen(
            [*_CROSSFADE, *arguments],
            cwd=self._folder,
            env=self._env,
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

    def document(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> dict[str, Any]:
        """What it says with --json."""
        found: dict[str, Any] = orjson.loads(self.crossfade(*arguments, "--json", accept=accept))
        return found

    def service(self, name: str, file: Path) -> None:
        """Starts `crossfade controller` or `crossfade worker`."""
        self.start(name, [*_CROSSFADE, name, str(file)])

    def start(self, name: str, command: list[str]) -> Process:
        """Starts a process that is to live until it is stopped. Its output goes to `<name>.log`."""
        log = self._folder / f"{name}.log"
        started = process.start(name, command, folder=self._folder, log=log, env=self._env, dies_with_us=signal.SIGTERM)
        self._running.append(started)
        return started

    def end(self, one: Process) -> None:
        """Stops one, which may take its time."""
        self._running.remove(one)
        one.stop(signal.SIGTERM, 90.0)

    def end_all(self) -> None:
        for one in self._running:
            with contextlib.suppress(StackError):
                one.stop(signal.SIGTERM, 30.0)
        self._running.clear()

    def check(self) -> None:
        """Raises StackError when a server or one of our processes has died."""
        self._check_servers()
        for one in self._running:
            if not one.is_alive():
                raise one.death()

    def until(self, condition: Callable[[], bool], otherwise: str, timeout: float = 120.0) -> None:
        """Waits for it. Raises TimedOut."""
        deadline = time.monotonic() + timeout
        while not condition():
            self.check()
            if time.monotonic() > deadline:
                raise TimedOut(f"{otherwise} after {timeout:.0f} s")
            time.sleep(0.02)

    def hold(self, seconds: float) -> None:
        """So long nothing is done, and everything must stay alive."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(_LOOK_EVERY, left))
