"""The controller: leads by a lease, takes the migration from phase to phase, keeps the copy planned, watches what may break.

Each turn of the loop looks at the store and does the next small thing, so a controller that dies is simply followed by another.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
import uuid

import structlog

from pipeline.control.copying import Copying
from pipeline.control.crossover import SOURCE_LEADS, Crossover
from pipeline.control.markers import Heartbeat, new_token
from pipeline.control.prepare import prepare
from pipeline.control.reverse import prepared, reverse_runtime
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.control.upkeep import WATCH_SECONDS, Upkeep
from pipeline.errors import CrossfadeError, Fenced, Transient
from pipeline.store.phases import ENDED
from pipeline.store.store import Store

log = structlog.get_logger("controller")

LEASE_SECONDS = 10.0
_RENEWED_SECONDS = LEASE_SECONDS / 5  # what each transaction asks anyway is who leads
TURN_SECONDS = 0.2
_HEARTBEAT_SECONDS, _COPYING_HEARTBEAT_SECONDS = 0.2, 1.0


class Controller:
    """One controller process of one migration."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.store: Store = runtime.store
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.epoch: int | None = None
        self._renewed_at = 0.0
        self._copy: Copying | None = None
        self._heartbeat_stop = threading.Event()
        self._heartbeat: Heartbeat | None = None
        self._crossover = Crossover(runtime, self._keep)
        self._there = Upkeep(runtime, self._keep)
        self._back: Upkeep | None = None  # once it is prepared
        self._looked_back_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Works until `stop` is set or the migration has ended."""
        try:
            while not stop.is_set():
                try:
                    phase = self._turn(stop)
                except Transient as error:
                    log.warning("again in a moment", error=str(error))
                    stop.wait(1.0)
                    continue
                except Fenced as error:
                    log.warning("leading no more", error=str(error))
                    self._stand_by()
                    continue
                if phase in ENDED:
                    return
                if phase == "copying" and self._copy is not None:
                    self._copy.wait()
                else:
                    stop.wait(1.0 if phase is None else TURN_SECONDS)
        finally:
            self._release()

    def _stand_by(self) -> None:
        """Somebody else leads."""
        self.epoch = None
        self._release(resign=False)

    # -- one turn --------------------------------------------------------------------------------------------------------------------

    def _turn(self, stop: threading.Event) -> str | None:
        """One look and one small step; the phase, or None while somebody else leads."""
        if self.epoch is None or time.monotonic() - self._renewed_at > _RENEWED_SECONDS:
            self._renewed_at = time.monotonic()
            epoch = self.store.lead(self.holder, LEASE_SECONDS)
            if epoch is None:
                self._stand_by()
                return None
            if epoch != self.epoch:
                log.info("leading", migration=self.runtime.name, epoch=epoch)
                self.epoch = epoch
        phase = self.store.phase()
        try:
            if phase in ("planned", "preparing"):
                self._prepare(phase, stop)
            elif phase == "copying":
                self._renew_tables()
                self._beat(_COPYING_HEARTBEAT_SECONDS)
                self._copying()
            elif phase not in ENDED and phase != "failed":
                self._renew_tables()
                self._beat(_HEARTBEAT_SECONDS)
                self._keep_up(phase)
                self._crossover.turn(phase)
        except (Transient, Fenced):
            raise
        except CrossfadeError as error:
            self._fail(error)
        if phase not in ENDED and phase not in ("planned", "preparing"):
            self._watch(phase)
        return phase

    def _keep(self) -> contextlib.AbstractContextManager[None]:
        return _LeaseKept(self.store)

    def _renew_tables(self) -> None:
        """A column that a stream has added to the target: sessions and plans of before know nothing of it."""
        if self.runtime.refresh():
            if self._copy is not None:
                self._copy.close()
                self._copy = None
            self._end_upkeep()

    def _fail(self, error: CrossfadeError) -> None:
        if self.store.phase() in ("switched", "cutting-over"):
            # The application is on the other side, or on its way: what went wrong here stops nobody.
            log.error("fault", migration=self.runtime.name, error=str(error))
            self.store.set_reason(str(error))
            return
        log.error("failed", migration=self.runtime.name, error=str(error))
        self.store.set_phase("failed", reason=str(error))

    def _prepare(self, phase: str, stop: threading.Event) -> None:
        if phase == "planned":
            self.store.set_phase("preparing")
        with _LeaseKept(self.store):
            prepare(self.runtime, lambda text: log.info("preparing", step=text))
            # What a chunk reads must come after the stream's beginning, and the stream must really flow: a marker proves both.
            token = new_token()
            reader = self.runtime.reader("crossfade controller")
            try:
                reader.marker(token)
                self._wait_marker(token, stop)
            finally:
                reader.close()
        if not stop.is_set():
            self.store.set_phase("copying")

    def _wait_marker(self, token: str, stop: threading.Event) -> None:
        """Waits for workers as long as it takes, saying so."""
        streams = len(stream_plans(self.runtime))
        said = 0.0
        while self.store.markers_applied(token) < streams and not stop.wait(0.05):
            stopped = [row for row in self.store.streams() if row.state == "stopped"]
            if stopped:
                raise CrossfadeError(f"stream {stopped[0].name} is stopped: {stopped[0].error}")
            if time.monotonic() - said > 10:
                said = time.monotonic()
                if not any("apply" in w.roles for w in self.store.workers()):
                    self.store.set_reason("waits for a worker: run crossfade worker")
        self.store.set_reason(None)

    def _copying(self) -> None:
        if self._copy is None:
            self._copy = Copying(self.runtime)
        if self._copy.turn():
            self._copy.close()
            self._copy = None
            self.store.set_phase("following")

    def _keep_up(self, phase: str) -> None:
        """The direction that applies is kept well; during a crossing none does."""
        back = self._way_back()
        applies = self._there if phase in SOURCE_LEADS else back if phase == "switched" else None
        for one in (self._there, back):
            if one is not None and one is not applies:
                one.rest()
        if applies is not None:
            applies.turn()

    def _way_back(self) -> Upkeep | None:
        """Of the way back, once it is prepared."""
        if self._back is None and time.monotonic() - self._looked_back_at > WATCH_SECONDS:
            self._looked_back_at = time.monotonic()
            with contextlib.suppress(CrossfadeError):  # there is none: the gates say why
                back = reverse_runtime(self.runtime)
                if back is not None and prepared(back):
                    self._back = Upkeep(back, self._keep)
                elif back is not None:
                    back.store.close()
        return self._back

    # -- beside the phases -----------------------------------------------------------------------------------------------------------

    def _beat(self, seconds: float) -> None:
        """While rows are copied nobody waits for the lag to a fifth of a second, and every heartbeat goes the whole way."""
        if self._heartbeat is None or not self._heartbeat.is_alive():
            self._heartbeat_stop = threading.Event()
            self._heartbeat = Heartbeat(self.runtime.reader("crossfade heartbeat"), self._heartbeat_stop)
            self._heartbeat.start()
        self._heartbeat.interval = seconds

    def _watch(self, phase: str) -> None:
        """Streams that stopped, connectors that cannot go on, gaps, in both directions."""
        if phase != "failed":
            try:
                self._there.watch()
            except (Transient, Fenced):
                raise
            except CrossfadeError as error:
                self._fail(error)
        back = self._way_back()
        if back is not None:
            try:
                back.watch()
            except (Transient, Fenced):
                raise
            except CrossfadeError as error:
                # Its stream's state says so; no rollback begins before it is well again.
                log.error("the way back", migration=self.runtime.name, error=str(error))

    def _release(self, *, resign: bool = True) -> None:
        self._crossover.close()
        self._heartbeat_stop.set()
        if self._heartbeat is not None:
            self._heartbeat.join(5)
            self._heartbeat = None
        if self._copy is not None:
            self._copy.close()
            self._copy = None
        self._end_upkeep()
        if resign and self.epoch is not None:
            try:
                self.store.resign(self.holder)
            except CrossfadeError as error:
                log.debug("the lease runs out by itself", error=str(error))

    def _end_upkeep(self) -> None:
        self._there.close()
        if self._back is not None:
            self._back.close()
            self._back.runtime.store.close()
            self._back = None


class _LeaseKept:
    """Renews the lease from a thread while something long is done."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)

    def _renew(self) -> None:
        while not self._stop.wait(LEASE_SECONDS / 3):
            try:
                self._store.renew(LEASE_SECONDS)
            except CrossfadeError as error:
                log.warning("the lease was not renewed", error=str(error))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
