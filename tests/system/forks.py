"""`crossfade` processes forked off one that has imported everything: a command then costs what it does, not the second of processor time that
Python takes to import it. Apart from that they are processes like any: own environment, folder, standard streams, session, exit code.

Run as a module this is the process that they are forked off; it ends with the one that started it.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import pkgutil
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_LARGEST = 1 << 17  # bytes of one request: arguments and environment
_PACKAGES = ("pipeline", "connectors", "transforms")


class Forked:
    """One of them, used as a `subprocess.Popen`."""

    def __init__(self, arguments: Sequence[str], answers: socket.socket) -> None:
        self.args = list(arguments)
        self.returncode: int | None = None
        self._answers = answers
        try:
            self.pid = self._answer(60)
        except BaseException:
            answers.close()  # that tells the process that forks to end what it has forked for nobody
            raise

    def poll(self) -> int | None:
        """The exit code (a signal's number with a minus), None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits so many seconds for its end. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None:
            self.returncode = self._answer(timeout)
            self._answers.close()
        return self.returncode

    def stopped(self) -> bool:
        """Whether a signal has stopped it, and nothing has ended it."""
        try:
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        except OSError:
            return False

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _answer(self, timeout: float | None) -> int:
        if not select.select([self._answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        answer = self._answers.recv(64)
        assert answer, f"{self.args}: the process that forks is gone"
        return int(answer)


class Forks:
    """The process that forks, and what one asks it."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = ours
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(its.fileno())],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[its.fileno()],
            start_new_session=True,
        )
        its.close()

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdout: IO[bytes],
        stderr: IO[bytes],
        start_new_session: bool = False,
    ) -> Forked:
        """`crossfade` with these arguments; nothing is on its standard input."""
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        wish = {"arguments": list(arguments), "env": dict(env), "cwd": str(cwd), "session": start_new_session}
        with its, open(os.devnull, "rb") as nothing:
            fds = [nothing.fileno(), stdout.fileno(), stderr.fileno(), its.fileno()]
            socket.send_fds(self._control, [json.dumps(wish).encode()], fds)
        return Forked(arguments, ours)


def _serve(control: socket.socket) -> dict[str, object] | None:
    """Forks until nobody is there to ask. In a forked process it answers what that one is to be, with its standard streams in place."""
    running: dict[int, socket.socket] = {}
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready, _, _ = select.select([control, woken], [], [])
        if woken in ready:
            os.read(woken, 4096)
            while running:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                answers = running.pop(pid)
                with contextlib.suppress(OSError):  # nobody waits for it
                    answers.send(str(os.waitstatus_to_exitcode(status)).encode())
                answers.close()
        if control in ready:
            said, fds, _, _ = socket.recv_fds(control, _LARGEST, 4)
            if not said:
                return None
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                signal.signal(signal.SIGINT, signal.default_int_handler)
                for number, fd in enumerate(fds[:3]):
                    os.dup2(fd, number)
                for fd in (*fds, woken, wake):
                    os.close(fd)
                for one in (control, *running.values()):
                    one.close()
                wish: dict[str, object] = json.loads(said)
                return wish
            running[pid] = socket.socket(fileno=fds[3])
            try:
                running[pid].send(str(pid).encode())
            except OSError:
                os.kill(pid, signal.SIGKILL)  # nobody is there any more
            for fd in fds[:3]:
                os.close(fd)


def _import_everything() -> None:
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def _main() -> None:
    from pipeline.cli import build, main

    control = socket.socket(fileno=int(sys.argv[1]))
    _import_everything()
    build()
    wish = _serve(control)
    if wish is None:
        return
    if wish["session"]:
        os.setsid()
    os.chdir(str(wish["cwd"]))
    os.environ.clear()
    os.environ.update(wish["env"])  # type: ignore[call-overload]
    sys.argv[:] = ["-c", *wish["arguments"]]  # type: ignore[misc]
    sys.path[0] = ""
    code = 1
    try:
        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    # As the interpreter ends, but for taking all that was imported apart, which takes as long as a command.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    _main()
