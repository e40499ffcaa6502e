"""`crossfade init SOURCE TARGET`: writes a commented migration.yaml to begin with."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli import output
from pipeline.errors import BadInput


def register(app: typer.Typer) -> None:
    """Mounts the command."""
    app.command("init")(init)


def init(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="URL of the database to leave: postgresql://, mysql:// or mariadb://", envvar="CROSSFADE_SOURCE"
        ),
    ],
    target: Annotated[str, typer.Argument(metavar="TARGET", help="URL of the database to go to.", envvar="CROSSFADE_TARGET")],
    file: Annotated[Path, typer.Option("--file", "-f", help="Where to write it; - for stdout.", envvar="CROSSFADE_FILE")] = Path(
        "migration.yaml"
    ),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a commented migration.yaml from a source and a target URL."""
    from pipeline.spec import parse, render_example

    text = render_example(source, target)
    name = parse(text, str(file)).name
    if str(file) == "-":
        output.show({"name": name, "text": text}, lambda: output.raw(text))
        return
    _write(file, text, force)
    output.show(
        {"file": str(file), "name": name}, lambda: output.line(f"{file} is written: look through it, then run crossfade plan {file}")
    )


def _write(file: Path, text: str, force: bool) -> None:
    """Whole or not at all; never over an existing file unless told so."""
    half = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        half.write_text(text, encoding="utf-8")
        if force:
            half.replace(file)
        else:
            os.link(half, file)
    except FileExistsError:
        raise BadInput(f"{file} exists already", hint="--force overwrites it") from None
    except OSError as error:
        raise BadInput(f"{file}: cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            half.unlink(missing_ok=True)
