"""Verify and repair with the migration's own databases, markers and store."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

import structlog

from pipeline.control.markers import settle
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.errors import BadInput, CrossfadeError
from pipeline.store import tables
from pipeline.verify.compare import Hooks, Limits, Rate
from pipeline.verify.repair import Repaired, repair
from pipeline.verify.run import Report, continuous, verify
from pipeline.verify.side import Access, Databases
from pipeline.verify.store import SqlStore
from transforms.pair import Pair

log = structlog.get_logger("verify")


BUSY_LAG_MS = 1000.0
"""The background verify reads nothing more while a stream lags by more than this, or has not said for five seconds how much."""


class BackgroundVerify(threading.Thread):
    """The continuous verify of a migration that is copied. Its findings are in the store; a fault is logged and it begins again."""

    def __init__(self, runtime: Runtime, stop: threading.Event) -> None:
        super().__init__(name="verify", daemon=True)
        self._runtime, self._stop_event = runtime, stop

    def run(self) -> None:
        while not self._stop_event.is_set():
            verifier = Verifier(self._runtime, stop=self._stop_event)
            try:
                verifier.background(self._told)
            except CrossfadeError as error:
                log.warning("background verify", error=str(error))
                self._stop_event.wait(30)
            finally:
                verifier.close()

    def _told(self, report: Report) -> None:
        (log.warning if report.differences else log.info)("verified", differences=report.differences, unsettled=report.unsettled)


class Verifier:
    """One process's verify of one migration."""

    def __init__(
        self, runtime: Runtime, *, stop: threading.Event | None = None, on_progress: Callable[[Rate], None] = lambda _rate: None
    ) -> None:
        self._runtime = runtime
        self._streams = len(stream_plans(runtime))
        self._stop = stop or threading.Event()
        self._on_progress = on_progress
        self._free_at = 0.0
        self.databases = Databases(
            Access(runtime.source, lambda: runtime.reader("crossfade verify")),
            Access(runtime.target, lambda: runtime.target_reader("crossfade verify")),
        )
        self.store = SqlStore(runtime.store.begin, tables.verify, runtime.name)
        self._marker = runtime.reader("crossfade verify")

    def close(self) -> None:
        """Lets go of the sessions."""
        self._marker.close()

    def settle(self) -> None:
        """Returns when everything the source has now is applied."""
        settle(self._runtime.store, self._marker, self._streams)

    def pairs(self, table: str | None, *, copied_only: bool = False) -> list[Pair]:
        """The pairs a command means. Raises BadInput for a table that does not migrate."""
        copied = {int(r.number) for r in self._runtime.store.tables() if r.phase == "copied"}
        found = [
            pair
            for pair in self._runtime.pairs.values()
            if table in (None, str(pair.source.id), str(pair.target_id)) and (not copied_only or pair.number in copied)
        ]
        if not found and table is not None:
            raise BadInput(f"table {table} is not part of migration {self._runtime.name}")
        return found

    def full(self, table: str | None) -> Report:
        """Every row of every table (or of one)."""
        hooks = Hooks(self.settle, throttle=self._pace, progress=self._on_progress, stop=self._stop)
        limits = dataclasses.replace(self._limits(), sessions=self._runtime.migration.verify.workers)
        # A verify of one table must not be taken up as the unfinished verify of all.
        return verify(self.pairs(table), self.databases, self.store, hooks, mode="full", limits=limits)

    def background(self, on_round: Callable[[Report], None]) -> None:
        """Round after round over what is copied, until `stop`, giving way to the stream: it waits while the lag is high."""
        spec = self._runtime.migration.verify
        hooks = Hooks(self.settle, throttle=self._give_way, stop=self._stop)
        limits = self._limits()
        continuous(
            lambda: self.pairs(None, copied_only=True),
            self.databases,
            self.store,
            hooks,
            pause=spec.interval,
            on_round=on_round,
            limits=limits,
        )

    def _limits(self) -> Limits:
        spec, usual = self._runtime.migration.verify, Limits()
        kept = spec.max_differences
        return dataclasses.replace(usual, chunk_rows=max(spec.chunk_rows, 1000), listed=kept, shown=min(usual.shown, kept))

    def _pace(self, rows: int) -> None:
        """Keeps under `verify.max_rate` rows a second."""
        rate = self._runtime.migration.verify.max_rate
        if rate is not None:
            now = time.monotonic()
            self._free_at = max(now, self._free_at) + rows / rate
            self._stop.wait(self._free_at - now - rows / rate)

    def _give_way(self, rows: int) -> None:
        self._pace(rows)
        while not self._stop.is_set():
            newest = self._runtime.store.newest_lag(time.time() - 5).values()
            # A stream that says nothing is far behind or stands still: what is found of it could not be settled either.
            if len(newest) >= self._streams and max(sample.lag_ms for sample in newest) < BUSY_LAG_MS:
                return
            self._stop.wait(0.5)

    def repair(self, report: Report) -> dict[str, Repaired]:
        """Repairs what a run found, table by table."""
        writer = self._runtime.writer("crossfade repair")
        out: dict[str, Repaired] = {}
        try:
            for pair in self._runtime.pairs.values():
                mine: Sequence[object] = [d for d in report.found if d.table == pair.target_id]
                if mine:
                    found = [d for d in report.found if d.table == pair.target_id]
                    out[str(pair.target_id)] = repair(pair, self.databases, writer, found, self.settle, store=self.store)
                    writer.untrack(pair.target_table())
        finally:
            writer.close()
        return out
