"""What goes on beside a test until it is told to stop."""

from __future__ import annotations

import threading


class Background(threading.Thread):
    """`work` is done once, in a thread of its own, and looks at `halt`. What it raises is raised by `stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.halt = threading.Event()
        self.error: BaseException | None = None

    def work(self) -> None:
        raise NotImplementedError

    def run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def stop(self) -> None:
        self.halt.set()
        self.join(60)
        assert not self.is_alive(), "it does not stop"
        assert self.error is None, self.error
