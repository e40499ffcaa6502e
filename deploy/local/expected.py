"""What the demo's mapping must make of each row, written by hand: schema/migration.yaml said a second time, independently."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TypeAlias

from deploy.local.database import Dialect, Record
from deploy.local.ledger import RowKey
from deploy.local.reckoning import Expected

_Shape: TypeAlias = Callable[[Record], Record]


@dataclasses.dataclass(frozen=True, slots=True)
class _Pair:
    table: str
    key: tuple[str, ...]
    shape: _Shape


class Travel:
    """The mapping of the tables that the load writes, for a target of this product."""

    def __init__(self, target: Dialect) -> None:
        true, false = ("t", "f") if target == "postgresql" else ("1", "0")

        def customer(row: Record) -> Record:
            first, last = (row["name"] or "").split(" ")
            return {
                "first_name": first,
                "last_name": last,
                "state": {"A": "active", "I": "inactive"}[row["status"] or ""],
                "newsletter": true if row["newsletter"] in ("t", "1") else false,
                **_kept(row, "id", "email", "points", "born", "created_at"),
            }

        self._pairs = {
            "passenger": _Pair("customer", ("id",), customer),
            "booking": _Pair("reservation", ("id",), _reservation),
            "payment": _Pair("payment", ("id",), _payment),
            "seat": _Pair("seat_assignment", ("flight_id", "seat"), _seat_assignment),
            "flights": _Pair("flight", ("id",), _flight),
            "request": _Pair("request_log", ("token",), lambda row: _kept(row, "token", "made_by", "made_at")),
        }

    def __call__(self, table: str, key: RowKey, row: Record | None) -> Iterator[Expected]:
        pair = self._pairs[table]
        yield Expected(pair.table, pair.key, key, None if row is None else pair.shape(row))


def _kept(row: Record, *columns: str) -> Record:
    return {column: row[column] for column in columns}


def _reservation(row: Record) -> Record:
    return {
        "customer_id": row["passenger_id"],
        "price": row["fare"],
        **_kept(row, "id", "reference", "flight_id", "currency", "booked_at", "itinerary", "notes"),
    }


def _payment(row: Record) -> Record:
    card = row["card"]
    return {
        "reservation_id": row["booking_id"],
        "card_number": card,
        "card_shown": None if card is None else "*" * (len(card) - 4) + card[-4:],
        **_kept(row, "id", "amount", "method", "paid_at"),
    }


def _seat_assignment(row: Record) -> Record:
    return {"reservation_id": row["booking_id"], **_kept(row, "flight_id", "seat")}


def _flight(row: Record) -> Record:
    return {
        "airline_code": row["carrier"],
        "flight_number": row["flight"],
        "route": f"{row['origin']}-{row['dest']}",
        "destination": row["dest"],
        "tail_number": row["tailnum"],
        "miles": row["distance"],
        **_kept(row, "id", "flown_on", "origin", "sched_dep", "dep_time", "dep_delay", "sched_arr", "arr_time", "arr_delay", "air_time"),
        **_kept(row, "time_hour", "seats_sold", "updated_at"),
    }
