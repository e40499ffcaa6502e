"""One opening of one stream by one worker: records → assembler → applier. A new opening makes a new session with a new epoch.

A session takes records in only at the very offset that comes next. A fetch that was under way while the partition was sought, a
rebalance, a message that Faust dropped: whatever leaves a hole shows at once, and the stream is opened again where the target stands.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

import structlog

from connectors.base import Events
from pipeline.apply.applier import Applier
from pipeline.apply.batch import HEARTBEAT, Batch
from pipeline.errors import CrossfadeError, GapInStream, Transient
from pipeline.model import Applied
from pipeline.stream.assembler import Assembler, Pieces
from pipeline.stream.transport import Fetched

log = structlog.get_logger("stream")

SLICE = 500
"""Records that are decoded before the event loop may do something else: give the writer, which has just come free, its next batch."""
ASTRAY_SECONDS = 10.0
"""What was fetched before a seek comes to an end well before."""


class StreamSession:
    """What belongs to one opening. `offset` is what comes next; `hole` an (expected, found) pair of offsets that was met at the last
    opening and in which the topic, looked at anew, has no record (broker-side transactions take offsets): not a fetch that went astray.
    """

    def __init__(
        self,
        *,
        stream: str,
        opening: int,
        offset: int,
        hole: tuple[int, int] | None,
        events: Events,
        applier: Applier,
        pieces: Pieces,
        on_failed: Callable[[str, CrossfadeError], None],
    ) -> None:
        self.stream, self.opening, self.applier = stream, opening, applier
        self._next, self._hole = offset, hole
        self._fetched = offset  # what comes next of what is fetched under this opening
        self._astray: float | None = None  # since when all that came was of another one
        self.met: tuple[int, int] | None = None
        self._assembler = Assembler(events, applier.applied.position, pieces=pieces)
        self._on_failed = on_failed
        self._failed = False

    async def feed(self, fetched: Fetched) -> None:
        """Takes one fetch in. A fault stops this stream and says so; the records come again after the next opening."""
        if self._failed:
            return
        try:
            records = self._in_order(fetched)
            if not records:
                return
            stages = self.applier.stages
            stages.wait += fetched.waited
            stages.fetch += fetched.took
            for at in range(0, len(records), SLICE):
                started = time.perf_counter()
                transactions = self._assembler.feed(records[at : at + SLICE])
                stages.decode += time.perf_counter() - started
                await self.applier.submit(transactions)
                await asyncio.sleep(0)
        except CrossfadeError as error:
            if isinstance(error, Transient) and not self._failed:
                log.warning("stream interrupted", stream=self.stream, error=str(error))
            self.fail(error)

    def _in_order(self, fetched: Fetched) -> list[tuple[int, bytes | None]]:
        """The records that come next. Raises `Transient` when some before them are not here, `GapInStream` when what comes next is gone."""
        records = fetched.records
        if records and fetched.opening == self.opening:
            # What was fetched before the seek may have been taken in already, so this is not asked of `_next`.
            if records[0][0] < self._fetched:
                raise GapInStream(f"offset {records[0][0]} came where {self._fetched} was next: the topic is shorter than it was")
            self._fetched, self._astray = records[-1][0] + 1, None
        if records and records[0][0] < self._next:
            records = [record for record in records if record[0] >= self._next]
        if not records:
            return records
        first = records[0][0]
        if first > self._next and (self._next, first) != self._hole:
            if fetched.opening != self.opening:
                # Fetched before the seek: what comes next is on its way. If it does not come, nobody fetches for this opening.
                now = time.monotonic()
                self._astray = now if self._astray is None else self._astray
                if now - self._astray > ASTRAY_SECONDS:
                    raise Transient(f"stream {self.stream}: what is fetched is of opening {fetched.opening}, not {self.opening}")
                return []
            self.met = (self._next, first)
            raise Transient(f"stream {self.stream}: offset {first} came where {self._next} was next")
        self._next = records[-1][0] + 1
        return records

    @property
    def next_offset(self) -> int | None:
        """What comes next; None while nothing is taken in."""
        return None if self._failed else self._next

    def fail(self, error: CrossfadeError) -> None:
        """Stops taking records in, once."""
        if not self._failed:
            self._failed = True
            self._on_failed(self.stream, error)

    def pause(self) -> None:
        """Takes no records in, and nothing is wrong: somebody paused or stopped the stream."""
        self._failed = True

    async def close(self) -> None:
        """Ends the session after the batch being written."""
        self._failed = True
        await self.applier.stop()


class LagSamples:
    """End-to-end lag, one sample for each heartbeat marker that is applied."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self.samples: deque[tuple[float, float, int, int]] = deque(maxlen=10_000)
        self.events = 0
        self.transactions = 0

    def __call__(self, applied: Applied, batch: Batch) -> None:
        self.events += batch.events
        self.transactions += batch.whole
        now = self._clock()
        for token in batch.markers:
            if token.startswith(HEARTBEAT):
                lag = max(0.0, now * 1000 - float(token.removeprefix(HEARTBEAT)))
                self.samples.append((now, lag, self.events, self.transactions))

    def drain(self) -> list[tuple[float, float, int, int]]:
        """The samples since the last drain."""
        out: list[tuple[float, float, int, int]] = []
        while self.samples:
            out.append(self.samples.popleft())
        return out
