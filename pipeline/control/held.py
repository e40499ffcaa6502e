"""Quarantine's way back: held events are applied again in order, or dropped; then the stream's worker takes the key back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from connectors.base import TableBatch, TargetTable
from pipeline.control.runtime import Runtime
from pipeline.errors import BadInput, CrossfadeError, DataRejected, Fenced
from pipeline.model import UNCHANGED, Row


def show(row: Any) -> dict[str, Any]:
    """One held event as the commands show it."""
    return {
        "id": int(row.id),
        "table": row.target,
        "key": orjson.loads(row.row_key),
        "state": row.state,
        "position": row.position,
        "error": row.error,
        "at": row.at,
        "event": orjson.loads(row.event),
    }


def chosen(runtime: Runtime, ids: Sequence[int], everything: bool) -> list[Any]:
    """The held events a command means. Raises BadInput."""
    held = runtime.store.quarantined()
    if everything:
        return held
    known = {int(r.id) for r in held}
    for wanted in ids:
        if wanted not in known:
            raise BadInput(f"nothing with id {wanted} is in quarantine")
    if not ids:
        raise BadInput("name ids, or --all")
    # What is held behind an event goes with it: nothing of a key may overtake.
    keys = {(r.number, r.row_key) for r in held if int(r.id) in set(ids)}
    return [r for r in held if (r.number, r.row_key) in keys]


def retry(runtime: Runtime, rows: Sequence[Any]) -> tuple[int, list[str]]:
    """Applies held events again, each in a transaction of its own, in order; answers how many went in and what was refused."""
    writer = runtime.writer("crossfade quarantine")
    done, refused, blocked = 0, [], set()
    try:
        for row in rows:
            key = (row.number, row.row_key)
            if key in blocked:
                continue
            pair = runtime.pairs[int(row.number)]
            try:
                _apply(runtime, writer, row.stream, _batch(pair.target_table(), orjson.loads(row.event)))
            except DataRejected as error:
                refused.append(f"{row.id}: {error}")
                blocked.add(key)
                continue
            runtime.store.set_quarantine([int(row.id)], "applied")
            done += 1
    finally:
        writer.close()
    runtime.store.audit("quarantine retry", f"{done} applied, {len(refused)} still refused")
    _give_back(runtime, rows)
    return done, refused


def drop(runtime: Runtime, rows: Sequence[Any]) -> int:
    """Forgets held events: the target keeps what it has of those keys."""
    runtime.store.set_quarantine([int(r.id) for r in rows], "dropped")
    runtime.store.audit("quarantine drop", ", ".join(str(r.id) for r in rows))
    _give_back(runtime, rows)
    return len(rows)


def _give_back(runtime: Runtime, rows: Sequence[Any]) -> None:
    """A new epoch makes the worker open the stream anew, with the keys that are held now."""
    for stream in {r.stream for r in rows}:
        runtime.store.claim_stream(stream)


def _batch(target: TargetTable, event: dict[str, Any]) -> TableBatch:
    batch = TableBatch(target)
    if event["op"] == "delete":
        batch.deletes.append(tuple(event["key"]))
        return batch
    row: Row = tuple(event["row"].get(c, UNCHANGED) for c in target.columns)
    if UNCHANGED not in row:
        batch.rows.append(row)
    elif "old" in event:
        batch.moves.append((tuple(event["old"]), row))
        batch.deletes.append(tuple(event["old"]))
    else:
        batch.partials.append(row)
    return batch


def _apply(runtime: Runtime, writer: Any, stream: str, batch: TableBatch) -> None:
    """In a transaction that leaves the position as it is; tried again when the worker moved it meanwhile."""
    for _ in range(1000):
        now = writer.applied(runtime.name, stream)
        try:
            writer.apply(runtime.name, [batch], now, now)
            return
        except Fenced:
            continue
    raise CrossfadeError(f"stream {stream} moves too fast", hint="crossfade pause it first")
