"""Debezium's records as crossfade reads them: of each only what it needs, and rows as the JSON text that they came as.

A row is read where it is mapped, by a reader made for its table (`transforms.shapecode`), and no object is made of what nobody looks at:
most of a record is Debezium's own book-keeping. What that gives: docs/decisions/apply-speed.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

RowText: TypeAlias = msgspec.Raw | bytes
"""A row as a JSON object's text: a piece of the record it came in."""
NULL = 4
"""The length of `null`: no JSON object with a column in it is so short."""


class Source(msgspec.Struct, gc=False):
    """The `source` block: which table an event is of, and where it stands in the log. PostgreSQL tells `lsn`, the MySQL family `pos` and
    `row`."""

    db: str | None = None
    schema: str | None = None
    table: str | None = None
    lsn: int = 0
    pos: int = 0
    row: int = 0


def place_of(source: Source) -> int:
    """Where an event stands in the source's log: the same each time it is sent, and growing inside a transaction. Events that the source
    wrote as one share it. A transaction never spans two binlog files, so the event's position in the file and the row in the event are
    enough."""
    return source.lsn or (source.pos << 24) + source.row


class Membership(msgspec.Struct, gc=False):
    """The `transaction` block: which transaction an event is of, and the how manieth of it."""

    id: str
    total_order: int


class Message(msgspec.Struct, gc=False):
    """What `pg_logical_emit_message` wrote; `content` in base64."""

    prefix: str | None = None
    content: str | None = None


class Record(msgspec.Struct, gc=False):
    """Any record of a stream: a row's event or a message has `op`, BEGIN and END have `status`, DDL has `ddl`."""

    before: msgspec.Raw = msgspec.Raw()
    after: msgspec.Raw = msgspec.Raw()
    source: Source | None = None
    transaction: Membership | None = None
    op: str | None = None
    status: str | None = None
    id: str | None = None
    event_count: int | None = None
    message: Message | None = None
    ddl: str | None = None


class AlteredTable(msgspec.Struct, gc=False):
    """A table that DDL is about, as `"database"."table"`."""

    id: str | None = None


class SchemaSource(msgspec.Struct, gc=False):
    """The `source` block of DDL."""

    snapshot: str | None = None
    db: str | None = None
    gtid: str | None = None


class SchemaRecord(msgspec.Struct, gc=False):
    """A record of DDL, whole."""

    source: SchemaSource = msgspec.field(default_factory=SchemaSource)
    database: str | None = msgspec.field(name="databaseName", default=None)
    ddl: str = ""
    tables: list[AlteredTable] | None = msgspec.field(name="tableChanges", default=None)


read: Callable[[bytes], Record] = msgspec.json.Decoder(Record).decode
"""Raises `msgspec.DecodeError` for what is not JSON, its subclass `msgspec.ValidationError` for what is not Debezium's."""
read_schema: Callable[[bytes], SchemaRecord] = msgspec.json.Decoder(SchemaRecord).decode
"""The same for DDL."""


def given(row: msgspec.Raw) -> msgspec.Raw | None:
    """`before` or `after`; None where there is none."""
    return row if len(row) > NULL else None
