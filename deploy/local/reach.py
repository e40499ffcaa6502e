"""How the application reaches its database while that moves: through a pooler that is told where to go, or by trying either side itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import psycopg
import pymysql

from connectors.base import Address
from deploy.local.database import Database, connect, dialect_of, is_duplicate, is_refused
from deploy.local.meter import Meter
from deploy.local.shapes import FOUND_BY, HOME, Shapes, moved

DRIVER_ERRORS = (psycopg.Error, pymysql.Error, OSError)


@dataclasses.dataclass(frozen=True, slots=True)
class Link:
    """An open connection. `shapes` None: behind a pooler each transaction may land on another side and has to look."""

    database: Database
    at: int
    shapes: Shapes | None

    def look(self) -> Shapes:
        """The tables of the side that this transaction is on. To be called first in each transaction."""
        if self.shapes is not None:
            return self.shapes
        found = self.database.value("SELECT to_regclass(%s) IS NOT NULL", [FOUND_BY])
        return HOME if found == "t" else moved("postgresql", "postgresql")


class Reach:
    """One address is the source's, or with `pooled` a pooler's; of two the second one is the target's."""

    def __init__(self, addresses: Sequence[Address], *, pooled: bool = False) -> None:
        self.addresses, self.pooled = tuple(addresses), pooled
        home = dialect_of(self.addresses[0])
        self._shapes: list[Shapes | None] = [None if pooled else HOME]
        self._shapes += [moved(dialect_of(address), home) for address in self.addresses[1:]]
        self._at = 0

    @property
    def tries_again(self) -> bool:
        """Whether the application takes a refusal for a reason to try the other side."""
        return len(self.addresses) > 1

    @property
    def at(self) -> int:
        """The side that comes next."""
        return self._at

    def connect(self, meter: Meter | None = None) -> Link:
        """To the side that took writes last. Raises the driver's error."""
        at = self._at
        return Link(connect(self.addresses[at], meter=meter), at, self._shapes[at])

    def turn_from(self, at: int) -> None:
        """That side does not take writes: the next one is tried from now on. One who comes late with it changes nothing."""
        if self._at == at:
            self._at = (at + 1) % len(self.addresses)

    def ask(self, token: str) -> bool:
        """Whether the transaction that wrote this token committed, on whichever side it was: asked is the side that takes writes, and what
        was committed before on the other one is there by then. Raises the driver's error when there is no answer."""
        for _ in self.addresses:
            at = self._at
            try:
                with self.connect().database as database:
                    link = Link(database, at, self._shapes[at])
                    return written(database, link.look()["request"].table, token)
            except DRIVER_ERRORS as error:
                if not self.tries_again or not is_refused(error):
                    raise
                self.turn_from(at)
                last = error
        raise last


def ask(address: Address, token: str, table: str = "request") -> bool:
    """The same of one server."""
    with connect(address) as database:
        return written(database, table, token)


def written(database: Database, table: str, token: str) -> bool:
    """Whether the transaction that wrote this token committed.

    Reading would not do: the server may still be about to commit it. Inserting the same key waits for that transaction's end, then
    fails if it committed and succeeds (to be rolled back) if it did not.
    """
    try:
        database.execute(f"INSERT INTO {table} (token, made_by, made_at) VALUES (%s, 0, '2000-01-01')", [token])
    except DRIVER_ERRORS as error:
        if not is_duplicate(error):
            raise
        return True
    finally:
        database.rollback()
    return False
