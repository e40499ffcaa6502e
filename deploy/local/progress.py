"""How a download is shown: a bar on a terminal, one line where there is none."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TypeAlias

Advance: TypeAlias = Callable[[int], None]
"""Called with how many bytes more have come."""


@contextlib.contextmanager
def download_progress(title: str, total: int) -> Iterator[Advance]:
    """Shows on stderr that `total` bytes are being brought."""
    if not sys.stderr.isatty():
        print(f"downloading {title}, {total / 1e6:.0f} MB", file=sys.stderr, flush=True)
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n: progress.update(task, advance=n)
