"""`crossfade stack up|down|status|env`: the embedded stack from the command line."""

from __future__ import annotations

import contextlib
import functools
import json
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer

from deploy.local.deaf import deaf
from pipeline.errors import CrossfadeError

if TYPE_CHECKING:  # what serves servers takes a while to import, and every other command would wait for it
    from deploy.local.stack import Stack

P = ParamSpec("P")

app = typer.Typer(
    name="stack", help="The embedded stack: PostgreSQL, MariaDB, Kafka and Kafka Connect on this machine.", no_args_is_help=True
)

Root = Annotated[Path | None, typer.Option("--root", envvar="CROSSFADE_STACK_DIR", help="The stack's folder.", show_default=False)]
Json = Annotated[bool, typer.Option("--json", envvar="CROSSFADE_JSON", help="One JSON document on stdout.")]
NoColor = Annotated[bool, typer.Option("--no-color", envvar="CROSSFADE_NO_COLOR", help="Plain text.")]


def told_in_one_line(command: Callable[P, None]) -> Callable[P, None]:
    """Ends with the error's message and its exit code, without a traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except CrossfadeError as error:
            typer.echo(f"error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None

    return wrapped


@app.command()
@told_in_one_line
def up(
    *,
    root: Root = None,
    foreground: Annotated[
        bool, typer.Option("--foreground", envvar="CROSSFADE_FOREGROUND", help="Stay until Ctrl-C; the servers end with this process.")
    ] = False,
    mariadb: Annotated[
        str | None, typer.Option(envvar="CROSSFADE_STACK_MARIADB", help="Names of MariaDB servers, by comma.", show_default="source")
    ] = None,
    postgres: Annotated[
        str | None,
        typer.Option(envvar="CROSSFADE_STACK_POSTGRES", help="Names of PostgreSQL servers, by comma.", show_default="source,target"),
    ] = None,
    kafka: Annotated[bool | None, typer.Option(envvar="CROSSFADE_STACK_KAFKA", help="With Kafka.", show_default="with")] = None,
    connect: Annotated[bool | None, typer.Option(envvar="CROSSFADE_STACK_CONNECT", help="With Kafka Connect.", show_default="with")] = None,
    durable: Annotated[
        bool | None,
        typer.Option(envvar="CROSSFADE_STACK_DURABLE", help="Wait for the disk; off is only for tests.", show_default="durable"),
    ] = None,
    jdbc_sink: Annotated[
        bool | None, typer.Option("--jdbc-sink/--no-jdbc-sink", envvar="CROSSFADE_STACK_JDBC_SINK", help="With Debezium's JDBC sink.")
    ] = None,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Start the servers that do not run and leave them running. What is not said stays as it was the last time."""
    said: dict[str, object] = {"postgres": _names(postgres), "mariadb": _names(mariadb), "kafka": kafka, "connect": connect}
    said |= {"durable": durable, "jdbc_sink": jdbc_sink}
    stack = _stack().at(root, new=True, **{name: value for name, value in said.items() if value is not None})
    began = time.monotonic()
    if not foreground:
        stack.up(detached=True)
        _log(f"up in {time.monotonic() - began:.1f} s in {stack.root}")
        _show(stack, as_json, no_color)
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        stack.up()
        _log(f"up in {time.monotonic() - began:.1f} s in {stack.root}; Ctrl-C stops it")
        _show(stack, as_json, no_color)
        stack.watch()
    except KeyboardInterrupt:
        _log("stopping")
    finally:
        deaf()
        stack.down()


@app.command()
@told_in_one_line
def down(
    root: Root = None,
    wipe: Annotated[bool, typer.Option("--wipe", envvar="CROSSFADE_WIPE", help="Remove data, logs and passwords too.")] = False,
    as_json: Json = False,
    no_color: NoColor = False,
) -> None:
    """Stop the servers, whoever started them."""
    stack = _stack().at(root, new=True)
    stack.down(wipe=wipe)
    if as_json:
        typer.echo(json.dumps({"root": str(stack.root), "wiped": wipe}))
    else:
        _log(f"down{', data removed' if wipe else ''}: {stack.root}")


@app.command()
@told_in_one_line
def status(root: Root = None, as_json: Json = False, no_color: NoColor = False) -> None:
    """Each server's state. Exit code 1 unless all are up."""
    stack = _stack().at(root)
    _show(stack, as_json, no_color)
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    if not all(component.is_alive() for component in stack.components):
        raise typer.Exit(1)


@app.command()
@told_in_one_line
def env(root: Root = None, as_json: Json = False, no_color: NoColor = False) -> None:
    """Print shell exports. They contain passwords."""
    found = _stack().at(root).env()
    typer.echo(json.dumps(found) if as_json else "\n".join(f"export {name}={shlex.quote(value)}" for name, value in found.items()))


@app.command()
@told_in_one_line
def warm(as_json: Json = False) -> None:
    """Once: let Kafka and Connect start with a third of the work from now on."""
    from deploy.local import warm as warm_up

    began = time.monotonic()
    made = warm_up.warm()
    if as_json:
        typer.echo(json.dumps({"made": made}))
    else:
        _log(f"made in {time.monotonic() - began:.0f} s" if made else "was made before")


def _stack() -> type[Stack]:
    from deploy.local.stack import Stack

    return Stack


def _names(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def _log(text: str) -> None:
    typer.echo(text, err=True)


def _show(stack: Stack, as_json: bool, no_color: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    found: dict[str, dict[str, Any]] = stack.status()
    if as_json:
        typer.echo(json.dumps({"root": str(stack.root), "secrets_dir": str(stack.secrets_dir), "components": found}))
        return
    table = Table("server", "state", "pid", "where", box=None)
    for name, facts in found.items():
        color = {"up": "green", "dead": "red"}.get(facts["state"], "yellow")
        table.add_row(
            name, f"[{color}]{facts['state']}[/]", str(facts["pid"] or "-"), str(facts.get("url") or facts.get("bootstrap") or "-")
        )
    Console(no_color=no_color, soft_wrap=True).print(table)


if __name__ == "__main__":
    app()
