"""Live traffic: several connections keep changing the database at a target rate, and the ledger learns what each of them was promised.

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

from connectors.base import Address
from deploy.local.database import is_duplicate, is_lost, is_passing, is_refused
from deploy.local.ledger import Ledger
from deploy.local.meter import Meter
from deploy.local.operations import OPERATIONS, Operation, Surroundings
from deploy.local.reach import DRIVER_ERRORS, Link, Reach
from deploy.local.transaction import NothingThere, Transaction

_CATCH_UP = 1.0  # seconds of backlog that are made up for after a stall; more is given up
_FENCE = -1  # `made_by` of the last transaction
_LOOK_AGAIN = 0.01  # seconds before a refused transaction is tried on the other side


@dataclasses.dataclass(slots=True)
class Counts:
    """What the load did so far."""

    committed: int = 0
    rolled_back: int = 0  # on purpose
    abandoned: int = 0  # deadlock, or a value taken meanwhile
    lost: int = 0  # the connection was lost before COMMIT; the transaction was tried again
    unknown: int = 0  # the connection broke inside COMMIT
    refused: int = 0  # this side does not take writes: the transaction was tried again on the other one
    failed: int = 0  # the server refused a statement for any other reason: an application would have shown an error
    reconnects: int = 0
    queries: int = 0
    slowest_ms: float = 0.0  # transaction, with every time it was tried
    slowest_query_ms: float = 0.0
    first_error: str = ""

    def add(self, other: Counts) -> None:
        for name in ("committed", "rolled_back", "abandoned", "lost", "unknown", "refused", "failed", "reconnects", "queries"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.slowest_ms = max(self.slowest_ms, other.slowest_ms)
        self.slowest_query_ms = max(self.slowest_query_ms, other.slowest_query_ms)
        self.first_error = self.first_error or other.first_error


class Load:
    """`start()`, then `stop()`: connections work in threads, each with its own share of `rate` transactions a second."""

    def __init__(
        self,
        address: Address | Reach,
        ledger: Ledger,
        *,
        rate: float = 200.0,
        connections: int = 4,
        seed: int | None = None,
        rollbacks: float = 0.06,
    ) -> None:
        self.reach = address if isinstance(address, Reach) else Reach([address])
        self.ledger = ledger
        self.rate = rate
        self.rollbacks = rollbacks
        self._seed = random.SystemRandom().getrandbits(64) if seed is None else seed
        self._stopping = threading.Event()
        self._connections = [_Connection(self, number) for number in range(connections)]
        self._threads = [threading.Thread(target=self._run, args=(one,), name=f"load-{one.number}") for one in self._connections]
        self._failure: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def counts(self) -> Counts:
        """The sum over all connections, at any time."""
        total = Counts()
        for one in self._connections:
            total.add(one.counts())
        return total

    def slowest(self, *, flush: bool = False) -> dict[str, list[tuple[int, float]]]:
        """The slowest query and transaction of every second that is over, since it was last asked for. `flush` when all has stopped."""
        for one in self._connections if flush else ():
            one.queries.flush()
            one.transactions.flush()
        return {
            "queries": [second for one in self._connections for second in one.queries.drain()],
            "transactions": [second for one in self._connections for second in one.transactions.drain()],
        }

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
                link = self.reach.connect()
                with link.database as database:
                    transaction = Transaction(database, token, link.look())
                    sign(transaction, _FENCE)
                    self.ledger.intent(token, transaction.effects)
                    try:
                        database.commit()
                    except DRIVER_ERRORS:
                        self.ledger.settle(token, self.reach.ask(token), transaction.before)
                        raise
                    self.ledger.ack(token)
                    return token
            except DRIVER_ERRORS:
                if time.monotonic() > deadline:
                    raise TimeoutError("the database cannot be reached for the load's last transaction") from None
                time.sleep(0.2)

    def _run(self, one: _Connection) -> None:
        try:
            one.work()
        except BaseException as error:  # a thread's end must not go unseen
            self._failure = error
            self._stopping.set()
            raise


def sign(transaction: Transaction, number: int) -> None:
    """The transaction's own row, by which anybody can tell later whether it committed."""
    transaction.insert("request", {"token": transaction.token, "made_by": number, "made_at": datetime.datetime.now(datetime.UTC)})


class _TryAgain(Exception):
    """This transaction has no effect, and nobody is to blame: the same again on a new connection."""


class _Connection:
    """The work of one thread."""

    def __init__(self, load: Load, number: int) -> None:
        self._load = load
        self.number = number
        self._random = random.Random(f"{load._seed}/{number}")
        self._counts = Counts()
        self.queries, self.transactions = Meter(), Meter()
        self._unknown: list[Transaction] = []

    def counts(self) -> Counts:
        slowest, query = self.transactions.slowest_ms, self.queries.slowest_ms
        return dataclasses.replace(self._counts, queries=self.queries.count, slowest_ms=slowest, slowest_query_ms=query)

    def work(self) -> None:
        load = self._load
        interval = len(load._connections) / load.rate
        due = time.monotonic() + self._random.random() * interval
        link: Link | None = None
        surroundings: Surroundings | None = None
        began: float | None = None  # of a transaction that is tried again
        operation = self._choice()
        try:
            while not load._stopping.wait(max(0.0, due - time.monotonic())):
                if link is None or surroundings is None:
                    link = self._open()
                    if link is None:
                        continue
                    surroundings = surroundings or self._survey(link)
                began = began or time.monotonic()
                try:
                    self._one(link, surroundings, operation)
                except _TryAgain:
                    link.database.close()
                    link = None
                    self._counts.reconnects += 1
                    continue
                self.transactions.add((time.monotonic() - began) * 1000)
                due = max(due + interval, began - _CATCH_UP)
                began, operation = None, self._choice()
            self._settle_all()
        finally:
            if link is not None:
                link.database.close()

    def _choice(self) -> Operation:
        return self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]

    def _open(self) -> Link | None:
        """A connection, once what the last one left open is known; None to try again a little later."""
        at = self._load.reach.at
        try:
            self._settle()
            return self._load.reach.connect(self.queries)
        except DRIVER_ERRORS as error:
            if self._turned(error, at):
                return None
            if not is_lost(error) and not is_passing(error):
                raise
            self._load._stopping.wait(0.1)
            return None

    def _turned(self, error: BaseException, at: int) -> bool:
        """Whether that was a refusal, and the other side comes next."""
        if not self._load.reach.tries_again or not is_refused(error):
            return False
        self._counts.refused += 1
        self._load.reach.turn_from(at)
        self._load._stopping.wait(_LOOK_AGAIN)
        return True

    def _survey(self, link: Link) -> Surroundings:
        database, shapes = link.database, link.look()
        counts = [int(database.value(f"SELECT max(id) FROM {shapes[table].table}") or 1) for table in ("flights", "passenger", "booking")]
        database.commit()
        return Surroundings(self._random, lambda: datetime.datetime.now(datetime.UTC), *counts)

    def _one(self, link: Link, surroundings: Surroundings, operation: Operation) -> None:
        """One transaction, through to its line in the ledger. Raises `_TryAgain`: it has no effect, or it is not known yet whether it has."""
        ledger, database, token = self._load.ledger, link.database, str(uuid.uuid4())
        try:
            transaction = Transaction(database, token, link.look())
            operation(transaction, surroundings)
            sign(transaction, self.number)
        except NothingThere:
            self._roll_back(link)
            return
        except DRIVER_ERRORS as error:
            ledger.rolled_back(token, [("request", (token,), None)])
            if self._turned(error, link.at):
                raise _TryAgain from None
            if is_lost(error):
                self._counts.lost += 1
                raise _TryAgain from None
            if is_passing(error) or is_duplicate(error):
                self._counts.abandoned += 1
            else:
                self._refused(f"{operation.__name__}: {error}")
            self._roll_back(link)
            return
        if self._random.random() < self._load.rollbacks:
            ledger.rolled_back(token, transaction.before)
            self._counts.rolled_back += 1
            self._roll_back(link)
            return
        ledger.intent(token, transaction.effects)
        try:
            database.commit()
        except DRIVER_ERRORS as error:
            if is_lost(error):
                ledger.unknown(token)
                self._counts.unknown += 1
                self._unknown.append(transaction)
                raise _TryAgain from None
            ledger.settle(token, False, transaction.before)
            self._refused(f"COMMIT: {error}")
            self._roll_back(link)
            return
        ledger.ack(token)
        self._counts.committed += 1

    def _roll_back(self, link: Link) -> None:
        """A connection that is gone meanwhile has rolled back too."""
        try:
            link.database.rollback()
        except DRIVER_ERRORS:
            self._counts.lost += 1
            raise _TryAgain from None

    def _refused(self, message: str) -> None:
        self._counts.failed += 1
        self._counts.first_error = self._counts.first_error or " ".join(message.split())
        self._load._stopping.wait(0.05)

    def _settle(self) -> None:
        """Asks about each transaction whose COMMIT got no answer."""
        while self._unknown:
            transaction = self._unknown[-1]
            committed = self._load.reach.ask(transaction.token)
            self._load.ledger.settle(transaction.token, committed, transaction.before)
            self._counts.committed += committed
            self._unknown.pop()

    def _settle_all(self) -> None:
        """The same at the end, as long as it takes; whoever stops the load gives up sooner."""
        while self._unknown:
            try:
                self._settle()
            except DRIVER_ERRORS as error:
                if not is_lost(error) and not is_passing(error) and not is_refused(error):
                    raise
                time.sleep(0.2)


def main() -> None:
    """The process: prints one JSON document at its end, and appends one line a second to `--stats`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.load", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--url", required=True, action="append", help="the source, a pooler, or source and target; LOAD_PASSWORD has the password")
    parser.add_argument("--pooled", action="store_true", help="the URL is a pooler's: each transaction looks on which side it is")
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
    reach = Reach([Address(url, os.environ.get("LOAD_PASSWORD")) for url in given.url], pooled=given.pooled)
    load = Load(reach, ledger, rate=given.rate, connections=given.connections, seed=given.seed)
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
        line = {"at": time.time(), **dataclasses.asdict(load.counts()), "slowest": load.slowest(flush=bool(more)), **more}
        file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


if __name__ == "__main__":
    main()
