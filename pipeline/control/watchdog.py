"""Ends a crossing for a controller that has died in the middle of it: a small process of its own that outlives the one that started it.

`crossfade watchdog`, which nobody else needs, with nothing more on its command line. Through its standard input come JSON lines: the
migration (secrets are references in it) and the direction; then a crossing and its deadline; then "over". Unarmed it ends with its
starter. Armed it waits for "over". When its starter is gone it acts at once; when the starter lives but is late, at the deadline. What it
does is what a successor would do, by the journal: undo what is not decided, finish what is. It goes on trying for ten minutes. It dies with
the machine or the container: then the next controller does the same, and a pooler's own limit bounds how long clients wait.
"""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

import orjson
import structlog

from pipeline.control import failpoints
from pipeline.errors import CrossfadeError
from pipeline.spec.migration import Migration

if TYPE_CHECKING:
    from pipeline.control.crossing import Sides

_READY_SECONDS = 60.0
_ANSWER_SECONDS = 5.0
_AGAIN_SECONDS = 0.3
_GIVES_UP_SECONDS = 600.0
LATE_SECONDS = 0.3
"""A controller that lives undoes by itself at the deadline: so long it is given for that."""

log = structlog.get_logger("watchdog")


class Watch(Protocol):
    """What ends a crossing for a controller that has died. Started before the pause, since a process takes its time to start."""

    def ready(self) -> None:
        """Returns when it could be armed: starting takes its time, and nobody waits yet. Raises CrossfadeError when it does not start."""

    def arm(self, crossing: int, deadline: float) -> None:
        """From now on it ends this crossing when the caller dies, or at this moment (monotonic seconds). Raises CrossfadeError when it is
        gone."""

    def over(self) -> None:
        """The crossing has ended, one way or the other."""


class NoWatch:
    """Where nobody waits for a pooler to go on."""

    def ready(self) -> None:
        pass

    def arm(self, crossing: int, deadline: float) -> None:
        pass

    def over(self) -> None:
        pass


class Watchdog:
    """The starter's end. A context manager: leaving it unarmed, or after `over`, ends the process; leaving it armed does not."""

    def __init__(self, migration: Migration, direction: str) -> None:
        environment = {name: value for name, value in os.environ.items() if name != failpoints.VARIABLE}
        if failpoints.WATCHDOG in environment:
            environment[failpoints.VARIABLE] = environment.pop(failpoints.WATCHDOG)
        self._armed = False
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from pipeline.cli import main; main()", "watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # what ends the controller's group, a terminal or a supervisor, does not end this one
        )
        document = migration.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        self._tell({"migration": document, "direction": direction})

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if not self._armed:
            self.over()

    def ready(self) -> None:
        if self._hear(_READY_SECONDS) != b"ready":
            self._process.kill()
            raise CrossfadeError("the watchdog of the crossing does not start")

    def arm(self, crossing: int, deadline: float) -> None:
        self._tell({"crossing": crossing, "deadline": deadline})  # the monotonic clock is one for all processes of a machine
        if self._hear(_ANSWER_SECONDS) != b"armed":
            raise CrossfadeError("the watchdog of the crossing is gone")
        self._armed = True

    def over(self) -> None:
        self._armed = False
        assert self._process.stdin is not None and self._process.stdout is not None
        with contextlib.suppress(CrossfadeError, ValueError):
            self._tell({"over": True})
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(_ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _tell(self, what: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(orjson.dumps(what) + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise CrossfadeError("the watchdog of the crossing is gone") from None

    def _hear(self, seconds: float) -> bytes:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], seconds)[0]:
            return b""
        return self._process.stdout.readline().strip()


class _Lines:
    """Lines of standard input, waited for until a moment."""

    def __init__(self) -> None:
        self._rest = b""
        self.ended = False

    def next(self, until: float | None) -> dict[str, Any] | None:
        """The next one; None at its end (`ended`) or when the moment has come."""
        while b"\n" not in self._rest:
            left = None if until is None else max(0.0, until - time.monotonic())
            if self.ended or not select.select([0], [], [], left)[0]:
                return None
            block = os.read(0, 65536)
            self.ended = not block
            self._rest += block
        line, _, self._rest = self._rest.partition(b"\n")
        found: dict[str, Any] = orjson.loads(line)
        return found


def _say(word: bytes) -> None:
    with contextlib.suppress(OSError):  # the starter may be gone
        os.write(1, word + b"\n")


def _needed(lines: _Lines) -> int | None:
    """Waits; the crossing that is to be ended now, if there is one."""
    crossing: int | None = None
    deadline: float | None = None
    while True:
        line = lines.next(deadline)
        if line is not None:
            if "over" in line:
                return None
            crossing, deadline = int(line["crossing"]), float(line["deadline"])
            _say(b"armed")
        else:
            return crossing


def _end(both: Sides, which: int, *, alone: Callable[[], bool]) -> bool:
    """Ends the crossing if it is open; whether it is ended. A decided one is left to a starter that lives: it finishes it."""
    from pipeline.control.crossing import Crosser

    with contextlib.closing(Crosser(both)) as crosser:
        crossing = crosser.journal.open()
        if crossing is None or crossing.id != which:
            return True  # another one is another controller's, with a watchdog of its own
        if crossing.state == "decided" and not alone():
            return False
        failpoints.here("watchdog.acts")
        crossed = crosser.recover(crossing)
        log.warning("ended a crossing for its controller", migration=both.there.name, direction=both.direction, crossed=crossed)
        return True


def serve() -> int:
    """0: it was not needed, or it has ended the crossing. 1: it could not."""
    lines = _Lines()
    given = lines.next(None)
    if given is None:
        return 0
    migration = Migration.model_validate(given["migration"])
    from pipeline.control.crossing import Crosser
    from pipeline.control.cutover import sides
    from pipeline.control.runtime import Runtime

    # What can be read beforehand, catalogs above all: one of the two sides may be away when it has to act.
    both = sides(Runtime(migration), given["direction"])
    Crosser(both).close()
    _say(b"ready")
    crossing = _needed(lines)
    if crossing is None:
        return 0
    until = time.monotonic() + _GIVES_UP_SECONDS
    over = False

    def alone() -> bool:
        nonlocal over
        over = over or "over" in (lines.next(time.monotonic()) or {})
        return lines.ended

    while time.monotonic() < until:
        try:
            if _end(both, crossing, alone=alone) or over:
                return 0
        except CrossfadeError as error:
            log.warning("again in a moment", error=str(error))
        time.sleep(_AGAIN_SECONDS)
    return 1
