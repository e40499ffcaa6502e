"""No pooler: nothing waits. Between the fence and the new address the application's writes are refused, and it tries again."""

from __future__ import annotations

from pipeline.traffic.base import Side


class Nothing:
    """See `pipeline.traffic.base.Traffic`."""

    name = "none"

    def problems(self) -> list[str]:
        return []

    def pause(self, deadline: float) -> None:
        pass

    def repoint(self, side: Side) -> None:
        pass

    def resume(self) -> None:
        pass
