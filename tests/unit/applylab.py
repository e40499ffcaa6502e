"""One stream's applier against a target in memory that fails as told, and a small source that makes events."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from connectors.base import NO_NOTES, ApplyNotes, ApplyOutcome, HeldEvent, TableBatch
from connectors.postgres.events import PostgresEvents
from pipeline.apply.applier import Applier
from pipeline.errors import CrossfadeError, DataRejected, SchemaChanged
from pipeline.model import Applied, Change, Marker, SchemaChange, TableId, Transaction
from tests.model.source import SCHEMA, UNAVAILABLE, routes
from tests.model.target import ModelTable, ModelTarget, ModelWriter
from tests.rowtext import rowtext

ITEM = TableId(SCHEMA, "item")
ROUTES = routes(("item",))


def change(key: int, v: str | None, *, place: int = 1) -> Change:
    if v is None:
        return Change("d", ITEM, rowtext({"id": key, "v": None, "big": None, "u": None}), None, place, place)
    return Change("u", ITEM, None, rowtext({"id": key, "v": v, "big": "b", "u": None}), place, place)


def transaction(number: int, *changes: Change, markers: Sequence[str] = (), ddl: str = "", size: int = 0) -> Transaction:
    """The `number`-th of the stream; its position is 1000 times that."""
    return Transaction(
        id=str(number),
        position=str(number * 1000),
        changes=list(changes),
        markers=[Marker(token, number) for token in markers],
        schema_changes=[SchemaChange(ddl, (ITEM,), number)] if ddl else [],
        begins=True,
        place=max((c.place for c in changes), default=0),
        last=True,
        next_offset=number + 1,
        full_id=str(number),
        bytes=size,
    )


Hook = Callable[[Sequence[TableBatch], Applied], None]


class Flaky(ModelWriter):
    """Fails as told, and keeps what it was asked to write."""

    def __init__(self, target: ModelTarget) -> None:
        super().__init__(target)
        self.before_write: list[Hook | CrossfadeError] = []  # one for each call
        self.after_write: list[CrossfadeError | None] = []
        self.poison: set[str] = set()  # values of v that the target refuses
        self.written: list[tuple[str, str]] = []  # positions before and after
        self.held: list[HeldEvent] = []
        self.probes = 0

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
        if not probe and self.before_write:
            hook = self.before_write.pop(0)
            if isinstance(hook, CrossfadeError):
                raise hook
            hook(batches, after)
        self.probes += probe
        for batch in batches:
            for row in (*batch.rows, *batch.partials, *(row for _, row in batch.moves)):
                if row[1] in self.poison:
                    raise DataRejected(f"value {row[1]} is refused")
        outcome = super().apply(migration, batches, before, after, notes, probe=probe)
        if not probe:
            self.written.append((before.position, after.position))
            self.held += notes.held
            if self.after_write and (error := self.after_write.pop(0)) is not None:
                raise error
        return outcome


@dataclasses.dataclass
class Lab:
    target: ModelTarget
    writer: Flaky
    applier: Applier
    failed: list[CrossfadeError]

    @property
    def rows(self) -> dict[str, Any]:
        return {key[0]: row[1] for key, row in self.target.tables[1].rows.items() if key[0] is not None}  # type: ignore[misc]


def lab(target: ModelTarget | None = None, **options: Any) -> Lab:
    (route,) = ROUTES[ITEM]
    target = target or ModelTarget({1: ModelTable(route.target, copying=False, tracked=False)})
    assert route.target.number == 1
    writer = Flaky(target)
    failed: list[CrossfadeError] = []

    def schema_change(t: Transaction) -> None:
        raise SchemaChanged(f"table {ITEM}: {t.schema_changes[0].ddl}")

    applier = Applier(
        migration="m",
        stream="main",
        writer=writer,
        events=PostgresEvents(),
        routes=ROUTES,
        applied=target.opened(),
        on_schema_change=schema_change,
        on_failed=failed.append,
        **options,
    )
    return Lab(target, writer, applier, failed)


@dataclasses.dataclass
class Source:
    """The table as it is, and the events that made it so. `full`: replica identity full, so that events have the whole row of before."""

    rows: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    full: bool = False
    events: list[Change] = dataclasses.field(default_factory=list)
    ticks: int = 0

    def event(self, op: str, before: Any, after: Any) -> None:
        self.events.append(Change(op, ITEM, rowtext(before), rowtext(after), len(self.events) + 1, len(self.events)))

    def before(self, row: dict[str, Any], *, updated: bool = False) -> dict[str, Any] | None:
        """What an event says of the row as it was: all of it, or its key, or for an update nothing."""
        if self.full:
            return dict(row)
        return None if updated else {"id": row["id"], "v": None, "big": None, "u": None}

    def do(self, what: str, key: int, other: int, left_out: bool, v: str) -> None:
        """One statement: put, delete, move (a key change as a delete and an insert), rekey (as one update), truncate."""
        rows = self.rows
        left_out = left_out and not self.full
        self.ticks += 1
        if what == "put" and key not in rows:
            rows[key] = {"id": key, "v": v, "big": f"b{self.ticks}", "u": None}
            self.event("c", None, rows[key])
        elif what == "put":
            old = self.before(rows[key], updated=True)
            rows[key] |= {"v": v} if left_out else {"v": v, "big": f"b{self.ticks}"}
            self.event("u", old, rows[key] | ({"big": UNAVAILABLE} if left_out else {}))
        elif what == "delete" and key in rows:
            self.event("d", self.before(rows.pop(key)), None)
        elif what in {"move", "rekey"} and key in rows and other not in rows:
            old = self.before(rows[key])
            rows[other] = rows.pop(key) | {"id": other, "v": v}
            after = rows[other] | ({"big": UNAVAILABLE} if left_out else {})
            if what == "rekey":
                self.event("u", old, after)
            else:
                self.event("d", old, None)
                self.event("c", None, after)
        elif what == "truncate":
            rows.clear()
            self.event("t", None, None)

    def text(self) -> dict[tuple[str, ...], tuple[str | None, ...]]:
        """The rows as the target has them."""
        return {(str(k),): (str(k), r["v"], r["big"], r["u"]) for k, r in self.rows.items()}
