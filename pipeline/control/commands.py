"""What the commands do to a migration, whoever asks: start, wait, pause, resume, cancel, copy again, replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from connectors.base import side_table
from connectors.engine import connect, mapped, module
from connectors.topics import offset_at
from pipeline.backfill.queue import Queue
from pipeline.control import failpoints, registry
from pipeline.control.crossing import raised
from pipeline.control.cutover import leading, sides
from pipeline.control.oldtables import OldTables
from pipeline.control.plan import make_plan
from pipeline.control.prepare import take_back
from pipeline.control.reverse import bare_way_back, prepared, remove_reverse, way_back
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import kafka_options, stream_plan, stream_plans
from pipeline.errors import BadInput, CrossfadeError, TimedOut
from pipeline.spec.migration import Migration
from pipeline.store.crossings import Crossings

Say = Callable[[str], None]
FENCE_SECONDS = 30.0
RUNNING = ("planned", "preparing", "copying", "following", "reading")
_WAIT_SECONDS = 0.2  # between looks: `wait` runs beside what it waits for


def start(runtime: Runtime, file: Path) -> str:
    """Records the migration for the controller to take; answers its phase. The same command again goes on with what failed."""
    store = runtime.store
    row = store.migration_row() if store.exists() else None
    if row is None or row.phase in ("cancelled", "completed"):
        refuse_errors(runtime.migration)
    store.create()
    if row is not None and row.phase in ("cancelled", "completed"):
        store.start_over()
    elif row is not None and row.phase == "failed":
        resume(runtime)
    spec = runtime.migration.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    store.add_migration(spec)
    registry.remember(runtime.migration, file)
    return store.phase()


def refuse_errors(migration: Migration) -> None:
    """Raises CrossfadeError when `plan` has a finding that is an error."""
    errors = [f for f in make_plan(migration).findings if f.severity == "error"]
    if errors:
        more = f" (and {len(errors) - 1} more: crossfade plan shows them)" if len(errors) > 1 else ""
        raise CrossfadeError(f"{errors[0].id}: {errors[0].object}: {errors[0].message}{more}", hint=errors[0].fix or None)


def wait_phase(runtime: Runtime, phases: Sequence[str], *, timeout: float, say: Say = lambda _text: None) -> str:
    """Waits until the migration is in one of `phases`. Raises `TimedOut`; CrossfadeError when it failed meanwhile."""
    deadline = time.monotonic() + timeout
    last, there = "", False
    while True:
        there = there or runtime.store.exists()
        row = runtime.store.migration_row() if there else None
        phase = row.phase if row is not None else "unknown"
        if phase in phases:
            return str(phase)
        if row is not None and phase == "failed":
            raise CrossfadeError(f"migration {runtime.name} failed: {row.reason}")
        if phase in ("cancelled", "completed"):
            raise CrossfadeError(f"migration {runtime.name} is {phase}")
        if phase != last:
            say(phase)
            last = phase
        if time.monotonic() > deadline:
            raise TimedOut(f"migration {runtime.name} is {phase} after {timeout:.0f} s, not {' or '.join(phases)}")
        time.sleep(_WAIT_SECONDS)


def pause(runtime: Runtime) -> None:
    """Streams of the direction that applies stop after the batch being written; Kafka keeps what comes."""
    runtime = leading(runtime)
    for row in runtime.store.streams():
        if row.state == "running":
            runtime.store.set_stream(row.name, state="paused")
    runtime.store.audit("pause")


def resume(runtime: Runtime) -> None:
    """Streams go on where they stand, those of the way back too, and a failed migration goes back to the phase its tables say."""
    store = runtime.store
    row = store.migration_row()
    if row is None:
        raise BadInput(f"migration {runtime.name} was never started on this target")
    back = way_back(runtime)
    for room in (store,) if back is None else (store, back.store):
        for stream in room.streams():
            if stream.state != "running":
                room.set_stream(stream.name, state="running")
    if row.phase == "failed":
        tables = store.tables()
        # Preparing again is safe and registers what is gone; what was copied stays copied.
        phase = "preparing" if not tables or not store.streams() or "connector" in (row.reason or "") else "following"
        if phase == "following" and any(t.phase != "copied" for t in tables):
            phase = "copying"
        Queue(store).try_again()
        store.set_phase(phase, action="resume")
    else:
        store.audit("resume")


def cancel(migration: Migration, say: Say = lambda _text: None) -> None:
    """Ends a migration before its cutover: the source is as it was, the target's tables stay. Safe to run twice."""
    runtime = Runtime(migration)
    store = runtime.store
    row = store.migration_row() if store.exists() else None
    if row is None:
        raise BadInput(f"migration {migration.name} was never started on this target")
    if row.phase in ("switched", "completed", "cutting-over"):
        raise CrossfadeError(f"migration {migration.name} is {row.phase}: it cannot be cancelled", hint="crossfade rollback, or complete")
    numbers = [int(t.number) for t in store.tables()]
    plans = [stream_plan(migration, s.name) for s in store.streams()] or stream_plans(runtime)
    if row.phase != "cancelled":
        store.set_phase("cancelled", action="cancel")
    for plan in plans:
        store.set_stream(plan.name, state="paused")
    _end_way_back(runtime, say)
    take_back(runtime, plans, say)
    say("side tables")
    drop_side_tables(runtime, numbers)
    store.forget()


def _end_way_back(runtime: Runtime, say: Say) -> None:
    """What crossings that came to nothing, or went back again, have left."""
    back = bare_way_back(runtime)
    if prepared(back):
        say("the way back, and the target's fence")
        both = sides(runtime, "cutover", bare=True)
        closed = raised(both)
        if closed is not None:
            both.other.lower(closed, time.monotonic() + FENCE_SECONDS)
        remove_reverse(back)


def complete(migration: Migration, say: Say = lambda _text: None) -> None:
    """Ends a migration whose application is on the target: everything that crossfade set up goes, on both sides, the fence too."""
    runtime = Runtime(migration)
    store = runtime.store
    phase = store.phase()
    if phase not in ("switched", "completed"):
        raise CrossfadeError(f"migration {migration.name} is {phase}: only one that has switched can be completed")
    tables = store.tables()
    if phase == "completed" and not tables:
        return  # it was completed whole
    old = OldTables(runtime, [str(t.source) for t in tables])
    plans = [stream_plan(migration, s.name) for s in store.streams()] or stream_plans(runtime)
    if phase != "completed":
        old.check()
        say("fence of the source")
        both = sides(runtime, "rollback", bare=True)
        last = Crossings(both.there.store).last()
        if last is not None and "fence" in last.record:
            both.other.lower(last.record["fence"], time.monotonic() + FENCE_SECONDS)
        failpoints.here("complete.fence.done")
        store.set_phase("completed", action="complete")
    failpoints.here("complete.phase.done")
    say("the way back")
    remove_reverse(bare_way_back(runtime))
    failpoints.here("complete.back.done")
    for plan in plans:
        store.set_stream(plan.name, state="paused")
    take_back(runtime, plans, say)
    failpoints.here("complete.streams.done")
    say("side tables")
    drop_side_tables(runtime, [int(t.number) for t in tables])
    failpoints.here("complete.tables.done")
    if old.what != "keep":
        say(f"old tables: {old.what}")
        old.settle()
        store.audit("old-tables", old.what)
    failpoints.here("complete.old.done")
    store.forget()
    failpoints.here("complete.done")


def drop_side_tables(runtime: Runtime, numbers: Sequence[int]) -> None:
    """Drops what the backfill kept of each table."""
    quote = module(runtime.target_engine, "ddl").quote
    connection = connect(runtime.target, autocommit=True)
    try:
        with connection.cursor() as cursor:
            for number in numbers:
                cursor.execute(f"DROP TABLE IF EXISTS {quote('crossfade')}.{quote(side_table(runtime.name, number))}")
    except Exception as error:
        raise mapped(error, "the side tables", runtime.target) from None
    finally:
        connection.close()


def numbers_of(runtime: Runtime, table: str | None) -> list[int]:
    """Numbers of the tables a command means: one by its source or target name, or all. Raises BadInput."""
    rows = runtime.store.tables()
    found = [int(r.number) for r in rows if table is None or table in (r.source, r.target)]
    if not found:
        raise BadInput(f"table {table} is not part of migration {runtime.name}", hint=", ".join(r.source for r in rows[:10]))
    return found


def backfill(runtime: Runtime, table: str | None, where: str | None) -> list[int]:
    """Copies tables again, beside the stream: rows that are absent on the target are inserted, none is overwritten."""
    _must_run(runtime)
    numbers = numbers_of(runtime, table)
    runtime.store.copy_again(numbers, plan=True, where=where)
    runtime.store.audit("backfill", f"{table or 'all tables'} {where or ''}".strip())
    runtime.store.set_phase("copying", action="backfill")
    return numbers


def replay(runtime: Runtime, since: str) -> dict[str, int]:
    """Applies the streams again from a Kafka offset (`offset:123`) or a time on; answers the offsets.

    Rows go back to what they were then and forward again. The bookkeeping of the copying phase is on meanwhile: a partial event of
    a row that is gone since, or a unique value that moved since, is seen to like beside a copy.
    """
    _must_run(runtime)
    store = runtime.store
    found = {}
    for row in store.streams():
        found[row.name] = offset_at(runtime.migration.kafka.bootstrap, row.topic, since, options=kafka_options(runtime))
    store.copy_again(numbers_of(runtime, None), plan=False)
    for name, offset in found.items():
        store.rewind(name, offset)
    store.set_phase("copying", action="replay")
    return found


def _must_run(runtime: Runtime) -> None:
    phase = runtime.store.phase()
    if phase not in ("copying", "following", "reading"):
        raise CrossfadeError(f"migration {runtime.name} is {phase}: that works while it is copying or following")
