"""Keys that are built over copied rows, beside the copying of other tables."""

from __future__ import annotations

import functools
import threading
import time

import structlog

from connectors.base import TargetTable, Writer
from pipeline.control.beside import Beside
from pipeline.control.runtime import Runtime

log = structlog.get_logger("copy")

MOST_TOUCHED = 20_000
"""Keys that the stream may touch in a table before it gets its key: each of them is read from the source once more."""
_LOOK_EVERY = 1.0
_AT_ONCE = 2


class KeyBuilds:
    """The key builds that are under way."""

    def __init__(self, runtime: Runtime, ended: threading.Event) -> None:
        self._runtime, self._ended = runtime, ended
        self._under_way: dict[int, Beside] = {}
        self._looked: dict[int, float] = {}

    def wanted(self, target: TargetTable, writer: Writer) -> bool:
        """Whether a table that is still being filled is to have its key now: under way, or the stream touches too much of it."""
        if target.number in self._under_way:
            return True
        now = time.monotonic()
        if now - self._looked.get(target.number, 0.0) < _LOOK_EVERY:
            return False
        self._looked[target.number] = now
        return writer.touched(target, MOST_TOUCHED) >= MOST_TOUCHED

    def turn(self) -> None:
        """Lets go of those that have ended: their tables are nobody's to ask about any more. Raises what one failed with; what a passing
        fault ended is begun again by `build`."""
        for number, build in list(self._under_way.items()):
            if build.over:
                del self._under_way[number]
                build.done()

    def build(self, target: TargetTable) -> None:
        """Begins it, unless it is under way or others have to end first."""
        if target.number not in self._under_way and len(self._under_way) < _AT_ONCE:
            what = f"the key of table {target.table.id}"
            self._under_way[target.number] = Beside(what, functools.partial(_build, self._runtime, target), self._ended)


def _build(runtime: Runtime, target: TargetTable) -> None:
    began = time.monotonic()
    writer = runtime.writer("crossfade keys")
    try:
        writer.build_key(target)
    finally:
        writer.close()
    log.info("key built", table=str(target.table.id), s=round(time.monotonic() - began, 3))
