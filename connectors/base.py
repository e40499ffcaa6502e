"""The contract each database product keeps. `connectors.postgres` and `connectors.mysql` have one file for each part, named alike.

Free functions that every product's modules have (found by module path, see `connectors.engine`):

`connection.py`
    `connect(address, *, autocommit, application_name, …)`      a session in which text is canonical; see the product's own options
    `mapped(error, what, *, committing=False) -> CrossfadeError`  Transient, CommitUnknown, DataRejected or the root
`types.py`
    `logical(native: str, …) -> LogicalType`                    a type as the catalog spells it
    `native(type, *, key, flavour) -> tuple[str, str | None]`   the product's spelling of a logical type for CREATE TABLE, and why it is not
                                                               exact (None: exact). A type of the same product keeps its own spelling.
    `canonical_sql(expr: str, type: LogicalType) -> str`        SQL text expression: canonical text of a column expression of that type
    `literal_sql(text_expr: str, type: LogicalType) -> str`     the way back: SQL turning canonical text into a value of that type
    `sql_exact(type) -> bool`                                  whether canonical_sql is byte for byte the decoders' text
    `debezium_loses(type) -> str | None`                       values that do not come through as they are
    `debezium_refuses(type) -> str | None`                     why a column of it cannot be streamed
    `unchanged_lost(type) -> bool`                             an unchanged large value comes as NULL (PostgreSQL, identity not full)
`decode.py`
    `decoder(type, *, flavour) -> Callable[[object], Text] | None`
                                                               Debezium's JSON value (settings of `debezium.py`) to canonical text, for all
                                                               but null and placeholders; None: the value is canonical text already
`catalog.py`
    `reflect(address, schemas=None) -> Catalog`
`ddl.py`
    `plan_ddl(shaped tables, source catalog, target engine, target flavour, *, keys_after=False) -> Ddl`
                                                               `keys_after`: tables that have a `later_key` are made without it
    `later_key(shaped table) -> tuple[str, ...] | None`         the key's columns where `Writer.build_key` may make it over the rows
    `quote(name)`, `qualified(table)`, `literal(text)`
`crossrights.py`
    `lacks(address, roles, tables, *, moves) -> list[Finding]`  what keeps this role from crossing: fence and counters
`position.py`
    `beyond(position, than) -> bool`, `of_id(identity) -> str`, `now(connection) -> str`
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from pipeline import copytext
from pipeline.model import Applied, Column, Finding, Key, Row, Table, TableId, Text, Value
from pipeline.records import Record, Source
from pipeline.stages import Stages

OTHER_SIDE = "the application has changed sides meanwhile: rows of the other side are not put over what it writes here"


@dataclasses.dataclass(frozen=True, slots=True)
class Address:
    """Where a database is. `url` carries no password; `password` never appears in repr, logs or command lines."""

    url: str
    password: str | None = dataclasses.field(default=None, repr=False)
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)  # TLS and the like, as the driver names them


@dataclasses.dataclass(frozen=True, slots=True)
class Projection:
    """What to read of a source table: SQL text expressions in the source's dialect, each yielding canonical text, and a filter."""

    table: TableId
    expressions: tuple[str, ...]
    where: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Range:
    """Rows with `lower < key <= upper` in the source's own key order; None is open. Bounds are canonical text."""

    lower: Key | None
    upper: Key | None


class Reader(Protocol):
    """Reads a source (or a target, for verify) in bulk. One object holds one connection and belongs to one thread."""

    def boundaries(self, table: Table, key: Sequence[str], rows: int, after: Key | None = None) -> Iterator[Key]:
        """Keys that cut the table into ranges of `rows` rows each, by the product's own order; one pass over the key's index."""

    def extent(self, table: Table, column: str) -> tuple[str, str] | None:
        """The smallest and the largest value of a key's only column, by its index; None: there are no rows."""

    def copy(self, table: Table, key: Sequence[str], what: Projection, within: Range) -> Iterator[bytes]:
        """The rows of a range as blocks of whole COPY text lines (see `pipeline.copytext`). Not sorted."""

    def by_keys(self, table: Table, key: Sequence[str], what: Projection, keys: Sequence[Key]) -> Iterator[bytes]:
        """The rows with these keys (canonical text), in the same form; keys that are not there yield nothing."""

    def marker(self, token: str) -> None:
        """Writes the in-band message `token` to the source, committed on return."""

    def position(self) -> str:
        """The source's position now, in the form of the stream's own positions."""

    def close(self) -> None: ...


@dataclasses.dataclass(frozen=True, slots=True)
class TargetTable:
    """What a writer needs to know of one table pair. `number` is small, stable in the migration and names its gate and its side table."""

    number: int
    table: Table  # target
    columns: tuple[str, ...]  # target columns that rows carry, in row order
    key: tuple[str, ...]  # target key columns, all of them in `columns`


@dataclasses.dataclass(slots=True)
class TableBatch:
    """The net effect of one batch on one table. Order of effect: truncate, deletes, moves, rows, partials. No key is in two of them,
    save that a move's old key may also be written by another entry.
    """

    target: TargetTable
    truncate: bool = False
    deletes: list[Key] = dataclasses.field(default_factory=list)  # keys that are gone at the end
    rows: list[Row] = dataclasses.field(default_factory=list)  # whole rows: insert or overwrite
    partials: list[Row] = dataclasses.field(default_factory=list)  # rows with UNCHANGED columns: update what is given
    moves: list[tuple[Key, Row]] = dataclasses.field(default_factory=list)  # (old key, row with UNCHANGED columns kept from the old row)
    events: int = 0
    ahead: dict[str, bytes] = dataclasses.field(default_factory=dict)  # COPY text of `rows` and `deletes` that was written ahead

    def encode_ahead(self) -> None:
        """Writes the COPY text of what nearly every batch has. `rows` and `deletes` must stay as they are afterwards."""
        self.ahead = {name: copytext.encode(some) for name in ("rows", "deletes") if (some := getattr(self, name))}

    def encoded(self, rows: Iterable[Sequence[Value]]) -> bytes:
        """Rows as COPY text: what was written ahead, if it is `rows` or `deletes` themselves."""
        for name, text in self.ahead.items():
            if rows is getattr(self, name):
                return text
        return copytext.encode(rows)  # type: ignore[arg-type]


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyOutcome:
    """What a batch did. `relisted`: keys put on the re-read list (partial on an absent row, eviction)."""

    relisted: int = 0
    evicted: int = 0
    second_path: int = 0  # tables written as delete-all-touched + insert after a unique violation


@dataclasses.dataclass(frozen=True, slots=True)
class MergeOutcome:
    """What a chunk merge did. `fast`: it went straight into the table."""

    rows: int
    skipped: int
    fast: bool
    seconds: float


class Events(Protocol):
    """How one product's Debezium connector speaks; each product's `events.py` has one."""

    end_follows_everything: bool  # False: DDL and TRUNCATE have a BEGIN and no END
    marker_table: str | None  # the table whose rows are markers; None: markers are no rows
    separator: str  # what is between `transaction(id)` and the rest of an id; "": ids have no rest

    def transaction(self, identity: str) -> str:
        """The part of a transaction id that all of its events share."""

    def table(self, source: Source) -> TableId:
        """The table of a row event, by its `source` block; never by the topic's name."""

    def position(self, identity: str) -> str:
        """The position of a transaction by the id that its END has (or its BEGIN, where no END may come)."""

    def marker(self, event: Record) -> str | None:
        """The token, when this event is one of crossfade's own markers."""

    def beyond(self, position_: str, than: str) -> bool:
        """Whether a position is strictly after another in commit order; "" is before everything."""

    def first_place(self, identity: str) -> int | None:
        """The place of a transaction's first event by the id of its BEGIN; None: it does not tell."""

    def joined(self, applied: str, position_: str) -> str:
        """What is applied after this transaction too: GTIDs of several domains or servers are a set, not a line."""

    def replayed(self, identity: str, last_event: bytes | None, applied: str) -> bool | None:
        """Whether a transaction whose END has not come is not beyond `applied`, by its id and its last row event; None: it cannot be
        told."""

    def begins_beyond(self, identity: str, than: str) -> bool:
        """Whether the transaction that begins is later than the open one (both ids), where no END may come."""


@dataclasses.dataclass(frozen=True, slots=True)
class HeldEvent:
    """What goes to quarantine (`crossfade.quarantine`) in the same transaction as the batch it was taken out of."""

    number: int
    target: str
    key: str  # JSON list of canonical text
    position: str
    event: str  # JSON: {"op": "upsert" | "delete", "key": […], "row": {column: text}}
    error: str
    state: str  # held: the target refused it; waiting: an earlier event of this key is held


@dataclasses.dataclass(frozen=True, slots=True)
class ApplyNotes:
    """What is recorded with a batch: `transactions` is added to the stream's counter, each token of `markers` becomes a row of
    `crossfade.marker`, each of `held` a row of `crossfade.quarantine`."""

    transactions: int = 0
    markers: tuple[str, ...] = ()
    held: tuple[HeldEvent, ...] = ()


NO_NOTES = ApplyNotes()


class Writer(Protocol):
    """Writes a target. One object holds one connection and belongs to one thread. `stages`: where it counts its time.

    Raises `Transient` (try again), `CommitUnknown` (read `applied` back first), `Fenced`, `DataRejected`.
    Side tables and the position table live in schema (or database) `crossfade` of the target.
    """

    stages: Stages

    def end_holder(self, migration: str, stream: str) -> bool:
        """Ends the session that holds the stream's row: that of a worker which is frozen in the middle of a batch. Only the worker that
        Kafka gave the stream to may ask for it. Answers whether there was one; where the server itself ends such sessions there is none.
        """

    def prepare(self, tables: Sequence[TargetTable]) -> None:
        """Makes the side tables (`keys_<number>`: recorded deletes and the re-read list, typed as the target's key). Safe to run twice."""

    def applied(self, migration: str, stream: str) -> Applied:
        """The recorded position."""

    def apply(
        self,
        migration: str,
        batches: Sequence[TableBatch],
        before: Applied,
        after: Applied,
        notes: ApplyNotes = NO_NOTES,
        *,
        probe: bool = False,
    ) -> ApplyOutcome:
        """One target transaction: lock and compare the stream's row with `before`, gates of tracked tables, rows, `notes`, then
        `after`. With `probe` it is rolled back at the end instead of committed (to find the row that the target refuses).
        Raises `Fenced` when epoch or position is not `before`'s, so nothing is ever applied twice or by a deposed worker.
        """

    def merge(self, target: TargetTable, chunk_id: int, blocks: Sequence[bytes]) -> MergeOutcome | None:
        """One chunk under the shared gate: insert if absent, skipping recorded and listed keys; marks the chunk done in the same
        transaction. None when the chunk is no longer to be done (a truncate threw it away)."""

    def relist(self, target: TargetTable, keys: Sequence[Key]) -> None:
        """Puts keys on the re-read list (repair): one transaction that takes the table's gate exclusive, after every batch that read
        `tracked` as false is over, sets `tracked`, draws a new list sequence and lists every key under it, already listed ones too.
        Raises CrossfadeError while the streams are muted. Rows stay as they are: readers may see them. So a listed row can be there while
        its list is worked off, and from then on

        - a whole row or a delete from the stream takes its key off the list, as ever;
        - a *partial* event, or a row whose UNCHANGED columns were carried over, never does: its key is listed again under a new sequence
          (for a move, the new key), since the columns it left out are the ones not to be trusted, and a row read before that event must
          not be merged over it.
        """

    def build_key(self, target: TargetTable) -> None:
        """Ends a table's keyless time (`table_state.keyless`), in which chunks go in without a look at what is there and the stream only
        records deletes and lists every other key it touches. Builds the key, takes out what stands under recorded and listed keys, and says
        so in `table_state`, the last two in one transaction under the exclusive gate. Safe to run twice. Raises `DataRejected` when two
        rows have one key. Only where tables are made keyless."""

    def touched(self, target: TargetTable, limit: int) -> int:
        """How many keys the side table has, recorded and listed ones; at most `limit`."""

    def untrack(self, target: TargetTable) -> bool:
        """The stream need not keep the side table any more: in one transaction, behind the stream's rows `FOR UPDATE`, sets `tracked`
        to false unless a key is listed; answers whether it did."""

    def listed(self, target: TargetTable, limit: int) -> list[tuple[Key, int]]:
        """Keys on the re-read list with their list sequence."""

    def merge_listed(self, target: TargetTable, read: Mapping[Key, tuple[int, tuple[Text, ...] | None]], *, overwrite: bool = False) -> int:
        """Merges re-read rows whose list entry still has the sequence it was read for; answers how many entries were taken off.

        With `overwrite` a row goes over one that readers may have seen. Behind the stream's rows, so that no crossing mutes them meanwhile,
        CrossfadeError is raised unless they apply, and have applied ever since this writer's last `relist`: the application may write
        here now, and what was read on the other side is old.
        """

    def close(self) -> None: ...


def side_table(migration: str, number: int) -> str:
    """Name of a table's side table in schema `crossfade`: `keys_<migration>_<number>`, [a-z0-9_], at most 60 characters."""
    safe = re.sub(r"[^a-z0-9]+", "_", migration.lower())
    if safe != migration or len(safe) > 40:
        safe = f"{safe[:31]}_{hashlib.sha256(migration.encode()).hexdigest()[:8]}"
    return f"keys_{safe}_{number}"


@dataclasses.dataclass(frozen=True, slots=True)
class ShapedTable:
    """A source table as the target shall have it: the mapping's columns, each with the type it has there."""

    source: Table
    target: TableId
    columns: tuple[Column, ...]  # renamed copies of source columns, and columns that the mapping makes
    key: tuple[str, ...]  # target columns
    renames: Mapping[str, str]  # source column → target column, for those that are carried over


@dataclasses.dataclass(frozen=True, slots=True)
class Statement:
    """One DDL statement, safe to run twice: `exists` is a query that answers a row when the object is there already."""

    object: str  # "index shop.order_by_day", for messages
    sql: str
    exists: str | None = None
    tables: frozenset[TableId] = frozenset()  # target tables that it is about, where it may run beside the copying of others
    job: str = ""  # statements of one name belong together, one after the other
    session: str | None = None  # a setting of the session that it is made with; it lasts until the job's end
    against: str | None = None  # a query that answers a row when rows that are there speak against it: then it is not made


@dataclasses.dataclass(frozen=True, slots=True)
class Ddl:
    """What `schema: create` runs before the copy and after it, and what has no counterpart."""

    before: tuple[Statement, ...]
    after: tuple[Statement, ...]
    findings: tuple[Finding, ...]
