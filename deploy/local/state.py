"""What a stack remembers in `state.json`: which servers it has, their ports and processes, and who owns them."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any, Literal

from deploy.local import place, process
from deploy.local.component import Kept
from deploy.local.process import Ident
from pipeline.errors import StackError

_VERSION = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Layout:
    """Which servers a stack consists of."""

    postgres: tuple[str, ...] = ("source", "target")
    mariadb: tuple[str, ...] = ("source",)
    kafka: bool = True
    connect: bool = True
    jdbc_sink: bool = False
    durable: bool = True
    roomy: bool = False


@dataclasses.dataclass(slots=True)
class State:
    """The file's content. `owner` is the process whose end ends the servers, None when they were left running on purpose."""

    layout: Layout
    data: Path
    owner: Ident | None = None
    wanted: Literal["up", "down"] = "down"
    components: dict[str, Kept] = dataclasses.field(default_factory=dict)


def read(path: Path) -> State | None:
    """None when there is no such file. Processes of an earlier boot are forgotten. Raises StackError when it cannot be understood."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StackError(f"{path} is damaged: {error}", hint="remove it; servers that still run are found by their folders") from error
    if table.get("version") != _VERSION:
        raise StackError(f"{path} was written by another version of crossfade", hint="use that version's `stack down --wipe`")
    now = table["boot"] == boot()
    layout: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in table["layout"].items()}
    return State(
        layout=Layout(**layout),
        data=Path(table["data"]),
        owner=_ident(table["owner"]) if now else None,
        wanted=table["wanted"],
        components={name: Kept(kept["ports"], _ident(kept["process"]) if now else None) for name, kept in table["components"].items()},
    )


def write(path: Path, state: State) -> None:
    """Replaces the file in one step."""
    table = {"version": _VERSION, "boot": boot(), **dataclasses.asdict(state), "data": str(state.data)}
    place.write_private(path, json.dumps(table, indent=2) + "\n")


def boot() -> str:
    """This boot of the machine: process start times count from it."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def myself() -> Ident:
    who = process.ident(os.getpid())
    assert who is not None
    return who


def _ident(table: dict[str, int] | None) -> Ident | None:
    return None if table is None else Ident(table["pid"], table["started"])
