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
from pipeline.stream.assembler import Assembler
from tests.model.source import SourceDatabase

HEARTBEAT = b'{"ts_ms":1}'
MIGRATION = "m"


class Connect:
    """Sends the source's transactions into one partition. A crash cuts one short. Then it sends again from an earlier one on, or goes on
    in the middle behind the last stored row: BEGIN and the rest, counted as if it were all (both measured).
    """

    def __init__(self, source: SourceDatabase) -> None:
        self.source = source
        self.topic: list[bytes | None] = []
        self.sent = 0
        self._rest: list[bytes] = []  # what comes before whole transactions again

    def send(self, transactions: int, rng: random.Random) -> None:
        if self._rest:
            self.topic += self._rest
            self._rest = []
            self.sent += 1
        for committed in self.source.wal[self.sent : self.sent + transactions]:
            self.topic += committed.records
            self.sent += 1
            if rng.random() < 0.1:
                self.topic.append(rng.choice([HEARTBEAT, None]))

    def crash(self, rng: random.Random) -> None:
        if self._rest:
            self.topic += self._rest[: rng.randrange(len(self._rest))]  # and the same again
            return
        if self.sent < len(self.source.wal):
            records = self.source.wal[self.sent].records
            there = records[: rng.randrange(len(records))]
            self.topic += there
            if len(there) > 1 and rng.random() < 0.5:
                self._resume(records, 1 + rng.randrange(len(there) - 1), rng)
                return
        self.sent = rng.randrange(max(0, self.sent - 5), self.sent + 1)

    def _resume(self, records: Sequence[bytes], stored: int, rng: random.Random) -> None:
        """The server sends some whole transactions again, of which nothing is let through, and of this one what is not stored."""
        for committed in self.source.wal[max(0, self.sent - rng.randrange(3)) : self.sent]:
            self._rest += [committed.records[0], _ending(committed.records[-1], 0)]
        rows = [orjson.loads(record) for record in records[1 + stored : -1]]
        for order, row in enumerate(rows, 1):
            row["transaction"]["total_order"] = order
        self._rest += [records[0], *(orjson.dumps(row) for row in rows), _ending(records[-1], len(rows))]

    @property
    def idle(self) -> bool:
        return self.sent == len(self.source.wal)


def _ending(record: bytes, count: int) -> bytes:
    return orjson.dumps({**orjson.loads(record), "event_count": count})


class Worker:
    """One opening of the stream. `written` is what came of it: a session that ends loses everything but what is on the target."""

    def __init__(self, writer: Writer, applied: Applied, routes: Mapping[TableId, Sequence[Route]], piece_rows: int) -> None:
        events = PostgresEvents()
        self.writer = writer
        self.offset = applied.offset
        self.batch: Batch | None = None  # taken from the intake, not written yet
        self._assembler = Assembler(events, applied.position, piece_rows=piece_rows)
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
