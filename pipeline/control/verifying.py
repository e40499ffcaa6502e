"""Verify and repair with the migration's own databases, markers and store."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence

from pipeline.control.markers import settle
from pipeline.control.prepare import stream_plans
from pipeline.control.runtime import Runtime
from pipeline.errors import BadInput
from pipeline.store import tables
from pipeline.verify.compare import Hooks, Limits, Rate
from pipeline.verify.repair import Repaired, repair
from pipeline.verify.run import Report, verify
from pipeline.verify.side import Access, Databases
from pipeline.verify.store import SqlStore
from transforms.pair import Pair


class Verifier:
    """One process's verify of one migration."""

    def __init__(
        self, runtime: Runtime, *, stop: threading.Event | None = None, on_progress: Callable[[Rate], None] = lambda _rate: None
    ) -> None:
        self._runtime = runtime
        self._streams = len(stream_plans(runtime))
        self._stop = stop or threading.Event()
        self._on_progress = on_progress
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
        hooks = Hooks(self.settle, progress=self._on_progress, stop=self._stop)
        limits = dataclasses.replace(Limits(), chunk_rows=max(self._runtime.migration.verify.chunk_rows, 1000))
        # A verify of one table must not be taken up as the unfinished verify of all.
        return verify(self.pairs(table), self.databases, self.store, hooks, mode="full", limits=limits)

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
