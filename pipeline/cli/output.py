"""The one door to the terminal: text and tables for people, one JSON document for scripts, progress, and the error line.

What is printed for people is plain text: names that come from a database can hold control characters, which never reach the terminal.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pipeline.cli import logs

_WIDE = 240
_STYLES = {"error": "bold red", "warning": "yellow", "info": "cyan", "ok": "green", "missing": "bold red", "failed": "bold red"}


@dataclasses.dataclass(slots=True)
class _Settings:
    json: bool = False
    color: bool = True


_settings = _Settings()


def reset() -> None:
    """Before a command: as if nobody had asked for anything."""
    _settings.json, _settings.color = False, "NO_COLOR" not in os.environ


def use_json(on: bool) -> None:
    """`--json`."""
    _settings.json = _settings.json or on


def use_no_color(on: bool) -> None:
    """`--no-color`."""
    _settings.color = _settings.color and not on


def wants_json() -> bool:
    """Whether stdout is to hold one JSON document and nothing else."""
    return _settings.json


def console(*, stderr: bool = False) -> Console:
    """A console that neither guesses markup nor cuts lines where there is no terminal."""
    stream = sys.stderr if stderr else sys.stdout
    terminal = stream.isatty()
    return Console(
        file=stream,
        no_color=not _settings.color,
        markup=False,
        highlight=False,
        emoji=False,
        width=None if terminal else _WIDE,
        soft_wrap=True,
    )


def plain(value: object) -> str:
    """Fit for a terminal: control characters shown as escapes."""
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else c.encode("unicode_escape").decode() for c in text)


def line(text: str = "", *, style: str = "") -> None:
    """One line for people; nothing with `--json`."""
    if not _settings.json:
        console().print(Text(plain(text), style=style))


def note(text: str) -> None:
    """One line on stderr, for what is under way."""
    console(stderr=True).print(Text(logs.redact(plain(text))))


def fault(text: str) -> None:
    """The error line."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"crossfade: {logs.redact(' '.join(plain(text).split()))}\n")
            sys.stderr.flush()


def raw(text: str) -> None:
    """Text as it is (SQL, YAML, shell exports), for people and scripts alike; nothing with `--json`."""
    if not _settings.json:
        sys.stdout.write(text if text.endswith("\n") else text + "\n")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> None:
    """A table for people; nothing with `--json`. Numbers go to the right; words such as `error` have their colour."""
    if _settings.json:
        return
    drawn = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for index, name in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        drawn.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        drawn.add_row(*[Text(_cell(value), style=_STYLES.get(str(value), "")) for value in row])
    console().print(drawn)


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if isinstance(value, float) else plain(value)


def document(data: object) -> None:
    """The one JSON document of a command; nothing without `--json`."""
    if _settings.json:
        sys.stdout.write(orjson.dumps(data, default=_jsonable, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode() + "\n")


def show(data: object, people: Callable[[], None]) -> None:
    """Either the document or what `people` prints."""
    if _settings.json:
        document(data)
    else:
        people()


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    return str(value)


class Meter:
    """Something long under way: `advance` it, or `set` it."""

    def __init__(self, what: str, total: int | None, bar: Progress | None, task: TaskID | None) -> None:
        self._what = what
        self._total = total
        self._bar = bar
        self._task = task
        self._done = 0
        self._began = self._told = time.monotonic()

    def advance(self, by: int = 1) -> None:
        """So much more is done."""
        self.set(self._done + by)

    def set(self, done: int, total: int | None = None) -> None:
        """So much is done of so much."""
        self._done, self._total = done, total if total is not None else self._total
        if self._bar is not None and self._task is not None:
            rate = done / max(time.monotonic() - self._began, 0.001)
            self._bar.update(self._task, completed=done, total=self._total, rate=f"{rate:,.0f}/s")
        elif time.monotonic() - self._told >= 10:
            self._told = time.monotonic()
            note(self.text())

    def text(self) -> str:
        """`copy: 1,200,000 of 2,000,000 (60 %), 400,000/s, 2 s left`."""
        seconds = max(time.monotonic() - self._began, 0.001)
        rate = self._done / seconds
        said = f"{self._what}: {self._done:,}"
        if self._total:
            said += f" of {self._total:,} ({100 * self._done / self._total:.0f} %)"
        said += f", {rate:,.0f}/s"
        if self._total and rate > 0:
            said += f", {max(self._total - self._done, 0) / rate:,.0f} s left"
        return said


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Meter]:
    """A bar with rate and time left on a terminal; elsewhere a line on stderr every ten seconds."""
    shown = console(stderr=True)
    if not shown.is_terminal:
        yield Meter(what, total, None, None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=shown, transient=True) as bar:
        yield Meter(what, total, bar, bar.add_task(plain(what), total=total, rate=""))
