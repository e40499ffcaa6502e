"""How Debezium's PostgreSQL connector speaks: which events are of one transaction, what is a marker, where a transaction ends."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import orjson

from connectors.postgres import position
from connectors.postgres.reader import MARKER_PREFIX
from pipeline.model import TableId


class PostgresEvents:
    """See `connectors.base.Events`."""

    end_follows_everything = True
    marker_table: str | None = None

    def __init__(self, *, begin_tells: bool = True) -> None:
        """`begin_tells`: the server writes BEGIN together with the first change (PostgreSQL 15 and later), and nothing that the
        publication has is left out by the connector."""
        self._begin_tells = begin_tells

    def transaction(self, identity: str) -> str:
        """`775:32933264` → `775`: the part after the colon is each event's own LSN."""
        return identity.partition(":")[0]

    def table(self, source: Mapping[str, Any]) -> TableId:
        return TableId(source["schema"], source["table"])

    def position(self, end: Mapping[str, Any]) -> str:
        return position.of_end(end)

    def marker(self, event: Mapping[str, Any]) -> str | None:
        if event.get("op") != "m":
            return None
        message = event.get("message") or {}
        if message.get("prefix") != MARKER_PREFIX:
            return None
        return base64.b64decode(message.get("content") or "").decode()

    def beyond(self, position_: str, than: str) -> bool:
        return position.beyond(position_, than)

    def place(self, source: Mapping[str, Any]) -> int:
        return int(source["lsn"])

    def first_place(self, identity: str) -> int | None:
        return int(identity.partition(":")[2]) if self._begin_tells else None

    def joined(self, applied: str, position_: str) -> str:
        return position_

    def replayed(self, identity: str, source: Mapping[str, Any], applied: str) -> bool | None:
        """Before its END came: `source.sequence` starts with the end of the transaction before this one in the stream."""
        if not applied:
            return False
        before = orjson.loads(source.get("sequence") or "[null]")[0]
        if before is not None:
            return int(before) < int(applied)
        if int(source.get("lsn") or 0) >= int(applied):
            return False
        return None

    def begins_beyond(self, identity: str, than: str) -> bool:
        """Never needed here: every BEGIN has its END."""
        return False
