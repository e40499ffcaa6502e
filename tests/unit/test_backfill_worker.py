"""A backfill thread lives on whatever the target does: a chunk that it could not merge goes back, however long nobody answers."""

from __future__ import annotations

import threading
from typing import Any

from connectors.base import Range
from pipeline.backfill.queue import Chunk
from pipeline.backfill.worker import BackfillWorker
from pipeline.errors import Transient


class Away:
    """Queue and writer of a target that goes away in the middle of a merge, and comes back."""

    def __init__(self, stop: threading.Event) -> None:
        self.stop, self.silent, self.given_back = stop, 2, 0
        self.taken = 0

    def take(self, _worker: str) -> Chunk | None:
        if self.given_back:
            self.stop.set()
            return None
        self.taken += 1
        return Chunk(1, 1, Range(None, None), None, 1)

    def give_back(self, _chunk: Chunk, _error: str | None = None, *, refused: bool = False) -> None:
        if self.silent:
            self.silent -= 1
            raise Transient("the control store is away")
        assert not refused
        self.given_back += 1

    def put_down(self, _chunk: Chunk) -> None:
        pass

    def leave(self) -> None:
        pass

    def merge(self, *_: object) -> None:
        raise Transient("connection refused")

    def close(self) -> None:
        pass


def test_s26_a_chunk_goes_back_when_the_queue_answers_again() -> None:
    stop = threading.Event()
    away: Any = Away(stop)
    table: Any = type("Table", (), {"source": type("Source", (), {"id": "t"})(), "target": None, "blocks": lambda *_: iter(())})()
    worker = BackfillWorker(
        "backfill-0",
        worker="w",
        queue=away,
        tables={1: table},
        reader=away,
        writer=away,
        rate=lambda: None,
        stop=stop,
        look=threading.Lock(),
    )
    worker.start()
    worker.join(60)
    assert not worker.is_alive() and (away.taken, away.given_back) == (1, 1)
