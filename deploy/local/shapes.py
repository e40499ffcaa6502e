"""The application's tables as each side has them. It thinks in the shape of before the move and speaks both: the release that a team
rolls out before it crosses over, so that the same program works on whichever side it finds itself.

Its own code, as `expected` is: crossfade's mapping is checked by both and used by neither.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TypeAlias

from deploy.local.database import Dialect, Plain, Record

Values: TypeAlias = Mapping[str, object]
_STATES = {"A": "active", "I": "inactive"}
_STATUSES = {state: status for status, state in _STATES.items()}


def _nothing(_values: Values) -> dict[str, object]:
    return {}


def _as_it_is(record: Record) -> Record:
    return {}


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """One table on one side: what it is called, which columns have other names, and which are made of others."""

    table: str
    renamed: Mapping[str, str] = dataclasses.field(default_factory=dict)  # the application's word for a column: this side's
    absent: frozenset[str] = frozenset()  # columns that this side has not got, or keeps in another form
    made: frozenset[str] = frozenset()  # columns that only this side has
    write_more: Callable[[Values], dict[str, object]] = _nothing  # what of `made` the values say
    read_more: Callable[[Record], Record] = _as_it_is  # what of `absent` a row says

    def column(self, name: str) -> str:
        return self.renamed.get(name, name)

    def write(self, values: Values) -> dict[str, object]:
        """The application's values as columns of this side; also of a part of a row."""
        return {self.column(name): value for name, value in values.items() if name not in self.absent} | self.write_more(values)

    def read(self, record: Record) -> Record:
        """A row of this side as the application knows it, without what this side does not keep."""
        names = {theirs: ours for ours, theirs in self.renamed.items()}
        return {names.get(name, name): value for name, value in record.items() if name not in self.made} | self.read_more(record)


Shapes: TypeAlias = Mapping[str, Shape]
"""By the application's name of the table."""

TABLES = ("flights", "passenger", "booking", "payment", "seat", "request")
HOME: Shapes = {table: Shape(table) for table in TABLES}
"""The source: as the application has always known it."""
FOUND_BY = "booking"
"""A table that only the source has: where it is there, that side is the source."""


def moved(target: Dialect, home: Dialect) -> Shapes:
    """The target of this product, for an application that comes from `home`."""
    words = {"postgresql": ("f", "t"), "mariadb": ("0", "1")}
    here, there = words[home], words[target]

    def flag(value: object, to: tuple[str, str]) -> str:
        return to[plainly(value) in ("t", "1")]

    def customer(values: Values) -> dict[str, object]:
        found: dict[str, object] = {}
        if "name" in values:
            found["first_name"], found["last_name"] = str(values["name"]).split(" ")
        if "status" in values:
            found["state"] = _STATES[str(values["status"])]
        if "newsletter" in values:
            found["newsletter"] = flag(values["newsletter"], there)
        return found

    def passenger(record: Record) -> Record:
        return {
            "name": f"{record['first_name']} {record['last_name']}",
            "status": _STATUSES[record["state"] or ""],
            "newsletter": flag(record["newsletter"], here),
        }

    return {
        "flights": Shape(
            "flight",
            {"carrier": "airline_code", "flight": "flight_number", "dest": "destination", "tailnum": "tail_number", "distance": "miles"},
            made=frozenset({"route"}),  # of columns that no operation changes
        ),
        "passenger": Shape(
            "customer",
            absent=frozenset({"name", "status", "newsletter", "legacy_code"}),
            made=frozenset({"first_name", "last_name", "state", "newsletter"}),
            write_more=customer,
            read_more=passenger,
        ),
        "booking": Shape("reservation", {"passenger_id": "customer_id", "fare": "price"}),
        "payment": Shape(
            "payment",
            {"booking_id": "reservation_id", "card": "card_number"},
            made=frozenset({"card_shown"}),
            write_more=lambda values: {"card_shown": shown(values["card"])} if "card" in values else {},
        ),
        "seat": Shape("seat_assignment", {"booking_id": "reservation_id"}),
        "request": Shape("request_log"),
    }


def shown(card: object) -> Plain:
    """All but the last four digits hidden."""
    return None if card is None else "*" * (len(str(card)) - 4) + str(card)[-4:]


def plainly(value: object) -> str:
    """A truth value of the application or of either driver as a word."""
    return {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)
