"""Keys of the file that this version takes and does nothing with: said at `plan` when one is set, so nothing is silently ignored."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from pipeline.model import Finding
from pipeline.spec.migration import Migration

_UNUSED = (
    "backfill.throttle.max_replica_lag",
    "backfill.throttle.max_running_threads",
    "backfill.throttle.max_wal_rate",
    "backfill.throttle.max_apply_lag",
    "backfill.throttle.http",
    "backfill.throttle.interval",
    "apply.batch_ms",
    "apply.workers",
    "verify.settle",
    "verify.repair",
    "reads",
)
_INSTEAD = {
    "backfill.throttle": "use backfill.max_rate, or crossfade throttle NAME RATE while it runs",
    "verify.repair": "run crossfade repair NAME",
}


def unused(migration: Migration) -> list[Finding]:
    """A warning for each of them that is not at its default."""
    return [*_set(migration)]


def _set(migration: Migration) -> Iterator[Finding]:
    for path in _UNUSED:
        holder: BaseModel = migration
        *way, last = path.split(".")
        for name in way:
            holder = getattr(holder, name)
        if getattr(holder, last) != type(holder).model_fields[last].default:
            fix = next((what for prefix, what in _INSTEAD.items() if path.startswith(prefix)), "take it out")
            yield Finding("spec.unused", "warning", path, "this version does nothing with it", fix)
    if migration.indexes == "before" and migration.schema_ == "existing":
        yield Finding("spec.unused", "warning", "indexes", "with schema: existing the target's indexes are as they are", "take it out")
