"""One target transaction in the making: whole transactions taken in until the writer is free."""

from __future__ import annotations

import contextlib
import dataclasses
from collections import deque
from collections.abc import Callable, Mapping, Sequence

from msgspec import structs

from connectors.base import ApplyNotes, Events, TableBatch
from pipeline.apply.collapse import Collapse, Route
from pipeline.errors import GapInStream
from pipeline.model import Applied, Change, TableId, Transaction

HEARTBEAT = "hb:"
"""Markers that only measure lag start so; they leave no row behind."""


@dataclasses.dataclass(slots=True)
class Batch:
    """Transactions after `before`, their net effect, and the position after them."""

    before: Applied
    after: Applied
    collapse: Collapse
    transactions: list[Transaction] = dataclasses.field(default_factory=list)
    taken: list[list[Change]] = dataclasses.field(default_factory=list)  # what was new in each of them
    ends: list[Applied] = dataclasses.field(default_factory=list)  # the position after each of them
    markers: list[str] = dataclasses.field(default_factory=list)
    whole: int = 0  # transactions that ended in it
    events: int = 0
    bytes: int = 0  # of JSON
    sealed: list[TableBatch] | None = None

    def seal(self) -> None:
        """Works out ahead what a writer takes; nothing is added any more."""
        with contextlib.suppress(UnicodeError):  # the writer will meet it again, and say so
            tables = self.collapse.batches()
            for table in tables:
                table.encode_ahead()
            self.sealed = tables

    def tables(self) -> list[TableBatch]:
        """What a writer takes."""
        return self.collapse.batches() if self.sealed is None else self.sealed

    def notes(self) -> ApplyNotes:
        """What is recorded beside the rows."""
        return ApplyNotes(self.whole, tuple(t for t in self.markers if not t.startswith(HEARTBEAT)))

    def first(self, count: int, routes: Mapping[TableId, Sequence[Route]]) -> Batch:
        """The first so many transactions alone."""
        part = Batch(self.before, self.ends[count - 1], Collapse(routes))
        for transaction, changes, end in zip(self.transactions[:count], self.taken, self.ends, strict=False):
            part.collapse.add(changes)
            part.holds(transaction, changes, end)
        return part

    def holds(self, transaction: Transaction, changes: list[Change], end: Applied) -> None:
        """Counts a transaction in whose changes are in the net effect."""
        self.transactions.append(transaction)
        self.taken.append(changes)
        self.ends.append(end)
        self.markers += [m.token for m in transaction.markers]
        self.events += len(changes)
        self.bytes += transaction.bytes
        self.whole += transaction.last


class Intake:
    """Takes transactions in, leaves out what was applied before, and keeps the position that comes after.

    `position` is the end of the last whole transaction taken; a piece moves `(partial_id, partial_place)` on. While `muted` is a marker's
    token nothing but positions and markers is taken; the transactions after that marker's are taken whole.
    """

    def __init__(self, events: Events, routes: Mapping[TableId, Sequence[Route]], applied: Applied, muted: str = "") -> None:
        self.muted = muted
        self._events = events
        self._routes = routes
        self.after = applied
        self.full: deque[Batch] = deque()  # closed ones, before the one under construction
        self._batch: Batch | None = None

    @property
    def batch(self) -> Batch:
        """The batch under construction."""
        if self._batch is None:
            self._batch = Batch(self.after, self.after, Collapse(self._routes))
        return self._batch

    @property
    def pending(self) -> bool:
        """Whether there is anything to be written."""
        return bool(self.full) or (self._batch is not None and self._batch.after != self._batch.before)

    def close(self) -> Batch:
        """Ends the batch under construction; what comes next goes into another one."""
        batch = self.batch
        self._batch = None
        self.full.append(batch)
        return batch

    def take(self) -> Batch:
        """Hands the oldest batch over; when it is the one under construction, starts a new one behind it."""
        if self.full:
            return self.full.popleft()
        batch = self.batch
        self._batch = None
        return batch

    def add(self, transaction: Transaction, on_schema_change: Callable[[Transaction], None]) -> None:
        """Takes one transaction (or piece) in. Raises `GapInStream`, `DataRejected`, `SchemaChanged`."""
        after = self.after
        if transaction.position and not self._events.beyond(transaction.position, after.position):
            self._moved(structs.replace(after, offset=transaction.next_offset))
            return
        changes = transaction.changes
        continues = bool(after.partial_id) and after.partial_id == transaction.id
        if continues:
            changes = [c for c in changes if c.place > after.partial_place]
        elif not (transaction.begins and transaction.last):
            # Before its END has come its position is not known.
            replayed = None
            if not transaction.last:
                replayed = self._events.replayed(transaction.full_id, transaction.last_event, after.position)
            if replayed:
                return  # its END will say the same and move the offset on
            if not transaction.begins:
                raise GapInStream(
                    f"transaction {transaction.full_id} comes without its first events (offset {transaction.next_offset - 1})",
                    hint="the connector left them out after a restart: Debezium before 3.7 may (debezium/dbz#76)",
                )
            if replayed is None:
                raise GapInStream(f"transaction {transaction.full_id}: it cannot be told whether it was applied before")
        if self.muted:
            changes = []
            if any(marker.token == self.muted for marker in transaction.markers):
                self.muted = ""
        elif transaction.schema_changes:
            on_schema_change(transaction)
        if transaction.last:
            position = self._events.joined(after.position, transaction.position) if transaction.position else after.position
            end = Applied(after.stream, after.epoch, position, "", 0, transaction.next_offset)
        else:
            place = max(transaction.place, after.partial_place if continues else 0)
            end = structs.replace(after, partial_id=transaction.id, partial_place=place, offset=transaction.next_offset)
        self._take_changes(transaction, changes, end)
        self._moved(end)

    def _take_changes(self, transaction: Transaction, changes: list[Change], end: Applied) -> None:
        batch = self.batch
        try:
            batch.collapse.add(changes)
        except BaseException:
            # A part of it may be in the net effect, and what came before it is still to be written: never half a transaction.
            batch.collapse = Collapse(self._routes)
            for earlier in batch.taken:
                batch.collapse.add(earlier)
            raise
        batch.holds(transaction, changes, end)

    def _moved(self, after: Applied) -> None:
        batch = self.batch
        self.after = batch.after = after
