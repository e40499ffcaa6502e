"""The control store's tables: schema `crossfade` in the target database, the same on PostgreSQL and MySQL.

Writers touch `stream`, `table_state`, `chunk`, `marker` and `quarantine` in the target transactions of the rows themselves (raw SQL in
`connectors/<product>/`); everybody else goes through `pipeline.store.store`, and `pipeline.backfill.queue` for chunks.
"""

from __future__ import annotations

import sqlalchemy as sa
import sqlalchemy.dialects.mysql

from pipeline.verify.store import define

SCHEMA = "crossfade"
VERSION = 3

metadata = sa.MetaData(schema=SCHEMA)


def _name(length: int = 190) -> sa.types.TypeEngine[str]:
    """Text short enough for an InnoDB key, compared byte for byte."""
    return sa.String(length).with_variant(sa.dialects.mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.dialects.mysql.LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")


def _now() -> sa.Column[object]:
    """Seconds since 1970 as the writer's clock has it: one type on both products, no time zone to get wrong."""
    return sa.Column("at", sa.Double, nullable=False)


version = sa.Table("version", metadata, sa.Column("version", sa.Integer, primary_key=True))

migration = sa.Table(
    "migration",
    metadata,
    sa.Column("name", _name(), primary_key=True),
    sa.Column("phase", _name(40), nullable=False),
    sa.Column("wanted", _name(40), nullable=False, server_default="following"),  # how far the controller shall take it by itself
    sa.Column("budget", sa.Double),  # seconds that writes may wait at the wanted crossing; NULL: what the file says
    sa.Column("reason", _text()),  # why it failed or waits
    sa.Column("spec", _text(), nullable=False),  # migration.yaml as JSON, with references instead of secrets
    sa.Column("pairs", _text()),  # JSON: columns that the source got since the start, {table: {column: {"old", "known", "state"}}}
    sa.Column("rate", sa.Double),  # throttle, rows a second; NULL: as fast as it goes
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)

lease = sa.Table(
    "lease",
    metadata,
    sa.Column("name", _name(), primary_key=True),
    sa.Column("holder", _name(), nullable=False),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("migration", _name(), nullable=False, index=True),
    _now(),
    sa.Column("who", _name(), nullable=False),
    sa.Column("action", _name(), nullable=False),
    sa.Column("from_phase", _name(40)),
    sa.Column("to_phase", _name(40)),
    sa.Column("detail", _text()),
)

stream = sa.Table(
    "stream",
    metadata,
    sa.Column("migration", _name(), primary_key=True),
    sa.Column("name", _name(), primary_key=True),
    sa.Column("epoch", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("position", _text(), nullable=False),  # "" before the first transaction
    sa.Column("partial_id", _name(), nullable=False, server_default=""),
    sa.Column("partial_place", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("kafka_offset", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("applied_events", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("applied_transactions", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("updated_at", sa.Double, nullable=False, server_default="0"),
    sa.Column("topic", _name(), nullable=False, server_default=""),
    sa.Column("topic_id", _name(40), nullable=False, server_default=""),  # whose offsets these are; "": not known
    sa.Column("connector", _name(), nullable=False, server_default=""),
    sa.Column("started_at", _text()),  # source position at which the stream was set up
    sa.Column("state", _name(40), nullable=False, server_default="running"),  # running | paused | stopped | gap
    sa.Column("error", _text()),
    # A marker's token: what comes before it in the stream is not for this side, because the other direction is the one that applies.
    sa.Column("muted", _name(), nullable=False, server_default=""),
)

marker = sa.Table(
    "marker",
    metadata,
    sa.Column("migration", _name(), primary_key=True),
    sa.Column("stream", _name(), primary_key=True),
    sa.Column("token", _name(), primary_key=True),  # came out of the stream; everything before it is applied
    _now(),
)

table_state = sa.Table(
    "table_state",
    metadata,
    sa.Column("migration", _name(), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("source", _name(), nullable=False),
    sa.Column("target", _name(), nullable=False),
    sa.Column("phase", _name(20), nullable=False),  # waiting | copying | indexing | copied
    sa.Column("tracked", sa.Boolean, nullable=False),  # the stream keeps the side table: while copying, or while keys are listed
    sa.Column("list_seq", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("planned", sa.Boolean, nullable=False),  # every chunk is in the queue
    sa.Column("keyless", sa.Boolean, nullable=False, server_default=sa.false()),  # filled before it gets its key; see backfill-rules
    sa.Column("planned_to", _text()),  # last boundary in the queue, JSON
    sa.Column("where_sql", _text()),  # a partial backfill's own filter
    sa.Column("rows_estimated", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("rows_copied", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("marker", _name(), nullable=False, server_default=""),  # written after the last chunk was read
    sa.Column("started_at", sa.Double),
    sa.Column("copied_at", sa.Double),
)

chunk = sa.Table(
    "chunk",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("migration", _name(), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("lower", _text()),  # JSON list of canonical text, NULL: open
    sa.Column("upper", _text()),
    sa.Column("where_sql", _text()),  # a partial backfill's own filter
    sa.Column("state", _name(10), nullable=False),  # todo | taken | done | void
    sa.Column("taken_by", _name()),
    sa.Column("taken_at", sa.Double),
    sa.Column("rows_done", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("seconds", sa.Double),
    sa.Column("attempts", sa.Integer, nullable=False, server_default="0"),
    sa.Column("error", _text()),
    sa.Column("refused", sa.Boolean, nullable=False, server_default=sa.false()),  # the error is not a passing one
    sa.Index("chunk_queue", "migration", "state", "number", "id"),
)

quarantine = sa.Table(
    "quarantine",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("migration", _name(), nullable=False),
    sa.Column("stream", _name(), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("target", _name(), nullable=False),
    sa.Column("row_key", _name(500), nullable=False),  # JSON list of canonical text, hashed past 500 characters
    sa.Column("position", _text(), nullable=False),
    sa.Column("event", _text(), nullable=False),  # the event's row as JSON: {"op", "key", "row"}
    sa.Column("error", _text(), nullable=False),
    sa.Column("state", _name(10), nullable=False),  # held | waiting | applied | dropped
    _now(),
    sa.Index("quarantine_key", "migration", "number", "row_key"),
)

lag_sample = sa.Table(
    "lag_sample",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("migration", _name(), nullable=False, index=True),
    sa.Column("stream", _name(), nullable=False),
    _now(),
    sa.Column("lag_ms", sa.Double, nullable=False),
    sa.Column("events_total", sa.BigInteger, nullable=False),
    sa.Column("transactions_total", sa.BigInteger, nullable=False),
)

stage = sa.Table(
    "stage",
    metadata,
    sa.Column("migration", _name(), primary_key=True),
    sa.Column("stream", _name(), primary_key=True),
    sa.Column("since", sa.Double, nullable=False),  # when the stream was opened by the worker that applies it
    sa.Column("seconds", _text(), nullable=False),  # JSON: {stage: seconds since then}
    sa.Column("batches", sa.BigInteger, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
    _now(),
)

worker = sa.Table(
    "worker",
    metadata,
    sa.Column("id", _name(), primary_key=True),
    sa.Column("host", _name(), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("roles", _name(), nullable=False),
    sa.Column("seen_at", sa.Double, nullable=False),
)

crossing = sa.Table(
    "crossing",
    metadata,
    sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
    sa.Column("migration", _name(), nullable=False, index=True),
    sa.Column("direction", _name(40), nullable=False),  # cutover | rollback
    sa.Column("state", _name(40), nullable=False),  # running → decided → done, or running → undoing → undone
    sa.Column("record", _text(), nullable=False),  # JSON: what undoing or finishing needs to know
    sa.Column("steps", _text(), nullable=False),  # JSON: {step: [state, at]} in the order they were begun
    sa.Column("deadline", sa.Double, nullable=False),
    _now(),
)

verify = define(metadata)
