"""What can be told wrong about a file's steps without asking a database: `load` is `pipeline.spec.load` with that check."""

from __future__ import annotations

from pathlib import Path

import pipeline.spec
from pipeline.spec.migration import Migration
from transforms.chain import read_chain


def check(migration: Migration) -> None:
    """Reads every step of `columns` and `reverse`. Raises BadInput naming file and key."""
    for at, entry in enumerate(migration.tables):
        for part, mapping in (("columns", entry.columns), ("reverse", entry.reverse)):
            for name, raw in mapping.items():
                read_chain(raw, migration.at(f"tables[{at}].{part}.{name}"))


def load(path: str | Path) -> Migration:
    """The file at `path`, its steps read once. Raises BadInput."""
    migration = pipeline.spec.load(path)
    check(migration)
    return migration
