"""How Debezium's MariaDB and MySQL connectors speak: DDL and TRUNCATE have a BEGIN but no END, and the marker is a row."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connectors.mysql import position
from pipeline.model import TableId

MARKER_TABLE = "crossfade_marker"


class MysqlEvents:
    """See `connectors.base.Events`."""

    end_follows_everything = False
    marker_table: str | None = MARKER_TABLE

    def transaction(self, identity: str) -> str:
        """The GTID, or file and position: the same in BEGIN, rows and END."""
        return identity

    def table(self, source: Mapping[str, Any]) -> TableId:
        return TableId(source["db"], source["table"])

    def position(self, end: Mapping[str, Any]) -> str:
        return position.of_end(end)

    def marker(self, event: Mapping[str, Any]) -> str | None:
        if event["source"].get("table") != MARKER_TABLE or not event.get("after"):
            return None
        token = event["after"].get("token")
        return None if token is None else str(token)

    def beyond(self, position_: str, than: str) -> bool:
        return position.beyond(position_, than)

    def place(self, source: Mapping[str, Any]) -> int:
        """A transaction never spans two binlog files, so the event's position in the file and the row in the event are enough."""
        return (int(source["pos"]) << 24) + int(source.get("row") or 0)

    def first_place(self, identity: str) -> int | None:
        return None

    def joined(self, applied: str, position_: str) -> str:
        return position.joined(applied, position_)

    def replayed(self, identity: str, source: Mapping[str, Any], applied: str) -> bool | None:
        """The id of a transaction is its position, known from its BEGIN on."""
        return bool(applied) and not position.beyond(position.of_end({"id": identity}), applied)

    def begins_beyond(self, identity: str, than: str) -> bool:
        """A BEGIN that comes while rows of another transaction wait for their END: later (XA: refuse) or a replay after a crash."""
        return position.beyond(position.of_end({"id": identity}), position.of_end({"id": than}))
