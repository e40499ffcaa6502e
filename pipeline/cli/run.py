"""`crossfade run FILE`: start, with controller and worker in this process."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.cli import logs, output
from pipeline.cli.services import level, on_signal, run_worker, wait_for_start
from pipeline.errors import BadInput, CrossfadeError

PHASES = ("copying", "following")


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("run")(run)


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="migration.yaml")],
    until: Annotated[str | None, typer.Option(help=f"Stop when this phase is reached: {', '.join(PHASES)}. Else until Ctrl-C.")] = None,
) -> None:
    """Starts the migration, with controller and worker in this process. Ctrl-C stops cleanly; the same command goes on."""
    from pipeline.control import commands
    from pipeline.control.controller import Controller
    from pipeline.control.runtime import Runtime
    from transforms.check import load

    if until is not None and until not in PHASES:
        raise BadInput(f"--until: unknown phase {until!r}", hint=", ".join(PHASES))
    logs.to_stderr(level())
    migration = load(file)
    migration.check_secrets()
    commands.start(Runtime(migration), file)
    stop = threading.Event()
    on_signal(stop.set)
    faults: list[BaseException] = []

    def guarded(act: object) -> None:
        try:
            act()  # type: ignore[operator]
        except BaseException as error:
            faults.append(error)
            stop.set()

    def work() -> None:
        runtime = Runtime(migration)
        wait_for_start(runtime, stop, prepared=True)
        if not stop.is_set():
            asyncio.run(run_worker(runtime, ["apply", "backfill"], stop))

    threads = [
        threading.Thread(target=guarded, args=(lambda: Controller(Runtime(migration)).run(stop),), name="controller"),
        threading.Thread(target=guarded, args=(work,), name="worker"),
    ]
    for thread in threads:
        thread.start()
    phase = "planned"
    try:
        phase = _watch(Runtime(migration), until, stop)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if faults:
        raise faults[0]
    output.show({"migration": migration.name, "phase": phase}, lambda: output.line(f"{migration.name}: {phase}"))


def _watch(runtime: object, until: str | None, stop: threading.Event) -> str:
    """Says how it goes, a line now and then; answers the phase it ended in."""
    from pipeline.control.runtime import Runtime
    from pipeline.control.status import status

    assert isinstance(runtime, Runtime)
    said = 0.0
    phase = "planned"
    while not stop.wait(0.2):
        found = status(runtime.store)
        phase = found["phase"]
        if phase == "failed":
            raise CrossfadeError(f"migration {runtime.name} failed: {found['reason']}")
        if phase == until or (until == "copying" and phase == "following"):
            return str(phase)
        if time.monotonic() - said > 5:
            said = time.monotonic()
            output.note(summary(found))
    return str(phase)


def summary(found: dict[str, object]) -> str:
    """One line: phase, rows copied, lag."""
    tables: list[dict[str, Any]] = found["tables"]  # type: ignore[assignment]
    streams: list[dict[str, object]] = found["streams"]  # type: ignore[assignment]
    rows = sum(int(t["rows_copied"]) for t in tables)
    of = sum(max(int(t["rows_estimated"]), int(t["rows_copied"])) for t in tables)
    lags = [s["lag_ms"] for s in streams if s["lag_ms"] is not None]
    lag = f", lag {max(lags):.0f} ms" if lags else ""  # type: ignore[type-var]
    copied = sum(t["phase"] == "copied" for t in tables)
    return f"{found['migration']}: {found['phase']}, {rows:,} of about {of:,} rows, {copied}/{len(tables)} tables copied{lag}"
