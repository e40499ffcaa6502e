"""How a source table's parts come out in its target: which target columns its columns became, and where its neighbours went."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence

from connectors.base import ShapedTable
from pipeline.model import Column, Finding, TableId


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
