"""The copying phase: keeps chunks planned, and takes each table from waiting to copied: rows, key, what was touched meanwhile, a marker."""

from __future__ import annotations

import threading
import time
from typing import Any

import structlog
from sqlalchemy.engine import Row

from connectors.base import Reader, Writer
from pipeline.backfill.plan import ChunkSize, Planner
from pipeline.backfill.queue import Queue, bound_key
from pipeline.backfill.reread import reread
from pipeline.backfill.worker import CopyTable
from pipeline.control import columns
from pipeline.control.aftercopy import AfterCopy
from pipeline.control.keybuilds import KeyBuilds
from pipeline.control.markers import new_token
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.errors import CrossfadeError
from pipeline.model import TableId
from pipeline.store.store import Store

log = structlog.get_logger("copy")

_ENOUGH = 16  # chunks in the queue: no further table need be begun
_PLENTY = 12  # … the next turn need not come so soon
_TURN_SECONDS, _FULL_SECONDS, _MARKER_SECONDS = 0.1, 0.25, 0.03  # to the next turn: usually; with plenty; when a marker is under way
_REREAD_SECONDS = 0.5  # that one table's list is worked at before the others get their turn


class Copying:
    """Of one migration, by its controller. Call `turn` until it is through, `wait` between turns; close it afterwards."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._store: Store = runtime.store
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
        self._pause = _TURN_SECONDS
        self._marked_at = float("-inf")  # when a table's marker was written last
        self._said = False  # what is waited for at the end

    def close(self) -> None:
        """Lets go of the sessions."""
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
        unmerged = self._queue.unmerged()
        in_queue = sum(unmerged.values())
        copied: set[TableId] = set()
        done = True
        for row in sorted(self._store.tables(), key=self._large_first):
            number = int(row.number)
            if row.phase == "copied":
                copied.add(self._tables[number].target.table.id)
                continue
            table = self._tables[number]
            if row.phase == "copying" and self._table(row, table, unmerged.get(number, 0)):
                copied.add(table.target.table.id)
                continue
            done = False
            if row.phase == "waiting" and in_queue < _ENOUGH:
                self._store.set_table(number, phase="copying", started_at=time.time())
                self._planner.start(number, table.source, table.source_key, None, row.where_sql)
                in_queue += self._planner.step(in_queue)  # workers wait for the first chunks, not for the start of every table
        in_queue += self._planner.step(in_queue)
        # A marker comes in some hundredths of a second, or the stream is far behind; with plenty in the queue workers are busy a while.
        marked = time.monotonic() - self._marked_at < 1.0
        self._pause = _MARKER_SECONDS if marked else _FULL_SECONDS if in_queue > _PLENTY else _TURN_SECONDS
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

    def _table(self, row: Row[Any], table: CopyTable, unmerged: int) -> bool:
        """One look at a table that is being copied, with so many chunks still to be merged; whether it is copied now."""
        number = int(row.number)
        if not row.planned:
            self._planner.start(number, table.source, table.source_key, bound_key(row.planned_to), row.where_sql)
        else:
            self._planner.stop(number)
        filling = not row.planned or unmerged > 0
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
            self._store.set_table(number, marker=marker, rows_copied=self._queue.rows(number))
            self._reader.marker(marker)
            self._marked_at = time.monotonic()
            return False
        if self._store.markers_applied(marker) < self._streams:
            return False
        self._store.set_table(number, phase="copied", copied_at=time.time())
        log.info("table copied", table=str(table.source.id), rows=int(row.rows_copied))
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
