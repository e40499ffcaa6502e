"""The application speaks both sides' tables: what it writes there and reads back is what it meant, and is what the mapping makes of it."""

from __future__ import annotations

import pytest

from deploy.local.database import Dialect, Record, plain
from deploy.local.expected import Travel
from deploy.local.shapes import HOME, moved

ROWS: dict[str, Record] = {
    "passenger": {
        "id": "7",
        "name": "Zoë García",
        "email": "z@example.com",
        "status": "I",
        "points": "12",
        "born": None,
        "newsletter": "t",
        "legacy_code": "P1",
        "created_at": "2024-01-31 23:59:59.500000",
    },
    "booking": {
        "id": "8",
        "reference": "AB12CD",
        "passenger_id": "7",
        "flight_id": "9",
        "fare": "10.50",
        "currency": "EUR",
        "booked_at": "2024-01-31 23:59:59.500000",
        "itinerary": "{}",
        "notes": None,
    },
    "payment": {"id": "1", "booking_id": "8", "amount": "10.50", "method": "card", "card": "1234567890123456", "paid_at": None},
    "seat": {"flight_id": "9", "seat": "12A", "booking_id": "8"},
    "request": {"token": "t", "made_by": "1", "made_at": "2024-01-31 23:59:59.500000"},
}


@pytest.mark.parametrize("target", ["postgresql", "mariadb"])
@pytest.mark.parametrize("table", ROWS)
def test_a_row_written_on_the_target_is_what_crossfade_would_make_of_it_and_comes_back_as_it_was(table: str, target: Dialect) -> None:
    shape, row = moved(target, "postgresql")[table], ROWS[table]
    there = {column: plain(value) for column, value in shape.write(row).items()}
    (expected,) = Travel(target)(table, (1,), row)
    assert (shape.table, there) == (expected.table, expected.row)
    assert shape.read(there) == {column: value for column, value in row.items() if column != "legacy_code"}  # the target has not got that


def test_parts_of_a_row_and_values_as_the_application_has_them() -> None:
    shape = moved("mariadb", "postgresql")["passenger"]
    assert shape.write({"status": "A"}) == {"state": "active"} and shape.write({"points": 5}) == {"points": 5}
    assert shape.write({"newsletter": False}) == {"newsletter": "0"}
    assert moved("postgresql", "mariadb")["passenger"].read(
        {"first_name": "A", "last_name": "B", "state": "active", "newsletter": "t"}
    ) == {
        "name": "A B",
        "status": "A",
        "newsletter": "1",  # as the source, from which it comes, says it
    }
    assert moved("postgresql", "postgresql")["payment"].column("booking_id") == "reservation_id"
    assert HOME["payment"].write({"card": "1"}) == {"card": "1"}
