"""The phase machine of a migration: every phase, every way from one to another, who takes it and when. Data, not code: `crossfade phases`
prints it, and the control store refuses what does not stand here."""

from __future__ import annotations

import dataclasses

from pipeline.errors import CrossfadeError

ENDED = frozenset({"completed", "cancelled"})
CROSSED = frozenset({"cutting-over", "switched", "rolled-back"})
"""There may be a way back, and something in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """One way. `by` is the command that asks for it, or the controller by itself."""

    before: str
    after: str
    by: str
    when: str


def _all() -> tuple[Transition, ...]:
    ways = [
        ("planned", "preparing", "controller", "it has taken the migration"),
        ("preparing", "copying", "controller", "both sides are prepared, a marker came through the stream"),
        ("preparing", "following", "controller", "the way back: there is nothing to copy"),
        ("copying", "following", "controller", "every table is copied and indexed, no row is left to be read again"),
        ("following", "copying", "backfill", "tables are to be copied again"),
        ("following", "cutting-over", "cutover", "every gate is open"),
        ("rolled-back", "cutting-over", "cutover", "every gate is open"),
        ("switched", "cutting-over", "rollback", "every gate is open"),
        ("cutting-over", "switched", "controller", "the application is on the target"),
        ("cutting-over", "rolled-back", "controller", "the application is on the source again"),
        ("cutting-over", "following", "controller", "the cutover was undone: all is as before"),
        ("switched", "completed", "complete", "everything crossfade set up is gone"),
    ]
    ways += [(before, "failed", "controller", "a fault that does not pass; its reason is kept") for before in ("planned", *_COPIES)]
    ways += [("failed", phase, "resume", "the fault is mended") for phase in ("preparing", "copying", "following")]
    ways += [(before, "cancelled", "cancel", "the source is as it was") for before in ("planned", *_COPIES, "failed")]
    return tuple(Transition(*way) for way in ways)


_COPIES = ("preparing", "copying", "following", "rolled-back")
TRANSITIONS = _all()
PHASES = tuple(dict.fromkeys(phase for way in TRANSITIONS for phase in (way.before, way.after)))


def check(migration: str, before: str | None, after: str) -> None:
    """Raises CrossfadeError for a way that is not in the table. To stay is always allowed."""
    if before != after and not any((way.before, way.after) == (before, after) for way in TRANSITIONS):
        raise CrossfadeError(f"migration {migration} is {before}: from there it cannot become {after}")
