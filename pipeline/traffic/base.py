"""What every traffic driver keeps. Each act may be done twice, after a crash too, and has an act that takes it back.

Deadlines are `time.monotonic()` seconds, as in the fences. Safety never rests on a driver: which side can be written is the fences' matter.
A driver that resumes too early costs refused queries, never a row.
"""

from __future__ import annotations

import dataclasses
from typing import Literal, Protocol, TypeAlias

Side: TypeAlias = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")
SECONDS = 10.0
"""What an act without a deadline may take."""


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One process of a driver, as it is now."""

    name: str
    side: Side | None  # None: it points to neither, or cannot tell
    paused: bool
    waiting: int = 0  # clients that wait


class Traffic(Protocol):
    """One driver with its settings."""

    name: str

    def check(self) -> list[str]:
        """Why a crossing could not rely on it now, one line each; empty: ready. Changes nothing."""

    def open(self) -> None:
        """Opens what the acts need, since that takes time and nobody waits yet. Raises CrossfadeError."""

    def pause(self, deadline: float) -> None:
        """When it returns no query runs through the driver on any server, and new ones wait; none fails. Raises `TimedOut` when that is
        not so at the deadline, CrossfadeError when it cannot be told; then everything is resumed."""

    def repoint(self, side: Side, deadline: float | None = None) -> None:
        """When it returns new queries go to this side, and no connection to the other one is left."""

    def verify(self, side: Side, deadline: float | None = None) -> None:
        """Raises CrossfadeError unless a fresh connection through it lands on that side's server. Works while it is paused."""

    def resume(self, deadline: float | None = None) -> None:
        """Queries run again. One that is not paused is fine."""

    def release(self, side: Side) -> None:
        """Each of its processes by itself is repointed to this side and resumed, so that one that is away does not hold up the clients of
        the others. Raises CrossfadeError with what went wrong first, once all have been tried."""

    def state(self) -> list[Place]:
        """How each of its processes stands."""

    def close(self) -> None:
        """Lets go of what is held open; the next act opens it again."""
