"""What the demo shows while it runs: its steps as lines, and on a terminal the copy and the stream moving below them. All on stderr."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

_LINE_EVERY = 10.0  # seconds between two lines where there is no terminal


class Screen:
    """`step` says what comes next; `show` takes a `crossfade status` document at any time, from any thread."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._said = 0.0
        self._status: dict[str, Any] | None = None

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """While this holds, a terminal shows the latest status below the steps."""
        if not self._console.is_terminal:
            yield
            return
        with Live(console=self._console, get_renderable=self._draw, refresh_per_second=4, transient=True):
            yield

    def step(self, text: str) -> None:
        """One line that stays."""
        line = Text(f"{time.monotonic() - self._began:6.1f} s  ", style="dim")
        self._console.print(line.append(text, style="none"))

    def show(self, status: dict[str, Any]) -> None:
        """The newest status."""
        self._status = status
        if not self._console.is_terminal and time.monotonic() - self._said >= _LINE_EVERY:
            self._said = time.monotonic()
            self.step(sentence(status))

    def forget(self) -> None:
        """Nothing is going on that a status would tell."""
        self._status = None

    def _draw(self) -> RenderableType:
        status = self._status
        if status is None:
            return Text("")
        tables = Table.grid(padding=(0, 2))
        for table in status["tables"]:
            done, whole = int(table["rows_copied"]), max(int(table["rows_estimated"]), int(table["rows_copied"]), 1)
            finished = table["phase"] == "copied"
            left = table["seconds_left"]
            tables.add_row(
                Text(f"         {table['source']} → {table['target']}"),
                ProgressBar(total=whole, completed=whole if finished else done, width=24),
                Text(f"{done:,}", justify="right"),
                Text(f"{table['rows_per_second']:,.0f}/s", justify="right", style="dim"),
                Text("done" if finished else "" if left is None else f"{left:.0f} s left", style="green" if finished else "dim"),
            )
        return Group(tables, Text(f"         {sentence(status)}", style="bold"))


def sentence(status: dict[str, Any]) -> str:
    """`copying: 420,000 of about 1,277,000 rows; stream: 310 events/s, 21 ms behind`."""
    done = sum(int(table["rows_copied"]) for table in status["tables"])
    whole = max(done, sum(int(table["rows_estimated"]) for table in status["tables"]))
    said = f"{status['phase']}: {done:,} rows copied" + (f" of about {whole:,}" if status["phase"] == "copying" else "")
    for stream in status["streams"]:
        lag = stream["lag_ms"]
        said += f"; {stream['events_per_second']:,.0f} events/s applied" + ("" if lag is None else f", {lag:,.0f} ms behind")
        said += f"; {stream['state']}: {stream['error']}" if stream["error"] else ""
    return said
