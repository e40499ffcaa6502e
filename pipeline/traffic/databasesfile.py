"""The file with PgBouncer's `[databases]` that crossfade writes: read, written whole or not at all, checked."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

_PART = re.compile(r"\s*([a-z_]+)\s*=\s*(?:'((?:[^']|'')*)'|([^\s']*))(?:\s+|$)")
_NEEDED = ("host", "port", "dbname")


def parse(where: str) -> dict[str, str]:
    """`host=db1 port=5432 dbname='my shop'` by key. Raises ValueError for what is not that or leaves out where it goes."""
    found: dict[str, str] = {}
    at = 0
    while at < len(where):
        part = _PART.match(where, at)
        if part is None or "\n" in part[0]:
            raise ValueError("must read like host=db1 port=5432 dbname=shop")
        found[part[1]] = part[2].replace("''", "'") if part[2] is not None else part[3]
        at = part.end()
    missing = [key for key in _NEEDED if not found.get(key)]
    if missing:
        raise ValueError(f"names no {missing[0]}: host, port and dbname are needed to tell the sides apart")
    return found


def text(databases: Mapping[str, Mapping[str, str]]) -> str:
    """The file."""
    lines = ["; written by crossfade, which replaces it at a crossing", "[databases]"]
    for name, where in databases.items():
        lines.append(f"{name} = " + " ".join(f"{key}={_quoted(value)}" for key, value in where.items()))
    return "\n".join(lines) + "\n"


def _quoted(value: str) -> str:
    return value if re.fullmatch(r"[A-Za-z0-9_./:-]+", value) else "'" + value.replace("'", "''") + "'"


def write(file: Path, databases: Mapping[str, Mapping[str, str]]) -> None:
    """Replaces the file: a reader, and a machine that loses power, sees the old one or the new one. Owner and mode stay."""
    half = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with half.open("w", encoding="utf-8") as out:
            out.write(text(databases))
            out.flush()
            with contextlib.suppress(FileNotFoundError):
                found = file.stat()
                os.fchmod(out.fileno(), found.st_mode & 0o777)
                if os.geteuid() == 0:
                    os.fchown(out.fileno(), found.st_uid, found.st_gid)
            os.fsync(out.fileno())
        half.replace(file)
    finally:
        half.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def problems(file: Path, database: str) -> Iterator[str]:
    """Why it could not be replaced, or would not be missed."""
    if not os.access(file.parent, os.W_OK):
        yield f"{file.parent} cannot be written: crossfade replaces {file.name} there"
    elif not file.exists():
        yield f"{file} is not there: put database {database} into it and %include it"
    elif not re.search(rf"^\s*{re.escape(database)}\s*=", file.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
        yield f"{file} does not name database {database}"


def inclusion(conffile: str, file: Path) -> Iterator[str]:
    """Whether PgBouncer's own file includes it, where that one can be read from here."""
    own = Path(conffile)
    if not conffile or not own.is_absolute() or not os.access(own, os.R_OK) or not own.is_file():
        return
    included = re.findall(r"^%include\s+(.+?)\s*$", own.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
    if not any(Path(one).resolve() == file.resolve() for one in included):
        yield f"{own} does not %include {file}"
