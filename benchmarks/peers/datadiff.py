"""data-diff (PyPI): checksums of key ranges inside both databases, narrowed down where they differ. In an environment of its own, made
once: what it needs does not go together with what crossfade needs."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

import orjson

from benchmarks.harness import Failed
from benchmarks.stage import Database
from deploy.local import place
from deploy.local.filelock import locked

NAME = "data-diff"
_LOCK = Path(__file__).with_name("data-diff.lock")
_SCRIPT = """
import json, sys, time
from data_diff import connect_to_table, diff_tables
given = json.load(sys.stdin)
sides = [connect_to_table(url, table, given["key"], thread_count=given["threads"]) for url, table in given["sides"]]
began = time.monotonic()
found = sum(1 for _ in diff_tables(*sides, key_columns=(given["key"],), extra_columns=tuple(given["columns"]), threaded=True,
                                   max_threadpool_size=given["threads"]))
print(json.dumps([time.monotonic() - began, found]))
"""


def seconds(source: Database, target: Database, table: str, columns: Sequence[str], *, threads: int = 4) -> float:
    """How long it takes to compare one table on both sides, without its own start. Raises `Failed` when it finds a difference."""
    given = {
        "sides": [[_url(side), _named(side, table)] for side in (source, target)],
        "key": "id",
        "columns": [name for name in columns if name != "id"],
        "threads": threads,
    }
    done = subprocess.run([_python(), "-c", _SCRIPT], input=orjson.dumps(given), capture_output=True, check=False, timeout=1800)
    if done.returncode != 0:
        raise Failed(f"{NAME}: {_last_line(done.stderr)}")
    took, found = orjson.loads(done.stdout.splitlines()[-1])
    if found:
        raise Failed(f"{NAME}: finds {found} differences in {table} where there are none")
    return float(took)


def _url(database: Database) -> str:
    parts, password = urlsplit(database.address.url), quote(database.address.password or "", safe="")
    kind = "postgresql" if database.engine == "postgresql" else "mysql"
    return f"{kind}://{parts.username}:{password}@{parts.hostname}:{parts.port}{parts.path}"


def _named(database: Database, table: str) -> list[str]:
    return ["public", table] if database.engine == "postgresql" else [table]


def _last_line(text: bytes) -> str:
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"


def _python() -> Path:
    """Its environment's interpreter. The first call installs it from the package index, by the lock's sums."""
    made = place.cache_dir() / f"data-diff-{hashlib.sha256(_LOCK.read_bytes()).hexdigest()[:12]}-{sys.version_info[1]}"
    python = made / "bin" / "python"
    made.parent.mkdir(parents=True, exist_ok=True)
    with locked(made.parent / f".{made.name}.lock"):
        if not (made / "whole").exists():
            shutil.rmtree(made, ignore_errors=True)
            began = time.monotonic()
            for command in (
                [sys.executable, "-m", "venv", str(made)],
                [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r", str(_LOCK)],
            ):
                done = subprocess.run(command, capture_output=True, check=False)
                if done.returncode != 0:
                    raise Failed(f"{NAME} cannot be installed: {_last_line(done.stderr)}")
            (made / "whole").write_text(f"{time.monotonic() - began:.0f} s")
    return python
