"""What must hold before a crossing: each gate with its value, its limit and why it waits."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

from sqlalchemy.engine import Row

from connectors.engine import module
from pipeline.control.later import crossing_findings
from pipeline.control.runtime import Runtime
from pipeline.control.status import QUIET_SECONDS
from pipeline.control.streamplans import stream_plans
from pipeline.errors import CrossfadeError
from pipeline.store import tables
from pipeline.traffic.base import Traffic
from pipeline.verify.run import scope
from pipeline.verify.store import SqlStore

EVENT = "fence.event"
"""A finding that the file may accept: that it writes to nothing that moves only its owner knows."""


@dataclasses.dataclass(frozen=True, slots=True)
class Gate:
    """One of them. `value` and `limit` are for reading."""

    id: str
    ok: bool
    value: str
    limit: str
    why: str = ""

    def document(self) -> dict[str, object]:
        """For `--json`."""
        return dataclasses.asdict(self)


def way_back(runtime: Runtime, direction: str, why: str | None = None) -> Gate:
    """Whether the other direction is ready to apply. `why` it is not, as far as one has tried to set it up."""
    if runtime.migration.reverse != "none":
        return Gate("reverse", why is None, "open" if why is None else "not open", "open", why or "")
    if direction == "cutover":
        return Gate("reverse", why is None, "none", "none, as the file says", why or "")
    lost = "reverse: none: what was written on the target is nowhere else"
    return Gate("reverse", False, "none", "open", lost)


def gates(there: Runtime, traffic: Traffic, back: Gate) -> list[Gate]:
    """All of them, in the order in which they are worth looking at; `back` is `way_back`'s."""
    found = list(_copied(there))
    found += _verified(there)
    found += _lag(there)
    found += _transactions(there)
    found += _carried(there)
    found += _writable(there)
    found.append(back)
    problems = traffic.check()
    found.append(Gate("traffic", not problems, f"{traffic.name}: {len(problems)} problems", "ready", problems[0] if problems else ""))
    found.append(_rights(there))
    return found


def _copied(there: Runtime) -> Iterator[Gate]:
    rows = there.store.tables()
    left = [row.source for row in rows if row.phase != "copied"]
    listed = [row.source for row in rows if row.tracked]
    yield Gate("copied", not left, f"{len(rows) - len(left)} of {len(rows)} tables", "all", f"{left[0]} is not copied" if left else "")
    yield Gate("settled", not listed, f"{len(listed)} tables with rows to be read again", "0", f"{listed[0]} has" if listed else "")
    held = there.store.quarantined()
    why = "their events would be lost: crossfade quarantine retry or drop" if held else ""
    yield Gate("quarantine", not held, f"{len(held)} events", "0", why)
    stopped = [row for row in there.store.streams() if row.state != "running"]
    why = f"stream {stopped[0].name} is {stopped[0].state}: {stopped[0].error or 'crossfade resume'}" if stopped else ""
    yield Gate("streams", not stopped, f"{len(stopped)} not running", "0", why)


def _verified(there: Runtime) -> Iterator[Gate]:
    limit = there.migration.cutover.max_verify_age
    last = SqlStore(there.store.begin, tables.verify, there.name).last(scope(list(there.pairs.values())))
    if last is None:
        yield Gate("verified", False, "never", f"clean, {limit:.0f} s old at most", "run crossfade verify --full")
        return
    age, differences = time.time() - last.finished_at, last.differences
    why = "" if not differences and age <= limit else "run crossfade verify --full" if not differences else "run crossfade repair"
    yield Gate("verified", not why, f"{differences} differences, {age:.0f} s ago", f"0, {limit:.0f} s at most", why)


def _lag(there: Runtime) -> Iterator[Gate]:
    limit = there.migration.cutover.max_lag
    newest = there.store.newest_lag(time.time() - 10)
    silent = [plan.name for plan in stream_plans(there) if plan.name not in newest]
    if silent or not newest:
        of = f" of stream {silent[0]}" if silent else ""
        yield Gate("lag", False, "unknown", f"{limit:g} s", f"no sample{of} for ten seconds: is a worker running?")
        return
    now = max(_behind(sample) for sample in newest.values())
    yield Gate("lag", now <= limit, f"{now:.3f} s", f"{limit:g} s", "" if now <= limit else "the stream lags")


def _behind(sample: Row[Any]) -> float:
    """Seconds; a stream that has said nothing since is taken to stand still."""
    quiet = time.time() - float(sample.at)
    return float(sample.lag_ms) / 1000 + (quiet if quiet > QUIET_SECONDS else 0.0)


def _transactions(there: Runtime) -> Iterator[Gate]:
    limit = there.migration.cutover.max_transaction_age
    try:
        open_ = module(there.source_engine, "fence").writers(there.source, limit)
    except CrossfadeError as error:
        yield Gate("transactions", False, "unknown", f"{limit:g} s", str(error))
        return
    yield Gate("transactions", not open_, f"{len(open_)} open for longer", f"{limit:g} s", f"held by {open_[0]}" if open_ else "")


def _carried(there: Runtime) -> Iterator[Gate]:
    """Columns that the source got since the start, and the counters of both sides."""
    try:
        missing = there.all_uncarried()
        why = f"{missing[0]} is not on the target yet" if missing else ""
        yield Gate("columns", not missing, f"{len(missing)} new columns not carried", "0", why)
        module(there.source_engine, "sequences").Counters(there.source, sorted({p.source.id for p in there.pairs.values()})).close()
        yield Gate("sequences", True, "known", "known")
    except CrossfadeError as error:
        yield Gate("sequences", False, "unknown", "known", str(error))


def _rights(there: Runtime) -> Gate:
    """That the application can be kept away from either side, by roles that are there and that this one may see, shut out and end; and that
    counters can be moved."""
    roles = there.migration.cutover.fence.roles
    if not roles:
        why = "cutover.fence.roles names no role of the application: nothing would keep it from writing to both sides"
        return Gate("fence", False, "no roles", "the application's roles", why)
    accepted = {EVENT} & set(there.migration.accept)
    try:
        found = crossing_findings(there, {pair.target_id for pair in there.pairs.values()}, both_ways=False)
        lacking = [finding for finding in found if finding.id not in accepted]
        why = f"{lacking[0].object}: {lacking[0].message}: {lacking[0].fix}" if lacking else ""
    except CrossfadeError as error:
        why = str(error)
    return Gate("fence", not why, ", ".join(roles), "the application's roles, and the rights to fence them", why)


def _writable(there: Runtime) -> Iterator[Gate]:
    """That the other side takes writes: this migration's own, which go there all the time, prove nothing about tomorrow's."""
    try:
        why = module(there.target_engine, "fence").read_only(there.target)
    except CrossfadeError as error:
        why = str(error)
    yield Gate("writable", why is None, "takes writes" if why is None else "does not", "takes writes", why or "")
