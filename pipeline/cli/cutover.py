"""`crossfade cutover`, `rollback`, `promote`, `abort`, `complete`: the application's writes to the other side and back."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from pipeline.cli import output

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the controller to get there.")]
Budget = Annotated[float | None, typer.Option("--pause-budget", min=0.1, help="Seconds that writes may wait; else what the file says.")]
WAITING, UNDONE = 4, 5


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("cutover")(cutover)
    app.command("rollback")(rollback)
    app.command("promote")(promote)
    app.command("abort")(abort)
    app.command("complete")(complete)


def cutover(
    name: Name,
    pause_budget: Budget = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the gates and the steps; change nothing.")] = False,
    timeout: Timeout = 300.0,
) -> None:
    """The application's writes go to the target, inside the pause budget, or nothing happens. Exit code 4: a gate is shut, 5: undone."""
    _cross(name, "switched", pause_budget, dry_run, timeout)


def rollback(
    name: Name,
    pause_budget: Budget = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the gates and the steps; change nothing.")] = False,
    timeout: Timeout = 300.0,
) -> None:
    """The same the other way: the application is on the source again, with everything that was written on the target."""
    _cross(name, "rolled-back", pause_budget, dry_run, timeout)


def promote(name: Name, timeout: Timeout = 300.0) -> None:
    """Past the gate that waits for a person: a migration that follows is cut over, when every other gate is open."""
    _cross(name, "switched", None, False, timeout)


def abort(name: Name) -> None:
    """Calls a cutover or rollback off that is asked for or under way: what it did is undone. Exit code 1: it is decided already."""
    from pipeline.control import crossover
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    done = crossover.abort(runtime)
    output.show({"name": runtime.name, "aborted": done}, lambda: output.line(f"{runtime.name}: {done}"))


def complete(name: Name) -> None:
    """Ends a migration that has switched: streams, slots, publications, connectors, topics and the fence go. The old tables stay, are
    renamed or go, as the file says."""
    from pipeline.control import commands
    from pipeline.control.registry import find

    migration = find(name)
    commands.complete(migration, output.note)
    output.show({"name": migration.name, "phase": "completed"}, lambda: output.line(f"{migration.name} is completed"))


def _cross(name: str, wanted: str, budget: float | None, dry_run: bool, timeout: float) -> None:
    from pipeline.control import crossover
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    asked = crossover.ask(runtime, wanted, budget=budget, dry_run=dry_run)
    document: dict[str, Any] = {"name": runtime.name, "gates": [gate.document() for gate in asked.gates], "steps": list(asked.steps)}
    closed = [gate for gate in asked.gates if not gate.ok]
    lines = [f"{'ok  ' if gate.ok else 'WAIT'}  {gate.id}: {gate.value} (limit: {gate.limit})  {gate.why}".rstrip() for gate in asked.gates]
    if dry_run or closed:
        if dry_run:
            lines.append("steps: " + " → ".join(asked.steps))
            lines.append("writes would wait: " + (f"some {asked.pause_ms:.0f} ms" if asked.pause_ms is not None else "nobody knows yet"))
            document["pause_estimate_ms"] = asked.pause_ms
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
