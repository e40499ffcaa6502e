"""`crossfade controller` and `crossfade worker`: the services. Ctrl-C stops them cleanly; started again they go on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.cli import logs
from pipeline.errors import BadInput

if TYPE_CHECKING:
    from pipeline.control.runtime import Runtime

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's file, or its name on this machine.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("controller")(controller)
    app.command("worker")(worker)
    app.command("watchdog", hidden=True)(watchdog)


def controller(name: Name) -> None:
    """Takes the migration from phase to phase. Any number may run: one leads, by a lease."""
    from pipeline.control.controller import Controller
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    logs.to_stderr(level())
    stop = threading.Event()
    on_signal(stop.set)
    runtime = Runtime(find(name))
    wait_for_start(runtime, stop)
    if not stop.is_set():
        Controller(runtime).run(stop)


def worker(
    name: Name,
    roles: Annotated[str, typer.Option(help="apply, backfill, or both with a comma.")] = "apply,backfill",
) -> None:
    """Applies streams and copies chunks. Any number may run: Kafka's group and the chunk queue share out the work."""
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    wanted = [role.strip() for role in roles.split(",") if role.strip()]
    for role in wanted:
        if role not in ("apply", "backfill"):
            raise BadInput(f"--roles: unknown role {role!r}", hint="apply, backfill")
    logs.to_stderr(level())
    stop = threading.Event()
    on_signal(stop.set)
    runtime = Runtime(find(name))
    wait_for_start(runtime, stop, prepared=True)
    if not stop.is_set():
        asyncio.run(run_worker(runtime, wanted, stop))


def watchdog() -> None:
    """Started by a controller for the time of a crossing."""
    from pipeline.control.watchdog import serve

    logs.to_stderr(level())
    raise typer.Exit(serve())


async def run_worker(runtime: object, roles: list[str], stop: threading.Event) -> None:
    """A worker until `stop` is set, in this event loop."""
    from pipeline.control.runtime import Runtime
    from pipeline.control.worker import run_both

    assert isinstance(runtime, Runtime)
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    watcher = threading.Thread(target=lambda: (stop.wait(), loop.call_soon_threadsafe(stopped.set)), daemon=True)
    watcher.start()
    await run_both(runtime, roles, stopped)


def level() -> str:
    """Services say more than commands: `info`, unless told otherwise."""
    return os.environ.get("CROSSFADE_LOG_LEVEL", "info")


def on_signal(act: object) -> None:
    """Ctrl-C and TERM stop cleanly; the second one does not wait."""

    def handle(_number: int, _frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        act()  # type: ignore[operator]

    signal.signal(signal.SIGINT, handle)
    signal.signal(signal.SIGTERM, handle)


def wait_for_start(runtime: Runtime, stop: threading.Event, *, prepared: bool = False) -> None:
    """A service may be up before `crossfade start`, or the target before its time: it waits. With `prepared`, for the streams too."""
    import structlog

    from pipeline.errors import Transient

    log = structlog.get_logger("service")
    said = False
    while not stop.is_set():
        try:
            store = runtime.store
            row = store.migration_row() if store.exists() else None
            if row is not None and row.phase not in ("cancelled", "completed") and (not prepared or _prepared(runtime, row.phase)):
                return
        except Transient as error:
            log.warning("the control store does not answer", error=str(error))
        if not said:
            log.info("waiting for the migration to be started", migration=runtime.name)
            said = True
        stop.wait(0.3)


def _prepared(runtime: Runtime, phase: str) -> bool:
    """Whether there is everything that a worker opens. While it is being prepared, one stream comes after the other."""
    from pipeline.control.streamplans import stream_plans

    there = {str(row.name) for row in runtime.store.streams()}
    if not there or not runtime.store.tables():
        return False
    return phase not in ("planned", "preparing") or {plan.name for plan in stream_plans(runtime)} <= there
