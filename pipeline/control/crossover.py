"""The controller's part in crossings: looks whether one is wanted, opens the gates, crosses, and finishes or undoes what was begun."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import threading
import time
from collections.abc import Callable

import structlog

from pipeline.control.crossing import STEPS, Crosser, Direction, Sides, Undone
from pipeline.control.cutover import driver, sides
from pipeline.control.gates import Gate, gates, way_back
from pipeline.control.markers import Heartbeat
from pipeline.control.reverse import bare_way_back, prepare_reverse, prepared, reverse_runtime
from pipeline.control.runtime import Runtime
from pipeline.control.watchdog import Watchdog
from pipeline.errors import BadInput, CrossfadeError, TimedOut, Transient
from pipeline.store.crossings import Crossing, Crossings

log = structlog.get_logger("crossover")

LOOK_SECONDS = 5.0
"""Between two looks at the gates, where nobody has to ask for the cutover."""

SOURCE_LEADS = ("following", "rolled-back")
"""Phases in which the application is on the source and everything is copied."""
_PAUSED = tuple(step for step in STEPS if step not in ("close", "drain"))
_OTHER_STEPS_MS = 80.0  # as measured with two PgBouncers on one machine: docs/decisions/crossing.md
_LAG_SECONDS = 10.0
CROSSES: dict[str, tuple[Direction, tuple[str, ...], str]] = {
    "switched": ("cutover", SOURCE_LEADS, "switched"),
    "rolled-back": ("rollback", ("switched",), "rolled-back"),
}
"""What may be wanted: which direction, from which phases, and the phase after it."""


class Crossover:
    """Crossings of one migration, as its controller leads them."""

    def __init__(self, runtime: Runtime, keep_lease: Callable[[], contextlib.AbstractContextManager[None]]) -> None:
        self._runtime, self._store, self._keep = runtime, runtime.store, keep_lease
        self._heartbeat: Heartbeat | None = None
        self._heartbeat_stop = threading.Event()
        self._watchdog: Watchdog | None = None
        self._looked_at = 0.0

    def turn(self, phase: str) -> None:
        """One look. Raises `Transient` for another one."""
        if phase == "cutting-over":
            self._recover()
            return
        row = self._store.migration_row()
        wanted = row.wanted if row is not None else "following"
        if phase != "following" or wanted != "following":
            self._beat()
        elif not self._runtime.migration.cutover.manual:
            self._by_itself()
        if wanted in CROSSES and phase in CROSSES[wanted][1]:
            self._cross(wanted, phase, None if row is None else row.budget)

    def close(self) -> None:
        """Ends what runs beside."""
        self._heartbeat_stop.set()
        if self._heartbeat is not None:
            self._heartbeat.join(5)
            self._heartbeat = None

    def _beat(self) -> None:
        """Keeps the way back moving and its lag known."""
        if self._heartbeat is not None and self._heartbeat.is_alive():
            return
        back = reverse_runtime(self._runtime)
        if back is not None and prepared(back):
            self._heartbeat_stop = threading.Event()
            self._heartbeat = Heartbeat(back.reader("crossfade heartbeat"), self._heartbeat_stop)
            self._heartbeat.start()

    def _cross(self, wanted: str, phase: str, budget: float | None) -> None:
        direction, _, after = CROSSES[wanted]
        if budget is None:
            budget = self._runtime.migration.cutover.pause_budget
        with self._keep():
            _say("before: gates")
            try:
                both = self._opened(direction)
            except Transient:
                raise
            except CrossfadeError as error:
                self._not_crossed(phase, direction, error)
                return
            self._beat()
            try:
                with Watchdog(self._runtime.migration, direction) as self._watchdog:
                    crosser = Crosser(both, watch=self._watchdog, wanted=lambda: self._wants(wanted), say=_say)
                    crosser.look()
                    self._store.set_phase("cutting-over", reason=f"from {phase}", action=direction)
                    with contextlib.closing(crosser):
                        crosser.cross(budget)
            except Undone as error:
                self._not_crossed(phase, direction, error)
                return
        self._settled(after, None, direction)

    def _not_crossed(self, phase: str, direction: str, error: CrossfadeError) -> None:
        log.warning("not crossed", direction=direction, error=str(error))
        self._settled(phase, f"not crossed: {error}", direction)

    def _by_itself(self) -> None:
        """`cutover.manual: false`: asks for the cutover, once. One that was called off or undone waits for a person."""
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return
        self._looked_at = time.monotonic()
        if not {"cutover", "abort", "rollback"} & {str(row.action) for row in self._store.audit_trail(100_000)} and all(
            gate.ok for gate in look(self._runtime, "cutover")
        ):
            self._store.want("switched", detail="every gate is open")

    def _wants(self, phase: str) -> bool:
        row = self._store.migration_row()
        return row is not None and row.wanted == phase

    def _opened(self, direction: Direction) -> Sides:
        """The two sides, once every gate is open. Raises `Undone` naming the first that is not."""
        ready = self._ready()
        both = sides(self._runtime, direction)
        closed = [gate for gate in gates(both.there, both.traffic, way_back(self._runtime, direction, ready)) if not gate.ok]
        both.traffic.close()
        if closed:
            raise Undone(f"gate {closed[0].id}: {closed[0].value}, not {closed[0].limit}: {closed[0].why}")
        return both

    def _ready(self) -> str | None:
        """Why the way back is not open; None when it is. Sets it up."""
        try:
            back = reverse_runtime(self._runtime) or bare_way_back(self._runtime)
            if not prepared(back):
                self._store.set_reason("prepares the way back")
                prepare_reverse(back)
                self._store.set_reason(None)
        except Transient:
            raise
        except CrossfadeError as error:
            return str(error)
        return None

    def _recover(self) -> None:
        """A crossing whose controller died, or lost a database: finished when it was decided, undone when it was not."""
        if self._watchdog is not None:
            self._watchdog.over()
            self._watchdog = None
        row = self._store.migration_row()
        assert row is not None
        wanted = row.wanted if row.wanted in CROSSES else "switched"
        direction, before, after = CROSSES[wanted]
        with self._keep(), contextlib.closing(Crosser(sides(self._runtime, direction))) as crosser:
            crossing = crosser.journal.open()
            if crossing is not None:
                crossed = crosser.recover(crossing)
            else:
                last = crosser.journal.last()
                crossed = last is not None and last.state == "done" and last.at >= row.updated_at
        was = (row.reason or "").removeprefix("from ")
        back_to = was if was in before else before[0]
        self._settled(after if crossed else back_to, None if crossed else "not crossed: the controller died meanwhile", direction)

    def _settled(self, phase: str, reason: str | None, direction: str) -> None:
        self._store.set_phase(phase, reason=reason, action=direction)
        self._store.want("following")


def _say(step: str) -> None:
    log.info("crossing", step=step)


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """What a command that asks for a crossing sees."""

    gates: tuple[Gate, ...]
    steps: tuple[str, ...]
    pause_ms: float | None  # an estimate; None: nothing is known yet


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a crossing ended. Milliseconds from the journal."""

    crossed: bool
    pause_ms: float
    step_ms: dict[str, float]
    reason: str | None


def ask(runtime: Runtime, wanted: str, *, budget: float | None = None, dry_run: bool = False) -> Asked:
    """Looks at the gates and, unless one is closed or it is a dry run, has the controller cross, within `budget` seconds when given. Raises
    CrossfadeError for a phase in which that makes no sense."""
    direction, phases, after = CROSSES[wanted]
    phase = runtime.store.phase()
    if phase == after:
        raise CrossfadeError(f"migration {runtime.name} is {phase} already")
    if phase not in phases:
        raise CrossfadeError(f"migration {runtime.name} is {phase}: a {direction} begins from {' or '.join(phases)}")
    found = look(runtime, direction)
    if not dry_run and all(gate.ok for gate in found):
        runtime.store.want(wanted, budget=budget)
    return Asked(tuple(found), STEPS, _estimate(runtime, direction) if dry_run else None)


def _estimate(runtime: Runtime, direction: Direction) -> float | None:
    """Milliseconds that writes will wait: the lag, which the drain takes, and what the other steps took in the last crossing either way."""
    both = sides(runtime, direction)
    samples = both.there.store.lag(time.time() - _LAG_SECONDS)
    if not samples:
        return None
    found = [crossing for side in (both.there, both.back) if side.store.exists() and (crossing := Crossings(side.store).last()) is not None]
    done = [crossing for crossing in found if crossing.state == "done"]
    others = sum(_durations(max(done, key=lambda one: one.at)).get(step, 0.0) for step in _PAUSED) if done else _OTHER_STEPS_MS
    return statistics.median(float(sample.lag_ms) for sample in samples) + others


def look(runtime: Runtime, direction: Direction) -> list[Gate]:
    """The gates of a crossing, as they are now."""
    back = None if direction == "cutover" else reverse_runtime(runtime)
    traffic = driver(runtime)
    try:
        return gates(back or runtime, traffic, way_back(runtime, direction))
    finally:
        traffic.close()


def abort(runtime: Runtime) -> str:
    """Whatever crossing is asked for or under way does not happen; answers what was found. Raises CrossfadeError when it is decided:
    then it only goes forward."""
    store = runtime.store
    row = store.migration_row() if store.exists() else None
    if row is None:
        raise BadInput(f"migration {runtime.name} was never started on this target")
    if row.phase != "cutting-over":
        if row.wanted not in CROSSES:
            return "nothing was under way"
        store.want("following", detail="abort")
        store.audit("abort", f"before {CROSSES[row.wanted][0]}")
        return f"the {CROSSES[row.wanted][0]} is called off"
    direction = CROSSES[row.wanted][0] if row.wanted in CROSSES else "cutover"
    with contextlib.closing(Crosser(sides(runtime, direction))) as crosser:
        crossing = crosser.journal.open()
        if crossing is not None:
            crosser.undo(crossing.id, crossing.record)
            store.audit("abort", f"{direction} undone")
            return f"the {direction} is undone"
    store.want("following", detail="abort")
    store.audit("abort", f"before {direction}")
    return f"the {direction} is called off"


def wait(runtime: Runtime, wanted: str, timeout: float, say: Callable[[str], None]) -> Outcome:
    """Waits until the controller has crossed, or has not."""
    _, _, after = CROSSES[wanted]
    deadline = time.monotonic() + timeout
    last = ""
    while True:
        row = runtime.store.migration_row()
        assert row is not None
        if row.wanted != wanted:
            crossed = row.phase == after
            steps = _steps(runtime, wanted) if crossed else {}
            pause = sum(ms for step, ms in steps.items() if step != "close")
            return Outcome(crossed, pause, steps, row.reason)
        if (now := row.reason or row.phase) != last:
            say(now)
            last = now
        if time.monotonic() > deadline:
            raise TimedOut(f"migration {runtime.name} is {row.phase} after {timeout:.0f} s: is a controller running?")
        time.sleep(0.05)


def _steps(runtime: Runtime, wanted: str) -> dict[str, float]:
    """Milliseconds that each step took, from when it was begun to when the next one was."""
    both = sides(runtime, CROSSES[wanted][0])
    last = Crossings(both.back.store).last()
    return {} if last is None else _durations(last)


def _durations(last: Crossing) -> dict[str, float]:
    begun = [(name, at) for name, (_, at) in last.steps.items()]
    ends = [*(at for _, at in begun[1:]), begun[-1][1]]
    return {name: (end - at) * 1000 for (name, at), end in zip(begun, ends, strict=True)}
