"""Records → transactions: whatever Connect, the producer and the worker do when they die, each row event comes once and in order."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from typing import Any

import orjson
import pytest

from connectors.base import Events
from connectors.mysql.events import MysqlEvents
from connectors.postgres.events import PostgresEvents
from pipeline.apply.batch import Intake
from pipeline.errors import DataRejected, GapInStream
from pipeline.model import Applied, Change, Transaction
from pipeline.stream.assembler import Assembler, Pieces

Record = dict[str, Any]


@dataclasses.dataclass
class Event:
    """One row event of the source's log; `number` is unique."""

    number: int
    op: str
    place: int

    def image(self) -> Record:
        return {"id": self.number}


@dataclasses.dataclass
class Logged:
    """One committed transaction of the source."""

    number: int
    events: list[Event]
    end: int


class Postgres:
    """How Debezium spells it for PostgreSQL."""

    events: Events = PostgresEvents()

    def begin(self, t: Logged, _before: int) -> Record:
        return {"status": "BEGIN", "id": f"{t.number}:{t.events[0].place if t.events else t.end - 1}", "event_count": None}

    def end(self, t: Logged, count: int) -> Record:
        return {"status": "END", "id": f"{t.number}:{t.end}", "event_count": count}

    def row(self, t: Logged, event: Event, order: int, before: int) -> Record:
        source = {"schema": "public", "table": "t", "lsn": event.place, "sequence": f'["{before}","{event.place}"]'}
        return _row(event, source, f"{t.number}:{event.place}", order)

    def position(self, t: Logged) -> str:
        return str(t.end)


class Mysql:
    """The same for MariaDB."""

    events: Events = MysqlEvents()

    def begin(self, t: Logged, _before: int) -> Record:
        return {"status": "BEGIN", "id": f"0-1-{t.number}", "event_count": None}

    def end(self, t: Logged, count: int) -> Record:
        return {"status": "END", "id": f"0-1-{t.number}", "event_count": count}

    def row(self, t: Logged, event: Event, order: int, before: int) -> Record:
        source = {"db": "shop", "table": "t", "pos": event.place // 2, "row": event.place % 2, "gtid": f"0-1-{t.number}"}
        return _row(event, source, f"0-1-{t.number}", order)

    def position(self, t: Logged) -> str:
        return f"0-1-{t.number}"


def _row(event: Event, source: Record, identity: str, order: int) -> Record:
    before, after = (event.image(), None) if event.op == "d" else (None, event.image())
    return {"op": event.op, "before": before, "after": after, "source": source, "transaction": {"id": identity, "total_order": order}}


Product = Postgres | Mysql


def history(rng: random.Random, transactions: int) -> list[Logged]:
    """Transactions in commit order. Events of concurrent ones interleave in the log, so places of a later one may be lower."""
    out: list[Logged] = []
    number, log = 0, 1000
    for t in range(1, transactions + 1):
        log += rng.randrange(1, 200)
        place = max(1, log - rng.randrange(0, 300))
        events: list[Event] = []
        for _ in range(rng.choice([0, 1, 1, 2, 3, 6])):
            place += rng.randrange(1, 9)
            ops = rng.choice([["u"], ["c"], ["d"], ["d", "c"], ["c", "c", "c"]])  # a key change, rows inserted by one statement
            for op in ops:
                number += 1
                events.append(Event(number, op, place))
        log = max(log, place) + 1
        out.append(Logged(t, events, log))
    return out


class Connect:
    """Sends a history into one partition; dies and comes back as measured."""

    def __init__(self, product: Product, log: list[Logged]) -> None:
        self.product, self.log = product, log
        self.topic: list[Record] = []
        self.stored: list[tuple[int, int]] = [(0, 0)]  # for each record of the topic: (transaction, rows of it) stored with it

    def send(self, rng: random.Random, until: int | None = None) -> None:
        """Sends on, up to a random record or to the end."""
        budget = until if until is not None else rng.randrange(1, 12)
        for record, stored in self._records():
            if budget == 0:
                return
            budget -= 1
            self.topic.append(record)
            self.stored.append(stored)

    _from = (0, 0)  # what the sending under way left out: whole transactions before, rows of the first
    _resend = 0  # the first transaction that the server sends again

    def _records(self) -> list[tuple[Record, tuple[int, int]]]:
        """All that is left of this sending; recomputed, and cut by how far it got."""
        out: list[tuple[Record, tuple[int, int]]] = []
        skip_whole, skip_rows = self._from
        before = self.log[self._resend - 1].end if self._resend else 900
        for at in range(self._resend, len(self.log)):
            t = self.log[at]
            out.append((self.product.begin(t, before), (at, 0) if at >= skip_whole else (skip_whole, skip_rows)))
            rows = t.events if at > skip_whole else t.events[skip_rows:] if at == skip_whole else []
            first = len(t.events) - len(rows)
            for order, event in enumerate(rows, 1):
                out.append((self.product.row(t, event, order, before), (at, first + order)))
            done = (at + 1, 0) if at >= skip_whole else (skip_whole, skip_rows)
            out.append((self.product.end(t, len(rows)), done))
            before = t.end
        return out[self._sent_of_run() :]

    _run_start = 0

    def _sent_of_run(self) -> int:
        return len(self.topic) - self._run_start

    def crash(self, rng: random.Random) -> None:
        """What was stored last lags behind what is in the topic; the server sends again from what was confirmed, which lags too."""
        run = self.stored[1 + self._run_start :][-10:]
        whole, rows = rng.choice([self._from, *run])
        if whole < len(self.log):
            events = self.log[whole].events
            while 0 < rows < len(events) and events[rows].place == events[rows - 1].place and rng.random() < 0.5:
                if max(self.stored) < (whole, rows + 1):
                    break
                rows += 1  # some versions go on behind all events of one place
        self._from = (whole, rows)
        self._resend = whole if isinstance(self.product, Mysql) else max(0, whole - rng.randrange(3))
        self._run_start = len(self.topic)

    def retry(self, rng: random.Random) -> None:
        """The broker took the producer's last request and died before it said so: it is there twice."""
        again = self.topic[max(self._run_start, len(self.topic) - rng.randrange(1, 9)) :]
        self.topic += again
        self.stored += self.stored[len(self.stored) - len(again) :]
        self._run_start += len(again)


class Recorder(Intake):
    """Keeps the numbers of the row events that would be applied."""

    def __init__(self, events: Events, applied: Applied) -> None:
        super().__init__(events, {}, applied)
        self.numbers: list[int] = []

    def _take_changes(self, transaction: Transaction, changes: list[Change], end: Applied) -> None:
        super()._take_changes(transaction, changes, end)
        self.numbers += [orjson.loads(bytes(c.before or c.after or b""))["id"] for c in changes]


@pytest.mark.parametrize("product", [Postgres(), Mysql()], ids=["postgres", "mariadb"])
def test_s2_s3_s4_each_event_once_and_in_order_whatever_dies(product: Product) -> None:
    """Connect resumes in the middle of transactions, requests are written twice, the worker opens again wherever it was applied to."""
    for seed in range(2000):
        rng = random.Random(seed)
        log = history(rng, rng.randrange(1, 12))
        connect = Connect(product, log)
        applied = Applied("main", 1, str(900) if isinstance(product, Postgres) else "0-1-0")
        numbers: list[int] = []
        finishing = 0
        piece_rows = rng.choice([1, 2, 3, 1000])
        assembler, intake = Assembler(product.events, applied.position, pieces=Pieces(rows=piece_rows)), Recorder(product.events, applied)
        offset = applied.offset
        while True:
            what = rng.random()
            if finishing or what < 0.4:
                connect.send(rng, until=10_000 if finishing else None)
            elif what < 0.55:
                connect.crash(rng)
            elif what < 0.62 and connect.topic:
                connect.retry(rng)
            if rng.random() < 0.6 or finishing:
                until = len(connect.topic) if finishing else min(len(connect.topic), offset + rng.randrange(1, 20))
                fed = [(at, orjson.dumps(connect.topic[at])) for at in range(offset, until)]
                offset = max(offset, until)
                for transaction in assembler.feed(fed):
                    intake.add(transaction, lambda _t: None)
            if rng.random() < 0.3 or finishing:  # the batch is written
                applied = intake.take().after
                numbers += intake.numbers
                intake.numbers = []
            if finishing == 2:
                break
            if rng.random() < 0.1 or finishing:  # the worker dies with what it had not written
                assembler = Assembler(product.events, applied.position, pieces=Pieces(rows=rng.choice([1, 2, 3, 1000])))
                intake = Recorder(product.events, applied)
                offset = applied.offset
                finishing += bool(finishing)
            if rng.random() < 0.03:
                finishing = 1
        assert numbers == [e.number for t in log for e in t.events], seed
        assert applied.position == product.position(log[-1]), seed
        assert not applied.partial_id


def feed(records: list[Record], position: str = "900", events: Events | None = None) -> list[Transaction]:
    found = Assembler(events or PostgresEvents(), position).feed([(at, orjson.dumps(r)) for at, r in enumerate(records)])
    intake = Intake(events or PostgresEvents(), {}, Applied("main", 1, position))
    for transaction in found:
        intake.add(transaction, lambda _t: None)
    return found


def one(number: int = 7, *places: int, end: int = 2000) -> Logged:
    return Logged(number, [Event(at, "u", place) for at, place in enumerate(places, 1)], end)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda r: r[:1] + r[2:], id="an event is missing"),
        pytest.param(lambda r: r[:-2] + r[-1:], id="the last event is missing"),
        pytest.param(lambda r: r[1:], id="the beginning is missing"),
        pytest.param(lambda r: r[-1:], id="there is nothing but the end"),
        pytest.param(lambda r: [*r[:2], {**r[2], "transaction": {"id": "8:1700", "total_order": 2}}, *r[3:]], id="another's event"),
    ],
)
def test_s6_i9_a_hole_in_the_stream_stops_it(spoil: Callable[[list[Record]], list[Record]]) -> None:
    product, t = Postgres(), one(7, 1500, 1600, 1700)
    whole = [product.begin(t, 900), *(product.row(t, e, n, 900) for n, e in enumerate(t.events, 1)), product.end(t, 3)]
    assert len(feed(whole)) == 1
    with pytest.raises(GapInStream):
        feed(spoil(whole))


def test_s2_a_transaction_without_its_first_events_is_a_gap_and_not_a_smaller_transaction() -> None:
    """Debezium before 3.7 may leave them out when it resumes and the log has one of them right behind an earlier commit (dbz#76):
    the rest is numbered from 1 and counted as if it were all."""
    product, t = Postgres(), one(7, 1500, 1600)
    rest = [product.begin(t, 900), product.row(t, t.events[1], 1, 900), product.end(t, 1)]
    with pytest.raises(GapInStream, match="without its first events"):
        feed(rest)
    assert len(feed(rest, events=PostgresEvents(begin_tells=False))) == 1  # BEGIN may be older than the first event before PostgreSQL 15


def test_s2_one_that_was_cut_and_never_comes_again_is_a_gap() -> None:
    product, cut, later = Postgres(), one(7, 1500, 1600), one(8, 2100, end=2200)
    records = [product.begin(cut, 900), product.row(cut, cut.events[0], 1, 900)]
    records += [product.begin(later, 2000), product.row(later, later.events[0], 1, 2000), product.end(later, 1)]
    with pytest.raises(GapInStream, match="cut short"):
        feed(records)


def test_xa_rows_without_an_end_stop_the_stream() -> None:
    product, prepared, following = Mysql(), one(93, 10, 12), one(94)
    records = [product.begin(prepared, 0), *(product.row(prepared, e, n, 0) for n, e in enumerate(prepared.events, 1))]
    with pytest.raises(GapInStream, match="no end"):
        feed([*records, product.begin(following, 0)], "0-1-92", MysqlEvents())


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b'{"what":1}', "unknown kind of record with keys what"),
        (b'{"op":"u","source":{}}', "provide.transaction.metadata"),
        (b'{"op":"?","source":{"lsn":1,"table":"t"},"transaction":{"id":"7:1","total_order":1}}', "unknown op '\\?'"),
        (b'{"status":"MIDDLE","id":"7:1"}', "unknown transaction status"),
    ],
)
def test_a_record_that_is_not_debeziums_is_named_by_its_offset(value: bytes, match: str) -> None:
    with pytest.raises(DataRejected, match=match) as raised:
        Assembler(PostgresEvents()).feed([(41, value)])
    assert "offset 41" in str(raised.value)


def test_s5_tombstones_heartbeats_and_foreign_messages_are_passed_over() -> None:
    message = b'{"op":"m","source":{"lsn":5},"transaction":null,"message":{"prefix":"outbox"}}'
    assert Assembler(PostgresEvents()).feed([(0, None), (1, b""), (2, b'{"ts_ms":1}'), (3, message)]) == []
