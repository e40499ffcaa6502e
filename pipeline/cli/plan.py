"""`crossfade plan FILE`: findings, tables, estimates; with `--ddl` the statements that `start` would run. Changes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import output

if TYPE_CHECKING:
    from pipeline.control.plan import Plan
    from pipeline.model import Finding

FAILED = 1


def register(app: typer.Typer) -> None:
    """Mounts the command."""
    app.command("plan")(plan)


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The migration's file.", envvar="CROSSFADE_FILE")],
    ddl: Annotated[bool, typer.Option("--ddl", help="Only the statements that `start` runs on the target.")] = False,
) -> None:
    """Look at both sides and say what stands in the way. Changes nothing; exit code 1 when a finding is an error."""
    from pipeline.control.plan import make_plan
    from pipeline.spec import load

    made = make_plan(load(file))
    output.show(document_of(made), lambda: _ddl(made) if ddl else _print(made))
    if made.errors:
        if ddl and not output.wants_json():
            first = made.errors[0]
            output.note(f"{len(made.errors)} errors, the first: {first.id}: {first.object}: {first.message}")
        raise typer.Exit(FAILED)


def document_of(made: Plan) -> dict[str, object]:
    """The plan as JSON has it."""
    return {
        "name": made.name,
        "source": made.source,
        "target": made.target,
        "ok": not made.errors,
        "findings": [finding_of(finding) for finding in made.findings],
        "tables": [
            {
                "source": str(table.source),
                "target": str(table.target),
                "key": list(table.key),
                "rows": table.rows,
                "bytes": table.bytes,
                "seconds": table.seconds,
                "exists": table.exists,
            }
            for table in made.tables
        ],
        "streams": [{"name": name, "tables": [str(table) for table in tables]} for name, tables in made.streams],
        "ddl": {"before": list(made.ddl), "after": list(made.ddl_after)},
        "estimate": made.estimate,
    }


def finding_of(finding: Finding) -> dict[str, str]:
    """A finding as JSON has it."""
    return {
        "id": finding.id,
        "severity": finding.severity,
        "object": finding.object,
        "message": finding.message,
        "fix": finding.fix,
    }


def _ddl(made: Plan) -> None:
    for title, statements in (("before the copy", made.ddl), ("after the copy", made.ddl_after)):
        if statements:
            output.raw(f"-- {title}\n" + "\n".join(statement.rstrip(";") + ";" for statement in statements))


def _print(made: Plan) -> None:
    output.line(f"migration {made.name}", style="bold")
    output.line(f"  source  {made.source}")
    output.line(f"  target  {made.target}")
    output.line()
    if made.tables:
        rows = [[t.source, t.target, ", ".join(t.key), t.rows, size(t.bytes), f"{t.seconds:,.1f} s"] for t in made.tables]
        output.table(["source", "target", "key", "rows", "size", "copy"], rows)
        output.line()
    for finding in made.findings:
        style = {"error": "bold red", "warning": "yellow"}.get(finding.severity, "")
        output.line(f"{finding.severity:7} {finding.id}: {finding.object}: {finding.message}", style=style)
        if finding.fix:
            output.line(f"        {finding.fix}")
    if made.findings:
        output.line()
    warnings = sum(finding.severity == "warning" for finding in made.findings)
    if made.tables:
        told = made.estimate
        output.line(
            f"{len(made.tables)} tables, about {told.rows:,} rows and {size(told.bytes)}; copy about {told.copy_seconds:,.0f} s,"
            f" write pause about {told.pause_seconds:g} s"
        )
    output.line(f"{len(made.errors)} errors, {warnings} warnings: " + ("not ready to start" if made.errors else "ready to start"))


def size(number: int) -> str:
    """Bytes for people: `1.2 GB`."""
    amount = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:,.1f} TB"
