"""Many transactions → the net effect on each table: only the last state of each key matters, column by column.

The outcome is one of four for a key: *whole* (insert or overwrite), *partial* (update what is given), *moved* (whole but for columns
that stay as they are under another key), *gone*. UNCHANGED columns keep the earlier value of the same life of that row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Protocol

from connectors.base import TableBatch, TargetTable
from pipeline.errors import DataRejected
from pipeline.model import UNCHANGED, Change, Key, Row, TableId, Value
from pipeline.records import RowText


class Shape(Protocol):
    """A table pair's compiled row functions (`transforms.pairing.EventShape`)."""

    @property
    def partial(self) -> bool:
        """Whether events of this table may leave columns out."""

    def row(self, raw: RowText) -> Row:
        """A row of an event → the target's row."""

    def whole(self, raw: RowText) -> Row | None:
        """The same for an event that leaves no column out; None: it does."""

    def key(self, raw: RowText) -> Key:
        """The same → the target's key; only key columns are looked at."""

    def passes(self, raw: RowText) -> bool | None:
        """Whether the row filter lets it through; None: it cannot be told from what the event carries."""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """Where a source table's changes go."""

    target: TargetTable
    shape: Shape
    filtered: bool


@dataclasses.dataclass(slots=True)
class _Moved:
    """A whole row but for columns that the row at `old` (as the target has it before this batch) keeps."""

    old: Key
    row: Row


_GONE = None
_UPSERTS = frozenset("uc")
Net = Row | _Moved | None


def _key_of(at: Sequence[int]) -> Callable[[Row], Key]:
    """Takes the key out of a whole row."""
    if len(at) == 1:
        (only,) = at
        return lambda row: (row[only],)  # type: ignore[return-value]
    return itemgetter(*at)


class TableCollapse:
    """The net effect on one target table so far."""

    __slots__ = ("_deleted", "events", "filtered", "key_of", "moved", "net", "partials", "route", "shape", "truncate")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.shape = route.shape
        self.filtered = route.filtered
        self.net: dict[Key, Net] = {}
        self.partials: set[Key] = set()  # keys whose net row has UNCHANGED columns of the row at the same key
        self.truncate = False
        self.events = 0
        self.moved = False  # whether there is any `_Moved`
        self.key_of = _key_of([route.target.columns.index(column) for column in route.target.key])
        self._deleted: tuple[Key, Net, bool] | None = None  # the delete just before: half of a key change, perhaps

    def add(self, change: Change) -> None:
        """Takes one change in. Raises `DataRejected` naming the table for an event that lacks what it must have."""
        self.events += 1
        op, before, after = change.op, change.before, change.after
        deleted, self._deleted = self._deleted, None
        if op in {"u", "c", "r"}:
            if after is None:
                raise DataRejected(f"table {change.table}: op {op!r} without a row (offset {change.offset})")
            self._upsert(change, after, before, deleted if op == "c" else None)
        elif op == "d":
            if before is None:
                raise DataRejected(f"table {change.table}: delete without a key (offset {change.offset}): REPLICA IDENTITY NOTHING?")
            key = self.shape.key(before)
            self._deleted = (key, self.net.get(key), key in self.partials or key not in self.net)
            self._gone(key)
        elif op == "t":
            self.net.clear()
            self.partials.clear()
            self.truncate = True

    def put(self, key: Key, row: Row) -> None:
        """What `add` does for a row that comes whole, under the key that it always had."""
        self.events += 1
        self._deleted = None
        self.net[key] = row
        if self.partials:
            self.partials.discard(key)

    def _gone(self, key: Key) -> None:
        self.net[key] = _GONE
        self.partials.discard(key)

    def _upsert(self, change: Change, after: RowText, before: RowText | None, deleted: tuple[Key, Net, bool] | None) -> None:
        shape = self.shape
        key = shape.key(after)
        if self.filtered:
            passes = shape.passes(after)
            if passes is None:
                raise DataRejected(
                    f"table {change.table}: the filter needs a column that the event of key {key} leaves out",
                    hint="set REPLICA IDENTITY FULL on the source table",
                )
            if not passes:
                if before is not None and change.op == "u":
                    self._gone(shape.key(before))
                if change.op != "c" or key in self.net:
                    self._gone(key)
                return
        row = shape.row(after)
        if before is not None and change.op == "u":
            old = shape.key(before)
            if old != key:  # a key of our own choosing, or full replica identity: Debezium sends no delete for it
                deleted = (old, self.net.get(old), old in self.partials or old not in self.net)
                self._gone(old)
        if not shape.partial or UNCHANGED not in row:
            self.net[key] = row
            self.partials.discard(key)
            return
        if deleted is not None:
            self._move(key, row, *deleted)
        elif change.op == "c":
            raise DataRejected(f"table {change.table}: an inserted row of key {key} lacks columns (offset {change.offset})")
        else:
            self._partial(key, row)

    def _partial(self, key: Key, row: Row) -> None:
        if key not in self.net:
            self.net[key] = row
            self.partials.add(key)
            return
        base = self.net[key]
        if base is _GONE:
            raise DataRejected(f"table {self.route.target.table.id}: key {key} is updated after it was deleted")
        if isinstance(base, _Moved):
            base.row = _over(base.row, row)
        else:
            self.net[key] = _over(base, row)

    def _move(self, key: Key, row: Row, old: Key, base: Net, same_row: bool) -> None:
        self.partials.discard(key)
        self.moved = True
        if isinstance(base, _Moved):
            self.net[key] = _Moved(base.old, _over(base.row, row))
        elif base is not None:
            merged = _over(base, row)
            self.net[key] = _Moved(old, merged) if same_row and UNCHANGED in merged else merged
        else:
            self.net[key] = _Moved(old, row)

    def batch(self) -> TableBatch:
        """The net effect as a writer takes it."""
        out = TableBatch(self.route.target, truncate=self.truncate, events=self.events)
        partials = self.partials
        if not partials and not self.moved:
            out.rows = [row for row in self.net.values() if row is not None]  # type: ignore[misc]
            if len(out.rows) < len(self.net):
                out.deletes = [key for key, row in self.net.items() if row is None]
            return out
        for key, net in self.net.items():
            if net is None:
                out.deletes.append(key)
            elif isinstance(net, _Moved):
                if UNCHANGED in net.row:
                    out.moves.append((net.old, net.row))
                else:
                    out.rows.append(net.row)
            elif key in partials and UNCHANGED in net:
                out.partials.append(net)
            else:
                out.rows.append(net)
        return out


def _over(base: Row, row: Row) -> Row:
    """`row`, with what it leaves out taken from `base`."""
    merged: list[Value] = [b if v is UNCHANGED else v for b, v in zip(base, row, strict=True)]
    return tuple(merged)


class Collapse:
    """The net effect on every table, fed change by change."""

    __slots__ = ("_routes", "rows", "tables")

    def __init__(self, routes: Mapping[TableId, Sequence[Route]]) -> None:
        self._routes = routes
        self.tables: dict[TableId, list[TableCollapse]] = {}
        self.rows = 0

    def add(self, changes: Sequence[Change]) -> None:
        """Takes the changes of one transaction (or piece) in; changes of tables that do not migrate are left out."""
        last: TableId | None = None
        parts: Sequence[TableCollapse] = ()
        only: TableCollapse | None = None
        for change in changes:
            if change.table is not last:  # asking for it takes its time
                last = change.table
                parts = self._parts(last)
                only = parts[0] if len(parts) == 1 and not parts[0].filtered else None
                if only is not None:
                    whole, key_of, before_of, put = only.shape.whole, only.key_of, only.shape.key, only.put
            if only is not None and change.op in _UPSERTS and (after := change.after) is not None:
                # Nearly all there is: the row as a whole, under the key that it always had.
                row = whole(after)
                if row is not None:
                    key, before = key_of(row), change.before
                    if before is None or before_of(before) == key:
                        put(key, row)
                        continue
            for part in parts:
                part.add(change)
        self.rows += len(changes)

    def _parts(self, table: TableId) -> list[TableCollapse]:
        parts = self.tables.get(table)
        if parts is None:
            parts = self.tables[table] = [TableCollapse(route) for route in self._routes.get(table, ())]
        return parts

    def batches(self) -> list[TableBatch]:
        """In the tables' number order, which is the order of their gates."""
        return sorted((t.batch() for parts in self.tables.values() for t in parts), key=lambda b: b.target.number)
