"""Long work on the target beside the controller's turns: a thread each, looked at now and then."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from pipeline.errors import CrossfadeError, Transient

log = structlog.get_logger("copy")


class Beside(threading.Thread):
    """One piece of work, begun at once. Nobody waits for it at the end of the process: what it does must be whole or not at all, and
    safe to do again."""

    def __init__(self, name: str, work: Callable[[], None], ended: threading.Event) -> None:
        """`ended` is set when it is over: somebody need not wait for the next turn to look."""
        super().__init__(name=name, daemon=True)
        self._work, self._ended = work, ended
        self._fault: CrossfadeError | None = None
        self.over = False
        self.start()

    def run(self) -> None:
        try:
            self._work()
        except CrossfadeError as error:
            self._fault = error
        except Exception as error:
            log.error("a fault of our own", work=self.name, exc_info=error)
            self._fault = CrossfadeError(f"{self.name}: {type(error).__name__}: {error}")
        finally:
            self.over = True
            self._ended.set()

    def done(self) -> bool:
        """Of one that is at work no more; False: something passing was in the way, and it is to be done again. Raises what else went
        wrong."""
        if isinstance(self._fault, Transient):
            log.warning("again", work=self.name, error=str(self._fault))
            return False
        if self._fault is not None:
            raise self._fault
        return True
