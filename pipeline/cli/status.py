"""`crossfade status`, `wait` and `events`: how a migration stands."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pipeline.cli import output
from pipeline.errors import BadInput

Name = Annotated[str, typer.Argument(metavar="NAME", help="The migration's name, or its file.")]
PHASES = tuple("planned preparing copying following reading cutting-over switched completed failed cancelled rolled-back".split())  # noqa: SIM905


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("status")(status)
    app.command("wait")(wait)
    app.command("events")(events)
    app.command("phases")(phases)


def phases() -> None:
    """The phases of a migration: every way from one to another, and what takes it."""
    import dataclasses

    from pipeline.store.phases import TRANSITIONS

    ways = [dataclasses.asdict(way) for way in TRANSITIONS]
    output.show(ways, lambda: output.table(("from", "to", "by", "when"), [tuple(way.values()) for way in ways]))


def status(
    name: Name,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep showing it until Ctrl-C.")] = False,
    interval: Annotated[float, typer.Option(help="Seconds between two looks.", min=0.1)] = 1.0,
) -> None:
    """Phase, each table's copy, lag, verify, reads set and actual, next gate."""
    from pipeline.control.nextgate import gated as look
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    runtime = Runtime(find(name))
    if watch and not output.wants_json():
        while True:
            sections = show(look(runtime))
            if output.console().is_terminal:
                output.console().clear()
            for section in sections:
                section()
            time.sleep(interval)
    found = look(runtime)
    output.document(found)
    for section in show(found):
        section()


def show(found: dict[str, Any]) -> list[Callable[[], None]]:
    """What is drawn for people, section by section."""
    head = f"{found['migration']}: {found['phase']}" + (f" ({found['gate']})" if found["gate"] else "")
    tables = [
        (
            t["source"],
            t["target"],
            t["phase"],
            t["rows_copied"],
            t["rows_estimated"],
            t["rows_per_second"],
            "" if t["seconds_left"] is None else f"{t['seconds_left']:.0f} s",
        )
        for t in found["tables"]
    ]
    streams = [
        (s["name"], s["state"], s["lag_ms"], s["applied"], s["transactions"], s["events_per_second"], s["position"], s["error"] or "")
        for s in found["streams"]
    ]
    return [
        lambda: output.line(head, style="bold"),
        lambda: output.table(("source", "target", "phase", "rows", "about", "rows/s", "left"), tables),
        lambda: output.table(("stream", "state", "lag ms", "events", "transactions", "events/s", "position", "error"), streams),
        *(functools.partial(output.line, text) for s in found["streams"] if (text := _time(s["name"], s["stages"]))),
        lambda: output.line(_verified(found["verify"])),
        lambda: output.line(
            f"workers {len(found['workers'])}, in quarantine {found['quarantined']}"
            + (f", throttled to {found['throttle']:.0f} rows/s" if found["throttle"] is not None else "")
        ),
    ]


def _time(stream: str, stages: dict[str, Any] | None) -> str | None:
    """Where a stream's time went; stages go on at once, so they come to more than 100 % when it is busy."""
    if stages is None or not stages["of"] or not stages["events"]:
        return None
    shares = ", ".join(f"{name} {seconds / stages['of']:.0%}" for name, seconds in stages["seconds"].items())
    return f"stream {stream}, time since it was opened: {shares}; {stages['events'] / max(1, stages['batches']):,.0f} events a batch"


def _verified(last: dict[str, Any] | None) -> str:
    if last is None:
        return "not verified yet"
    when = datetime.datetime.fromtimestamp(last["finished_at"] or last["started_at"], datetime.UTC).isoformat(timespec="seconds")
    how = f"verified ({last['mode']}) at {when}" if last["finished_at"] else f"verifying ({last['mode']}) since {when}"
    return f"{how}: {last['rows_compared']:,} rows, {last['differences']:,} differences"


def wait(
    name: Name,
    for_: Annotated[str, typer.Option("--for", help="The phase to wait for.")],
    timeout: Annotated[float, typer.Option(help="Seconds.", min=0)] = 3600.0,
) -> None:
    """Waits until the migration is in a phase; exit code 3 when that takes longer than --timeout."""
    from pipeline.control import commands
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    if for_ not in PHASES:
        raise BadInput(f"--for: unknown phase {for_!r}", hint=", ".join(PHASES))
    runtime = Runtime(find(name))
    # A phase that has passed counts as reached: whoever waits for copying must not hang when the copy was quick.
    after = {"planned": 0, "preparing": 1, "copying": 2, "following": 3}
    reached = [p for p in after if for_ in after and after[p] >= after[for_]] or [for_]
    phase = commands.wait_phase(runtime, reached, timeout=timeout, say=lambda text: output.note(f"{runtime.name}: {text}"))
    output.show({"migration": runtime.name, "phase": phase}, lambda: output.line(f"{runtime.name}: {phase}"))


def events(name: Name, limit: Annotated[int, typer.Option(help="How many.", min=1)] = 100) -> None:
    """The audit trail: every command and every change of phase."""
    from pipeline.control.registry import find
    from pipeline.control.runtime import Runtime

    rows = Runtime(find(name)).store.audit_trail(limit)
    found = [{"at": r.at, "who": r.who, "action": r.action, "from": r.from_phase, "to": r.to_phase, "detail": r.detail} for r in rows]
    output.document(found)
    when = [datetime.datetime.fromtimestamp(r.at, datetime.UTC).isoformat(timespec="milliseconds") for r in rows]
    output.table(
        ("at", "who", "action", "from", "to", "detail"),
        [(w, r.who, r.action, r.from_phase, r.to_phase, r.detail) for w, r in zip(when, rows, strict=True)],
    )
