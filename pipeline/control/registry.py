"""Which file a migration's name stands for on this machine: `crossfade status NAME` works from any folder after `crossfade start FILE`."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import BadInput
from pipeline.spec.migration import Migration
from transforms.check import load


def home() -> Path:
    """`$CROSSFADE_HOME`, else `$XDG_STATE_HOME/crossfade`, else `~/.local/state/crossfade`."""
    given = os.environ.get("CROSSFADE_HOME")
    if given:
        return Path(given)
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "crossfade"


def remember(migration: Migration, file: Path) -> None:
    """Notes where the file of a migration is."""
    folder = home() / "migrations"
    folder.mkdir(parents=True, exist_ok=True)
    entry = folder / migration.name
    half = folder / f".{migration.name}.{os.getpid()}"
    half.write_text(f"{file.resolve()}\n")
    half.replace(entry)


def find(name_or_file: str) -> Migration:
    """The migration of that name, or in that file. Raises BadInput."""
    path = Path(name_or_file)
    if path.suffix in {".yaml", ".yml", ".json"} or path.is_file():
        return load(path)
    if "/" in name_or_file or name_or_file.startswith("."):
        raise BadInput(f"{name_or_file}: there is no such migration or file")
    entry = home() / "migrations" / name_or_file
    try:
        file = Path(entry.read_text().strip())
    except (OSError, ValueError):
        known = sorted(p.name for p in (home() / "migrations").glob("[!.]*"))
        raise BadInput(
            f"unknown migration {name_or_file}", hint=f"known here: {', '.join(known)}" if known else "give the migration's file instead"
        ) from None
    migration = load(file)
    if migration.name != name_or_file:
        raise BadInput(f"{file}: is of migration {migration.name} now, not {name_or_file}")
    return migration
