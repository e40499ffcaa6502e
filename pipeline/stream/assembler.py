"""Kafka records of one partition → whole source transactions, in commit order, each row event once.

What Debezium sends after a crash of Connect or the broker (measured): it sends again from some event on that is at or before the
first one missing in the topic, *also from the middle of a transaction*. Every transaction the server sends again has its BEGIN and
END, but rows up to the stored event are left out, and `total_order` and `event_count` count only those that came this time. So:

* A transaction that another one interrupts is put aside, not forgotten. When it comes again, what is new is told by *place*: where an
  event stands in the source's log, the same each time it is sent.
* While one is put aside, reading must be able to go on from its BEGIN: nothing given out moves the offset beyond it.
* One that comes without its beginning (`begins` False) and is not known to be applied in part is a gap. It is decided by position,
  later, as is whether a whole transaction was applied before.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from connectors.base import Events
from pipeline.errors import DataRejected, GapInStream
from pipeline.model import Change, Marker, SchemaChange, TableId, Transaction
from pipeline.records import NULL, Record, RowText, SchemaRecord, given, place_of, read, read_schema

_ROWS = frozenset("crudt")
_UPSERTS_AND_DELETES = frozenset("cud")
_HEARTBEAT = frozenset({"ts_ms", "ts_us", "ts_ns"})
_REMEMBERED = 10_000  # ended transactions whose events may be sent twice by a producer that retries
_MANY = 2_000  # changes of one transaction that are waited for: a small one is given out before they are many


@dataclasses.dataclass(slots=True)
class _Open:
    id: str  # as the first of its records spelled it
    key: str  # what all of its records share
    offset: int  # where reading would have to begin to get what is held here
    shared: str = ""  # what the ids of all of them begin with; "" where they are all the same
    begin: int | None = None  # place of its first event, when BEGIN tells
    begins: bool = True
    changes: list[Change] = dataclasses.field(default_factory=list)
    markers: list[Marker] = dataclasses.field(default_factory=list)
    schema_changes: list[SchemaChange] = dataclasses.field(default_factory=list)
    place: int = 0  # of the last event
    counted: int = 0  # `total_order` of the last event of this sending
    resent: bool = False  # its beginning was here before
    again: list[Change] | None = None  # sent again: the changes at `place` that may come a second time
    last: bytes | None = None  # the last row event
    size: int = 0  # bytes of JSON
    most: int = 0  # rows, and bytes, that it may grow to before a piece is given out
    largest: int = 0
    kept: int = 0  # so many of `changes` keep no record in memory, only their rows


_NONE = _Open("", "", 0)
"""In place of an open transaction: its `place` is 0, so no row follows it, and nothing is ever written to it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pieces:
    """How much of one transaction is held: up to `rows` rows and `bytes` bytes of JSON it comes out whole. Of a longer one all that
    follows comes out by `next_rows` and `next_bytes`: it is not whole on the target any more, so it need not take a worker's memory."""

    rows: int = 50_000
    bytes: int = 32 << 20
    next_rows: int = 5_000
    next_bytes: int = 4 << 20


class Assembler:
    """Feed records in offset order; get transactions. Holds one open transaction as far as `pieces` lets it: a longer one comes out in
    pieces (`last` False), each saying up to which place it goes. No piece ends between events of one place, such as the delete and the
    insert of a key change.
    """

    def __init__(self, events: Events, position: str = "", *, pieces: Pieces = Pieces()) -> None:
        """`position` is what is applied when reading begins."""
        self._events = events
        self._pieces = pieces
        self._open: _Open | None = None
        self._aside: _Open | None = None
        self._ended: deque[str] = deque(maxlen=_REMEMBERED)
        self._position = position  # of the last one that ended
        self._tables: dict[tuple[str | None, ...], TableId] = {}
        self._plain: dict[tuple[str | None, ...], TableId] = {}  # those of them whose rows are never markers

    def feed(self, records: Iterable[tuple[int, bytes | None]]) -> list[Transaction]:
        """`records` are (offset, value). Raises `GapInStream`; `DataRejected` for what is not Debezium's."""
        out: list[Transaction] = []
        rest = iter(records)
        while (found := self._after_rows(rest)) is not None:
            event, offset, value = found
            if event.op is not None:
                self._event(event, offset, value, out)
            elif event.status is not None:
                self._boundary(event, offset, out)
            elif event.ddl is not None:
                self._ddl(read_schema(value), offset, out)
            elif not (keys := msgspec.json.decode(value).keys()) <= _HEARTBEAT:  # a heartbeat says nothing about what was applied
                raise DataRejected(f"offset {offset}: unknown kind of record with keys {', '.join(sorted(keys))}")
        if self._open is not None and len(self._open.changes) - self._open.kept >= _MANY:
            _keep_rows_only(self._open)
        return out

    # -- kinds of records ------------------------------------------------------------------------------------------------------------

    def _after_rows(self, records: Iterator[tuple[int, bytes | None]]) -> tuple[Record, int, bytes] | None:
        """Takes the next rows of the open transaction, as nearly all records are, and answers the first record that is more than that;
        None when there is none. For a row it does what `_event` does, without its questions, and with the transaction's state in variables:
        this is what a worker that catches up spends its time on."""
        current, plain = self._open or _NONE, self._plain
        changes, counted, place, size = current.changes, current.counted, current.place, current.size
        key, shared, most, largest = current.key, current.shared, current.most, current.largest
        table: TableId | None = None
        space: str | None = None
        name: str | None = None
        last: bytes | None = None
        found: tuple[Record, int, bytes] | None = None
        for offset, value in records:
            if not value:
                continue  # a tombstone
            try:
                event = read(value)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise DataRejected(f"offset {offset}: {_fault(value, error)}") from None
            source, transaction = event.source, event.transaction
            if place and event.op in _UPSERTS_AND_DELETES and source is not None and transaction is not None:
                if source.table != name or (source.schema or source.db) != space:  # asking for it takes its time
                    space, name = source.schema or source.db, source.table
                    table = plain.get((space, name))
                at, identity = place_of(source), transaction.id
                if (
                    table is not None
                    and at > place
                    and transaction.total_order == counted + 1
                    and (identity.startswith(shared) if shared else identity == key)
                    and len(changes) < most
                    and size < largest
                ):
                    before, after = event.before, event.after
                    changes.append(
                        Change(event.op, table, before if len(before) > NULL else None, after if len(after) > NULL else None, at, offset)
                    )
                    counted, place, last = counted + 1, at, value
                    size += len(value)
                    continue
            found = event, offset, value
            break
        if last is not None:
            current.counted, current.place, current.size, current.last, current.again = counted, place, size, last, None
        return found

    def _event(self, event: Record, offset: int, value: bytes, out: list[Transaction]) -> None:
        op, transaction, source = event.op or "", event.transaction, event.source
        if transaction is None:
            if op == "m":
                return  # a message outside any transaction, not ours
            raise DataRejected(f"offset {offset}: op {op!r} outside a transaction: the connector lacks provide.transaction.metadata")
        if source is None:
            raise DataRejected(f"offset {offset}: op {op!r} does not say where it comes from")
        identity, order = transaction.id, transaction.total_order
        key = self._events.transaction(identity)
        place = place_of(source)
        current = self._open
        if current is None or current.key != key:
            if key in self._ended or self._events.replayed(identity, value, self._position):
                return  # the producer wrote its last request twice
            if current is not None:
                raise GapInStream(f"offset {offset}: an event of transaction {identity} inside transaction {current.id}")
            # Its BEGIN was not seen: reading goes on in the middle of a transaction that was applied in pieces.
            current = self._open = self._taken_up(self._opened(identity, key, offset, begins=False, counted=order - 1))
        if order <= current.counted and place <= current.place:
            return  # the same
        if order != current.counted + 1:
            raise GapInStream(f"offset {offset}: transaction {current.id} goes from event {current.counted} to {order}")
        current.counted = order
        if not current.place and current.begin is not None and place != current.begin:
            current.begins = False
        if place < current.place:
            if not current.resent:
                # MariaDB 11.4 and later by themselves give all events of a transaction one position.
                raise GapInStream(
                    f"offset {offset}: transaction {current.id} goes back in the source's log",
                    hint="MariaDB needs binlog_legacy_event_pos = ON; set it and start again",
                )
            return  # sent again, and was here before
        if place > current.place:
            if len(current.changes) >= current.most or current.size >= current.largest:
                current = self._cut(current, offset, out)
            current.again = None
        current.place = place
        current.last = value
        token = self._events.marker(event)
        if token is not None:
            if all(token != marker.token for marker in current.markers):
                current.markers.append(Marker(token, offset))
            return
        if op == "m":
            return  # somebody else's message
        if op not in _ROWS:
            raise DataRejected(f"offset {offset}: unknown op {op!r}")
        name = (source.schema or source.db, source.table)
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._events.table(source)
            if table.name != self._events.marker_table:
                self._plain[name] = table
        change = Change(op, table, given(event.before), given(event.after), place, offset)
        if current.again is not None and _strike(current.again, change):
            return
        current.changes.append(change)
        current.size += len(value)
        if op == "t" and not self._events.end_follows_everything:
            self._close(current, self._events.position(identity), offset, out)

    def _cut(self, current: _Open, offset: int, out: list[Transaction]) -> _Open:
        """Gives out what there is as a piece; the event at `offset` is the first of the next one."""
        out.append(self._taken(current, "", last=False, offset=offset))
        rest = self._opened(
            current.id, current.key, offset, begin=current.begin, begins=False, place=current.place, counted=current.counted
        )
        rest.resent = current.resent
        self._open = rest
        return rest

    def _boundary(self, event: Record, offset: int, out: list[Transaction]) -> None:
        status, identity = event.status, event.id
        if identity is None:
            raise DataRejected(f"offset {offset}: {status} of no transaction")
        key = self._events.transaction(identity)
        current = self._open
        if status == "BEGIN":
            if current is not None:
                self._put_aside(current, identity, offset)
            begun = self._opened(identity, key, offset, begin=self._events.first_place(identity))
            self._open = self._taken_up(begun)
            return
        if status != "END":
            raise DataRejected(f"offset {offset}: unknown transaction status {status!r}")
        count = event.event_count or 0
        position = self._events.position(identity)
        if current is None or current.key != key:
            if self._position and not self._events.beyond(position, self._position):
                return  # the producer wrote its last request twice
            if current is not None:
                raise GapInStream(f"offset {offset}: the end of transaction {identity} inside transaction {current.id}")
            # Reading went on right before the END of a transaction that was applied in pieces; if it was not, its beginning is missing.
            current = self._taken_up(self._opened(identity, key, offset, begins=False, counted=count))
        if current.counted != count:
            raise GapInStream(f"offset {offset}: transaction {current.id} ends after event {current.counted} of {count}")
        self._close(current, position, offset, out)

    def _ddl(self, event: SchemaRecord, offset: int, out: list[Transaction]) -> None:
        source = event.source
        if source.snapshot not in (None, "false"):
            return  # the connector reading the schema as it starts: nothing changed
        database = event.database or source.db or ""
        tables = tuple(TableId(database, _last_part(table.id)) for table in event.tables or () if table.id)
        current = self._open or _Open(source.gtid or "", "", offset)
        current.schema_changes.append(SchemaChange(event.ddl, tables, offset))
        self._close(current, self._events.position(source.gtid) if source.gtid else "", offset, out)

    # -- taking up and giving out ----------------------------------------------------------------------------------------------------

    def _opened(self, identity: str, key: str, offset: int, *, begins: bool = True, **more: Any) -> _Open:
        separator, pieces = self._events.separator, self._pieces
        most, largest = pieces.rows, pieces.bytes
        if not begins:  # a part of it is applied, or on its way
            most, largest = min(most, pieces.next_rows), min(largest, pieces.next_bytes)
        shared = key + separator if separator else ""
        return _Open(identity, key, offset, shared=shared, begins=begins, most=most, largest=largest, **more)

    def _put_aside(self, current: _Open, next_: str, offset: int) -> None:
        """It was cut short by a crash. One that was whole before is forgotten, as is one that comes while another waits: it is before
        that one in the stream."""
        if not current.place or self._aside is not None:
            return
        if self._events.replayed(current.id, current.last, self._position):
            return
        if not self._events.end_follows_everything and self._events.begins_beyond(next_, current.id):
            raise GapInStream(
                f"offset {offset}: transaction {current.id} has rows and no end",
                hint="XA transactions on the source cannot be streamed: whether they were committed is not told",
            )
        self._aside = current

    def _taken_up(self, begun: _Open) -> _Open:
        """The transaction that begins, or the one put aside when it is the same."""
        aside = self._aside
        if aside is None or aside.key != begun.key:
            return begun
        self._aside = None
        aside.counted = begun.counted
        aside.resent = True
        aside.again = [c for c in aside.changes if c.place == aside.place]
        return aside

    def _close(self, current: _Open, position: str, offset: int, out: list[Transaction]) -> None:
        if position and (not self._position or self._events.beyond(position, self._position)):
            if self._aside is not None:
                raise GapInStream(f"offset {offset}: transaction {self._aside.id} was cut short and has not come again")
            self._position = self._events.joined(self._position, position)
        out.append(self._taken(current, position, last=True, offset=offset + 1))
        self._open = None
        if current.key:
            self._ended.append(current.key)

    def _taken(self, current: _Open, position: str, *, last: bool, offset: int) -> Transaction:
        aside = self._aside
        return Transaction(
            id=current.key or current.id,
            position=position,
            changes=current.changes,
            markers=current.markers,
            schema_changes=current.schema_changes,
            begins=current.begins,
            place=current.place,
            last=last,
            next_offset=offset if aside is None else min(offset, aside.offset),
            full_id=current.id,
            last_event=current.last,
            bytes=current.size,
        )


def _keep_rows_only(current: _Open) -> None:
    """What waits for its END for long lets go of the records that its rows came in: three quarters of them are Debezium's book-keeping."""
    for change in current.changes[current.kept :]:
        if isinstance(change.before, msgspec.Raw):
            change.before = change.before.copy()
        if isinstance(change.after, msgspec.Raw):
            change.after = change.after.copy()
    current.kept = len(current.changes)


def _strike(again: list[Change], change: Change) -> bool:
    """Whether this change of the last place was here before; each counts once."""
    for at, known in enumerate(again):
        if (known.op, known.table) == (change.op, change.table) and _same(known.after, change.after) and _same(known.before, change.before):
            del again[at]
            return True
    return False


def _same(one: RowText | None, other: RowText | None) -> bool:
    """Whether they are the same row."""
    if one is None or other is None:
        return one is other
    return bool(msgspec.json.decode(one) == msgspec.json.decode(other))


def _fault(value: bytes, error: Exception) -> str:
    """What is wrong with a record; never what is in it."""
    if not isinstance(error, msgspec.ValidationError):
        return f"the record is not JSON ({error})" if isinstance(error, msgspec.DecodeError) else "the record is not UTF-8"
    if value.lstrip()[:1] != b"{":
        return "the record is not a JSON object"
    return f"the record is not Debezium's ({error})"


def _last_part(quoted: str) -> str:
    """`"db"."table"` → table. Debezium doubles a quote inside a name."""
    parts: list[str] = []
    at = 0
    while at < len(quoted):
        if quoted[at] == '"':
            end = at + 1
            while end < len(quoted) and not (quoted[end] == '"' and quoted[end + 1 : end + 2] != '"'):
                end += 2 if quoted[end] == '"' else 1
            parts.append(quoted[at + 1 : end].replace('""', '"'))
            at = end + 2
        else:
            end = quoted.find(".", at)
            end = len(quoted) if end < 0 else end
            parts.append(quoted[at:end])
            at = end + 1
    return parts[-1] if parts else ""
