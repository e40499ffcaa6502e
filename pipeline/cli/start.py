"""`crossfade start`, `cancel`, `pause`, `resume`: a migration begins, waits, goes on, is called off."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import output
from pipeline.errors import TimedOut

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]
File = Annotated[Path, typer.Argument(metavar="FILE", help="migration.yaml")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("start")(start)
    app.command("pause")(pause)
    app.command("resume")(resume)
    app.command("cancel")(cancel)


def start(
    file: File,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for a controller to take it.")] = 60.0,
    detach: Annotated[bool, typer.Option("--detach", help="Return at once, whether or not a controller runs.")] = False,
) -> None:
    """Prepares both sides, registers connectors, starts streaming and backfill; returns when the controller has it."""
    from pipeline.control import commands
    from pipeline.control.runtime import Runtime
    from transforms.check import load

    migration = load(file)
    migration.check_secrets()
    runtime = Runtime(migration)
    phase = commands.start(runtime, file)
    if not detach:
        taken = ("preparing", "copying", "following", "reading", "switched")
        try:
            phase = commands.wait_phase(runtime, taken, timeout=timeout)
        except TimedOut:
            raise TimedOut(f"no controller took migration {migration.name}", hint=f"run: crossfade controller {file}") from None
    output.show({"migration": migration.name, "phase": phase}, lambda: output.line(f"{migration.name}: {phase}"))


def pause(name: Name) -> None:
    """Streams stop after the batch being written; Kafka keeps what comes."""
    from pipeline.control import commands
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    commands.pause(runtime)
    output.show({"migration": runtime.name, "paused": True}, lambda: output.line(f"{runtime.name}: paused"))


def resume(name: Name) -> None:
    """Streams go on where they stand; a failed migration goes back to its phase."""
    from pipeline.control import commands
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    commands.resume(runtime)
    phase = runtime.store.phase()
    output.show({"migration": runtime.name, "phase": phase}, lambda: output.line(f"{runtime.name}: {phase}"))


def cancel(name: Name) -> None:
    """Calls the migration off: slots, publications, connectors and topics go, the source is as it was, target tables stay."""
    from pipeline.control import commands
    from pipeline.control.registry import find

    migration = find(name)
    commands.cancel(migration, output.note)
    output.show({"migration": migration.name, "phase": "cancelled"}, lambda: output.line(f"{migration.name}: cancelled"))
