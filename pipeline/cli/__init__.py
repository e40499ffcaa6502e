"""`crossfade`: finds the command groups, adds the options that every command has, and turns every fault into one line and an exit code."""

from __future__ import annotations

import functools
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer

from pipeline.cli import logs, output
from pipeline.errors import CrossfadeError

GROUPS = (
    "deploy.local.demo_cli",
    "deploy.local.cli",
    "pipeline.cli.init",
    "pipeline.cli.plan",
    "pipeline.cli.start",
    "pipeline.cli.run",
    "pipeline.cli.services",
    "pipeline.cli.status",
    "pipeline.cli.verify",
    "pipeline.cli.reads",
    "pipeline.cli.cutover",
    "pipeline.cli.backfill",
    "pipeline.cli.replay",
    "pipeline.cli.quarantine",
    "pipeline.cli.connectors",
    "pipeline.cli.schema",
    "pipeline.cli.rollout",
    "pipeline.cli.checklist",
    "pipeline.cli.doctor",
)
"""In the order of the help. Each module has `register(app)`, or `app`: a Typer application that is mounted under its own name.
One that is not installed is left out.
"""
INTERRUPTED = 130
# Typer may bring Click along or use the installed one: its exceptions are found by way of those that it exports itself.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]


def build() -> Any:
    """The whole command tree."""
    app = typer.Typer(
        name="crossfade",
        help="Move a live application from one database to another without stopping it.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"auto_envvar_prefix": "CROSSFADE", "help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def root(version: Annotated[bool, typer.Option("--version", help="The version.", callback=_version, is_eager=True)] = False) -> None:
        pass

    for name in GROUPS:
        module = _module(name)
        if module is None:
            continue
        if hasattr(module, "register"):
            module.register(app)
        else:
            app.add_typer(module.app)
    command = typer.main.get_command(app)
    _dress(command)
    return command


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # the module itself, or one that only an extra installs; a module of ours that is broken is a fault to be seen
        ours = {"pipeline", "connectors", "transforms", "deploy"}
        if error.name == name or (error.name or "").partition(".")[0] not in ours:
            return None
        raise


def _dress(command: Any) -> None:
    """Gives every command `--json` and `--no-color`, unless it has its own."""
    for child in getattr(command, "commands", {}).values():
        _dress(child)
    if not getattr(command, "commands", None):
        taken = {flag for parameter in command.params for flag in getattr(parameter, "opts", ())}
        command.params.extend(option for option in _common() if not taken & set(option.opts))


@functools.cache
def _common() -> list[Any]:
    """The options as Typer itself makes them; their values go to `output`, not to the command."""
    app = typer.Typer(add_completion=False)

    @app.command()
    def template(
        as_json: Annotated[
            bool, typer.Option("--json", help="One JSON document on stdout.", envvar="CROSSFADE_JSON", callback=output.use_json)
        ] = False,
        no_color: Annotated[
            bool, typer.Option("--no-color", help="Plain text.", envvar="CROSSFADE_NO_COLOR", callback=output.use_no_color)
        ] = False,
    ) -> None:
        pass

    options: list[Any] = list(typer.main.get_command(app).params)
    for option in options:
        option.expose_value = False
    return options


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        output.line(version("crossfade"))
        raise typer.Exit()


def execute(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and answers its exit code; whatever goes wrong is one line on stderr."""
    logs.to_stderr(os.environ.get("CROSSFADE_LOG_LEVEL", "warning"))
    output.reset()
    debug = os.environ.get("CROSSFADE_DEBUG", "") not in {"", "0"}
    try:
        if sys.stdout is None:
            raise CrossfadeError("standard output is closed")
        answer = build().main(args=None if arguments is None else list(arguments), prog_name="crossfade", standalone_mode=False)
        sys.stdout.flush()
        if answer == INTERRUPTED:  # how newer Typers pass on Ctrl-C
            output.fault("interrupted")
        return answer if isinstance(answer, int) else 0
    except BrokenPipeError:
        # whoever read our output has gone: not our fault, and nothing left to say; the interpreter's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except typer.Exit as left:
        if left.exit_code == INTERRUPTED:
            output.fault("interrupted")
        return int(left.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        output.fault("interrupted")
        return INTERRUPTED
    except _ClickError as error:
        output.fault(_usage(error))
        return int(getattr(error, "exit_code", 2))
    except CrossfadeError as error:
        if debug:
            traceback.print_exc()
        output.fault(str(error))
        return error.exit_code
    except Exception as error:  # the last net: a traceback may hold what is not to be shown
        if debug:
            traceback.print_exc()
        output.fault(f"internal error: {type(error).__name__}: {error} (CROSSFADE_DEBUG=1 shows where)")
        return 1


def _usage(error: Any) -> str:
    message = error.format_message() if hasattr(error, "format_message") else str(error)
    context = getattr(error, "ctx", None)
    return (
        f"{message.rstrip('.')} (see `{context.command_path} --help`)" if context is not None and message else message or "no command given"
    )


def main() -> NoReturn:
    """The console script."""
    sys.exit(execute())
