"""What is shown while benchmarks run, all on stderr: a line for each run, and on a terminal a bar with the time left below them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from benchmarks.harness import Cannot, Sample, Told

_WIDE = 240


class Screen:
    """Lines that stay, and a bar while `running` holds."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        if not self._console.is_terminal:
            self._console.width = _WIDE
        self._began = time.monotonic()
        self._bar: Progress | None = None

    def say(self, text: str) -> None:
        """One line."""
        self._console.print(f"{time.monotonic() - self._began:6.1f} s  {text}", soft_wrap=True)

    @contextlib.contextmanager
    def running(self, total: int) -> Iterator[Told]:
        """A bar over so many runs, for as long as this holds."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self._console, transient=True) as bar:
            if not self._console.is_terminal:
                bar.stop()
            task = bar.add_task("", total=total)

            def begins(title: str, number: int) -> None:
                bar.update(task, description=title)
                if not self._console.is_terminal:
                    self.say(f"run {number}: {title}")

            def ends(_title: str, number: int, samples: Sequence[Sample | Cannot]) -> None:
                bar.advance(task)
                for sample in samples:
                    value = f"cannot: {sample.why}" if isinstance(sample, Cannot) else f"{sample.value:,.0f} {sample.unit}"
                    who = f" ({sample.by})" if sample.by else ""
                    self.say(f"run {number}: {sample.benchmark}: {sample.workload}{who}: {value}")

            def failed(title: str, number: int, error: Exception) -> None:
                bar.advance(task)
                self.say(f"run {number}: {title}: FAILED: {type(error).__name__}: {error}")

            yield Told(begins, ends, failed)
