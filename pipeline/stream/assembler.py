"""Kafka records of one partition → whole source transactions, in commit order.

What Debezium can send (measured with Connect killed under load): a transaction cut short by a new BEGIN, then whole transactions
again from an earlier one on. So: BEGIN while one is open → forget the open one. Whether a whole transaction was applied before is
decided by its position, later. `event_count` and `total_order` are checked: a hole is a gap in the stream and stops it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from connectors.base import Events
from pipeline.errors import DataRejected, GapInStream
from pipeline.model import Change, Marker, SchemaChange, TableId, Transaction

_ROWS = frozenset("crudt")
_HEARTBEAT = frozenset({"ts_ms", "ts_us", "ts_ns"})


@dataclasses.dataclass(slots=True)
class _Open:
    id: str  # as the first of its records spelled it
    key: str  # what all of its records share
    changes: list[Change] = dataclasses.field(default_factory=list)
    markers: list[Marker] = dataclasses.field(default_factory=list)
    schema_changes: list[SchemaChange] = dataclasses.field(default_factory=list)
    first_order: int = 0
    last_order: int = 0
    source: Mapping[str, Any] | None = None
    source_ms: int = 0
    bytes: int = 0


class Assembler:
    """Feed records in offset order; get transactions. Holds one open transaction of at most `piece_rows` rows or `piece_bytes`
    bytes of JSON: a longer one comes out in pieces (`last` False), each saying which orders it covers.
    """

    def __init__(self, events: Events, *, piece_rows: int = 50_000, piece_bytes: int = 32 << 20) -> None:
        self._events = events
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._open: _Open | None = None
        self._tables: dict[tuple[object, object], TableId] = {}

    def feed(self, records: Iterable[tuple[int, bytes | None]]) -> list[Transaction]:
        """`records` are (offset, value). Raises `GapInStream`; `DataRejected` for what is not Debezium's."""
        out: list[Transaction] = []
        loads = orjson.loads
        for offset, value in records:
            if not value:
                continue  # a tombstone
            try:
                event = loads(value)
            except orjson.JSONDecodeError as error:
                raise DataRejected(f"offset {offset}: the record is not JSON ({error})") from None
            if not isinstance(event, dict):
                raise DataRejected(f"offset {offset}: the record is not a JSON object")
            if "op" in event:
                self._event(event, offset, len(value), out)
            elif "status" in event:
                self._boundary(event, offset, out)
            elif "ddl" in event:
                self._ddl(event, offset, out)
            elif not event.keys() <= _HEARTBEAT:  # a heartbeat says nothing about what was applied
                raise DataRejected(f"offset {offset}: unknown kind of record with keys {', '.join(sorted(map(str, event)))}")
        return out

    # -- kinds of records ------------------------------------------------------------------------------------------------------------

    def _event(self, event: dict[str, Any], offset: int, size: int, out: list[Transaction]) -> None:
        op, transaction = event["op"], event.get("transaction")
        if transaction is None:
            if op == "m":
                return  # a message outside any transaction, not ours
            raise DataRejected(f"offset {offset}: op {op!r} outside a transaction: the connector lacks provide.transaction.metadata")
        identity, order = transaction["id"], int(transaction["total_order"])
        key = self._events.transaction(identity)
        current = self._open
        if current is None:
            # Its BEGIN was not seen: reading goes on in the middle of a transaction that was applied in pieces.
            current = self._open = _Open(identity, key, last_order=order - 1)
        elif current.key != key:
            raise GapInStream(f"offset {offset}: an event of transaction {identity} inside transaction {current.id}")
        if order != current.last_order + 1:
            raise GapInStream(f"offset {offset}: transaction {current.id} goes from event {current.last_order} to {order}")
        current.first_order = current.first_order or order
        current.last_order = order
        source = current.source = event["source"]
        current.source_ms = source.get("ts_ms") or 0
        token = self._events.marker(event)
        if token is not None:
            current.markers.append(Marker(token, offset, current.source_ms))
            return
        if op == "m":
            return  # somebody else's message
        if op not in _ROWS:
            raise DataRejected(f"offset {offset}: unknown op {op!r}")
        name = (source.get("schema") or source.get("db"), source.get("table"))
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._events.table(source)
        current.changes.append(Change(op, table, event.get("before"), event.get("after"), order, offset, current.source_ms))
        if op == "t" and not self._events.end_follows_everything:
            self._close(current, self._events.position({"id": identity}), offset, out)
            return
        current.bytes += size
        if len(current.changes) >= self._piece_rows or current.bytes >= self._piece_bytes:
            self._cut(current, offset, out)

    def _cut(self, current: _Open, offset: int, out: list[Transaction]) -> None:
        """Gives out what there is as a piece. A delete at its end stays for the next one: it may be half of a key change, whose other
        half may say that columns are to be taken from the deleted row."""
        rest = _Open(current.id, current.key, last_order=current.last_order, source=current.source, source_ms=current.source_ms)
        next_offset = offset + 1
        last = current.changes[-1]
        if last.op == "d" and len(current.changes) > 1:
            del current.changes[-1]
            rest.changes, rest.first_order, next_offset = [last], last.order, last.offset
            current.last_order = last.order - 1
        out.append(self._taken(current, "", False, next_offset))
        self._open = rest

    def _boundary(self, event: Mapping[str, Any], offset: int, out: list[Transaction]) -> None:
        status, identity = event["status"], event["id"]
        current = self._open
        if status == "BEGIN":
            unended = current is not None and current.changes and not self._events.end_follows_everything
            if current is not None and unended and self._events.begins_beyond(identity, current.id):
                raise GapInStream(
                    f"offset {offset}: transaction {current.id} has rows and no end",
                    hint="XA transactions on the source cannot be streamed: whether they were committed is not told",
                )
            # Otherwise one that is open was cut short by a crash of Connect, and comes again whole.
            self._open = _Open(identity, self._events.transaction(identity), source_ms=event.get("ts_ms") or 0)
            return
        if status != "END":
            raise DataRejected(f"offset {offset}: unknown transaction status {status!r}")
        count = int(event.get("event_count") or 0)
        if current is None:
            # Reading went on right before the END of a transaction that was applied in pieces; if it was not, its first event is missing.
            current = _Open(identity, self._events.transaction(identity), first_order=count + 1 if count else 0, last_order=count)
        if current.key != self._events.transaction(identity) or current.last_order != count:
            raise GapInStream(f"offset {offset}: transaction {current.id} ends after event {current.last_order} of {count}")
        current.source_ms = event.get("ts_ms") or current.source_ms
        self._close(current, self._events.position(event), offset, out)

    def _ddl(self, event: Mapping[str, Any], offset: int, out: list[Transaction]) -> None:
        source = event.get("source") or {}
        if source.get("snapshot", "false") != "false":
            return  # the connector reading the schema as it starts: nothing changed
        database = event.get("databaseName") or source.get("db") or ""
        changes = event.get("tableChanges") or ()
        tables = tuple(TableId(database, _last_part(c["id"])) for c in changes if c.get("id"))
        current = self._open or _Open(source.get("gtid") or "", "")
        current.schema_changes.append(SchemaChange(event.get("ddl") or "", tables, offset))
        position = self._events.position({"id": source["gtid"]}) if source.get("gtid") else ""
        self._close(current, position, offset, out)

    def _close(self, current: _Open, position: str, offset: int, out: list[Transaction]) -> None:
        out.append(self._taken(current, position, True, offset + 1))
        self._open = None

    @staticmethod
    def _taken(current: _Open, position: str, last: bool, next_offset: int) -> Transaction:
        return Transaction(
            id=current.key or current.id,
            position=position,
            changes=current.changes,
            markers=current.markers,
            schema_changes=current.schema_changes,
            first_order=current.first_order,
            last_order=current.last_order,
            last=last,
            next_offset=next_offset,
            source_ms=current.source_ms,
            full_id=current.id,
            source=current.source,
        )


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
