"""One client of the application: transactions one after the other, each through to its line in the ledger.

Behind a pooler nothing is ever tried twice but what the server itself undid. With two addresses, where this side refuses, the same is tried
again on the other one.
"""

from __future__ import annotations

import dataclasses
import datetime
import random
import threading
import time
import uuid

from deploy.local.database import is_duplicate, is_lost, is_passing, is_refused
from deploy.local.ledger import Ledger
from deploy.local.meter import Meter
from deploy.local.operations import OPERATIONS, Operation, Surroundings
from deploy.local.reach import DRIVER_ERRORS, Link, Reach
from deploy.local.transaction import NothingThere, Transaction

_CATCH_UP = 1.0  # seconds of backlog that are made up for after a stall; more is given up
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


def sign(transaction: Transaction, number: int) -> None:
    """The transaction's own row, by which anybody can tell later whether it committed."""
    transaction.insert("request", {"token": transaction.token, "made_by": number, "made_at": datetime.datetime.now(datetime.UTC)})


class TryAgain(Exception):
    """This transaction has no effect, and nobody is to blame: the same again on a new connection."""


class Client:
    """One connection of the application, and the work of one thread. `every`: seconds between two transactions; `rollbacks`: the share
    of them that is rolled back on purpose."""

    def __init__(
        self, number: int, reach: Reach, ledger: Ledger, stopping: threading.Event, *, every: float, rollbacks: float, seed: int
    ) -> None:
        self.number = number
        self._reach, self._ledger, self._stopping = reach, ledger, stopping
        self._every, self._rollbacks = every, rollbacks
        self._random = random.Random(f"{seed}/{number}")
        self._counts = Counts()
        self.queries, self.transactions = Meter(), Meter()
        self._unknown: list[Transaction] = []

    def counts(self) -> Counts:
        slowest, query = self.transactions.slowest_ms, self.queries.slowest_ms
        return dataclasses.replace(self._counts, queries=self.queries.count, slowest_ms=slowest, slowest_query_ms=query)

    def work(self) -> None:
        due = time.monotonic() + self._random.random() * self._every
        link: Link | None = None
        surroundings: Surroundings | None = None
        began: float | None = None  # of a transaction that is tried again
        operation = self._choice()
        try:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                if link is None or surroundings is None:
                    link = self._open()
                    if link is None:
                        continue
                    surroundings = surroundings or self.survey(link)
                began = began or time.monotonic()
                try:
                    self._one(link, surroundings, operation)
                except TryAgain:
                    link.database.close()
                    link = None
                    self._counts.reconnects += 1
                    continue
                self.transactions.add((time.monotonic() - began) * 1000)
                due = max(due + self._every, began - _CATCH_UP)
                began, operation = None, self._choice()
            self._settle_all()
        finally:
            if link is not None:
                link.database.close()

    def _choice(self) -> Operation:
        return self._random.choices(list(OPERATIONS), list(OPERATIONS.values()))[0]

    def _open(self) -> Link | None:
        """A connection, once what the last one left open is known; None to try again a little later."""
        at = self._reach.at
        try:
            self._settle()
            return self._reach.connect(self.queries)
        except DRIVER_ERRORS as error:
            if self._turned(error, at):
                return None
            if not is_lost(error) and not is_passing(error):
                raise
            self._stopping.wait(0.1)
            return None

    def _turned(self, error: BaseException, at: int) -> bool:
        """Whether that was a refusal, and the other side comes next."""
        if not self._reach.tries_again or not is_refused(error):
            return False
        self._counts.refused += 1
        self._reach.turn_from(at)
        self._stopping.wait(_LOOK_AGAIN)
        return True

    def survey(self, link: Link) -> Surroundings:
        """How far the tables go, for operations to choose from."""
        database, shapes = link.database, link.look()
        counts = [int(database.value(f"SELECT max(id) FROM {shapes[table].table}") or 1) for table in ("flights", "passenger", "booking")]
        database.commit()
        return Surroundings(self._random, lambda: datetime.datetime.now(datetime.UTC), *counts)

    def _one(self, link: Link, surroundings: Surroundings, operation: Operation) -> None:
        """One transaction, through to its line in the ledger. Raises `TryAgain`: it has no effect, or nobody knows yet whether it has."""
        ledger, database, token = self._ledger, link.database, str(uuid.uuid4())
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
                raise TryAgain from None
            if is_lost(error):
                self._counts.lost += 1
                raise TryAgain from None
            if is_passing(error) or is_duplicate(error):
                self._counts.abandoned += 1
            else:
                self._refused(f"{operation.__name__}: {error}")
            self._roll_back(link)
            return
        if self._random.random() < self._rollbacks:
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
                raise TryAgain from None
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
            raise TryAgain from None

    def _refused(self, message: str) -> None:
        self._counts.failed += 1
        self._counts.first_error = self._counts.first_error or " ".join(message.split())
        self._stopping.wait(0.05)

    def _settle(self) -> None:
        """Asks about each transaction whose COMMIT got no answer."""
        while self._unknown:
            transaction = self._unknown[-1]
            committed = self._reach.ask(transaction.token)
            self._ledger.settle(transaction.token, committed, transaction.before)
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
