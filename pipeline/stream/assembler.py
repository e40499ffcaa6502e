"""Kafka records of one partition → whole source transactions, in commit order.

What Debezium can send (measured with Connect killed under load): a transaction cut short by a new BEGIN, then whole transactions
again from an earlier one on. So: BEGIN while one is open → forget the open one. Whether a whole transaction was applied before is
decided by its position, not here. `event_count` and `total_order` are checked: a hole is a gap in the stream and stops it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import orjson

from pipeline.errors import DataRejected, GapInStream
from pipeline.model import Change, Marker, SchemaChange, TableId, Transaction

ROWS = frozenset("crud")


class StreamDialect(Protocol):
    """What differs between products in Debezium's events; each product's `debezium.py` has one."""

    def table(self, source: Mapping[str, Any]) -> TableId:
        """The table a row event is of, by its `source` block."""

    def end_position(self, end: Mapping[str, Any], source: Mapping[str, Any] | None) -> str:
        """The position of an END marker; `source` is the last row event's source block, if the transaction had one."""

    def marker(self, event: Mapping[str, Any]) -> str | None:
        """The token when this event is one of crossfade's own markers, else None."""


@dataclasses.dataclass(slots=True)
class _Open:
    id: str
    begun_at: int  # offset
    changes: list[Change] = dataclasses.field(default_factory=list)
    markers: list[Marker] = dataclasses.field(default_factory=list)
    schema_changes: list[SchemaChange] = dataclasses.field(default_factory=list)
    first_order: int = 0
    last_order: int = 0
    source: Mapping[str, Any] | None = None
    source_ms: int = 0
    bytes: int = 0


class Assembler:
    """Feed records in offset order; get transactions. Holds at most one open transaction of at most `piece_rows` rows or
    `piece_bytes` bytes of JSON: a longer one comes out in pieces (`last` False), each with the orders it covers.
    """

    def __init__(self, dialect: StreamDialect, *, piece_rows: int = 50_000, piece_bytes: int = 32 << 20) -> None:
        self._dialect = dialect
        self._piece_rows = piece_rows
        self._piece_bytes = piece_bytes
        self._open: _Open | None = None
        self._tables: dict[tuple[object, object], TableId] = {}

    def feed(self, records: Iterable[tuple[int, bytes | None]]) -> list[Transaction]:
        """`records` are (offset, value). Raises `GapInStream`, `DataRejected` for what is not Debezium's."""
        out: list[Transaction] = []
        loads = orjson.loads
        for offset, value in records:
            if not value:
                continue  # a tombstone
            try:
                event = loads(value)
            except orjson.JSONDecodeError as error:
                raise DataRejected(f"offset {offset}: the record is not JSON ({error})") from None
            op = event.get("op") if type(event) is dict else None
            if op is not None:
                self._event(op, event, offset, len(value), out)
            elif "status" in event:
                self._boundary(event, offset, out)
            elif "ddl" in event:
                self._ddl(event, offset, out)
            elif set(event) <= {"ts_ms", "ts_us", "ts_ns"}:
                continue  # Debezium's heartbeat: it says nothing about what was applied
            else:
                raise DataRejected(f"offset {offset}: unknown kind of record with keys {', '.join(sorted(map(str, event)))}")
        return out

    # -- kinds of records ------------------------------------------------------------------------------------------------------------

    def _event(self, op: str, event: Mapping[str, Any], offset: int, size: int, out: list[Transaction]) -> None:
        transaction = event.get("transaction")
        current = self._open
        if transaction is None:
            raise DataRejected(f"offset {offset}: op {op!r} outside a transaction: the connector lacks provide.transaction.metadata")
        order = int(transaction["total_order"])
        if current is None or current.id != transaction["id"]:
            current = self._adopt(transaction["id"], order, offset, current)
        elif order != current.last_order + 1 and current.last_order:
            if order <= current.last_order:
                return  # sent again within the same transaction
            raise GapInStream(f"offset {offset}: transaction {current.id} goes from event {current.last_order} to {order}")
        if not current.first_order:
            current.first_order = order
        current.last_order = order
        source = event["source"]
        current.source = source
        current.source_ms = source.get("ts_ms") or 0
        token = self._dialect.marker(event)
        if token is not None:
            current.markers.append(Marker(token, offset, current.source_ms))
            return
        if op == "m":
            return  # somebody else's logical message
        if op not in ROWS and op != "t":
            raise DataRejected(f"offset {offset}: unknown op {op!r}")
        name = (source.get("schema") or source.get("db"), source.get("table"))
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = self._dialect.table(source)
        current.changes.append(Change(op, table, event.get("before"), event.get("after"), order, offset, current.source_ms))
        current.bytes += size
        if len(current.changes) >= self._piece_rows or current.bytes >= self._piece_bytes:
            out.append(self._take(current, position="", last=False, next_offset=offset + 1))
            self._open = _Open(current.id, current.begun_at, last_order=current.last_order, source=source)

    def _adopt(self, identity: str, order: int, offset: int, current: _Open | None) -> _Open:
        """A row event of a transaction whose BEGIN was not seen: reading went on in its middle, which pieces make legitimate."""
        if current is not None:
            raise GapInStream(f"offset {offset}: event of transaction {identity} inside transaction {current.id}")
        self._open = _Open(identity, offset, last_order=order - 1)
        return self._open

    def _boundary(self, event: Mapping[str, Any], offset: int, out: list[Transaction]) -> None:
        status, identity = event["status"], event["id"]
        current = self._open
        if status == "BEGIN":
            # One that is open was cut short by a crash of Connect; it comes again, whole.
            self._open = _Open(identity, offset, source_ms=event.get("ts_ms") or 0)
            return
        if status != "END":
            raise DataRejected(f"offset {offset}: unknown transaction status {status!r}")
        if current is None:
            current = _Open(identity, offset)
        count = event.get("event_count")
        if count is not None and current.last_order != count and (current.first_order or count):
            raise GapInStream(f"offset {offset}: transaction {identity} ends after event {current.last_order} of {count}")
        if not current.source_ms:
            current.source_ms = event.get("ts_ms") or 0
        position = self._dialect.end_position(event, current.source)
        out.append(self._take(current, position=position, last=True, next_offset=offset + 1))
        self._open = None

    def _ddl(self, event: Mapping[str, Any], offset: int, out: list[Transaction]) -> None:
        database = event.get("databaseName") or (event.get("source") or {}).get("db") or ""
        tables = tuple(
            TableId(database, _last_part(change.get("id") or "")) for change in event.get("tableChanges") or () if change.get("id")
        )
        change = SchemaChange(event.get("ddl") or "", tables, offset)
        if self._open is not None:
            self._open.schema_changes.append(change)
            return
        # DDL commits by itself; it has no position of its own and is before whatever transaction comes next.
        out.append(Transaction("", "", [], [], [change], 0, 0, True, offset + 1))

    @staticmethod
    def _take(current: _Open, *, position: str, last: bool, next_offset: int) -> Transaction:
        return Transaction(
            id=current.id,
            position=position,
            changes=current.changes,
            markers=current.markers,
            schema_changes=current.schema_changes,
            first_order=current.first_order,
            last_order=current.last_order,
            last=last,
            next_offset=next_offset,
            source_ms=current.source_ms,
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
