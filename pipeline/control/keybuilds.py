"""Keys that are built over copied rows, beside the copying of other tables."""

from __future__ import annotations

import threading
import time

import structlog

from connectors.base import TargetTable, Writer
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError, Transient

log = structlog.get_logger("copy")

MOST_TOUCHED = 20_000
"""Keys that the stream may touch in a table before it gets its key: each of them is read from the source once more."""
_LOOK_EVERY = 1.0
_AT_ONCE = 2


class KeyBuilds:
    """The key builds that are under way, a thread each."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._under_way: dict[int, _Build] = {}
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

    def build(self, target: TargetTable) -> None:
        """Begins it, or looks how it went. Raises what it failed with, once; a passing fault is tried again with the next call."""
        build = self._under_way.get(target.number)
        if build is None:
            if sum(build.is_alive() for build in self._under_way.values()) < _AT_ONCE:
                self._under_way[target.number] = build = _Build(self._runtime, target)
                build.start()
        elif not build.is_alive():
            del self._under_way[target.number]
            if isinstance(build.fault, Transient):
                log.warning("key again", table=str(target.table.id), error=str(build.fault))
            elif build.fault is not None:
                raise build.fault


class _Build(threading.Thread):
    """One of them, in a session of its own. Nobody waits for it at the end of the process: what it had done by then is rolled back."""

    def __init__(self, runtime: Runtime, target: TargetTable) -> None:
        super().__init__(name=f"key-{target.number}", daemon=True)
        self._runtime, self._target = runtime, target
        self.fault: CrossfadeError | None = None

    def run(self) -> None:
        began = time.monotonic()
        writer = self._runtime.writer("crossfade keys")
        try:
            writer.build_key(self._target)
            log.info("key built", table=str(self._target.table.id), s=round(time.monotonic() - began, 3))
        except CrossfadeError as error:
            self.fault = error
        finally:
            writer.close()
