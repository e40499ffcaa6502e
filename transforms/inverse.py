"""The way back: the entry that takes a pair's target rows into its source table, or why there is none."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from pipeline.model import Column, Finding
from pipeline.spec.migration import Migration, Stream
from pipeline.spec.tables import TableEntry, written
from transforms.base import RowStep
from transforms.convert import conversion
from transforms.findings import Findings
from transforms.pair import Field, Pair
from transforms.typewords import write_type


def inverse(pair: Pair) -> tuple[TableEntry | None, list[Finding]]:
    """An entry for a migration from the pair's target to its source, or None and a finding for each column that has no way back.

    What the file says under `reverse` comes first, then renames, then steps whose inverse is exact, then the parts of a split.
    """
    found = Findings()
    said = pair.entry.reverse if pair.entry is not None else {}
    columns: dict[str, Any] = {}
    for column in pair.source.columns:
        if column.generated is not None:
            continue
        if column.name in said:
            columns[column.name] = said[column.name]
            continue
        back, reasons = _back(pair, column)
        if back is not None:
            columns[column.name] = back
        else:
            _no_way_back(pair, column, reasons, found)
    if any(finding.severity == "error" for finding in found.list):
        return None, found.list
    used = {name for raw in columns.values() for name in _inputs(raw)}
    # a column that takes its own name needs no line, unless something else uses that column too
    short = {name: raw for name, raw in columns.items() if raw != name}
    mentioned = {name for raw in short.values() for name in _inputs(raw)}
    short |= {name: raw for name, raw in columns.items() if raw == name and name in mentioned}
    there = pair.columns if pair.target is None else tuple(column.name for column in pair.target.writable)
    drop = tuple(name for name in there if name not in used)
    entry = {"from": written(*dataclasses.astuple(pair.target_id)), "to": written(*dataclasses.astuple(pair.source.id))}
    return TableEntry.model_validate({**entry, "columns": short, "drop": drop, "key": list(pair.key)}), found.list


def reverse_migration(migration: Migration, pairs: Sequence[Pair], name: str) -> tuple[Migration | None, list[Finding]]:
    """The whole migration the other way round, called `name`, or None and why not."""
    findings: list[Finding] = []
    entries: list[TableEntry] = []
    for pair in pairs:
        entry, found = inverse(pair)
        findings += found
        if entry is not None:
            entries.append(entry)
    if len(entries) < len(pairs):
        return None, findings
    return turned(migration, name, entries), findings


def turned(migration: Migration, name: str, entries: Sequence[TableEntry] = ()) -> Migration:
    """The migration with its sides swapped, called `name`, with these tables."""
    connect = migration.connect
    swapped = connect.model_copy(update={"source_password": connect.target_password, "target_password": connect.source_password})
    changes = {
        "name": name,
        "source": migration.target,
        "target": migration.source,
        "connect": swapped,
        "schema_": "existing",
        "tables": tuple(entries),
        "streams": (Stream(),),
        "reverse": "none",
    }
    return migration.model_copy(update=changes)


def _back(pair: Pair, column: Column) -> tuple[Any | None, list[str]]:
    """What makes the source column out of target columns, in the file's syntax, or the reasons why nothing does."""
    fields = [field for field in pair.fields if column.name in field.chain.columns]
    reasons: list[str] = []
    for field in sorted(fields, key=lambda field: len(field.chain.steps)):
        steps = _undone(field, field.chain.columns.index(column.name))
        if isinstance(steps, str):
            reasons.append(f"{field.column.name}: {steps}")
        elif not steps:
            return field.column.name, []
        else:
            first, *rest = steps
            raw = [first.dump((field.column.name,)), *(step.dump(None) for step in rest)]
            return raw[0] if len(raw) == 1 else raw, []
    joined = _joined(fields)
    return (joined, []) if joined is not None else (None, reasons)


def _undone(field: Field, at: int) -> list[RowStep] | str:
    """Steps from the target column back to input number `at` of its chain, or why not."""
    if field.conversion.why and not field.conversion.exact and not field.conversion.why.startswith("refuses"):
        return field.conversion.why
    out: list[RowStep] = []
    steps = field.chain.steps
    for place in range(len(steps) - 1, -1, -1):
        made = steps[place].inverse(at if place == 0 else 0)
        if isinstance(made, str):
            return made
        out.extend(made)
    if not out:
        back = conversion(field.column.type, field.chain.result)
        return [] if back.possible else back.why
    if field.column.type != field.chain.result and conversion(field.column.type, field.chain.result).python is not None:
        word = write_type(field.chain.result)
        if word is None:
            return f"there is no word for {field.chain.result}"
        from transforms import cast

        out.insert(0, cast.Step(to=word))
    return out


def _joined(fields: list[Field]) -> dict[str, Any] | None:
    """All parts of one split, joined again."""
    from transforms import concat, split

    parts: dict[tuple[str, int], dict[int, str]] = {}
    for field in fields:
        if len(field.chain.steps) == 1 and isinstance(step := field.chain.steps[0], split.Step) and step.parts and field.untransformed:
            parts.setdefault((step.separator, step.parts), {})[step.part] = field.column.name
    for (separator, count), names in parts.items():
        if len(names) == count:
            return concat.Step(separator=separator).dump(tuple(names[at] for at in range(1, count + 1)))
    return None


def _no_way_back(pair: Pair, column: Column, reasons: list[str], found: Findings) -> None:
    name = f"{pair.source.id}.{column.name}"
    fix = f"say it under `reverse: {{{column.name}: …}}` of the table's entry, or set `reverse: none`"
    if reasons:
        found.add("inverse.none", "error", name, f"cannot be filled on the way back: {'; '.join(reasons)}", fix)
    elif column.nullable or column.default is not None or column.identity is not None:
        what = "is not on the new side: rows written there leave it at its default on the old side"
        found.add("inverse.default", "info", name, what)
    else:
        what = "is not on the new side, is NOT NULL and has no default: the old side could not take new rows"
        found.add("inverse.none", "error", name, what, fix)


def _inputs(raw: Any) -> tuple[str, ...]:
    from transforms.chain import read_chain

    return read_chain(raw, "reverse").columns
