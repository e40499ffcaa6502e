"""How long an application waited: for each query and for each transaction, the slowest of every second."""

from __future__ import annotations

import collections
import dataclasses
import time
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")


@dataclasses.dataclass(slots=True)
class Meter:
    """Of one thread; another one may `drain` it meanwhile."""

    count: int = 0
    slowest_ms: float = 0.0
    _second: int = 0
    _slowest_now: float = 0.0
    _seconds: collections.deque[tuple[int, float]] = dataclasses.field(default_factory=collections.deque)

    def time(self, act: Callable[[], _T]) -> _T:
        """Does it, and counts it however it ends."""
        began = time.monotonic()
        try:
            return act()
        finally:
            self.add((time.monotonic() - began) * 1000)

    def add(self, ms: float) -> None:
        """One that has just ended."""
        self.count += 1
        self.slowest_ms = max(self.slowest_ms, ms)
        if (now := int(time.time())) != self._second:
            self.flush()
            self._second, self._slowest_now = now, 0.0
        self._slowest_now = max(self._slowest_now, ms)

    def flush(self) -> None:
        """The second that is not over yet becomes one to be drained."""
        if self._slowest_now:
            self._seconds.append((self._second, self._slowest_now))

    def drain(self) -> list[tuple[int, float]]:
        """Seconds since 1970 that are over, with the slowest in ms of what ended in each; each is handed out once."""
        found = []
        while self._seconds:
            found.append(self._seconds.popleft())
        return found
