"""The final verify of a crossing: keys that have really changed lately, compared on both sides while nobody writes.

Before the pause everything that changed since the last clean verify is looked at, what differs again and again by markers; within the
pause only what changed since. What compares is verify's own code: from what applies comes nothing but which keys an event touches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog

from connectors.digest import Digest
from pipeline.control.changed import RECORDS_BACK, Collector
from pipeline.control.markers import settle
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.errors import CrossfadeError, TimedOut
from pipeline.model import Difference, Key
from pipeline.store import tables
from pipeline.verify import plan
from pipeline.verify.compare import judge_of
from pipeline.verify.rows import Judge
from pipeline.verify.run import scope
from pipeline.verify.settle import recheck
from pipeline.verify.side import Access, Rows, Side, agree, of_columns
from pipeline.verify.store import SqlStore
from transforms.pair import Pair

log = structlog.get_logger("final verify")

FEW = 1_000
"""So many keys are left for the pause: some ten milliseconds."""
ROUNDS = 5
OPEN_SECONDS = 120.0
_CLOCKS = 10.0
"""Seconds by which the machines' clocks may differ: those of who verified and of who wrote to Kafka."""
_AT_ONCE = 2_000
_SCANNED = 500
"""A key that only Python can make is found by reading the whole table: so many at one reading, and only before the pause."""


class FinalVerify:
    """See `pipeline.control.crossing.FinalCheck`. `there` is the direction that applies."""

    def __init__(self, there: Runtime) -> None:
        self._there = there
        self._collectors: list[Collector] = []
        self._both: _Both | None = None

    def open(self) -> None:
        """Checks what has changed since the last clean verify. Raises CrossfadeError naming a row that differs."""
        there, deadline = self._there, time.monotonic() + OPEN_SECONDS
        pairs = dict(there.pairs)
        last = SqlStore(there.store.begin, tables.verify, there.name).last(scope(list(pairs.values())))
        self._both = both = _Both(there, pairs)
        for row in there.store.streams():
            self._collectors.append(Collector(there, row.topic, 0.0 if last is None else last.started_at - _CLOCKS))
            self._collectors[-1].start()
        for number in range(ROUNDS):
            token = both.settle()
            keys = self._taken(token, deadline)
            for table, some in keys.items():
                self._look(both, table, some)
            if number and sum(map(len, keys.values())) <= FEW:
                break
        lost = sum(collector.lost for collector in self._collectors)
        if lost or any(collector.cut for collector in self._collectors):
            what = "more has changed since the last verify than a crossing looks at again: crossfade verify --full shortly before it"
            log.warning(what, records=RECORDS_BACK, keys_left_out=lost)
            there.store.audit("final-verify", what)

    def now(self, token: str, deadline: float) -> None:
        """Within the pause, everything up to this marker applied and nobody writing: keys that changed since `open`. Raises
        CrossfadeError."""
        assert self._both is not None
        begun = time.monotonic()
        keys = {table: some for table, some in self._taken(token, deadline).items() if self._both.quick(table)}
        looking = self._both.begin(keys, deadline)
        self._nothing_held()
        differences = looking()
        if differences:
            raise _differs(differences[0], self._there)
        ms = round((time.monotonic() - begun) * 1000, 1)
        log.info("compared in the pause", tables=len(keys), keys=sum(map(len, keys.values())), ms=ms)

    def close(self) -> None:
        """Lets go of everything."""
        for collector in self._collectors:
            collector.close()
        if self._both is not None:
            self._both.close()
        self._collectors, self._both = [], None

    def _taken(self, token: str, deadline: float) -> dict[int, list[Key]]:
        found: dict[int, list[Key]] = {}
        for collector in self._collectors:
            for table, keys in collector.take(token, deadline).items():
                found.setdefault(table, []).extend(keys)
        return found

    def _look(self, both: _Both, table: int, keys: Sequence[Key]) -> None:
        """The newest first: those are in memory on both sides."""
        found, unsettled = both.settled(table, keys if both.quick(table) else keys[-_SCANNED:])
        if found:
            raise _differs(found[0], self._there)
        for collector in self._collectors:
            collector.again(table, unsettled)  # a row that is written without a break comes to rest in the pause

    def _nothing_held(self) -> None:
        """No event is held back, no row is waiting to be read again."""
        held = self._there.store.quarantined()
        if held:
            raise CrossfadeError(f"an event of {held[0].target} went to quarantine meanwhile")
        listed = [row.target for row in self._there.store.tables() if row.tracked]
        if listed:
            raise CrossfadeError(f"rows of {listed[0]} are waiting to be read again")


_Looking = Callable[[], list[Difference]]
"""Answers what differs, once both sides have answered."""


class _Both:
    """Both sides of every pair, over one open session each and a thread of its own: opening one takes longer than looking."""

    def __init__(self, there: Runtime, pairs: Mapping[int, Pair]) -> None:
        self._there, self._pairs = there, pairs
        self._streams = len(stream_plans(there))
        self._readers = there.reader("crossfade final verify"), there.target_reader("crossfade final verify")
        self._marker = there.reader("crossfade final verify")
        self._threads = ThreadPoolExecutor(1, "final verify source"), ThreadPoolExecutor(1, "final verify target")
        self._digest: Digest | None = None
        self._known: dict[int, tuple[Side, Side, Judge, Digest]] = {}

    def settle(self) -> str:
        """Returns when everything that the source has now is applied; answers the marker's token."""
        return settle(self._there.store, self._marker, self._streams)

    def quick(self, table: int) -> bool:
        """Whether rows can be asked for by their keys."""
        source, target, *_ = self._of(table)
        return source.shape.key_as_it_is and target.shape.key_as_it_is

    def begin(self, keys: Mapping[int, Sequence[Key]], deadline: float) -> _Looking:
        """Both sides begin to read these rows, of every table."""
        known = {table: self._of(table) for table in keys}

        def read(at: int) -> dict[int, Rows]:
            found: dict[int, Rows] = {}
            for table, some in keys.items():
                side, digest = known[table][at], known[table][3]
                assert isinstance(side, Side)
                rows: Rows = {}
                for start in range(0, len(some), _AT_ONCE):
                    if time.monotonic() > deadline:
                        raise TimedOut("the pause budget is spent in the final verify")
                    rows |= side.by_keys(digest, some[start : start + _AT_ONCE])
                found[table] = rows
            return found

        ours, theirs = (thread.submit(read, at) for at, thread in enumerate(self._threads))

        def looking() -> list[Difference]:
            source, target = ours.result(), theirs.result()
            return [
                known[table][2].difference(key, source[table].get(key, []), target[table].get(key, []))
                for table in keys
                for key in known[table][2].candidates(source[table], target[table])
            ]

        return looking

    def settled(self, table: int, keys: Sequence[Key]) -> tuple[list[Difference], list[Key]]:
        """While the application writes: what differs for certain, and what did not come to rest."""
        source, target, judge, digest = self._of(table)
        suspects = [difference.key for difference in self.begin({table: keys}, time.monotonic() + OPEN_SECONDS)()]
        if not suspects:
            return [], []

        def settle() -> None:
            self.settle()

        found = recheck(suspects, judge, lambda some: source.by_keys(digest, some), lambda some: target.by_keys(digest, some), settle)
        return found.differences, found.unsettled

    def close(self) -> None:
        """Lets go of the sessions."""
        for thread in self._threads:
            thread.shutdown(wait=True, cancel_futures=True)
        for one in (*self._readers, self._marker):
            one.close()

    def _of(self, table: int) -> tuple[Side, Side, Judge, Digest]:
        if table not in self._known:
            pair, (ours, theirs) = self._pairs[table], self._readers
            shapes = plan.shapes(pair)
            source = Side(Access(self._there.source, lambda: ours), shapes[0])
            target = Side(Access(self._there.target, lambda: theirs), shapes[1])
            if self._digest is None:
                self._digest = agree(source, target, pair)
                source.close()  # the sessions that were asked about hashes; the others open again when they are needed
                target.close()
            self._known[table] = source, target, judge_of(pair), of_columns(pair, self._digest)
        return self._known[table]


def _differs(found: Difference, there: Runtime) -> CrossfadeError:
    pair = next(pair for pair in there.pairs.values() if pair.target_id == found.table)
    key = ", ".join(f"{name}={'***' if name in pair.masked else value}" for name, value in zip(pair.key, found.key, strict=True))
    what = {"missing": "is not there", "extra": "should not be there", "different": f"differs in {', '.join(found.columns)}"}[found.kind]
    return CrossfadeError(f"table {found.table}: row {key} {what}", hint="crossfade repair, then again")
