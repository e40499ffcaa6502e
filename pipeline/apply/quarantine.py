"""Rows that the target refuses: found by bisection, held with their event and error, and everything later of that key behind them."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Sequence
from typing import Literal, TypeAlias

import orjson

from connectors.base import HeldEvent, TableBatch, Writer
from pipeline.apply.batch import Batch
from pipeline.errors import DataRejected
from pipeline.model import UNCHANGED, Key, Row

OnError: TypeAlias = Literal["stop", "quarantine"]


@dataclasses.dataclass(frozen=True, slots=True)
class _Entry:
    """One key's net effect: the smallest thing that can be held back."""

    table: int  # index into the batch's tables
    kind: Literal["delete", "row", "partial", "move"]
    key: Key
    row: Row | None
    old: Key | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Narrowed:
    """The batch without what the target refuses, and what that is."""

    tables: list[TableBatch]
    events: tuple[HeldEvent, ...]
    error: DataRejected
    keys: frozenset[tuple[int, Key]] = frozenset()


def narrow(writer: Writer, migration: str, batch: Batch, tables: Sequence[TableBatch], error: DataRejected) -> Narrowed:
    """Finds the rows that the target refuses by writing halves of the batch and rolling them back."""
    entries = [entry for at, table in enumerate(tables) for entry in _entries(at, table)]

    def refused(some: Sequence[_Entry]) -> DataRejected | None:
        try:
            writer.apply(migration, _rebuild(tables, some), batch.before, batch.after, probe=True)
        except DataRejected as found:
            return found
        return None

    bad: list[tuple[_Entry, DataRejected]] = []
    good: list[_Entry] = []

    def search(some: Sequence[_Entry]) -> None:
        # `good` is tried along: a row may be refused only beside another one (a unique value they share)
        found = refused([*good, *some])
        if found is None:
            good.extend(some)
        elif len(some) == 1:
            bad.append((some[0], found))
        else:
            middle = len(some) // 2
            search(some[:middle])
            search(some[middle:])

    search(entries)
    if not bad:
        return Narrowed(list(tables), (), error)
    events = tuple(event for e, found in bad for event in _held(tables[e.table], e, found, batch.after.position, "held"))
    first, why = bad[0]
    target = tables[first.table].target
    named = DataRejected(
        f"table {target.table.id}, key {_key_text(target.key, first.key)}: {why}",
        hint="mend the row or the target, or set on_error: quarantine",
    )
    return Narrowed(_rebuild(tables, good), events, named, frozenset((tables[e.table].target.number, e.key) for e, _ in bad))


def divert(tables: Sequence[TableBatch], held: Container[tuple[int, Key]], position: str) -> Narrowed:
    """Takes out what belongs to keys in quarantine: nothing of a key overtakes what is held of it. A row that moves here from such a key
    waits too, and its new key with it."""
    waits = DataRejected("an earlier event of this key is in quarantine")
    stay: list[_Entry] = []
    queued: list[HeldEvent] = []
    keys: set[tuple[int, Key]] = set()
    for at, table in enumerate(tables):
        number = table.target.number
        for entry in _entries(at, table):
            if (number, entry.key) in held or (entry.old is not None and (number, entry.old) in held):
                queued += _held(table, entry, waits, position, "waiting")
                keys.add((number, entry.key))
            else:
                stay.append(entry)
    return Narrowed(_rebuild(tables, stay), tuple(queued), waits, frozenset(keys))


def key_json(key: Key) -> str:
    """A key as quarantine stores it."""
    return orjson.dumps(list(key)).decode()


def _entries(at: int, table: TableBatch) -> list[_Entry]:
    key_at = [table.target.columns.index(c) for c in table.target.key]

    def key(row: Row) -> Key:
        return tuple(row[i] for i in key_at)  # type: ignore[misc]

    return [
        *(_Entry(at, "delete", k, None) for k in table.deletes),
        *(_Entry(at, "row", key(r), r) for r in table.rows),
        *(_Entry(at, "partial", key(r), r) for r in table.partials),
        *(_Entry(at, "move", key(r), r, old) for old, r in table.moves),
    ]


def _rebuild(tables: Sequence[TableBatch], entries: Sequence[_Entry]) -> list[TableBatch]:
    out = [TableBatch(t.target, truncate=t.truncate, events=t.events) for t in tables]
    for entry in entries:
        table = out[entry.table]
        if entry.kind == "delete":
            table.deletes.append(entry.key)
        elif entry.row is not None:
            if entry.kind == "move" and entry.old is not None:
                table.moves.append((entry.old, entry.row))
            else:
                (table.rows if entry.kind == "row" else table.partials).append(entry.row)
    return out


def _held(table: TableBatch, entry: _Entry, error: DataRejected, position: str, state: str) -> list[HeldEvent]:
    """What is kept of an entry. A row that takes columns over from another key becomes a delete and a partial row of an absent key, which
    is read from the source again: by the time it is tried, the row at the other key is another one."""
    row = None if entry.row is None else {c: v for c, v in zip(table.target.columns, entry.row, strict=True) if v is not UNCHANGED}
    rows = [None, row] if entry.kind == "move" else [row]
    return [
        HeldEvent(
            number=table.target.number,
            target=str(table.target.table.id),
            key=key_json(entry.key),
            position=position,
            event=orjson.dumps({"op": "delete" if one is None else "upsert", "key": list(entry.key), "row": one}).decode(),
            error=str(error),
            state=state,
        )
        for one in rows
    ]


def _key_text(columns: Sequence[str], key: Key) -> str:
    return ", ".join(f"{c}={v}" for c, v in zip(columns, key, strict=True))
