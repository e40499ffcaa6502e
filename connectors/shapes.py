"""How a source table's parts come out in its target: which target columns its columns became, and where its neighbours went."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

from connectors.base import ShapedTable
from pipeline.model import Catalog, Column, Finding, ForeignKey, TableId


@dataclasses.dataclass(frozen=True)
class Shapes:
    """All tables of one plan. Findings are collected in order, each said once."""

    tables: tuple[ShapedTable, ...]
    findings: dict[Finding, None] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, tables: Sequence[ShapedTable]) -> Shapes:
        return cls(tuple(tables))

    def say(self, id: str, severity: str, object: object, message: str, fix: str = "") -> None:
        self.findings[Finding(id, severity, str(object), message, fix)] = None  # type: ignore[arg-type]

    @functools.cached_property
    def by_source(self) -> dict[TableId, list[ShapedTable]]:
        found: dict[TableId, list[ShapedTable]] = {}
        for table in self.tables:
            found.setdefault(table.source.id, []).append(table)
        return found

    def referred(self, table: TableId, columns: Sequence[str]) -> tuple[TableId, tuple[str, ...]] | None:
        """Where a foreign key's target went, with its columns; None when it did not."""
        for shape in self.by_source.get(table, []):
            there = mapped(shape, columns)
            if there is not None:
                return shape.target, there
        return None


def mapped(shape: ShapedTable, columns: Sequence[str]) -> tuple[str, ...] | None:
    """Target columns of source columns; None when one of them is not carried over."""
    found = tuple(shape.renames[name] for name in columns if name in shape.renames)
    return found if len(found) == len(columns) else None


def same_names(shape: ShapedTable) -> bool:
    """Whether every source column is there under its own name, so that expressions over them hold as they are."""
    return all(shape.renames.get(column.name) == column.name for column in shape.source.columns)


def source_column(shape: ShapedTable, target: str) -> Column | None:
    """The source column that a target column is carried over from."""
    for name, there in shape.renames.items():
        if there == target:
            return shape.source.column(name)
    return None


def foreign_keys(shape: ShapedTable, source: Catalog, shapes: Shapes) -> list[ForeignKey]:
    """The table's own foreign keys, and those of a partitioned table's leaves where every leaf has the same one: the plain table that it
    becomes then has it too. Any other key of a leaf is a finding by its name."""
    found = list(shape.source.foreign_keys)
    leaves = [source.tables[leaf] for leaf in shape.source.partitions if leaf in source.tables]
    by_meaning: dict[ForeignKey, list[str]] = {}
    for leaf in leaves:
        for key in leaf.foreign_keys:
            by_meaning.setdefault(dataclasses.replace(key, name=""), []).append(f"{leaf.id}.{key.name}")
    names = {key.name for key in found}
    for meaning, there in by_meaning.items():
        own = min(key.name for leaf in leaves for key in leaf.foreign_keys if dataclasses.replace(key, name="") == meaning)
        if len({name.rpartition(".")[0] for name in there}) == len(leaves) and own not in names:
            names.add(own)
            found.append(dataclasses.replace(meaning, name=own))
            message = f"every partition has this foreign key: it becomes {own} of the whole table"
            shapes.say("foreign_key.of_partitions", "info", shape.target, message)
            continue
        for name in there:
            message = f"foreign key {name} is left out: it holds for some of the partitions only, and the target is one table"
            shapes.say("foreign_key.left_out", "warning", shape.target, message, "make the table partitioned beforehand")
    return found


def fitted(name: str, limit: int) -> str:
    """A name within the product's limit (in bytes); a shortened one ends in a digest of the whole."""
    if len(name.encode()) <= limit:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()[:8]
    return f"{name.encode()[: limit - 9].decode(errors='ignore')}_{digest}"


def renamed(name: str, shape: ShapedTable, *, limit: int, own: bool) -> str:
    """The name of an index. `own`: index names belong to their table; else they are the schema's, and a renamed table's carry its name."""
    source, target = shape.source.id.name, shape.target.name
    if not own and source != target:
        name = name.replace(source, target) if source in name else f"{target}_{name}"
    return fitted(name, limit)
