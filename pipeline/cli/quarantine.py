"""`crossfade quarantine list|show|retry|drop`: events that the target refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import output

if TYPE_CHECKING:
    from pipeline.control.runtime import Runtime

app = typer.Typer(name="quarantine", help="Events that the target refused, and what waits behind them.", no_args_is_help=True)
Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]
Ids = Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="Ids as `list` shows them.")]
All = Annotated[bool, typer.Option("--all", help="Everything in quarantine.")]


def _applying(name: str) -> Runtime:
    """The direction that applies: what is held on the way back is in that one's control store."""
    from pipeline.control.cutover import leading
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    return leading(Runtime(find(name)))


@app.command("list")
def list_(name: Name) -> None:
    """What is in quarantine."""
    from pipeline.control import held

    found = [held.show(row) for row in _applying(name).store.quarantined()]
    output.document(found)
    output.table(
        ("id", "table", "key", "state", "error"), [(f["id"], f["table"], ", ".join(f["key"]), f["state"], f["error"]) for f in found]
    )


@app.command("show")
def show(name: Name, number: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """One event, whole."""
    from pipeline.control import held

    found = next(held.show(row) for row in held.chosen(_applying(name), [number], False) if int(row.id) == number)
    output.document(found)
    for key, value in found.items():
        output.line(f"{key}: {value}")


@app.command("retry")
def retry(name: Name, ids: Ids = None, everything: All = False) -> None:
    """Applies held events again, in order. Exit code 1 when the target still refuses one."""
    from pipeline.control import held

    runtime = _applying(name)
    done, refused = held.retry(runtime, held.chosen(runtime, ids or [], everything))
    output.document({"applied": done, "refused": refused})
    output.line(f"{done} applied, {len(refused)} still refused")
    for why in refused:
        output.line(why)
    if refused:
        raise typer.Exit(1)


@app.command("drop")
def drop(name: Name, ids: Ids = None, everything: All = False) -> None:
    """Forgets held events: the target keeps what it has of those keys."""
    from pipeline.control import held

    runtime = _applying(name)
    dropped = held.drop(runtime, held.chosen(runtime, ids or [], everything))
    output.document({"dropped": dropped})
    output.line(f"{dropped} dropped")
