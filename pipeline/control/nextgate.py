"""The status of a migration with the gate that it waits at."""

from __future__ import annotations

from typing import Any

from pipeline.control import crossover, status
from pipeline.control.crossing import Direction
from pipeline.control.cutover import leading
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError

_NEXT: dict[str, tuple[Direction, str]] = {
    "following": ("cutover", "crossfade cutover"),
    "rolled-back": ("cutover", "crossfade cutover"),
    "switched": ("rollback", "crossfade rollback, or complete"),
}


def gated(runtime: Runtime) -> dict[str, Any]:
    """`pipeline.control.status.status`, `gate` filled in where a crossing is next; while the application is on the target the streams are
    those of the way back."""
    found = status.status(runtime.store)
    if found["phase"] not in _NEXT:
        return found
    direction, command = _NEXT[found["phase"]]
    if direction == "rollback" and runtime.migration.reverse == "none":
        return found | {"gate": found["gate"] or "ready: crossfade complete (reverse: none)"}
    try:
        if direction == "rollback":
            found = status.turned(found, leading(runtime).store)
        if found["gate"] is None:
            closed = next((gate for gate in crossover.look(runtime, direction) if not gate.ok), None)
            found["gate"] = f"ready: {command}" if closed is None else f"{closed.id}: {closed.why}"
    except CrossfadeError as error:
        found["gate"] = found["gate"] or str(error)
    return found
