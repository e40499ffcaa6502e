"""Ctrl-C and TERM unheard, while servers are on their way down: a second one could only leave something running."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], Any] | int | None


def deaf() -> dict[signal.Signals, Handler]:
    """From now on neither does anything; answers how they were handled.

    By a handler, not SIG_IGN: of a signal that has come and is not handled yet Python would say "ignored due to race condition", with a
    traceback.
    """
    return {number: signal.signal(number, _unheard) for number in (signal.SIGINT, signal.SIGTERM)}


def _unheard(_number: int, _frame: FrameType | None) -> None:
    pass
