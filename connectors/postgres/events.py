"""How Debezium's PostgreSQL connector speaks: which events are of one transaction, what is a marker, where a transaction ends."""

from __future__ import annotations

import base64

import msgspec
import orjson

from connectors.postgres import position
from connectors.postgres.reader import MARKER_PREFIX
from pipeline.model import TableId
from pipeline.records import Record, Source


class _Order(msgspec.Struct, gc=False):
    lsn: int = 0
    sequence: str | None = None


class _Ordered(msgspec.Struct, gc=False):
    source: _Order


_ordered = msgspec.json.Decoder(_Ordered).decode


class PostgresEvents:
    """See `connectors.base.Events`."""

    end_follows_everything = True
    marker_table: str | None = None
    separator = ":"

    def __init__(self, *, begin_tells: bool = True) -> None:
        """`begin_tells`: the server writes BEGIN together with the first change (PostgreSQL 15 and later), and nothing that the
        publication has is left out by the connector."""
        self._begin_tells = begin_tells

    def transaction(self, identity: str) -> str:
        """`775:32933264` → `775`: the part after the colon is each event's own LSN."""
        return identity.partition(":")[0]

    def table(self, source: Source) -> TableId:
        return TableId(source.schema or "", source.table or "")

    def position(self, identity: str) -> str:
        return position.of_id(identity)

    def marker(self, event: Record) -> str | None:
        message = event.message
        if event.op != "m" or message is None or message.prefix != MARKER_PREFIX:
            return None
        return base64.b64decode(message.content or "").decode()

    def beyond(self, position_: str, than: str) -> bool:
        return position.beyond(position_, than)

    def first_place(self, identity: str) -> int | None:
        return int(identity.partition(":")[2]) if self._begin_tells else None

    def joined(self, applied: str, position_: str) -> str:
        return position_

    def replayed(self, identity: str, last_event: bytes | None, applied: str) -> bool | None:
        """Before its END came: `source.sequence` starts with the end of the transaction before this one in the stream."""
        if not applied:
            return False
        if last_event is None:
            return None
        source = _ordered(last_event).source
        before = orjson.loads(source.sequence or "[null]")[0]
        if before is not None:
            return int(before) < int(applied)
        return False if source.lsn >= int(applied) else None

    def begins_beyond(self, identity: str, than: str) -> bool:
        """Never needed here: every BEGIN has its END."""
        return False
