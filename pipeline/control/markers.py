"""Markers: "everything up to here is applied" is proved by one coming out of the stream, never by a sleep or by comparing gauges."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable

import structlog

from connectors.base import Reader
from pipeline.apply.batch import HEARTBEAT
from pipeline.errors import CrossfadeError, TimedOut, Transient
from pipeline.store.store import Store

log = structlog.get_logger("marker")


_HEALTH_SECONDS = 0.25
NO_WORKER_SECONDS = 20.0
"""Without a sign of life of any worker for so long, nobody waits for a marker any more."""


def new_token() -> str:
    """A token nobody has used before."""
    return f"m:{uuid.uuid4().hex}"


def wait_applied(
    store: Store,
    token: str,
    streams: int,
    *,
    timeout: float,
    cancelled: Callable[[], bool] = lambda: False,
    wake: Callable[[float], None] | None = None,
) -> None:
    """Waits until the marker came out of every stream; `wake` returns when it is worth another look, or after so many seconds. Raises
    `TimedOut`; CrossfadeError when a stream stopped meanwhile."""
    deadline = time.monotonic() + timeout
    pause, heard, looked = 0.005, time.monotonic(), time.monotonic()
    while store.markers_applied(token) < streams:
        now = time.monotonic()
        if wake is not None and now - looked < _HEALTH_SECONDS and now < deadline:
            wake(min(_HEALTH_SECONDS, deadline - now))
            continue
        looked = time.monotonic()
        stopped = [row for row in store.streams() if row.state == "stopped"]
        if stopped:
            raise CrossfadeError(f"stream {stopped[0].name} is stopped: {stopped[0].error}")
        if cancelled():
            raise CrossfadeError("cancelled while waiting for a marker")
        if any("apply" in w.roles for w in store.workers()):
            heard = time.monotonic()
        elif time.monotonic() - heard > NO_WORKER_SECONDS:
            raise TimedOut(f"no marker came through: no worker of migration {store.migration} is running", hint="run crossfade worker")
        if time.monotonic() > deadline:
            raise TimedOut(f"no marker came through within {timeout:.0f} s")
        if wake is None:
            time.sleep(pause)
            pause = min(0.1, pause * 1.5)


def settle(store: Store, reader: Reader, streams: int, *, timeout: float = 300.0, wake: Callable[[float], None] | None = None) -> str:
    """Writes a marker to the source and waits until everything before it is applied; answers the marker's token."""
    token = new_token()
    reader.marker(token)
    wait_applied(store, token, streams, timeout=timeout, wake=wake)
    return token


class Heartbeat(threading.Thread):
    """Writes a lag marker to the source every `interval` seconds (may be set anew): measures lag end to end, keeps quiet slots moving."""

    def __init__(self, reader: Reader, stop: threading.Event, *, interval: float = 0.2, clock: Callable[[], float] = time.time) -> None:
        super().__init__(name="heartbeat", daemon=True)
        self._reader, self._stop_event, self.interval, self._clock = reader, stop, interval, clock
        self.error: str | None = None

    def run(self) -> None:
        while not self._stop_event.wait(self.interval):
            try:
                self._reader.marker(f"{HEARTBEAT}{self._clock() * 1000:.1f}")
                self.error = None
            except Transient as error:
                if self.error is None:
                    log.warning("no heartbeat on the source", error=str(error))
                self.error = str(error)
                self._stop_event.wait(1.0)
            except CrossfadeError as error:
                log.error("heartbeats end", error=str(error))
                self.error = str(error)
                self._stop_event.wait(10.0)
        self._reader.close()
