"""Backfill workers: take a chunk, read it on the source, merge it into the target, for as long as there are any."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import structlog

from connectors.base import Projection, Reader, TargetTable, Writer
from pipeline import copytext
from pipeline.backfill.queue import Chunk, Queue
from pipeline.backfill.throttle import Pace
from pipeline.errors import CommitUnknown, CrossfadeError, Transient
from pipeline.model import Table, Text

log = structlog.get_logger("backfill")


@dataclasses.dataclass(frozen=True, slots=True)
class CopyTable:
    """How the rows of one table get from source to target: shaped in SQL when the mapping can, else in Python on the way."""

    source: Table
    source_key: tuple[str, ...]
    target: TargetTable
    projection: Projection
    shape: Callable[[list[Text]], Sequence[Text] | None] | None = None  # None: the projection yields target rows already

    def blocks(self, reader: Reader, chunk: Chunk) -> Iterator[bytes]:
        """The chunk's rows as COPY text of the target's columns."""
        what = self.projection
        if chunk.where:
            both = f"({what.where}) AND ({chunk.where})" if what.where else chunk.where
            what = dataclasses.replace(what, where=both)
        read = reader.copy(self.source, self.source_key, what, chunk.within)
        return read if self.shape is None else copytext.reshape(read, self.shape)


class BackfillWorker(threading.Thread):
    """One thread with a source and a target session of its own."""

    def __init__(
        self,
        name: str,
        *,
        worker: str,
        queue: Queue,
        tables: Mapping[int, CopyTable],
        reader: Reader,
        writer: Writer,
        rate: Callable[[], float | None],
        stop: threading.Event,
        look: threading.Lock,
    ) -> None:
        """`look` is one for all threads of a process: whoever has it looks for chunks while there are none."""
        super().__init__(name=name, daemon=True)
        self._worker, self._queue, self._tables = worker, queue, tables
        self._reader, self._writer, self._rate, self._stop_event, self._look = reader, writer, rate, stop, look
        self.rows = 0
        self.failed: CrossfadeError | None = None

    def run(self) -> None:
        pace = Pace()
        try:
            while not self._stop_event.is_set():
                chunk = self._take() or self._wait()
                if chunk is None:
                    continue
                try:
                    rows = self._copy(chunk)
                finally:
                    self._queue.put_down(chunk)
                delay = pace.delay(rows, self._rate())
                if delay:
                    self._stop_event.wait(delay)
        finally:
            with contextlib.suppress(CrossfadeError):  # else they are taken again once this worker is silent
                self._queue.leave()
            self._reader.close()
            self._writer.close()

    def _wait(self) -> Chunk | None:
        """Nothing is there: the planner is behind, or the copy is over. The queue is a table and has no event to wait for, so one thread
        looks again and again, and the others wait for it: the stream is applied in this process too."""
        while not self._look.acquire(timeout=0.5):
            if self._stop_event.is_set():
                return None
        try:
            idle = 0.03
            while not self._stop_event.wait(idle):
                chunk = self._take()
                if chunk is not None:
                    return chunk
                idle = min(0.2, idle * 1.3)
        finally:
            self._look.release()
        return None

    def _take(self) -> Chunk | None:
        try:
            return self._queue.take(self._worker)
        except Transient as error:
            log.warning("the chunk queue does not answer", error=str(error))
            self._stop_event.wait(1.0)
            return None

    def _give_back(self, chunk: Chunk, error: str | None = None, *, refused: bool = False) -> None:
        """Again and again while the queue does not answer: it is where the target is, and nobody takes a chunk from a worker that lives."""
        while True:
            try:
                return self._queue.give_back(chunk, error, refused=refused)
            except Transient as fault:
                log.warning("the chunk queue does not answer", error=str(fault))
                if self._stop_event.wait(1.0):
                    return None

    def _copy(self, chunk: Chunk) -> int:
        table = self._tables[chunk.number]
        started = time.monotonic()
        try:
            # Read first, merge after: the gate is held for the merge alone, however slow the source is.
            blocks = list(table.blocks(self._reader, chunk))
            outcome = self._writer.merge(table.target, chunk.id, blocks)
        except CommitUnknown as error:
            log.warning("chunk commit unknown", table=str(table.source.id), chunk=chunk.id, error=str(error))
            self._give_back(chunk)  # only a chunk that is still `taken` goes back
            return 0
        except Transient as error:
            log.warning("chunk again", table=str(table.source.id), chunk=chunk.id, error=str(error))
            self._give_back(chunk, str(error))
            self._stop_event.wait(min(10.0, 0.1 * 2 ** min(chunk.attempts, 7)))
            return 0
        except CrossfadeError as error:
            log.error("chunk refused", table=str(table.source.id), chunk=chunk.id, error=str(error))
            self._give_back(chunk, str(error), refused=True)
            self.failed = error
            self._stop_event.wait(min(5.0, 0.5 * 2 ** min(chunk.attempts, 4)))
            return 0
        if outcome is None:
            return 0
        self.rows += outcome.rows
        log.debug(
            "chunk",
            table=str(table.source.id),
            rows=outcome.rows,
            skipped=outcome.skipped,
            fast=outcome.fast,
            gate_s=round(outcome.seconds, 3),
            s=round(time.monotonic() - started, 3),
        )
        return outcome.rows
