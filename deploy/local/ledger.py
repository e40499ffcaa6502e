"""What an application was promised, kept outside every database: an append-only file of transactions.

Why its order is right without a global clock: a transaction's intent is written while it holds the locks of every row it touched and
before COMMIT is sent. Whoever changes one of these rows next gets the lock only afterwards, so for each key the order of intents in the
file is the order of commits. What a transaction that is rolled back touched is written under the same locks, as it was before.

A line of the file is a JSON list:
`["intent", token, [[table, key, row or null], …]]` · `["ack", token]` · `["rolled", token, [as it was before …]]` ·
`["unknown", token]` (the connection broke inside COMMIT) · `["settled", token, committed, [as it was before …]]` (asked afterwards).
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import orjson

from deploy.local.database import Record

RowKey: TypeAlias = tuple[int | str, ...]
Effect: TypeAlias = tuple[str, RowKey, Record | None]
"""Table, key, and the row as it is afterwards; None: it is not there."""


class Ledger:
    """The file being written. One object, any number of threads; every line is with the kernel before a method returns."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        os.ftruncate(self._file, path.read_bytes().rfind(b"\n") + 1)  # a line cut short by kill -9 promised nothing

    def intent(self, token: str, effects: Sequence[Effect]) -> None:
        """This will be true once `token` commits. Called before COMMIT, with the rows' locks held."""
        self._write(["intent", token, effects])

    def ack(self, token: str) -> None:
        """COMMIT was answered: from now on the rows must survive anything."""
        self._write(["ack", token])

    def rolled_back(self, token: str, before: Sequence[Effect] = ()) -> None:
        """The transaction has no effect. `before`: the rows as they were, if their locks are still held."""
        self._write(["rolled", token, before])

    def unknown(self, token: str) -> None:
        """The connection broke inside COMMIT: it may have happened or not."""
        self._write(["unknown", token])

    def settle(self, token: str, committed: bool, before: Sequence[Effect] = ()) -> None:
        """The source was asked about an unknown outcome. `before` counts at the intent's place in the file."""
        self._write(["settled", token, committed, before])

    def close(self) -> None:
        os.close(self._file)

    def _write(self, line: list[object]) -> None:
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            while data:
                data = data[os.write(self._file, data) :]


@dataclasses.dataclass(slots=True)
class Account:
    """The file read back: what must be true now."""

    state: dict[tuple[str, RowKey], Record | None]
    acknowledged: int = 0
    rolled_back: int = 0
    undecided: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path, ask: Callable[[str], bool] | None = None) -> Account:
        """The final state of every key touched. `ask` tells whether a transaction of unknown outcome committed."""
        verdicts = {token: (kind == "ack" or rest[0], rest[1:]) for kind, token, *rest in _lines(path) if kind in ("ack", "settled")}
        account, undecided = cls({}), []
        for kind, token, *rest in _lines(path):
            effects: list[Any] = rest[0] if rest and kind in ("intent", "rolled") else []
            if kind == "rolled":
                account.rolled_back += 1
            elif kind == "intent":
                committed, before = verdicts.get(token, (None, []))
                if committed is None and ask is not None:
                    committed = ask(token)
                if committed is None:
                    undecided.append(token)
                account.acknowledged += committed is True
                account.rolled_back += committed is False
                if not committed:
                    effects = before[0] if before else []
            for table, key, row in effects:
                account.state[table, tuple(key)] = row
        account.undecided = tuple(undecided)
        return account


def _lines(path: Path) -> Iterator[list[Any]]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield orjson.loads(line)
