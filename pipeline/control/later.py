"""What a cutover and the way back after it will need, and the start does not: warnings of the plan, so that nobody first meets them on the
evening of the cutover. A cutover looks again, before it closes anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from connectors.engine import module
from pipeline.control.reverse import SUFFIX
from pipeline.control.runtime import Runtime
from pipeline.errors import BadInput, CrossfadeError
from pipeline.model import Finding, TableId

_OTHERWISE = (
    "connection.",
    "version.",
    "server.wal_level",  # said as reverse.wal_level, and refuses the start
    "server.log_bin",
    "target.read_only",  # a source that is to be read is not written yet
    "target.not_empty",
    "slot.",
)
"""Findings that are told elsewhere, or mean nothing before there is a way back."""


def later_findings(runtime: Runtime) -> list[Finding]:
    """Rights to fence the application and to move counters; what the target lacks as a source, and the source as a target."""
    return [*_looked("cutover", _crossing, runtime), *_looked("way back", _way_back, runtime)]


def _looked(what: str, look: Callable[[Runtime], Iterator[Finding]], runtime: Runtime) -> list[Finding]:
    try:
        return list(look(runtime))
    except BadInput:
        raise
    except CrossfadeError as error:
        message = f"what the {what} needs could not be looked at: {error}"
        return [Finding("reverse.unknown", "warning", runtime.name, message, "see to what else is missing first")]


def crossing_findings(there: Runtime, targets: Iterable[TableId], *, both_ways: bool) -> list[Finding]:
    """What keeps this direction, or both, from being crossed in: errors of either side. `targets` are those of its tables that exist."""
    roles, sources = there.migration.cutover.fence.roles, {pair.source.id for pair in there.resolved[0]}
    return [
        *module(there.source_engine, "crossrights").lacks(there.source, roles, sorted(sources), moves=both_ways),
        *module(there.target_engine, "crossrights").lacks(there.target, roles, sorted(targets), moves=True),
    ]


def _crossing(runtime: Runtime) -> Iterator[Finding]:
    there = {pair.target.id for pair in runtime.resolved[0] if pair.target is not None}
    found = crossing_findings(runtime, there, both_ways=runtime.migration.reverse != "none")
    yield from _warnings("at the cutover", found)


def _way_back(runtime: Runtime) -> Iterator[Finding]:
    if runtime.migration.reverse == "none":
        return
    pairs = runtime.resolved[0]
    there = {pair.target.id: pair.target for pair in pairs if pair.target is not None}
    reads = module(runtime.target_engine, "preflight").source_findings(
        runtime.target,
        list(there.values()),
        migration=runtime.name + SUFFIX,
        stream_tables={"main": sorted({pair.target_id for pair in pairs})},
    )
    writes = module(runtime.source_engine, "preflight").target_findings(
        runtime.source, sorted({pair.source.id for pair in pairs}), create=False, reverse=False
    )
    for finding in _warnings("for the way back", (*reads, *writes)):
        fix = finding.fix
        if finding.id == "target.trigger":
            fix = "at the cutover, once the application has left: rest it, or drop it and keep its text; or write reverse: none"
        yield dataclasses.replace(finding, id=f"reverse.{finding.id}", fix=fix)


def _warnings(what_for: str, findings: Iterable[Finding]) -> Iterator[Finding]:
    for finding in findings:
        if finding.severity == "error" and not finding.id.startswith(_OTHERWISE):
            yield dataclasses.replace(finding, severity="warning", message=f"{what_for}: {finding.message}")
