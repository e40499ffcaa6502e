"""`crossfade cutover`, `rollback`, `complete`: the application's writes to the other side and back, and the end of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli import output

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the controller to get there.")]
WAITING, UNDONE = 4, 1


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("cutover")(cutover)
    app.command("rollback")(rollback)
    app.command("complete")(complete)


def cutover(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the gates and the steps; change nothing.")] = False,
    timeout: Timeout = 300.0,
) -> None:
    """Moves the application's writes to the target, inside the pause budget, or changes nothing. Exit code 4: a gate is closed."""
    _cross(name, "switched", dry_run, timeout)


def rollback(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the gates and the steps; change nothing.")] = False,
    timeout: Timeout = 300.0,
) -> None:
    """The same the other way: the application is on the source again, with everything that was written on the target."""
    _cross(name, "rolled-back", dry_run, timeout)


def complete(name: Name) -> None:
    """Ends a migration that has switched: streams, slots, publications, connectors, topics and the fence go; the old tables stay."""
    from pipeline.control import commands
    from pipeline.control.registry import find

    migration = find(name)
    commands.complete(migration, output.note)
    output.show({"name": migration.name, "phase": "completed"}, lambda: output.line(f"{migration.name} is completed"))


def _cross(name: str, wanted: str, dry_run: bool, timeout: float) -> None:
    from pipeline.control import crossover
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    asked = crossover.ask(runtime, wanted, dry_run=dry_run)
    document: dict[str, Any] = {"name": runtime.name, "gates": [gate.document() for gate in asked.gates], "steps": list(asked.steps)}
    closed = [gate for gate in asked.gates if not gate.ok]
    lines = [f"{'ok  ' if gate.ok else 'WAIT'}  {gate.id}: {gate.value} (limit: {gate.limit})  {gate.why}".rstrip() for gate in asked.gates]
    if dry_run or closed:
        if dry_run:
            lines.append("steps: " + " → ".join(asked.steps))
        output.show(document | {"crossed": False}, lambda: output.line("\n".join(lines)))
        raise typer.Exit(WAITING if closed else 0)
    done = crossover.wait(runtime, wanted, timeout, output.note)
    document |= {"crossed": done.crossed, "pause_ms": done.pause_ms, "step_ms": done.step_ms, "reason": done.reason}
    if done.crossed:
        text = f"{runtime.name} is {wanted}: writes waited {done.pause_ms:.0f} ms\n" + "\n".join(
            f"  {step}: {ms:.1f} ms" for step, ms in done.step_ms.items()
        )
    else:
        text = done.reason or "not crossed"
    output.show(document, lambda: output.line(text))
    if not done.crossed:
        raise typer.Exit(UNDONE)
