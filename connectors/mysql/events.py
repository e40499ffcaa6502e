"""How Debezium's MariaDB and MySQL connectors speak: DDL and TRUNCATE have a BEGIN but no END, and the marker is a row."""

from __future__ import annotations

import msgspec

from connectors.mysql import position
from pipeline.model import TableId
from pipeline.records import Record, Source, given

MARKER_TABLE = "crossfade_marker"


class _Marker(msgspec.Struct, gc=False):
    token: str | None = None


_marker_of = msgspec.json.Decoder(_Marker).decode


class MysqlEvents:
    """See `connectors.base.Events`."""

    end_follows_everything = False
    marker_table: str | None = MARKER_TABLE
    separator = ""

    def transaction(self, identity: str) -> str:
        """The GTID, or file and position: the same in BEGIN, rows and END."""
        return identity

    def table(self, source: Source) -> TableId:
        return TableId(source.db or "", source.table or "")

    def position(self, identity: str) -> str:
        return position.of_id(identity)

    def marker(self, event: Record) -> str | None:
        if event.source is None or event.source.table != MARKER_TABLE:
            return None
        row = given(event.after)
        return None if row is None else _marker_of(row).token

    def beyond(self, position_: str, than: str) -> bool:
        return position.beyond(position_, than)

    def first_place(self, identity: str) -> int | None:
        return None

    def joined(self, applied: str, position_: str) -> str:
        return position.joined(applied, position_)

    def replayed(self, identity: str, last_event: bytes | None, applied: str) -> bool | None:
        """The id of a transaction is its position, known from its BEGIN on."""
        return bool(applied) and not position.beyond(position.of_id(identity), applied)

    def begins_beyond(self, identity: str, than: str) -> bool:
        """A BEGIN that comes while rows of another transaction wait for their END: later (XA: refuse) or a replay after a crash."""
        return position.beyond(position.of_id(identity), position.of_id(than))
