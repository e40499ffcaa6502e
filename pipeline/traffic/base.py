"""What every traffic driver keeps. All of it may be done twice; a controller that died is followed by one that does it again."""

from __future__ import annotations

from typing import Literal, Protocol, TypeAlias

Side: TypeAlias = Literal["source", "target"]


class Traffic(Protocol):
    """One driver with its settings."""

    name: str

    def problems(self) -> list[str]:
        """Why a crossing could not rely on it now, one line each; empty: ready."""

    def pause(self, deadline: float) -> None:
        """When it returns no query runs through it and new ones wait. Raises `TimedOut` when that is not so by `deadline` (monotonic
        seconds), CrossfadeError when it cannot be told; it is then not paused."""

    def repoint(self, side: Side) -> None:
        """Where queries go from now on; returns when that is so."""

    def resume(self) -> None:
        """Queries run again. One that is not paused is fine."""
