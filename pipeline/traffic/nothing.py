"""No pooler: nothing waits and nothing is repointed. Between the fence and the other side's opening the application's writes are refused,
and it tries again, on whichever side takes them.
"""

from __future__ import annotations

import structlog

from pipeline.traffic.base import Place, Side

log = structlog.get_logger("traffic")


class Nothing:
    """See `pipeline.traffic.base.Traffic`. Says what it does not do."""

    name = "none"

    def check(self) -> list[str]:
        return []

    def open(self) -> None:
        pass

    def pause(self, deadline: float) -> None:
        log.info("nothing waits: writes are refused from the fence on", driver=self.name)

    def repoint(self, side: Side, deadline: float | None = None) -> None:
        log.info("the application goes there by itself", driver=self.name, side=side)

    def verify(self, side: Side, deadline: float | None = None) -> None:
        log.info("where the application goes is not known", driver=self.name, side=side)

    def resume(self, deadline: float | None = None) -> None:
        pass

    def release(self, side: Side) -> None:
        pass

    def state(self) -> list[Place]:
        return []

    def close(self) -> None:
        pass
