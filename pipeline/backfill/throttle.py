"""How fast the copy may go: a rate set by hand at run time, and signals of load that make it wait."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pace:
    """Spreads rows over time. One object a thread; `share` is this thread's part of the migration's rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._free_at = clock()

    def delay(self, rows: int, rate: float | None) -> float:
        """Seconds to wait after `rows` rows at `rate` rows a second (None: no limit; 0: as good as stopped)."""
        now = self._clock()
        if rate is None:
            self._free_at = now
            return 0.0
        self._free_at = max(self._free_at, now - 1.0) + rows / max(rate, 1e-3)
        return max(0.0, self._free_at - now)
