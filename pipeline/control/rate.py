"""The copy's rate as somebody set it, looked up in the control store now and then."""

from __future__ import annotations

import contextlib
import time

from pipeline.control.runtime import Runtime
from pipeline.errors import Transient


class Rate:
    """The throttle as the store has it, looked up at most once a second, as one thread's share."""

    def __init__(self, runtime: Runtime, threads: int) -> None:
        self._runtime, self._threads = runtime, threads
        self._share = threads
        self._at = 0.0
        limit = runtime.migration.backfill.max_rate
        self._rate = None if limit is None else float(limit)

    def __call__(self) -> float | None:
        now = time.monotonic()
        if now - self._at > 1.0:
            self._at = now
            with contextlib.suppress(Transient):
                row = self._runtime.store.migration_row()
                if row is not None and row.rate is not None:
                    self._rate = float(row.rate) if row.rate >= 0 else None
                copiers = sum("backfill" in w.roles for w in self._runtime.store.workers()) or 1
                self._share = self._threads * copiers
        return None if self._rate is None else self._rate / self._share
