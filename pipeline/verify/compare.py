"""Compares one table pair: checksums chunk by chunk on both databases at once, rows where they differ, candidates until they are settled.

A table's progress and what was found on the way are recorded together, at moments when no candidate is open: a verify that was killed goes
on from there and counts every row once.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import structlog

from connectors.digest import Digest
from pipeline.errors import Transient
from pipeline.model import Difference, Key, TableId
from pipeline.verify import plan
from pipeline.verify.narrow import depth_for, differing, together
from pipeline.verify.rows import Judge
from pipeline.verify.settle import recheck
from pipeline.verify.side import Databases, Rows, Shape, Side, agree
from pipeline.verify.store import Progress, VerifyStore
from transforms.pair import Pair

log = structlog.get_logger("verify")

_FORMS = 3  # chunks running in which rows differed in spelling only, before checksums are given up


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What verify holds in memory and how often it asks again."""

    chunk_rows: int = 100_000  # rows of one checksum
    sessions: int = 1  # of each side, over which checksums are spread
    rows_at_once: int = 20_000  # rows of one side in memory
    bytes_at_once: int = 64 << 20
    open_keys: int = 2000  # candidates that are looked at again together
    open_seconds: float = 5.0  # and how long they may wait for more
    rounds: int = 8  # see `settle`
    confirmations: int = 2
    shown: int = 1000  # differences a table that are kept with their values
    listed: int = 100_000  # differences a table that are kept at all
    attempts: int = 8  # after a transient error, with backoff


DEFAULTS = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Rate:
    """For a progress display. `total` is an estimate."""

    table: TableId  # target
    rows: int
    total: int
    rows_a_second: float


@dataclasses.dataclass(frozen=True, slots=True)
class Hooks:
    """What verify asks of the world."""

    settle: Callable[[], None]  # writes a marker to the source, returns when it is applied
    throttle: Callable[[int], None] = lambda rows: None  # before reading about `rows` rows; may wait
    progress: Callable[[Rate], None] = lambda rate: None
    stop: threading.Event = dataclasses.field(default_factory=threading.Event)
    clock: Callable[[], float] = time.monotonic


@dataclasses.dataclass(frozen=True, slots=True)
class TableResult:
    """What is known of a pair. Not `complete`: it was stopped, and goes on from there the next time."""

    source: TableId
    target: TableId
    progress: Progress
    complete: bool

    def as_json(self) -> dict[str, Any]:
        """As `crossfade verify --json` has it."""
        p = self.progress
        return {
            "source": str(self.source),
            "target": str(self.target),
            "rows_compared": p.rows,
            "missing": p.missing,
            "extra": p.extra,
            "different": p.different,
            "unsettled": p.unsettled,
            "seconds": round(p.seconds, 3),
            "complete": self.complete,
        }


def judge_of(pair: Pair) -> Judge:
    """How rows of a pair are compared."""
    in_python = set(pair.compare_in_python)
    same = tuple(pair.same(name) if name in in_python else None for name in pair.columns)
    return Judge(pair.target_id, pair.columns, same, frozenset(pair.masked))


def verify_table(pair: Pair, databases: Databases, store: VerifyStore, run: int, *, hooks: Hooks, limits: Limits = DEFAULTS) -> TableResult:
    """Looks at what the store says is not looked at yet. Transient errors are tried again from the last recorded place."""
    failures = 0
    while True:
        before = store.progress(run, pair.source.id, pair.target_id)
        try:
            return _Comparison(pair, databases, store, run, hooks, limits).run()
        except Transient as error:
            now = store.progress(run, pair.source.id, pair.target_id)
            failures = 1 if now.cursor != before.cursor else failures + 1
            if failures >= limits.attempts:
                raise
            log.warning("verify again", table=str(pair.target_id), error=str(error))
            if hooks.stop.wait(min(30.0, 0.2 * 2**failures)):
                return TableResult(pair.source.id, pair.target_id, now, now.done)


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """A chunk and what both sides are being asked about it."""

    chunk: plan.Chunk
    kind: Literal["sum", "buckets", "rows"]
    source: Future[Any]
    target: Future[Any]


class _Lane:
    """A session of each side, each used by one thread of its own."""

    def __init__(self, databases: Databases, ours: Shape, theirs: Shape) -> None:
        self.source, self.target = Side(databases.source, ours), Side(databases.target, theirs)
        self.at_source, self.at_target = ThreadPoolExecutor(1, "verify-source"), ThreadPoolExecutor(1, "verify-target")

    def both(self, ask: Callable[[Side], Any]) -> tuple[Future[Any], Future[Any]]:
        """Asks both at once."""
        return self.at_source.submit(ask, self.source), self.at_target.submit(ask, self.target)

    def close(self) -> None:
        """Waits for what is being asked, and lets go of the sessions."""
        for pool in (self.at_source, self.at_target):
            pool.shutdown(wait=True, cancel_futures=True)
        for side in (self.source, self.target):
            side.close()


class _Comparison:
    """One attempt at a pair. The first lane finds chunks and reads rows, all of them sum."""

    def __init__(self, pair: Pair, databases: Databases, store: VerifyStore, run: int, hooks: Hooks, limits: Limits) -> None:  # noqa: PLR0917
        ours, theirs = plan.shapes(pair)
        self.pair, self.store, self.run_id, self.hooks, self.limits = pair, store, run, hooks, limits
        self.lanes = [_Lane(databases, ours, theirs) for _ in range(limits.sessions)]
        self.source, self.target = self.lanes[0].source, self.lanes[0].target
        self.at_source, self.at_target = self.lanes[0].at_source, self.lanes[0].at_target
        self.turns = itertools.cycle(self.lanes)
        self.judge = judge_of(pair)
        self.estimate = max(pair.source.rows, theirs.table.rows)
        self.by_rows = ours.checksum is None  # no checksum can tell: rows themselves are compared
        self.forms = 0
        self.at_once = self._rows_at_once(max(pair.source, theirs.table, key=lambda table: table.bytes / max(table.rows, 1)))
        self.progress = store.progress(run, pair.source.id, pair.target_id)
        self.began = self.recorded_at = hooks.clock()
        self.rows_before = self.progress.rows
        self.found: list[Difference] = []
        self.open: dict[Key, None] = {}
        self.open_bytes = 0
        self.open_since = 0.0
        self.looked = self.progress  # with chunks whose candidates are still open
        self.digest: Digest
        self.how: plan.Cut

    def _rows_at_once(self, table: Any) -> int:
        """Fewer where rows are wide."""
        width = table.bytes / max(table.rows, 1)
        return max(100, min(self.limits.rows_at_once, int(self.limits.bytes_at_once / max(width, 1))))

    def run(self) -> TableResult:
        try:
            complete = self._run()
        finally:
            for lane in self.lanes:
                lane.close()
        return TableResult(self.pair.source.id, self.pair.target_id, self.progress, complete)

    def _run(self) -> bool:
        if self.progress.done:
            return True
        self.digest = agree(self.source, self.target, self.pair)
        self.how = plan.Cut.read(self.progress.how) if self.progress.how else plan.cut(self.pair, self.source, self.target, self.estimate)
        self.looked = dataclasses.replace(self.looked, how=str(self.how))
        for look in self._looks():
            self._compare(look)
            if look.chunk.cursor == "end" or not self.open or self._enough_open():
                self._settle()
            self._tell()
            if self.hooks.stop.is_set() and not self.progress.done:
                if self.open:
                    self._settle()
                return self.progress.done
        return self.progress.done

    # -- looking ---------------------------------------------------------------------------------------------------------------------

    def _looks(self) -> Iterator[_Look]:
        """Chunks with what each side says of them. The next chunks are already being worked on while one is compared."""
        rows = self.at_once if self.by_rows else self.limits.chunk_rows
        last = self.progress.cursor
        found = plan.chunks(self.how, self.source, rows, last)
        upcoming: Future[plan.Chunk | None] = self.at_source.submit(next, found, None)
        ahead: collections.deque[_Look] = collections.deque()
        while True:
            if self.by_rows and rows > self.at_once and last != "end":
                rows = self.at_once  # from now on chunks are held in memory
                found = plan.chunks(self.how, self.source, rows, last)
                upcoming = self.at_source.submit(next, found, None)
            while last != "end" and len(ahead) < (1 if self.by_rows else len(self.lanes) + 1) and not self.hooks.stop.is_set():
                chunk = upcoming.result()
                assert chunk is not None
                self.hooks.throttle(min(rows, max(self.estimate, 1)))  # a small table is no whole chunk
                last = chunk.cursor
                if last != "end":
                    upcoming = self.at_source.submit(next, found, None)  # before the look: the target then need not wait for it
                ahead.append(self._look(chunk))
            if not ahead:
                return
            yield ahead.popleft()

    def _look(self, chunk: plan.Chunk) -> _Look:
        """Its rows where no checksum can tell, its buckets where nothing else is a chunk on both sides, else its checksum."""
        digest = self.digest
        if self.by_rows:
            prefixes = [chunk.prefix] if chunk.prefix else []
            return _Look(chunk, "rows", *self._both(lambda side: side.rows(digest, self._range(side, chunk), prefixes)))
        if self.how.columns:
            return _Look(chunk, "sum", *next(self.turns).both(lambda side: side.checksum(digest, self._condition(side, chunk))))
        depth = depth_for(self.estimate // 16**self.how.depth, self.how.depth)
        return _Look(chunk, "buckets", *next(self.turns).both(lambda side: side.buckets(digest, depth, self._condition(side, chunk))))

    def _both(self, ask: Callable[[Side], Any]) -> tuple[Future[Any], Future[Any]]:
        return self.lanes[0].both(ask)

    def _range(self, side: Side, chunk: plan.Chunk) -> str | None:
        return side.condition(self.how.columns, chunk.within) if self.how.columns else None

    def _condition(self, side: Side, chunk: plan.Chunk) -> str | None:
        return side.in_buckets(self.digest, [chunk.prefix]) if chunk.prefix else self._range(side, chunk)

    # -- comparing -------------------------------------------------------------------------------------------------------------------

    def _compare(self, look: _Look) -> None:
        ours, theirs = look.source.result(), look.target.result()
        if look.kind == "rows":
            rows = sum(map(len, ours.values()))
            self._note(self.judge.candidates(ours, theirs), ours, theirs)
        elif look.kind == "sum":
            rows = ours.rows
            if ours != theirs:
                self._narrow(look.chunk, max(ours.rows, theirs.rows), None)
        else:
            rows = sum(one.rows for one in ours.values())
            buckets = differing(ours, theirs)
            if buckets:
                most = max(rows, sum(one.rows for one in theirs.values()))
                # too few buckets were asked for if one is too large: the catalog's estimate was far too low
                self._narrow(look.chunk, most, buckets if max(buckets.values()) <= self.at_once else None)
        self.looked = dataclasses.replace(self.looked, cursor=look.chunk.cursor, rows=self.looked.rows + rows)

    def _narrow(self, chunk: plan.Chunk, rows: int, buckets: dict[str, int] | None) -> None:
        """Reads the rows of buckets that differ."""
        if buckets is None:
            depth = depth_for(rows, len(chunk.prefix))
            first, second = self._both(lambda side: side.buckets(self.digest, depth, self._condition(side, chunk)))
            buckets = differing(first.result(), second.result())
        spelled = 0
        # where each read is a pass over the whole table, fewer and larger ones
        for prefixes in together(buckets, self.at_once if self.how.columns else 10 * self.at_once):
            first, second = self._both(self._rows_of(chunk, prefixes))
            ours, theirs = first.result(), second.result()
            candidates = self.judge.candidates(ours, theirs)
            spelled += sum(found != theirs.get(key) for key, found in ours.items()) - sum(key in ours for key in candidates)
            self._note(candidates, ours, theirs)
        # Columns whose texts differ in form only: checksums that never agree are twice the work for nothing.
        self.forms = self.forms + 1 if spelled * 2 > rows else 0
        if self.forms >= _FORMS and self.how.columns:
            self.by_rows = True

    def _rows_of(self, chunk: plan.Chunk, prefixes: Sequence[str]) -> Callable[[Side], Rows]:
        return lambda side: side.rows(self.digest, self._range(side, chunk), prefixes)

    # -- candidates ------------------------------------------------------------------------------------------------------------------

    def _note(self, keys: Sequence[Key], ours: Rows, theirs: Rows) -> None:
        if keys and not self.open:
            self.open_since = self.hooks.clock()
        for key in keys:
            self.open[key] = None
            self.open_bytes += sum(len(text or "") for row in (*ours.get(key, ()), *theirs.get(key, ())) for text in row)
            if len(self.open) >= self.limits.open_keys or self.open_bytes > self.limits.bytes_at_once:
                self._work_off()

    def _enough_open(self) -> bool:
        return self.hooks.clock() - self.open_since > self.limits.open_seconds

    def _settle(self) -> None:
        """Everything looked at becomes certain, and is recorded."""
        self._work_off()
        now = self.hooks.clock()
        self.looked = dataclasses.replace(self.looked, seconds=self.looked.seconds + now - self.recorded_at)
        self.store.record(self.run_id, self.pair.source.id, self.pair.target_id, self.looked, self.found)
        self.progress, self.found, self.recorded_at = self.looked, [], now

    def _work_off(self) -> None:
        """Looks at the open candidates until they are settled; they are counted, but not recorded before their whole chunk is."""
        keys = list(self.open)
        if not keys:
            return
        settled = recheck(
            keys,
            self.judge,
            lambda some: self.at_source.submit(self.source.by_keys, self.digest, some).result(),
            lambda some: self.at_target.submit(self.target.by_keys, self.digest, some).result(),
            self.hooks.settle,
            rounds=self.limits.rounds,
            confirmations=self.limits.confirmations,
        )
        self.open.clear()
        self.open_bytes = 0
        before = self.looked.differences  # that many are kept already, or were too many to keep
        counts = collections.Counter(one.kind for one in settled.differences)
        self.looked = dataclasses.replace(
            self.looked,
            missing=self.looked.missing + counts["missing"],
            extra=self.looked.extra + counts["extra"],
            different=self.looked.different + counts["different"],
            unsettled=self.looked.unsettled + len(settled.unsettled),
        )
        for number, one in enumerate(settled.differences, before):
            if number < self.limits.shown:
                self.found.append(one)
            elif number < self.limits.listed:
                self.found.append(Difference(one.table, one.key, one.kind))

    def _tell(self) -> None:
        elapsed = max(self.hooks.clock() - self.began, 1e-6)
        rate = (self.looked.rows - self.rows_before) / elapsed
        self.hooks.progress(Rate(self.pair.target_id, self.looked.rows, max(self.estimate, self.looked.rows), rate))
