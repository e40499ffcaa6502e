"""Cutover and rollback of a migration: what a crossing is made of here, and how the controller leads it."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from connectors.engine import module
from pipeline.control.crossing import Direction, Sides
from pipeline.control.finalverify import FinalVerify
from pipeline.control.reverse import bare_way_back, reverse_runtime
from pipeline.control.runtime import Runtime
from pipeline.errors import BadInput, CrossfadeError
from pipeline.model import TableId
from pipeline.traffic import nothing, pgbouncer, webhook
from pipeline.traffic.base import Traffic

DRIVERS = ("none", "pgbouncer", "webhook")


def driver(runtime: Runtime) -> Traffic:
    """The traffic driver that the file names. Raises BadInput naming the key."""
    migration = runtime.migration
    name = migration.cutover.driver or "none"
    given = migration.drivers.get(name, {})
    try:
        if name == "none":
            return nothing.Nothing()
        if name == "pgbouncer":
            return pgbouncer.PgBouncer(pgbouncer.Settings.model_validate(given))
        if name == "webhook":
            return webhook.Webhook(webhook.Settings.model_validate(given), migration.name)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        at = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise BadInput(f"{migration.at(f'drivers.{name}')}.{at}: {said[:1].lower()}{said[1:]}") from None
    raise BadInput(f"{migration.at('cutover.driver')}: there is no driver {name!r}", hint=", ".join(DRIVERS))


def sides(runtime: Runtime, direction: Direction, *, bare: bool = False) -> Sides:
    """The two directions of a crossing; with `reverse: none`, or `bare`, the way back has no tables. Raises CrossfadeError when the mapping
    has no inverse."""
    reverse = None if bare else reverse_runtime(runtime)
    reverse = bare_way_back(runtime) if reverse is None else reverse
    there, back = (runtime, reverse) if direction == "cutover" else (reverse, runtime)
    roles = runtime.migration.cutover.fence.roles
    return Sides(
        direction=direction,
        there=there,
        back=back,
        traffic=driver(runtime),
        fence=module(there.source_engine, "fence").Fence(there.source, roles),
        other=module(there.target_engine, "fence").Fence(there.target, roles),
        check=FinalVerify(there),
        counters=_Ahead(there, runtime.migration.cutover.sequence_gap),
    )


class _Ahead:
    """Counters of the side that is gone to, beyond what the other side gave out. See `pipeline.control.crossing.Counters`."""

    def __init__(self, there: Runtime, gap: int) -> None:
        self._there, self._gap = there, gap
        self._both: tuple[Any, Any] | None = None
        self._columns: dict[tuple[TableId, str], tuple[TableId, str]] = {}

    def open(self) -> None:
        there, pairs = self._there, list(self._there.pairs.values())
        self._both = (
            module(there.source_engine, "sequences").Counters(there.source, sorted({pair.source.id for pair in pairs})),
            module(there.target_engine, "sequences").Counters(there.target, sorted({pair.target_id for pair in pairs})),
        )
        self._columns = {
            (pair.target_id, field.column.name): (pair.source.id, field.chain.columns[0])
            for pair in pairs
            for field in pair.fields
            if not field.chain.steps
        }

    def ahead(self) -> None:
        if self._both is None:
            self.open()
        assert self._both is not None
        given = self._both[0].read()
        self._both[1].ahead({ours: given[theirs] for ours, theirs in self._columns.items() if theirs in given}, self._gap)

    def close(self) -> None:
        for one in self._both or ():
            one.close()
        self._both = None


def leading(runtime: Runtime) -> Runtime:
    """The direction that applies: the way back while the application is on the target. Raises CrossfadeError when none does."""
    if runtime.store.phase() != "switched":
        return runtime
    back = reverse_runtime(runtime)
    if back is None:
        raise CrossfadeError(f"migration {runtime.name} has switched with reverse: none: the old database stands still")
    return back
