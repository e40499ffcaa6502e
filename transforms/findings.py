"""Collects findings."""

from __future__ import annotations

import dataclasses

from pipeline.model import Finding, Severity


@dataclasses.dataclass
class Findings:
    """A list with a short way to add to it."""

    list: list[Finding] = dataclasses.field(default_factory=list)

    def add(self, id: str, severity: Severity, object: str, message: str, fix: str = "") -> None:
        """Adds one."""
        self.list.append(Finding(id, severity, object, message, fix))
