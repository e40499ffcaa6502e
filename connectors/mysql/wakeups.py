"""MariaDB and MySQL tell nobody of a commit: whoever waits for a marker has to look again, often."""

from __future__ import annotations

import time

from connectors.base import Address

_LOOK_AGAIN = 0.002


class Wakeups:
    """The same as on PostgreSQL, by looking."""

    def __init__(self, address: Address) -> None:
        pass

    def wait(self, seconds: float) -> None:
        """Returns after a moment, or after so many seconds when that is less."""
        time.sleep(min(seconds, _LOOK_AGAIN))

    def close(self) -> None:
        """Nothing is held."""
