"""What `crossfade status` tells: phase, tables, streams, workers, in one document."""

from __future__ import annotations

import time
from typing import Any

import orjson

from pipeline.backfill.queue import Counts, Queue
from pipeline.errors import BadInput
from pipeline.store.store import Store

QUIET_SECONDS = 2.0
"""Heartbeats come five times a second: a stream silent for longer lags at least by that silence."""


def status(store: Store, *, now: float | None = None) -> dict[str, Any]:
    """The document. Raises BadInput for a migration that was never started."""
    now = time.time() if now is None else now
    row = store.migration_row() if store.exists() else None
    if row is None:
        raise BadInput(f"migration {store.migration} was never started on this target", hint="crossfade start FILE")
    counts = Queue(store).counts()
    tables = [_table(t, counts.get(int(t.number), Counts()), now) for t in store.tables()]
    samples = store.lag(now - 60)
    stages = {stage.stream: stage for stage in store.stages()}
    streams = []
    for stream in store.streams():
        mine = [s for s in samples if s.stream == stream.name]
        streams.append(
            {
                "name": stream.name,
                "state": stream.state,
                "error": stream.error,
                "lag_ms": _lag(mine, now, row.phase),
                "position": stream.position,
                "offset": int(stream.kafka_offset),
                "applied": int(stream.applied_events),
                "transactions": int(stream.applied_transactions),
                "events_per_second": _rate(mine),
                "stages": _stages(stages.get(stream.name)),
            }
        )
    return {
        "migration": store.migration,
        "phase": row.phase,
        "reason": row.reason,
        "tables": tables,
        "streams": streams,
        "verify": store.last_verify(),
        "reads": {"desired": 0, "actual": 0},
        "gate": _gate(row.phase, row.reason, tables),
        "throttle": row.rate,
        "workers": [{"id": w.id, "roles": w.roles, "host": w.host, "pid": w.pid} for w in store.workers()],
        "quarantined": len(store.quarantined()),
    }


def turned(found: dict[str, Any], back: Store) -> dict[str, Any]:
    """The same while the application is on the target: streams, verify and quarantine are those of the way back."""
    there = status(back)
    return found | {part: there[part] for part in ("streams", "verify", "quarantined")}


def _table(row: Any, counts: Counts, now: float) -> dict[str, Any]:
    copied = int(counts.rows if row.phase == "copying" else row.rows_copied)
    seconds = (row.copied_at or now) - row.started_at if row.started_at else 0.0
    rate = copied / seconds if seconds > 0 else 0.0
    left = max(0, int(row.rows_estimated) - copied)
    return {
        "source": row.source,
        "target": row.target,
        "phase": row.phase,
        "rows_copied": copied,
        "rows_estimated": int(row.rows_estimated),
        "chunks_open": counts.open,
        "chunks_done": counts.done,
        "rows_per_second": round(rate, 1),
        "seconds_left": round(left / rate, 1) if row.phase == "copying" and rate > 0 else None,
        "seconds": round(seconds, 3),
    }


def _lag(samples: list[Any], now: float, phase: str) -> float | None:
    if not samples or phase in ("completed", "cancelled"):
        return None
    last = samples[-1]
    silent = now - float(last.at)
    return round(float(last.lag_ms) + (silent * 1000 if silent > QUIET_SECONDS else 0.0), 1)


def _stages(row: Any) -> dict[str, Any] | None:
    """Seconds by stage since the stream was opened (`pipeline.stages.Stages`)."""
    if row is None:
        return None
    return {
        "seconds": orjson.loads(row.seconds),
        "of": round(float(row.at) - float(row.since), 3),
        "batches": int(row.batches),
        "events": int(row.events),
    }


def _rate(samples: list[Any]) -> float:
    recent = samples[-25:]
    if len(recent) < 2 or recent[-1].at <= recent[0].at:
        return 0.0
    return round((recent[-1].events_total - recent[0].events_total) / (recent[-1].at - recent[0].at), 1)


def _gate(phase: str, reason: str | None, tables: list[dict[str, Any]]) -> str | None:
    """What the migration waits for before its next phase."""
    if reason:
        return reason
    if phase == "copying":
        left = sum(t["phase"] != "copied" for t in tables)
        return f"{left} of {len(tables)} tables are not copied yet" if left else "indexes and foreign keys"
    if phase in ("planned", "preparing"):
        return "the controller prepares both sides"
    return None
