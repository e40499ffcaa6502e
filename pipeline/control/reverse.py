"""The way back: a second migration through the inverse mapping, from the target to the source, with a control store of its own in the
source database. Its stream runs from the day it is prepared and is muted: it proves that the way is open and applies nothing.

Of the two directions at most one applies. A crossing mutes the one that applied so far, and the other takes in what comes after a
marker that is written while neither side can be written. So nothing ever goes round in a circle.
"""

from __future__ import annotations

from typing import Any

import structlog
from sqlalchemy.engine import Row

from pipeline.control import failpoints
from pipeline.control.markers import new_token
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plan
from pipeline.errors import CrossfadeError
from pipeline.store.phases import CROSSED
from transforms.inverse import reverse_migration, turned

log = structlog.get_logger("reverse")

SUFFIX = "-back"


def reverse_runtime(runtime: Runtime) -> Runtime | None:
    """The migration the other way round; None with `reverse: none`. Raises CrossfadeError naming what has no way back."""
    if runtime.migration.reverse == "none":
        return None
    back, findings = reverse_migration(runtime.migration, list(runtime.pairs.values()), runtime.name + SUFFIX)
    if back is None:
        first = next(finding for finding in findings if finding.severity == "error")
        raise CrossfadeError(
            f"no way back: {first.object}: {first.message}", hint=first.fix or "say how under reverse:, or set reverse: none"
        )
    return Runtime(back)


def bare_way_back(runtime: Runtime) -> Runtime:
    """The way back without its tables and streams, whatever has become of the mapping: what a crossing is journalled in, the fence of the
    side that is left, and all that is needed to take the way back down."""
    return Runtime(turned(runtime.migration, runtime.name + SUFFIX))


def prepared(back: Runtime) -> bool:
    """Whether the way back is set up, and muted or in use."""
    if not back.store.exists():
        return False
    row = back.store.migration_row()
    return row is not None and row.phase == "following"


def asked_for(runtime: Runtime, row: Row[Any]) -> bool:
    """Whether the migration, given its row, has crossed or is to cross: before that there is no way back."""
    return runtime.migration.reverse != "none" and (row.phase in CROSSED or row.wanted != "following")


def way_back(runtime: Runtime) -> Runtime | None:
    """The way back, bare, where it is set up."""
    row = runtime.store.migration_row() if runtime.store.exists() else None
    if row is None or not asked_for(runtime, row):
        return None
    back = bare_way_back(runtime)
    return back if prepared(back) else None


def prepare_reverse(back: Runtime) -> None:
    """Sets the way back up, muted. Safe to run twice."""
    from pipeline.control.prepare import prepare  # workers ask about the way back too, and never talk to Connect

    store = back.store
    store.create()
    store.add_migration(back.migration.model_dump(mode="json", by_alias=True, exclude_defaults=True))
    if store.phase() == "planned":
        store.set_phase("preparing")
    if back.migration.tables and not store.streams():
        prepare(back, lambda text: log.info("preparing the way back", step=text))
    for row in store.tables():
        # There is nothing to copy: the rows are there, since this is where they come from.
        store.set_table(int(row.number), phase="copied", tracked=False, planned=True)
    if store.phase() == "preparing":
        # Also when somebody who died here has made its streams. One that was muted before is left as it is: it may have been crossed since.
        store.mute(new_token(), instead_of={""})
        store.set_phase("following")


def remove_reverse(back: Runtime) -> None:
    """Takes the way back down: connector, topic, slot and publication on the target, and everything of crossfade's on the source."""
    from pipeline.control.commands import drop_side_tables
    from pipeline.control.prepare import take_back

    store = back.store
    if not store.exists():
        return
    if store.migration_row() is not None:
        numbers = [int(row.number) for row in store.tables()]
        names = [str(row.name) for row in store.streams()] or [stream.name for stream in back.migration.streams]
        take_back(back, [stream_plan(back.migration, name) for name in names])
        failpoints.here("complete.back.streams.done")
        drop_side_tables(back, numbers)
        failpoints.here("complete.back.tables.done")
        store.forget()
        failpoints.here("complete.back.forget.done")
        store.start_over()
        failpoints.here("complete.back.start-over.done")
    store.drop_if_empty()
