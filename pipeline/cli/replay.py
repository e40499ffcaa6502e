"""`crossfade replay`: apply the stream again from a position or a time on."""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli import output


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("replay")(replay)


def replay(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")],
    since: Annotated[str, typer.Option("--from", help="offset:NUMBER of the stream's topic, or a time (ISO 8601).")],
) -> None:
    """Applies the stream again from there on. Rows go back to what they were then, and forward again."""
    from pipeline.control import commands
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    offsets = commands.replay(runtime, since)
    output.document({"migration": runtime.name, "offsets": offsets})
    output.line(f"{runtime.name}: " + ", ".join(f"stream {s} from offset {o:,}" for s, o in offsets.items()))
