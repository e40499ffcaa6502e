"""`crossfade backfill` and `throttle`: copy again beside the stream, and how fast."""

from __future__ import annotations

import math
from typing import Annotated

import typer

from pipeline.cli import output
from pipeline.errors import BadInput

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("backfill")(backfill)
    app.command("throttle")(throttle)


def backfill(
    name: Name,
    table: Annotated[str | None, typer.Option(help="Only this table, by its source or target name.")] = None,
    where: Annotated[str | None, typer.Option(help="Only rows of the source that this SQL condition holds for.")] = None,
) -> None:
    """Copies tables again while the stream goes on: rows that are absent are inserted, none is overwritten."""
    from pipeline.control import commands
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    numbers = commands.backfill(runtime, table, where)
    tables = [r.source for r in runtime.store.tables() if r.number in numbers]
    output.document({"migration": runtime.name, "tables": tables})
    output.line(f"{runtime.name}: copying {', '.join(tables)}")


def throttle(
    name: Name, rate: Annotated[str, typer.Argument(metavar="RATE", help="Rows a second over all workers, 0 to stop, or `off`.")]
) -> None:
    """How fast the copy may go, from now on."""
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    if rate == "off":
        value = -1.0
    else:
        try:
            value = float(rate)
        except ValueError:
            value = -1.0
        if value < 0 or math.isnan(value):
            raise BadInput(f"RATE: {rate!r} is not a number of rows a second", hint="such as 50000, 0 or off")
    runtime = Runtime(find(name))
    runtime.store.phase()
    runtime.store.set_rate(value)
    output.document({"migration": runtime.name, "rate": None if value < 0 else value})
    output.line(f"{runtime.name}: " + ("no limit" if value < 0 else f"{value:,.0f} rows/s"))
