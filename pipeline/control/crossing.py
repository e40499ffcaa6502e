"""One crossing, step by step: the application's writes go from one side to the other, or nothing has happened.

Every step is journalled before and after, may be done twice, and has an undo. Up to `decide` whatever fails, or a spent budget, undoes
all of it in reverse order; from there on it only goes forward. `decide` is one compare-and-set in the database of the side that is being
left: whoever comes first, the one that crosses or the one that undoes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Literal, Protocol, TypeAlias

import structlog

from connectors.engine import module
from pipeline.control import failpoints
from pipeline.control.markers import new_token, settle
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.control.watchdog import LATE_SECONDS, NoWatch, Watch
from pipeline.errors import CrossfadeError, TimedOut, Transient
from pipeline.store.crossings import Crossing, Crossings
from pipeline.traffic.base import Side, Traffic

log = structlog.get_logger("crossing")

Direction: TypeAlias = Literal["cutover", "rollback"]
PROOF_SECONDS = 60.0
CLOSE_SECONDS = 30.0
ACT_SECONDS = 5.0
"""An act without a deadline has to be through so long after the journal was asked whether it is still to be done. It takes another
controller longer than that to end this crossing and to begin the next one's."""


class Fence(Protocol):
    """What keeps an application from writing to one side. Everything may be done twice, and nothing is done after its deadline (monotonic
    seconds) by the server's own clock: whoever was frozen in between comes too late to do harm. Then `TimedOut` is raised."""

    def plan(self, raised: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """What raising it is going to take away: JSON, enough to give it back. Of what is taken away already, by this record, it is what
        was there before; who has come to the list since is added."""

    def raise_(self, record: Mapping[str, Any], deadline: float) -> None:
        """When it returns nothing of the application's is open there and nothing it does can commit."""

    def lower(self, record: Mapping[str, Any], deadline: float, *, again: bool = False) -> None:
        """Gives back what was taken away. `again`: that was done before, so nothing happens unless it was raised since."""

    def close(self) -> None:
        """Lets go of the session."""


class Wakeups(Protocol):
    """Tells when it is worth looking for a marker again."""

    def wait(self, seconds: float) -> None:
        """Returns when one was recorded, or after so many seconds."""

    def close(self) -> None:
        """Lets go of the session."""


class FinalCheck(Protocol):
    """The final verify over what changed."""

    def open(self) -> None:
        """Before the pause: what changed since the last clean verify. Raises CrossfadeError naming a row that differs."""

    def now(self, token: str, deadline: float) -> None:
        """In the pause, everything before this marker applied: what changed since `open`. Raises CrossfadeError."""

    def close(self) -> None:
        """Lets go of the sessions."""


class Counters(Protocol):
    """Sequences and auto-increments of the side that is gone to."""

    def open(self) -> None:
        """Finds out which they are; before the pause."""

    def ahead(self) -> None:
        """Moves them beyond what the other side gave out."""

    def close(self) -> None:
        """Lets go of the sessions."""


@dataclasses.dataclass(frozen=True, slots=True)
class Sides:
    """The two directions as they are before a crossing, and what leads the application. `there` applies; `back` is muted."""

    direction: Direction
    there: Runtime
    back: Runtime
    traffic: Traffic
    fence: Fence  # of the side that is left
    other: Fence  # of the side that is gone to; it may be raised since the last crossing
    check: FinalCheck
    counters: Counters

    @property
    def left(self) -> Side:
        """The side that is left, as the drivers call it."""
        return "source" if self.direction == "cutover" else "target"

    @property
    def gone_to(self) -> Side:
        """The other one."""
        return "target" if self.direction == "cutover" else "source"


def raised(sides: Sides) -> Mapping[str, Any] | None:
    """What an earlier crossing has taken away, and not given back, on the side that this one goes to."""
    before = Crossings(sides.back.store).last()
    if before is not None and before.state == "undone" and ("close" in before.steps or not before.record["close"]):
        # Also when that one had not come to its own `close` yet: it had this from the one before.
        closed: Mapping[str, Any] = before.record["other"]
        return closed
    last = Crossings(sides.there.store).last()
    if last is not None and last.state == "done":
        left: Mapping[str, Any] = last.record["fence"]
        return left
    return None


class Undone(CrossfadeError):
    """The crossing did not happen: everything is as it was."""


class Crosser:
    """Crosses, undoes or finishes; close it afterwards. The journal is where `back` writes to: the side that is left."""

    def __init__(
        self,
        sides: Sides,
        *,
        watch: Watch | None = None,
        wanted: Callable[[], bool] = lambda: True,
        say: Callable[[str], None] = lambda _text: None,
    ) -> None:
        self.sides, self._wanted, self._say = sides, wanted, say
        self._watch = NoWatch() if watch is None else watch
        self.journal = Crossings(sides.back.store)
        self.seconds: dict[str, float] = {}
        self._drained = ""  # the marker behind the fence
        self._before: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
        self._streams = len(stream_plans(sides.there))
        self._comes_back = bool(sides.back.migration.tables)  # with `reverse: none` nothing does
        self._wakeups: Wakeups | None = None  # to undo, the side that is gone to is not needed
        self._there, self._back = sides.there.reader("crossfade crossing"), sides.back.reader("crossfade crossing")

    def close(self) -> None:
        """Lets go of the sessions."""
        sides = self.sides
        for one in (self._wakeups, self._there, self._back, sides.fence, sides.other, sides.counters, sides.check, sides.traffic):
            if one is not None:
                one.close()

    # -- the whole -------------------------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """What the streams of both directions wait for. To be asked while it is certain that nobody else crosses, before `cross`."""
        self._before = (self.sides.there.store.muted(), self.sides.back.store.muted())

    def cross(self, budget: float) -> None:
        """Raises `Undone` with why: everything is as it was. Any other error: it is open still, and `recover` ends it."""
        crossing, record = self._begin(budget)
        try:
            self._step(crossing, "close", record, time.monotonic() + CLOSE_SECONDS)
            deadline = time.monotonic() + budget
            self._watch.arm(crossing, deadline + LATE_SECONDS)
            for name in _UP_TO_DECIDE[1:]:
                self._step(crossing, name, record, deadline)
            if not self.journal.move(crossing, "running", "decided"):
                raise Undone("it was undone meanwhile: the budget was spent")
        except Exception as error:
            # Whatever it is, a fault of our own too: writes wait, so first everything is put back.
            self.undo(crossing, record)
            self._watch.over()
            raise Undone(str(error) or type(error).__name__) from error
        failpoints.here("crossing.decide.done")
        self.finish(crossing, record)
        self._watch.over()

    def _begin(self, budget: float) -> tuple[int, dict[str, Any]]:
        """What is done before the pause, as long as it takes. Raises `Undone`: nothing of it needs to be undone."""
        sides = self.sides
        try:
            token = new_token()
            self._mute_instead(sides.back, token, self._before[1])
            self._say("before: a marker through both directions")
            self._prove()
            raised = self._raised()
            other = dict(sides.other.plan(raised))
            record = {"turn": token, "there": new_token(), "fence": dict(sides.fence.plan()), "other": other, "close": raised is None}
            self._say("before: counters, watchdog, pooler")
            sides.counters.open()
            self._wakeups = module(sides.there.target_engine, "wakeups").Wakeups(sides.there.target)
            self._watch.ready()
            sides.traffic.open()
            self._say("before: what changed since the last verify")
            sides.check.open()  # last of all: what changes after it is left for the pause
            if not self._wanted():
                raise Undone("it was called off")
            return self.journal.begin(sides.direction, record, time.time() + budget), record
        except CrossfadeError as error:
            raise Undone(str(error)) from error

    def recover(self, crossing: Crossing) -> bool:
        """After a crash: finishes what was decided, undoes what was not. Answers whether it was crossed."""
        if crossing.state == "decided":
            self.finish(crossing.id, crossing.record)
            return True
        self.undo(crossing.id, crossing.record)
        return False

    def undo(self, crossing: int, record: Mapping[str, Any]) -> None:
        """All of it in reverse order. Raises CrossfadeError when it is decided already: then it only goes forward."""
        self.journal.move(crossing, "running", "undoing")
        begun = self.journal.last()
        if begun is None or begun.id != crossing:
            return  # it was undone, and another one has begun since
        if begun.state in ("decided", "done"):
            raise CrossfadeError("the crossing is decided: it only goes forward")
        # One that somebody else has undone is undone again: a step of ours may have come after it.
        for name in reversed(_UP_TO_DECIDE):
            undo = getattr(self, f"_un_{name}", None)
            if undo is not None and name in begun.steps:
                until, now = time.monotonic() + ACT_SECONDS, self.journal.last()
                if now is None or now.id != crossing:
                    return  # frozen in the middle: it was undone without us, and what comes now is another crossing's matter
                undo(record, until, again=now.steps[name][0] == "undone")
                self.journal.note(crossing, name, "undone")
                failpoints.here(f"crossing.{name}.undone")
        self.journal.move(crossing, "undoing", "undone")

    def finish(self, crossing: int, record: Mapping[str, Any]) -> None:
        """What comes after the decision, from the last step that was begun."""
        for at, name in enumerate(_AFTER):
            last = self.journal.last()
            if last is None or last.id != crossing or any(later in last.steps for later in _AFTER[at + 1 :]):
                continue  # somebody else is further: to open twice would end sessions that have just come
            if not self._step(crossing, name, record, None):
                return  # somebody else has finished it
        self.journal.note(crossing, "done", "done")
        self.journal.move(crossing, "decided", "done")
        failpoints.here("crossing.done")

    def _step(self, crossing: int, name: str, record: Mapping[str, Any], deadline: float | None) -> bool:
        """False: somebody else has ended the crossing."""
        until = time.monotonic() + ACT_SECONDS if deadline is None else deadline
        if time.monotonic() > until:
            raise TimedOut(f"the pause budget is spent before {name}")
        if not self.journal.note(crossing, name, "begun"):
            if deadline is None:
                return False
            raise Undone("it was undone meanwhile: the budget was spent")
        failpoints.here(f"crossing.{name}.begun")
        self._say(name)
        begun = time.monotonic()
        getattr(self, f"_{name}")(record, until)
        self.seconds[name] = time.monotonic() - begun
        failpoints.here(f"crossing.{name}.done")
        return True

    def _prove(self) -> None:
        """A marker travels the way back before anything is stopped."""
        if self._comes_back:
            settle(self.sides.back.store, self._back, len(stream_plans(self.sides.back)), timeout=PROOF_SECONDS)
        settle(self.sides.there.store, self._there, len(stream_plans(self.sides.there)), timeout=PROOF_SECONDS)

    @staticmethod
    def _mute_instead(direction: Runtime, token: str, before: Collection[str]) -> None:
        if not _mute(direction, token, before):
            raise Undone("somebody else has crossed meanwhile")

    # -- steps -----------------------------------------------------------------------------------------------------------------------

    def _close(self, record: Mapping[str, Any], deadline: float) -> None:
        """Nobody of the application writes to the side that is gone to before it is opened. It stays closed when the crossing is undone:
        an application without a pooler tries either side."""
        # Even if an earlier crossing has closed it: that one may have been killed when it had only just begun to.
        self.sides.other.raise_(record["other"], deadline)

    def _pause(self, _record: Mapping[str, Any], deadline: float) -> None:
        self.sides.traffic.pause(deadline)

    def _un_pause(self, _record: Mapping[str, Any], _until: float, *, again: bool) -> None:
        with self._who_can(self.sides.left):
            self.sides.traffic.repoint(self.sides.left)
            self.sides.traffic.resume()

    @contextlib.contextmanager
    def _who_can(self, side: Side) -> Iterator[None]:
        """Where one process of the driver makes trouble, the clients of the others are let go to this side. It is tried again anyway."""
        try:
            yield
        except CrossfadeError:
            with contextlib.suppress(CrossfadeError):
                self.sides.traffic.release(side)
            raise

    def _fence(self, record: Mapping[str, Any], deadline: float) -> None:
        self.sides.fence.raise_(record["fence"], deadline)

    def _un_fence(self, record: Mapping[str, Any], until: float, *, again: bool) -> None:
        self.sides.fence.lower(record["fence"], until, again=again)

    def _drain(self, _record: Mapping[str, Any], deadline: float) -> None:
        """Everything that was committed before the fence held is applied."""
        assert self._wakeups is not None
        there = self.sides.there
        timeout = max(0.0, deadline - time.monotonic())
        self._drained = settle(there.store, self._there, self._streams, timeout=timeout, wake=self._wakeups.wait)

    def _verify(self, _record: Mapping[str, Any], deadline: float) -> None:
        self.sides.check.now(self._drained, deadline)

    def _sequences(self, _record: Mapping[str, Any], _deadline: float) -> None:
        self.sides.counters.ahead()

    def _mute(self, record: Mapping[str, Any], _deadline: float) -> None:
        """The direction that applied so far ends, by epoch; it takes up again when a marker comes that only the next crossing writes."""
        self._mute_instead(self.sides.there, record["there"], self._before[0])

    def _un_mute(self, record: Mapping[str, Any], _until: float, *, again: bool) -> None:
        """By its marker, before the fence is lowered: where that direction writes to may be away just now."""
        self._there.marker(record["there"])

    def _turn(self, record: Mapping[str, Any], _deadline: float) -> None:
        """From this marker on the other direction applies. Neither side is written now."""
        if self._comes_back:
            self._back.marker(record["turn"])

    def _un_turn(self, record: Mapping[str, Any], _until: float, *, again: bool) -> None:
        """Muted again before the other direction applies: what that one writes must not come back. Where it waits for something else by
        now, it was muted by who undid this before, or by a crossing that came after."""
        _mute(self.sides.back, new_token(), {record["turn"]})

    def _open(self, record: Mapping[str, Any], deadline: float) -> None:
        self.sides.other.lower(record["other"], deadline)

    def _raised(self) -> Mapping[str, Any] | None:
        """What is taken away already on the side that is gone to: by the crossing that left it, or by one that was undone."""
        return raised(self.sides)

    def _repoint(self, _record: Mapping[str, Any], _deadline: float) -> None:
        with self._who_can(self.sides.gone_to):
            self.sides.traffic.repoint(self.sides.gone_to)
            self.sides.traffic.verify(self.sides.gone_to)

    def _resume(self, _record: Mapping[str, Any], _deadline: float) -> None:
        with self._who_can(self.sides.gone_to):
            self.sides.traffic.resume()


def _mute(direction: Runtime, token: str, before: Collection[str]) -> bool:
    """Whether it did. A worker that is frozen in the middle of a batch holds the stream's row, and clients wait: its session is ended."""
    try:
        return direction.store.mute(token, instead_of=before)
    except Transient:
        direction.end_holders(row.name for row in direction.store.streams())
        return direction.store.mute(token, instead_of=before)


_UP_TO_DECIDE = ("close", "pause", "fence", "drain", "verify", "sequences", "mute", "turn")
_AFTER = ("open", "repoint", "resume")
STEPS = (*_UP_TO_DECIDE, "decide", *_AFTER)
