"""An application without a pooler, on either product: it moves amounts between accounts, knows what was acknowledged, and where a write is
refused it tries again, on whichever side takes it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import psycopg
import pymysql

REFUSED = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.AdminShutdown, pymysql.MySQLError)
Connect = Callable[[], Any]


class Till(threading.Thread):
    """One client. `sides` says how to connect to the source and to the target. SQL that both products understand."""

    def __init__(self, sides: Mapping[str, Connect], number: int, *, rest: float = 0.004) -> None:
        super().__init__(daemon=True)
        self.sides, self.number, self.rest = sides, number, rest
        self.dice = random.Random(number)
        self.entries: dict[int, str] = {}  # key that the database gave → the side that acknowledged it
        self.accounts: dict[int, str] = {}
        self.written: dict[str, int] = {"source": 0, "target": 0}
        self.unknown = 0  # commits whose outcome the application was not told
        self.halt = threading.Event()
        self.error: BaseException | None = None
        self.slowest = 0.0

    def run(self) -> None:
        try:
            side, db = "source", None
            while not self.halt.is_set():
                begun = time.monotonic()
                while not self.halt.is_set():
                    try:
                        if db is None:
                            db = self.sides[side]()
                        self._once(db, side)
                        break
                    except REFUSED:
                        if db is not None:
                            self._quit(db)
                        db = None
                        side = "target" if side == "source" else "source"
                        time.sleep(0.003)
                self.slowest = max(self.slowest, time.monotonic() - begun)
                self.halt.wait(self.rest)
            if db is not None:
                self._quit(db)
        except BaseException as error:
            self.error = error

    def _once(self, db: Any, side: str) -> None:
        cursor = db.cursor()
        new = None
        if self.dice.random() < 0.1:
            cursor.execute("INSERT INTO account (owner, balance) VALUES ('new', 0) RETURNING id")
            new = account = int(cursor.fetchone()[0])
        else:
            account = self.dice.randint(1, 200) * 4 - self.number % 4
        cursor.execute("UPDATE account SET balance = balance + 1 WHERE id = %s", (account,))
        cursor.execute("INSERT INTO entry (account, amount, till) VALUES (%s, 1, %s) RETURNING id", (account, self.number))
        key = int(cursor.fetchone()[0])
        try:
            db.commit()
        except REFUSED:
            self.unknown += 1
            raise
        assert key not in self.entries, f"key {key} was given out twice"
        self.entries[key] = side
        if new is not None:
            self.accounts[new] = side
        self.written[side] += 1

    def _quit(self, db: Any) -> None:
        with contextlib.suppress(psycopg.Error, pymysql.MySQLError):
            db.close()


def alive(tills: list[Till]) -> None:
    """Fails with what one of them fell over."""
    for till in tills:
        assert till.error is None, till.error


def until_written(tills: list[Till], side: str, more: int, timeout: float = 90) -> None:
    """Waits until so many more transactions were acknowledged there."""
    before, deadline = sum(till.written[side] for till in tills), time.monotonic() + timeout
    while sum(till.written[side] for till in tills) < before + more:
        alive(tills)
        assert time.monotonic() < deadline, f"nobody writes to the {side}"
        time.sleep(0.02)


def close(tills: list[Till]) -> None:
    """The end of the day."""
    for till in tills:
        till.halt.set()
    for till in tills:
        till.join(60)
    alive(tills)
