"""Live traffic: several connections keep changing the database at a target rate, and the ledger learns what each of them was promised.

In a process of its own (`LOAD_PASSWORD=… python -m deploy.local.load --url … --ledger …`), or in this one through `Load`.
"""

from __future__ import annotations

import argparse
import dataclasses
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
from deploy.local.client import Client, Counts, sign
from deploy.local.ledger import Ledger
from deploy.local.reach import DRIVER_ERRORS, Reach
from deploy.local.transaction import Transaction

_FENCE = -1  # `made_by` of the last transaction


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
        self._stopping = threading.Event()
        self.clients = [
            Client(
                number,
                self.reach,
                ledger,
                self._stopping,
                every=connections / rate,
                rollbacks=rollbacks,
                seed=random.SystemRandom().getrandbits(64) if seed is None else seed,
            )
            for number in range(connections)
        ]
        self._threads = [threading.Thread(target=self._run, args=(one,), name=f"load-{one.number}") for one in self.clients]
        self._failure: BaseException | None = None

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def counts(self) -> Counts:
        """The sum over all connections, at any time."""
        total = Counts()
        for one in self.clients:
            total.add(one.counts())
        return total

    def slowest(self, *, flush: bool = False) -> dict[str, list[tuple[int, float]]]:
        """The slowest query and transaction of every second that is over, since it was last asked for. `flush` when all has stopped."""
        for one in self.clients if flush else ():
            one.queries.flush()
            one.transactions.flush()
        return {
            "queries": [second for one in self.clients for second in one.queries.drain()],
            "transactions": [second for one in self.clients for second in one.transactions.drain()],
        }

    def stop(self, timeout: float = 60.0) -> str:
        """Ends every client's work, asks about unknown outcomes and commits one last transaction.

        Answers its token: when it is in the target, everything before it is. Raises what ended a client's work early, or
        TimeoutError while the source cannot be reached.
        """
        self._stopping.set()
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        if self._failure is not None:
            raise self._failure
        if any(thread.is_alive() for thread in self._threads):
            raise TimeoutError(f"the load's clients have not ended within {timeout:g} s")
        return self._last_word(deadline)

    @property
    def failed(self) -> BaseException | None:
        """What ended a client's work early: an error that is neither a lost connection nor a conflict."""
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

    def _run(self, one: Client) -> None:
        try:
            one.work()
        except BaseException as error:  # a thread's end must not go unseen
            self._failure = error
            self._stopping.set()
            raise


def main() -> None:
    """The process: prints one JSON document at its end, and appends one line a second to `--stats`."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local.load", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--url", required=True, action="append", help="the source, a pooler, or source and target; LOAD_PASSWORD has the password"
    )
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
