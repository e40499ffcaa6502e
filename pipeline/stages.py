"""Where the time of applying goes, stage by stage: counted all the time, in production too."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator


@dataclasses.dataclass(slots=True)
class Stages:
    """Seconds since `since` (Unix time) by stage; each stage is counted by one thread only, several may go on at once.

    `wait`: for records of Kafka. `fetch`: taking them over. `decode`: records, and whole transactions of them. `transform`: their rows,
    the mapping's steps and the net effect of a batch. `encode`: the rows as COPY text, and `ahead`: the same while
    the writer is busy with another batch, told as one. `write`: the target's own time, COPY and merge.
    `commit`: its time too.
    """

    since: float = dataclasses.field(default_factory=time.time)
    wait: float = 0.0
    fetch: float = 0.0
    decode: float = 0.0
    transform: float = 0.0
    encode: float = 0.0
    ahead: float = 0.0
    write: float = 0.0
    commit: float = 0.0
    batches: int = 0
    events: int = 0

    def seconds(self) -> dict[str, float]:
        """All stages, in the order in which a row goes through them."""
        told = {name: getattr(self, name) for name in STAGES}
        told["encode"] += self.ahead
        return told

    @contextlib.contextmanager
    def encoding(self) -> Iterator[None]:
        """Counts what is done inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.encode += time.perf_counter() - began

    @contextlib.contextmanager
    def committing(self) -> Iterator[None]:
        """Counts what is done inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.commit += time.perf_counter() - began


STAGES = ("wait", "fetch", "decode", "transform", "encode", "write", "commit")
