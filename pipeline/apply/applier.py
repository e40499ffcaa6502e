"""One stream's applier: while one batch is being written, the next ones are decoded, collapsed and encoded.

The event loop's side takes transactions in (`submit`), a thread writes. A batch is whatever has arrived while the writer was busy,
so batches grow under load and a lone transaction goes through at once. A batch that is full before its turn comes is encoded by the event
loop's side, so that the target never waits for that (docs/decisions/apply-speed.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from connectors.base import Events, Writer
from pipeline.apply.batch import HEARTBEAT, Batch, Intake
from pipeline.apply.collapse import Route
from pipeline.apply.quarantine import OnError, divert, narrow
from pipeline.errors import CommitUnknown, CrossfadeError, DataRejected, Fenced, Transient
from pipeline.model import Applied, Key, TableId, Transaction

log = structlog.get_logger("apply")

_FULL = 1
"""Full batches that wait for the writer at most."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """How much one batch may hold."""

    rows: int = 20_000
    bytes: int = 64 << 20


@dataclasses.dataclass(slots=True)
class Progress:
    """Counters of one applier since it started, for status and metrics."""

    events: int = 0
    transactions: int = 0
    batches: int = 0
    retries: int = 0
    relisted: int = 0
    evicted: int = 0
    second_path: int = 0
    held: int = 0
    pieces: int = 0
    write_seconds: float = 0.0
    lag_ms: float | None = None
    last_error: str | None = None


class Applier:
    """Applies one stream. `failed` is set once with the error that stopped it; after that nothing is taken in any more."""

    def __init__(
        self,
        *,
        migration: str,
        stream: str,
        writer: Writer,
        events: Events,
        routes: Mapping[TableId, Sequence[Route]],
        applied: Applied,
        on_error: OnError = "stop",
        held: Iterable[tuple[int, Key]] = (),
        limits: Limits = Limits(),
        retry_max: float = 5.0,
        on_schema_change: Callable[[Transaction], None],
        muted: str = "",
        on_applied: Callable[[Applied, Batch], None] = lambda _applied, _batch: None,
        on_failed: Callable[[CrossfadeError], None] = lambda _error: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.migration, self.stream = migration, stream
        self.progress = Progress()
        self.applied = applied
        self.failed: CrossfadeError | None = None
        self._writer, self._events, self._limits, self._on_error = writer, events, limits, on_error
        self.stages = writer.stages
        self._intake, self._routes = Intake(events, routes, applied, muted), routes
        self._on_schema_change, self._on_applied, self._clock = on_schema_change, on_applied, clock
        self._retry_max = retry_max  # seconds: the longest pause between two tries of a passing fault
        self.on_failed = on_failed  # told at once when a write in the background stops the stream
        self._held = set(held)  # (table number, key) in quarantine: later events of that key queue behind
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"apply-{stream}")
        self._writing: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._stop = threading.Event()

    # -- the event loop's side -------------------------------------------------------------------------------------------------------

    async def submit(self, transactions: list[Transaction]) -> None:
        """Takes transactions in; waits while the batch under construction is full. Raises what stopped the applier."""
        for transaction in transactions:
            if not self._room.is_set() and not self._stop.is_set():
                await self._room.wait()
            if self.failed is not None:
                raise self.failed
            if self._stop.is_set():
                return  # nobody takes a full batch away any more; what is not written comes again
            try:
                began = time.perf_counter()
                self._intake.add(transaction, self._on_schema_change)
                self.stages.transform += time.perf_counter() - began
            except CrossfadeError as error:
                await self._fail_behind(error)
            batch = self._intake.batch
            if batch.events >= self._limits.rows or batch.bytes >= self._limits.bytes:
                self._close()
            self._start()

    def _close(self) -> None:
        """The batch under construction is full."""
        batch = self._intake.close()
        if self._writing is not None:
            began = time.perf_counter()
            batch.seal()
            self.stages.ahead += time.perf_counter() - began
        if len(self._intake.full) >= _FULL:
            self._room.clear()

    async def drain(self) -> None:
        """Waits until everything taken in is applied. Raises what stopped the applier."""
        while self._writing is not None:
            await asyncio.shield(self._writing)
        if self.failed is not None:
            raise self.failed

    async def stop(self) -> None:
        """Stops after the batch being written; what was taken in and not written comes again from Kafka."""
        self._stop.set()
        self._room.set()
        if self._writing is not None:
            with contextlib.suppress(CrossfadeError):
                await self._writing
        await asyncio.get_running_loop().run_in_executor(self._thread, self._writer.close)
        self._thread.shutdown(wait=False)

    async def _fail_behind(self, error: CrossfadeError) -> None:
        """What came before the fault is applied first: the target then stands exactly where the stream stops."""
        self._start()
        while self._writing is not None:
            await asyncio.shield(self._writing)
        self.failed = self.failed or error
        self.progress.last_error = str(self.failed)
        raise self.failed

    def _start(self) -> None:
        if self._writing is None and self._intake.pending and self.failed is None and not self._stop.is_set():
            self._writing = asyncio.create_task(self._write_all(), name=f"apply {self.stream}")

    async def _write_all(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._intake.pending and not self._stop.is_set() and self.failed is None:
                batch = self._intake.take()
                self._room.set()
                await loop.run_in_executor(self._thread, self._write_ready, batch, loop)
        except CrossfadeError as error:
            self.failed = error
        except Exception as error:
            self._own_fault(error)
        finally:
            self._room.set()
            self._writing = None
            if self.failed is not None:
                self.progress.last_error = str(self.failed)
                self.on_failed(self.failed)

    def _own_fault(self, error: Exception) -> None:
        log.error("a fault of our own", migration=self.migration, stream=self.stream, exc_info=error)
        self.failed = CrossfadeError(f"stream {self.stream}: {type(error).__name__}: {error}")

    def _noted(self, batch: Batch) -> None:
        try:
            self._note(batch)
        except Exception as error:
            self._own_fault(error)

    def _note(self, batch: Batch) -> None:
        self.applied = batch.after
        progress = self.progress
        progress.events += batch.events
        progress.transactions += batch.whole
        progress.batches += 1
        progress.pieces += sum(not t.last for t in batch.transactions)
        for token in batch.markers:
            if token.startswith(HEARTBEAT):
                progress.lag_ms = max(0.0, self._clock() * 1000 - float(token.removeprefix(HEARTBEAT)))
        self._on_applied(batch.after, batch)

    # -- the thread's side -----------------------------------------------------------------------------------------------------------

    def _write_ready(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        """Writes a batch, and then the full ones that wait: the event loop, which is busy decoding, need not be asked for each."""
        while True:
            try:
                self._write(batch)
            except DataRejected:
                good = self._write_before_fault(batch)
                if good is not None:
                    loop.call_soon_threadsafe(self._noted, good)
                raise
            loop.call_soon_threadsafe(self._noted, batch)
            if self._stop.is_set() or not self._intake.full:
                return
            batch = self._intake.full.popleft()
            loop.call_soon_threadsafe(self._room.set)

    def _write(self, batch: Batch) -> None:
        """Writes one batch exactly once, however often it takes. Raises `Fenced`, `DataRejected`, `CrossfadeError`."""
        started = time.monotonic()
        attempt = 0
        began = time.perf_counter()
        tables, notes = batch.tables(), batch.notes()
        stages, written = self.stages, self.stages.encode + self.stages.commit
        stages.transform += (began_writing := time.perf_counter()) - began
        if self._held:
            queued = divert(tables, self._held, batch.after.position)
            tables, notes = queued.tables, dataclasses.replace(notes, held=queued.events)
            self._held |= queued.keys
        while True:
            try:
                outcome = self._writer.apply(self.migration, tables, batch.before, batch.after, notes)
                break
            except CommitUnknown as error:
                log.warning("commit outcome unknown: reading the position back", stream=self.stream, error=str(error))
                now = self._applied_now()
                if now is not None and (now.position, now.partial_id, now.partial_place) == (
                    batch.after.position,
                    batch.after.partial_id,
                    batch.after.partial_place,
                ):
                    self.progress.write_seconds += time.monotonic() - started
                    return
            except Transient as error:
                self.progress.retries += 1
                self.progress.last_error = str(error)
                log.warning("trying again", stream=self.stream, attempt=attempt + 1, error=str(error))
            except Fenced:
                raise
            except DataRejected as error:
                if self._on_error == "stop":
                    raise narrow(self._writer, self.migration, batch, tables, error).error from None
                found = narrow(self._writer, self.migration, batch, tables, error)
                if not found.events:
                    raise found.error from None
                tables, notes = found.tables, dataclasses.replace(notes, held=(*notes.held, *found.events))
                self._held |= found.keys
                self.progress.held += len(found.events)
                continue
            attempt += 1
            # Full jitter, for ever: a passing fault passes, and somebody watching sees `retries` and `last_error`.
            if self._stop.wait(random.uniform(0, min(self._retry_max, 0.05 * 2 ** min(attempt, 10)))):  # noqa: S311
                raise Transient(f"stream {self.stream}: stopped while trying again")
        stages.write += time.perf_counter() - began_writing - (stages.encode + stages.commit - written)
        stages.batches += 1
        stages.events += batch.events
        self.progress.relisted += outcome.relisted
        self.progress.evicted += outcome.evicted
        self.progress.second_path += outcome.second_path
        self.progress.last_error = None
        self.progress.write_seconds += time.monotonic() - started

    def _write_before_fault(self, batch: Batch) -> Batch | None:
        """Writes the transactions of a refused batch that come before the one that the target refuses, and answers them: the target
        then stands exactly where the stream stops."""
        low, high = 0, len(batch.transactions)  # so many are accepted; so many are refused
        try:
            while high - low > 1:
                middle = (low + high) // 2
                part = batch.first(middle, self._routes)
                tables = part.collapse.batches()
                if self._held:
                    tables = divert(tables, self._held, part.after.position).tables
                try:
                    self._writer.apply(self.migration, tables, part.before, part.after, probe=True)
                    low = middle
                except DataRejected:
                    high = middle
            if not low:
                return None
            good = batch.first(low, self._routes)
            self._write(good)
        except CrossfadeError as error:
            log.warning("what came before the fault is not applied", stream=self.stream, error=str(error))
            return None
        return good

    def _applied_now(self) -> Applied | None:
        try:
            return self._writer.applied(self.migration, self.stream)
        except Transient:
            return None
