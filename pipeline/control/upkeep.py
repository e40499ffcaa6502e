"""What is done all the time for one direction: its connectors and kept slots are watched, gaps healed; while it applies, rows that the
stream could not finish by itself are read again, and the continuous verify runs."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable

import structlog

from connectors.base import Reader, Writer
from pipeline.backfill.reread import Mending
from pipeline.control.connectorwatch import ConnectorWatch
from pipeline.control.markers import new_token
from pipeline.control.resend import Resender
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.control.verifying import BackgroundVerify
from pipeline.errors import ConnectError, CrossfadeError, TimedOut, Transient

log = structlog.get_logger("upkeep")

WATCH_SECONDS = 5.0


class Upkeep:
    """Of one direction, by its controller. Call `watch` always, `turn` as long as it applies, `rest` while it does not; close it
    afterwards. `keep_lease` is entered while something takes long."""

    def __init__(self, runtime: Runtime, keep_lease: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self.runtime = runtime
        self._keep_lease = keep_lease
        self._watched_at = 0.0
        self._connectors, self._resender = ConnectorWatch(runtime), Resender(runtime)
        self._verifying: BackgroundVerify | None = None
        self._verify_stop = threading.Event()
        self._mending: Mending | None = None
        self._sessions: tuple[Reader, Writer] | None = None

    def turn(self) -> None:
        """One small step. Raises `Transient` for another one."""
        self._mend()
        if self.runtime.migration.verify.continuous and (self._verifying is None or not self._verifying.is_alive()):
            self._verify_stop = threading.Event()
            self._verifying = BackgroundVerify(self.runtime, self._verify_stop)
            self._verifying.start()

    def watch(self) -> None:
        """One look at the streams and their connectors. Raises CrossfadeError for what cannot go on without a person."""
        self._heal()
        if time.monotonic() - self._watched_at < WATCH_SECONDS:
            return
        self._watched_at = time.monotonic()
        store = self.runtime.store
        stopped = [row for row in store.streams() if row.state == "stopped"]
        if not stopped:
            self._resender.keep()
        store.forget_markers(time.time() - 3600)
        self._connectors.look()
        if stopped:
            raise CrossfadeError(f"stream {stopped[0].name} stopped: {stopped[0].error}")

    def rest(self) -> None:
        """The verify stops where it is."""
        self._verify_stop.set()

    def renew(self) -> None:
        """The tables have other columns now."""
        if self._sessions is not None:
            for session in self._sessions:
                session.close()
        self._mending = self._sessions = None

    def close(self) -> None:
        """Ends what runs beside and lets go of the sessions."""
        self.rest()
        if self._verifying is not None:
            self._verifying.join(10)
            self._verifying = None
        self.renew()

    def _heal(self) -> None:
        """Streams that stopped at a gap."""
        store = self.runtime.store
        for row in store.streams():
            if row.state == "gap":
                try:
                    with self._keep_lease():
                        self._resender.heal(row)
                except (Transient, ConnectError, TimedOut) as error:
                    log.warning("cannot have it sent again yet", stream=row.name, error=str(error))
                except CrossfadeError:
                    store.set_stream(row.name, state="stopped", error=str(row.error))
                    raise

    def _mend(self) -> None:
        """Rows that a stream could not finish by itself after the copy, and rows that a repair which died has listed."""
        runtime, store = self.runtime, self.runtime.store
        tracked = [int(row.number) for row in store.tables() if row.tracked and row.phase == "copied"]
        if not tracked:
            return
        if self._mending is None:
            self._sessions = reader, writer = runtime.reader("crossfade mend"), runtime.writer("crossfade mend")
            streams = len(stream_plans(runtime))

            def marker() -> str:
                token = new_token()
                reader.marker(token)
                return token

            self._mending = Mending(reader, writer, marker, lambda token: store.markers_applied(token) >= streams, runtime.current)
        copies = runtime.copies()
        self._mending.turn([copies[number] for number in tracked])
