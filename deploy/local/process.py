"""A supervised child: started in its own session, waited for, its death told with the end of its log, stopped with TERM then KILL.

A process is known by its pid together with its start time, so one that was started by another run can be taken over, and a
reused pid is never signalled: signals go through a pidfd that is opened before the start time is compared.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import dataclasses
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from deploy.local.place import User
from pipeline.errors import StackError, TimedOut

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_TRY_AGAIN_S = 0.05
_TAIL_LINES = 12
_TAIL_CHARS = 2_000

_spawner = concurrent.futures.ThreadPoolExecutor(1, "stack-spawner")
"""The kernel sends the parent-death signal when the *thread* that forked ends, so one thread that lasts as long as the process forks."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ident:
    """One process of this boot: pid and start time in clock ticks since boot."""

    pid: int
    started: int


def ident(pid: int) -> Ident | None:
    """Who has this pid now; None when nobody, or only what is left of the dead.

    A killed process whose first thread is dead but others are not yet still has its files and ports: it lives.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] in "ZX" and int(fields[17]) <= 1 else Ident(pid, int(fields[19]))


def is_alive(who: Ident) -> bool:
    """Whether this very process still runs."""
    return ident(who.pid) == who


def leftovers(program: Path, folder: Path) -> list[Ident]:
    """Processes running `program` in `folder` or below: what a starter that died before it could note them has left."""
    wanted, executable = folder.resolve(), str(program.resolve())
    found: list[Ident | None] = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if os.readlink(entry / "exe") == executable and Path(os.readlink(entry / "cwd")).is_relative_to(wanted):
                found.append(ident(int(entry.name)))
        except OSError:  # gone, or somebody else's
            continue
    return [who for who in found if who is not None]


def tail(log: Path, since: int = 0) -> str:
    """The last lines of a log, no more than fit on a screen, only what was written after offset `since`."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(since if since <= size else 0, size - 16_384))
            lines = file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return " | ".join(line.strip() for line in lines[-_TAIL_LINES:] if line.strip())[-_TAIL_CHARS:]


class Process:
    """One running server, started by this process or by another one."""

    def __init__(self, name: str, who: Ident, log: Path, *, log_from: int = 0, child: subprocess.Popen[bytes] | None = None) -> None:
        self.name = name
        self.ident = who
        self._log = log
        self._log_from = log_from
        self._child = child

    @property
    def pid(self) -> int:
        return self.ident.pid

    def is_alive(self) -> bool:
        """Also reaps it, if it was this process's child and is dead."""
        if self._child is not None and self._child.poll() is not None:
            return False
        return is_alive(self.ident)

    def wait(self, timeout: float) -> bool:
        """Waits until it is gone; False when it still runs after `timeout` seconds."""
        if not self.is_alive():
            return True
        with _pidfd(self.ident) as descriptor:
            if descriptor is not None:
                poll = select.poll()
                poll.register(descriptor, select.POLLIN)
                poll.poll(timeout * 1000)
        return not self.is_alive()

    def wait_ready(self, ready: Callable[[], bool], timeout: float) -> None:
        """Asks `ready` until it says yes. Raises StackError when the process dies, TimedOut when it takes too long."""
        deadline = time.monotonic() + timeout
        while not ready():
            if self.wait(_TRY_AGAIN_S):
                raise self.death()
            if time.monotonic() > deadline:
                raise TimedOut(f"{self.name} is not ready after {timeout:.0f} s; its log {self._log} ends: {self.log_end()}")

    def log_end(self) -> str:
        return tail(self._log, self._log_from)

    def death(self) -> StackError:
        """What to tell about a process that is gone."""
        code = self._child.returncode if self._child is not None else None
        how = "is gone" if code is None else f"exited with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        return StackError(f"{self.name} (pid {self.pid}) {how}; its log {self._log} ends: {self.log_end() or '(nothing)'}")

    def stop(self, how: signal.Signals, timeout: float) -> None:
        """Asks it to end; after `timeout` seconds kills it and all it started."""
        self._send(how)
        if not self.wait(timeout):
            self.kill()

    def kill(self) -> None:
        """SIGKILL to it and to everything it started; returns when all of them are gone."""
        family = [self.ident, *descendants(self.ident)]
        for who in family:
            with _pidfd(who) as descriptor:
                if descriptor is not None:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        for who in family[1:]:
            Process(self.name, who, self._log).wait(10)
        if not self.wait(10):
            raise StackError(f"{self.name} (pid {self.pid}) does not end, not even by SIGKILL")

    def _send(self, what: signal.Signals) -> None:
        with _pidfd(self.ident) as descriptor:
            if descriptor is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, what)


@contextlib.contextmanager
def _pidfd(who: Ident) -> Iterator[int | None]:
    """A handle on exactly this process, None when it is gone."""
    try:
        descriptor = os.pidfd_open(who.pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor if is_alive(who) else None
    finally:
        os.close(descriptor)


def descendants(of: Ident) -> list[Ident]:
    """Its children, theirs, and so on."""
    children: dict[int, list[Ident]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = (entry / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(Ident(int(entry.name), int(fields[19])))
    found: list[Ident] = []
    queue = [of.pid]
    while queue:
        for child in children.get(queue.pop(), ()):
            found.append(child)
            queue.append(child.pid)
    return found


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    env: Mapping[str, str],
    user: User | None = None,
    dies_with_us: signal.Signals | None = None,
) -> Process:
    """Starts a server in its own session, output to the end of `log`; `dies_with_us` is what it gets when this process is gone."""

    def before_exec() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(dies_with_us or 0), 0, 0, 0)

    def fork() -> Process:
        with log.open("ab") as out:
            os.fchmod(out.fileno(), 0o600)
            written = out.tell()
            child = subprocess.Popen(
                command,
                cwd=folder,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=before_exec if dies_with_us else None,  # noqa: PLW1509 - one C call; setuid clears the setting, so it comes after
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=[] if user else None,
                umask=0o077,
            )
        who = ident(child.pid)
        if who is None:
            child.wait()
        return Process(name, who or Ident(child.pid, -1), log, log_from=written, child=child)

    try:
        return _spawner.submit(fork).result()
    except OSError as error:
        raise StackError(f"{name} cannot be started: {command[0]}: {error.strerror or error}") from error


def run(
    name: str, command: Sequence[str], *, folder: Path, log: Path, env: Mapping[str, str], user: User | None = None, timeout: float = 120
) -> None:
    """Runs a tool to its end. Raises StackError with the end of its log unless it succeeds."""
    process = start(name, command, folder=folder, log=log, env=env, user=user, dies_with_us=signal.SIGKILL)
    try:
        if not process.wait(timeout):
            raise TimedOut(f"{name} did not end within {timeout:.0f} s; its log {log} ends: {process.log_end()}")
    finally:
        if process.is_alive():
            process.kill()
    if process._child is not None and process._child.returncode != 0:
        raise process.death()
