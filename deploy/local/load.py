"""Live traffic: several connections keep changing the source at a target rate, and the ledger learns what each of them was promised.

In a process of its own (`LOAD_PASSWORD=… python -m deploy.local.load --url … --ledger …`), or in this one through `Load`.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import math
import os
import random
import signal
import sys
import threading
import time
import uuid
from pathlib import Path

import orjson
import psycopg
import pymysql

from connectors.base import Address
from deploy.local.database import Database, connect, is_duplicate, is_lost, is_passing
from deploy.local.ledger import Ledger
from deploy.local.operations import OPERATIONS, Surroundings
from deploy.local.transaction import NothingThere, Transaction

_DRIVER_ERRORS = (psycopg.Error, pymysql.Error, OSError)
_CATCH_UP = 1.0  # seconds of backlog that are made up for after a stall; more is given up
_FENCE = -1  # `made_by` of the last transaction


@dataclasses.dataclass(slots=True)
class Counts:
    """What the load did so far."""

    committed: int = 0
    rolled_back: int = 0  # on purpose
    abandoned: int = 0  # deadlock, a value taken meanwhile, a connection lost before COMMIT
    unknown: int = 0  # the connection broke inside COMMIT
    failed: int = 0  # the server refused a statement for any other reason: an application would have shown an error
    reconnects: int = 0
    slowest_ms: float = 0.0
    first_error: str = ""

    def add(self, other: Counts) -> None:
        for name in ("committed", "rolled_back", "abandoned", "unknown", "failed", "reconnects"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.first_error = self.first_error or other.first_error


class Load:
    """`start()`, then `stop()`: connections work in threads, each with its own share of `rate` transactions a second."""

    def __init__(
        self,
        address: Address,
        ledger: Ledger,
        *,
        rate: float = 200.0,
        connections: int = 4,
        seed: int | None = None,
        rollbacks: float = 0.06,
    ) -> None:
        self.address = address
        self.ledger = ledger
        self.rate = rate
        self.rollbacks = rollbacks
        self._seed = random.SystemRandom().getrandbits(64) if seed is None else seed
        self._stopping = threading.Event()
        self._counts = [Counts() for _ in range(connections)]
        self._threads = [threading.Thread(target=self._run, args=(number,), name=f"load-{number}") for number in range(connections)]
        self._failure: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def counts(self) -> Counts:
        """The sum over all connections, at any time."""
        total = Counts()
        for counts in self._counts:
            total.add(counts)
        return total

    def stop(self, timeout: float = 60.0) -> str:
        """Ends every connection's work, asks about unknown outcomes and commits one last transaction.

        Answers its token: when it is in the target, everything before it is. Raises what ended a connection's work early, or
        TimeoutError while the source cannot be reached.
        """
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._failure is not None:
            raise self._failure
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError(f"the load's connections have not ended within {timeout:g} s")
        return self._last_word(deadline)

    @property
    def failed(self) -> BaseException | None:
        """What ended a connection's work early: an error that is neither a lost connection nor a conflict."""
        return self._failure

    def _last_word(self, deadline: float) -> str:
        while True:
            token = str(uuid.uuid4())
            try:
                with connect(self.address) as database:
                    transaction = Transaction(database, token)
                    self._sign(transaction, _FENCE)
                    self.ledger.intent(token, transaction.effects)
                    try:
                        database.commit()
                    except _DRIVER_ERRORS:
                        self.ledger.settle(token, ask(self.address, token), transaction.before)
                        raise
                    self.ledger.ack(token)
                    return token
            except _DRIVER_ERRORS:
                if time.monotonic() > deadline:
                    raise TimeoutError("the source cannot be reached for the load's last transaction") from None
                time.sleep(0.2)

    def _run(self, number: int) -> None:
        try:
            _Connection(self, number).work()
        except BaseException as error:  # a thread's end must not go unseen
            self._failure = error
            self._stopping.set()
            raise

    def _sign(self, transaction: Transaction, number: int) -> None:
        """The transaction's own row, by which anybody can tell later whether it committed."""
        transaction.insert("request", {"token": transaction.token, "made_by": number, "made_at": datetime.datetime.now(datetime.UTC)})


class _Connection:
    """The work of one thread."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self._number = number
        self._random = random.Random(f"{load._seed}/{number}")
        self._counts = load._counts[number]
        self._unknown: list[Transaction] = []

    def work(self) -> None:
        load = self._load
        interval = len(load._counts) / load.rate
        due = time.monotonic() + self._random.random() * interval
        database: Database | None = None
        surroundings: Surroundings | None = None
        try:
            while not load._stopping.wait(max(0.0, due - time.monotonic())):
                if database is None or surroundings is None:
                    database = self._open()
                    if database is None:
                        continue
                    surroundings = surroundings or self._survey(database)
                began = time.monotonic()
                try:
                    self._one(database, surroundings)
                except _DRIVER_ERRORS:  # the connection is lost: everything else was dealt with
                    database.close()
                    database = None
                    self._counts.reconnects += 1
                self._counts.slowest_ms = max(self._counts.slowest_ms, (time.monotonic() - began) * 1000)
                due = max(due + interval, began - _CATCH_UP)
            self._settle_all()
        finally:
            if database is not None:
                database.close()

    def _open(self) -> Database | None:
        """A connection, once what the last one left open is known; None to try again a little later."""
        try:
            self._settle()
            return connect(self._load.address)
        except _DRIVER_ERRORS as error:
            if not is_lost(error) and not is_passing(error):
                raise
            self._load._stopping.wait(0.1)
            return None

    def _survey(self, database: Database) -> Surroundings:
        counts = [int(database.value(f"SELECT max(id) FROM {table}") or 1) for table in ("flights", "passenger", "booking")]
        database.commit()
        return Surroundings(self._random, lambda: datetime.datetime.now(datetime.UTC), *counts)

    def _one(self, database: Database, surroundings: Surroundings) -> None:
        """One transaction, through to its line in the ledger. Raises the driver's error when the connection is lost."""
        ledger, transaction = self._load.ledger, Transaction(database, str(uuid.uuid4()))
        operation = self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]
        try:
            operation(transaction, surroundings)
            self._load._sign(transaction, self._number)
        except NothingThere:
            database.rollback()
            return
        except _DRIVER_ERRORS as error:
            ledger.rolled_back(transaction.token, [("request", (transaction.token,), None)])
            if is_lost(error) or is_passing(error) or is_duplicate(error):
                self._counts.abandoned += 1
            else:
                self._refused(f"{operation.__name__}: {error}")
            if is_lost(error):
                raise
            database.rollback()
            return
        if self._random.random() < self._load.rollbacks:
            ledger.rolled_back(transaction.token, transaction.before)
            self._counts.rolled_back += 1
            database.rollback()
            return
        ledger.intent(transaction.token, transaction.effects)
        try:
            database.commit()
        except _DRIVER_ERRORS as error:
            if is_lost(error):
                ledger.unknown(transaction.token)
                self._counts.unknown += 1
                self._unknown.append(transaction)
                raise
            ledger.settle(transaction.token, False, transaction.before)
            self._refused(f"COMMIT: {error}")
            database.rollback()
            return
        ledger.ack(transaction.token)
        self._counts.committed += 1

    def _refused(self, message: str) -> None:
        self._counts.failed += 1
        self._counts.first_error = self._counts.first_error or " ".join(message.split())
        self._load._stopping.wait(0.05)

    def _settle(self) -> None:
        """Asks about each transaction whose COMMIT got no answer."""
        while self._unknown:
            transaction = self._unknown[-1]
            committed = ask(self._load.address, transaction.token)
            self._load.ledger.settle(transaction.token, committed, transaction.before)
            self._counts.committed += committed
            self._unknown.pop()

    def _settle_all(self) -> None:
        """The same at the end, as long as it takes; whoever stops the load gives up sooner."""
        while self._unknown:
            try:
                self._settle()
            except _DRIVER_ERRORS as error:
                if not is_lost(error) and not is_passing(error):
                    raise
                time.sleep(0.2)


def ask(address: Address, token: str) -> bool:
    """Whether the transaction that wrote this token committed.

    Reading would not do: the server may still be about to commit it. Inserting the same key waits for that transaction's end, then
    fails if it committed and succeeds (to be rolled back) if it did not. Raises the driver's error when there is no answer.
    """
    with connect(address) as database:
        try:
            database.execute("INSERT INTO request (token, made_by, made_at) VALUES (%s, 0, '2000-01-01')", [token])
        except _DRIVER_ERRORS as error:
            if not is_duplicate(error):
                raise
            return True
        finally:
            database.rollback()
    return False


def main() -> None:
    """The process: prints one JSON document at its end, and appends one line a second to `--stats`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.load", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", required=True, help="the source, without a password; LOAD_PASSWORD has it")
    parser.add_argument("--ledger", required=True, type=Path)
    parser.add_argument("--stats", type=Path)
    parser.add_argument("--rate", type=float, default=200.0, help="transactions a second")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seed", type=int, help="for the choice of operations and rows")
    parser.add_argument("--seconds", type=float, help="how long; until SIGTERM or SIGINT without it")
    given = parser.parse_args()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ledger = Ledger(given.ledger)
    address = Address(given.url, os.environ.get("LOAD_PASSWORD"))
    load = Load(address, ledger, rate=given.rate, connections=given.connections, seed=given.seed)
    load.start()
    until = time.monotonic() + given.seconds if given.seconds is not None else math.inf
    while not ended.wait(min(1.0, max(0.0, until - time.monotonic()))) and time.monotonic() < until and load.failed is None:
        if given.stats is not None:
            _note(given.stats, load)
    fence = load.stop()
    ledger.close()
    if given.stats is not None:
        _note(given.stats, load, fence=fence)
    sys.stdout.write(orjson.dumps({"fence": fence, **dataclasses.asdict(load.counts())}).decode() + "\n")


def _note(path: Path, load: Load, **more: str) -> None:
    with path.open("ab") as file:
        line = {"at": time.time(), **dataclasses.asdict(load.counts()), **more}
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
