"""Kafka Connect that crashes, and a worker that reads its topic through the real assembler and intake."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import orjson

from connectors.base import Writer
from connectors.postgres.events import PostgresEvents
from pipeline.apply.batch import Batch, Intake
from pipeline.apply.collapse import Route
from pipeline.model import Applied, TableId
from pipeline.stream.assembler import Assembler, Pieces
from tests.model.source import SourceDatabase

HEARTBEAT = b'{"ts_ms":1}'
MIGRATION = "m"


class Connect:
    """Sends the source's transactions into one partition. Its offsets are stored now and then, and never go back.

    A crash cuts the sending short, and it goes on from what was stored: the server sends some transactions again, of which everything up to
    the last stored row is left out, but for BEGIN and an END that counts what came this time (measured).
    """

    def __init__(self, source: SourceDatabase, *, mid_transaction: bool = True) -> None:
        """`mid_transaction` False: offsets are stored between transactions only."""
        self.source = source
        self.topic: list[bytes | None] = []
        self._mid_transaction = mid_transaction
        self._next = 0  # the transaction that this sending comes to
        self._stored = (0, 0)  # what this sending leaves out: whole transactions, rows of the one after them
        self._reached: list[tuple[int, int]] = []  # the same behind each record of this sending, were it stored with it

    def send(self, transactions: int, rng: random.Random) -> None:
        for _ in range(min(transactions, len(self.source.wal) - self._next)):
            self._put(self._sending())
            self._next += 1
            if rng.random() < 0.1:
                self.topic.append(rng.choice([HEARTBEAT, None]))

    def crash(self, rng: random.Random) -> None:
        if not self.idle:
            records = self._sending()
            self._put(records[: rng.randrange(len(records))])
        self._stored = self._lately_stored(rng)
        self._reached.clear()
        self._next = max(0, self._stored[0] - rng.randrange(3))

    def _lately_stored(self, rng: random.Random) -> tuple[int, int]:
        """Nothing new, or behind one of the last records; behind all rows of one place, or some of them."""
        reached = [self._stored, *self._reached[-12:]]
        whole, rows = rng.choice([at for at in reached if self._mid_transaction or not at[1]])
        while rows and (whole, rows + 1) in reached and self._place(whole, rows) == self._place(whole, rows + 1) and rng.random() < 0.5:
            rows += 1
        return whole, rows

    def _place(self, transaction: int, row: int) -> int:
        place: int = orjson.loads(self.source.wal[transaction].records[row])["source"]["lsn"]
        return place

    def _sending(self) -> list[tuple[bytes, tuple[int, int]]]:
        """The next transaction as it is sent this time, and how far one is behind each record."""
        at = self._next
        begin, *rows, end = self.source.wal[at].records
        whole, left_out = self._stored
        if at > whole:
            left_out = 0
        elif at < whole:
            left_out = len(rows)
        if left_out:
            rows = [_numbered(row, order) for order, row in enumerate(rows[left_out:], 1)]
            end = orjson.dumps({**orjson.loads(end), "event_count": len(rows)})
        places = [(at, left_out + n) for n in range(len(rows) + 1)] + [(at + 1, 0)]
        return [(record, max(place, self._stored)) for record, place in zip((begin, *rows, end), places, strict=True)]

    def _put(self, records: Sequence[tuple[bytes, tuple[int, int]]]) -> None:
        self.topic += [record for record, _ in records]
        self._reached += [reached for _, reached in records]

    @property
    def idle(self) -> bool:
        return self._next == len(self.source.wal)


def _numbered(row: bytes, order: int) -> bytes:
    event = orjson.loads(row)
    event["transaction"]["total_order"] = order
    return orjson.dumps(event)


class Worker:
    """One opening of the stream. `written` is what came of it: a session that ends loses everything but what is on the target."""

    def __init__(self, writer: Writer, applied: Applied, routes: Mapping[TableId, Sequence[Route]], piece_rows: int) -> None:
        events = PostgresEvents()
        self.writer = writer
        self.offset = applied.offset
        self.batch: Batch | None = None  # taken from the intake, not written yet
        self._assembler = Assembler(events, applied.position, pieces=Pieces(rows=piece_rows))
        self._intake = Intake(events, routes, applied)

    def feed(self, topic: Sequence[bytes | None], records: int) -> None:
        """The next records of the topic."""
        fetched = [(at, topic[at]) for at in range(self.offset, min(len(topic), self.offset + records))]
        self.offset += len(fetched)
        for transaction in self._assembler.feed(fetched):
            self._intake.add(transaction, lambda _: None)

    def write(self) -> Applied | None:
        """Writes what has come in, or what a write before did not get through with; answers the position after it."""
        if self.batch is None and self._intake.pending:
            self.batch = self._intake.take()
        if self.batch is None:
            return None
        batch = self.batch
        self.writer.apply(MIGRATION, batch.collapse.batches(), batch.before, batch.after, batch.notes())
        self.batch = None
        return batch.after

    @property
    def idle(self) -> bool:
        """Whether nothing is taken in and not written."""
        return self.batch is None and not self._intake.pending

    def freeze(self) -> None:
        """A batch is in its hands, and it does not write it."""
        if self.batch is None and self._intake.pending:
            self.batch = self._intake.take()
