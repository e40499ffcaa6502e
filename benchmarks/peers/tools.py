"""Peers that come from the system's packages and copy a whole database by one command."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote, urlsplit

from benchmarks.harness import Failed
from benchmarks.move import WAIT_SECONDS
from benchmarks.stage import Database
from deploy.local import place
from deploy.local.postgres import installation

PGCOPYDB, PGLOADER, MYDUMPER = "pgcopydb", "pgloader", "mydumper"
WAYS = {
    PGCOPYDB: ("postgresql", "postgresql"),
    PGLOADER: ("mariadb", "postgresql"),
    MYDUMPER: ("mariadb", "mariadb"),
}
"""From which product to which each is measured."""


def pgcopydb(source: Database, target: Database) -> float:
    """Seconds of one `pgcopydb clone`: schema, rows, indexes, constraints. With the client programs of the server's own version."""
    with tempfile.TemporaryDirectory(prefix="crossfade-pgcopydb-") as folder:
        passwords = Path(folder) / "pgpass"
        place.write_private(passwords, "".join(_pgpass(side) for side in (source, target)))
        tools = installation(place.server_user()) / "bin"
        env = {**os.environ, "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}", "PGPASSFILE": str(passwords)}
        # Jobs: as many as it has cores to use here, twice over; more and fewer were slower.
        command = ["pgcopydb", "clone", "--source", source.address.url, "--target", target.address.url, "--dir", f"{folder}/work"]
        return _timed([*command, "--table-jobs", "4", "--index-jobs", "4", "--no-owner", "--no-acl", "--not-consistent"], env)


def pgloader(source: Database, target: Database) -> float:
    """Seconds of one pgloader load, MariaDB to PostgreSQL: tables, rows, indexes, foreign keys."""
    with tempfile.TemporaryDirectory(prefix="crossfade-pgloader-") as folder:
        script = Path(folder) / "load"
        place.write_private(
            script,
            f"LOAD DATABASE FROM {_with_password(source, 'mysql')} INTO {_with_password(target, 'postgresql')} "
            # With more rows to prefetch or several readers the heap of Debian's build (1 GiB) does not last for these tables.
            "WITH include drop, create tables, create indexes, foreign keys, reset no sequences, "
            "workers = 2, concurrency = 1, batch rows = 25000, prefetch rows = 10000 "
            "SET PostgreSQL PARAMETERS maintenance_work_mem to '256MB', work_mem to '64MB';\n",
        )
        return _timed(["pgloader", "--no-ssl-cert-verification", "--quiet", "--root-dir", folder, str(script)], dict(os.environ))


def mydumper(source: Database, target: Database) -> float:
    """Seconds of a mydumper dump and the myloader load of it, MariaDB to MariaDB: tables, rows, indexes, foreign keys. By four sessions
    each, as both do by default. The load is written to the log, as it is by crossfade: what hangs on the target would not have it."""
    with tempfile.TemporaryDirectory(prefix="crossfade-mydumper-") as folder:
        took = 0.0
        for side, command in (
            (source, ["mydumper", "--outputdir", f"{folder}/dump", "--rows", "100000", "--trx-consistency-only"]),
            (target, ["myloader", "--directory", f"{folder}/dump", "--enable-binlog"]),
        ):
            parts = urlsplit(side.address.url)
            word = Path(folder) / command[0]
            place.write_private(word, f'[client]\nuser="{parts.username}"\npassword="{side.address.password}"\n')
            at = ["--host", str(parts.hostname), "--port", str(parts.port), "--database", parts.path.lstrip("/")]
            took += _timed([command[0], f"--defaults-file={word}", *command[1:], *at], dict(os.environ))
        return took


def _timed(command: Sequence[str], env: dict[str, str]) -> float:
    began = time.monotonic()
    try:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=WAIT_SECONDS)
    except FileNotFoundError:
        raise Failed(f"{command[0]} is not installed (Debian: apt-get install {command[0]})") from None
    except subprocess.TimeoutExpired:  # pgloader has been seen to stand still for ever
        raise Failed(f"{command[0]}: not done within {WAIT_SECONDS:.0f} s") from None
    took = time.monotonic() - began
    said = [line for line in (done.stdout + done.stderr).splitlines() if "ERROR" in line or "FATAL" in line]
    if done.returncode != 0 or said:
        raise Failed(f"{command[0]}: {said[-1] if said else f'exit code {done.returncode}'}")
    return took


def _pgpass(database: Database) -> str:
    parts = urlsplit(database.address.url)
    return f"{parts.hostname}:{parts.port}:*:{parts.username}:{database.address.password}\n"


def _with_password(database: Database, kind: str) -> str:
    parts = urlsplit(database.address.url)
    return f"{kind}://{parts.username}:{quote(database.address.password or '', safe='')}@{parts.hostname}:{parts.port}{parts.path}"
