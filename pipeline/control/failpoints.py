"""Named places at which a test has this process killed or stopped: `CROSSFADE_FAILPOINTS=crossing.fence.done,crossing.decide.done:2`.

`name:n` means the n-th time the place is passed, `name=stop` SIGSTOP instead of `kill -9`. Without the variable nothing happens.
"""

from __future__ import annotations

import os
import signal
from collections import Counter

VARIABLE = "CROSSFADE_FAILPOINTS"
WATCHDOG = "CROSSFADE_WATCHDOG_FAILPOINTS"
"""The same for the watchdog, which does not inherit its starter's."""
_passed: Counter[str] = Counter()


def here(name: str) -> None:
    """Kills this process, as `kill -9` would, or stops it, when the place is named in the environment."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    _passed[name] += 1
    for one in wanted.split(","):
        at, _, how = one.strip().partition("=")
        place, _, nth = at.partition(":")
        if place == name and _passed[name] == int(nth or 1):
            os.kill(os.getpid(), signal.SIGSTOP if how == "stop" else signal.SIGKILL)
