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
from typing import Any

import structlog
from sqlalchemy.engine import Row

from connectors.base import Reader, Writer
from pipeline.backfill.plan import ChunkSize, Planner
from pipeline.backfill.queue import Counts, Queue, bound_key
from pipeline.backfill.reread import reread
from pipeline.backfill.worker import CopyTable
from pipeline.control import columns
from pipeline.control.aftercopy import AfterCopy
from pipeline.control.crossover import SOURCE_LEADS, Crossover
from pipeline.control.keybuilds import KeyBuilds
from pipeline.control.markers import Heartbeat, new_token
from pipeline.control.prepare import prepare
from pipeline.control.reverse import prepared, reverse_runtime
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.control.upkeep import WATCH_SECONDS, Upkeep
from pipeline.errors import CrossfadeError, Fenced, Transient
from pipeline.model import TableId
from pipeline.store.phases import ENDED
from pipeline.store.store import Store

log = structlog.get_logger("controller")

LEASE_SECONDS = 10.0
_PLENTY, _ENOUGH = 12, 16  # chunks in the queue: the next turn need not come at once; no further table need be begun
_REREAD_SECONDS = 0.5  # that one table's list is worked at before the others get their turn
_RENEWED_SECONDS = LEASE_SECONDS / 5  # what each transaction asks anyway is who leads
TURN_SECONDS = 0.2
_FILLING_SECONDS, _COPYING_SECONDS, _MARKER_SECONDS = 0.25, 0.1, 0.03  # between turns of the copy, by what is waited for
_HEARTBEAT_SECONDS, _COPYING_HEARTBEAT_SECONDS = 0.2, 1.0


class Controller:
    """One controller process of one migration."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.store: Store = runtime.store
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self.epoch: int | None = None
        self._renewed_at = 0.0
        self._copy: _Copy | None = None
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
            self._copy = _Copy(self.runtime, self.holder)
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


class _Copy:
    """The copying phase: plans chunks, re-reads listed rows, and takes each table through copying → indexing → copied."""

    def __init__(self, runtime: Runtime, holder: str) -> None:
        self._runtime, self._store, self._holder = runtime, runtime.store, holder
        self._queue = Queue(runtime.store)
        self._tables: dict[int, CopyTable] = runtime.copies()
        self._reader: Reader = runtime.reader("crossfade controller")
        self._writer: Writer = runtime.writer("crossfade controller")
        spec = runtime.migration.backfill
        self._planner = Planner(self._queue, self._reader, ChunkSize(spec.chunk_rows, spec.chunk_bytes, spec.gate_target))
        self._streams = len(stream_plans(runtime))
        self._ended = threading.Event()  # something beside the turns
        self._keys = KeyBuilds(runtime, self._ended)
        self._after: AfterCopy | None = None
        self._pause = _COPYING_SECONDS
        self._marked_at = float("-inf")  # when a table's marker was written last
        self._said = False  # what is waited for at the end

    def close(self) -> None:
        self._reader.close()
        self._writer.close()

    def wait(self) -> None:
        """Until the next turn is worth while."""
        self._ended.wait(self._pause)
        self._ended.clear()

    def turn(self) -> bool:
        """One round over the tables; True when every table is copied."""
        self._keys.turn()
        refused = self._queue.refused()
        if refused is not None:
            number, error = refused
            raise CrossfadeError(
                f"table {self._tables[number].source.id}: the target refuses a chunk: {error}", hint="then crossfade resume"
            )
        counts = self._queue.counts()
        open_chunks = sum(c.open for c in counts.values())
        copied: set[TableId] = set()
        done = True
        for row in sorted(self._store.tables(), key=self._large_first):
            number = int(row.number)
            if row.phase == "copied":
                copied.add(self._tables[number].target.table.id)
                continue
            table = self._tables[number]
            if row.phase == "copying" and self._table(row, table, counts.get(number, Counts())):
                copied.add(table.target.table.id)
                continue
            done = False
            if row.phase == "waiting" and open_chunks < _ENOUGH:
                self._store.set_table(number, phase="copying", started_at=time.time())
                self._planner.start(number, table.source, table.source_key, None, row.where_sql)
                open_chunks += self._planner.step(open_chunks)  # workers wait for the first chunks, not for the start of every table
        open_chunks += self._planner.step(open_chunks)
        # A marker comes in some hundredths of a second, or the stream is far behind; with plenty in the queue workers are busy a while.
        marked = time.monotonic() - self._marked_at < 1.0
        self._pause = _MARKER_SECONDS if marked else _FILLING_SECONDS if open_chunks > _PLENTY else _COPYING_SECONDS
        if copied:
            self._after = self._after or AfterCopy(self._runtime, self._ended)
            if not self._after.turn(copied, all_copied=done):
                if done and not self._said:
                    self._said = True
                    self._store.set_reason("builds indexes and foreign keys")
                return False
        if done:
            self._finish()
        return done

    def _large_first(self, row: Row[Any]) -> tuple[int, int]:
        """What is made of a large table afterwards, its key and what refers to it, takes longest: that goes on beside the copying of the
        others."""
        return -self._tables[int(row.number)].source.bytes, int(row.number)

    def _table(self, row: Row[Any], table: CopyTable, counts: Counts) -> bool:
        """One look at a table that is being copied; whether it is copied now."""
        number = int(row.number)
        if not row.planned:
            self._planner.start(number, table.source, table.source_key, bound_key(row.planned_to), row.where_sql)
        else:
            self._planner.stop(number)
        filling = not row.planned or counts.open > 0
        if row.keyless:
            # Before it has its key a table is only filled: what the stream touched is read again afterwards.
            if not filling or self._keys.wanted(table.target, self._writer):
                self._keys.build(table.target)
            return False
        read_again = self._reread(table)
        if filling:
            return False
        if read_again or self._writer.listed(table.target, 1):
            if row.marker:
                self._store.set_table(number, marker="")  # what was read again may be later than it
            return False
        marker = str(row.marker)
        if not marker:
            # Written after the last row was read: once it is applied, the target has everything that was seen, in order.
            marker = new_token()
            self._store.set_table(number, marker=marker, rows_copied=counts.rows)
            self._reader.marker(marker)
            self._marked_at = time.monotonic()
            return False
        if self._store.markers_applied(marker) < self._streams:
            return False
        self._store.set_table(number, phase="copied", copied_at=time.time(), rows_copied=counts.rows)
        log.info("table copied", table=str(table.source.id), rows=counts.rows)
        return True

    def _reread(self, table: CopyTable) -> bool:
        """Works the list off for a while; answers whether any entry came off."""
        until, some = time.monotonic() + _REREAD_SECONDS, False
        while reread(table, self._reader, self._writer, self._runtime.current):
            some = True
            if time.monotonic() > until:
                break
        return some

    def _finish(self) -> None:
        """The stream need not keep the side tables any more."""
        self._store.set_reason(None)
        added = self._runtime.store.added_columns()
        if added:
            columns.settle_defaults(self._runtime, added, self._tables.keys())
        for table in self._tables.values():
            self._writer.untrack(table.target)
