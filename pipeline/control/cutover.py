"""Cutover and rollback of a migration: what a crossing is made of here, and how the controller leads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from connectors.base import Address
from connectors.engine import module
from pipeline.control.crossing import Direction, Sides
from pipeline.control.reverse import reverse_runtime
from pipeline.control.runtime import Runtime
from pipeline.control.verifying import Verifier
from pipeline.errors import BadInput, CrossfadeError
from pipeline.model import Engine, TableId
from pipeline.traffic import nothing, pgbouncer
from pipeline.traffic.base import Traffic
from transforms.pair import Pair

DRIVERS = ("none", "pgbouncer")


def driver(runtime: Runtime) -> Traffic:
    """The traffic driver that the file names. Raises BadInput naming the key."""
    migration = runtime.migration
    name = migration.cutover.driver or "none"
    if name == "none":
        return nothing.Nothing()
    if name == "pgbouncer":
        try:
            return pgbouncer.PgBouncer(pgbouncer.Settings.model_validate(migration.drivers.get(name, {})))
        except ValidationError as error:
            first = error.errors()[0]
            at = ".".join(str(part) for part in first["loc"])
            raise BadInput(f"{migration.at('drivers.pgbouncer')}.{at}: {first['msg'].lower()}") from None
    raise BadInput(f"{migration.at('cutover.driver')}: there is no driver {name!r}", hint=", ".join(DRIVERS))


@dataclasses.dataclass(frozen=True, slots=True)
class RoleFence:
    """The application's roles on one side. See `pipeline.control.crossing.Fence`."""

    engine: Engine
    address: Address
    roles: tuple[str, ...]

    def plan(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = module(self.engine, "fence").plan(self.address, self.roles)
        return found

    def raise_(self, record: Mapping[str, Any], deadline: float) -> None:
        module(self.engine, "fence").raise_(self.address, record, deadline)

    def lower(self, record: Mapping[str, Any]) -> None:
        module(self.engine, "fence").lower(self.address, record)


def sides(runtime: Runtime, direction: Direction) -> Sides:
    """The two directions of a crossing. Raises CrossfadeError when there is no way back."""
    reverse = reverse_runtime(runtime)
    if reverse is None:
        raise CrossfadeError(
            "reverse: none: this version crosses over only when there is a way back", hint="take reverse: none out of the file"
        )
    there, back = (runtime, reverse) if direction == "cutover" else (reverse, runtime)
    roles = runtime.migration.cutover.fence.roles
    return Sides(
        direction=direction,
        there=there,
        back=back,
        traffic=driver(runtime),
        fence=RoleFence(there.source_engine, there.source, roles),
        other=RoleFence(there.target_engine, there.target, roles),
        check=lambda: _check(there),
        ahead=lambda: _ahead(there, runtime.migration.cutover.sequence_gap),
    )


def _check(there: Runtime) -> None:
    """What was verified before is still so: no row of any table is held back or on the list, and the counters of both sides agree."""
    held = there.store.quarantined()
    if held:
        raise CrossfadeError(f"an event of {held[0].target} went to quarantine meanwhile")
    listed = [row.target for row in there.store.tables() if row.tracked]
    if listed:
        raise CrossfadeError(f"rows of {listed[0]} are waiting to be read again")


def _ahead(there: Runtime, gap: int) -> None:
    """Counters of the side that is gone to, beyond what the other side gave out."""
    pairs = list(there.pairs.values())
    given = module(there.source_engine, "sequences").read(there.source, [pair.source.id for pair in pairs])
    wanted = {
        (pair.target_id, field.column.name): value
        for pair in pairs
        for field in pair.fields
        if not field.chain.steps and (value := given.get((pair.source.id, field.chain.columns[0]))) is not None
    }
    module(there.target_engine, "sequences").ahead(there.target, _tables(pairs), wanted, gap)


def _tables(pairs: Iterable[Pair]) -> list[TableId]:
    return sorted({pair.target_id for pair in pairs})


def verifier(runtime: Runtime, phase: str) -> Verifier:
    """Verify in the direction that applies."""
    if phase == "switched":
        back = reverse_runtime(runtime)
        if back is not None:
            return Verifier(back)
    return Verifier(runtime)
