"""What the airline's application does to its tables: each function is one transaction, and one thing that breaks migrations.

Numbers S… are the scenarios the operation is there for: S8 a key moves across chunks, S9 key update, S10 delete and insert of one key,
S11 a unique value handed over, S14/S15 a large column left alone, S19 parent and child together.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import random
from collections.abc import Callable
from typing import Final, TypeAlias

from deploy.local.transaction import NothingThere, Transaction

_LONG: Final = 1_500  # bytes of a long note; twice that in letters, past PostgreSQL's 2 kB toast threshold
_MOVED: Final = 10_000_000_000  # payments move out of the range of generated ids


@dataclasses.dataclass(slots=True)
class Surroundings:
    """What an operation draws from: chance, the clock, and how far ids go."""

    random: random.Random
    now: Callable[[], datetime.datetime]
    flights: int
    passengers: int
    bookings: int

    def flight(self) -> int:
        return self.random.randint(1, self.flights)

    def passenger(self) -> int:
        return self.random.randint(1, self.passengers)

    def booking(self) -> int:
        """Recent bookings are likelier, as in life."""
        return (
            self.random.randint(1, self.bookings)
            if self.random.random() < 0.5
            else self.random.randint(self.bookings * 9 // 10, self.bookings)
        )

    def long_note(self) -> str:
        return "call transcript: " + self.random.randbytes(_LONG).hex()


Operation: TypeAlias = Callable[[Transaction, Surroundings], None]


def book(t: Transaction, s: Surroundings) -> None:
    """Booking, payment, seat and the flight's count in one transaction (S19)."""
    flight = t.lock_from("flights", s.flight())[0]
    cents = s.random.randint(2_900, 99_900)
    fare = f"{cents // 100}.{cents % 100:02}"
    booking = t.insert(
        "booking",
        {
            "reference": "L" + t.token.replace("-", "")[:7].upper(),
            "passenger_id": t.find_from("passenger", s.passenger()),
            "flight_id": flight.key[0],
            "fare": fare,
            "currency": s.random.choice(["USD", "EUR", "GBP"]),
            "booked_at": s.now(),
            "itinerary": json.dumps(
                {"to": flight["dest"], "bags": s.random.randint(0, 3), "from": flight["origin"], "said": 'Zoë "Z" \\ é'},
                ensure_ascii=s.random.random() < 0.5,
            ),
            "notes": s.long_note() if s.random.random() < 0.1 else None,
        },
    )
    card = str(s.random.randint(10**15, 10**16 - 1)) if s.random.random() < 0.6 else None
    method = "card" if card else "transfer"
    t.insert("payment", {"booking_id": booking.key[0], "amount": fare, "method": method, "card": card, "paid_at": s.now()})
    seat = f"{s.random.randint(100, 9999)}{s.random.choice('ABCDEF')}"
    t.insert("seat", {"flight_id": flight.key[0], "seat": seat, "booking_id": booking.key[0]})
    t.update(flight, {"seats_sold": flight.number("seats_sold") + 1, "updated_at": s.now()})
    s.bookings = max(s.bookings, int(booking.key[0]))


def earn_points(t: Transaction, s: Surroundings) -> None:
    """One row changes: points or status."""
    passenger = t.lock_from("passenger", s.passenger())[0]
    if s.random.random() < 0.2:
        t.update(passenger, {"status": "I" if passenger["status"] == "A" else "A"})
    else:
        t.update(passenger, {"points": passenger.number("points") + s.random.randint(1, 5_000)})


def amend(t: Transaction, s: Surroundings) -> None:
    """The fare changes, the large note beside it does not (S14)."""
    booking = t.lock_from("booking", s.booking(), "notes LIKE 'call%%'" if s.random.random() < 0.3 else "")[0]
    t.update(booking, {"fare": f"{s.random.randint(29, 999)}.{s.random.randint(0, 99):02}"})


def write_note(t: Transaction, s: Surroundings) -> None:
    """The large column changes, then a small one in a second statement of the same transaction (S15)."""
    booking = t.lock_from("booking", s.booking())[0]
    booking = t.update(booking, {"notes": s.long_note() if s.random.random() < 0.8 else None})
    t.update(booking, {"currency": s.random.choice(["USD", "EUR", "GBP"])})


def cancel(t: Transaction, s: Surroundings) -> None:
    """Booking, payments and seat go."""
    booking = t.lock_from("booking", s.booking())[0]
    for child in (*t.lock_where("payment", "booking_id", booking.key[0]), *t.lock_where("seat", "booking_id", booking.key[0])):
        t.delete(child)
    t.delete(booking)


def rebook(t: Transaction, s: Surroundings) -> None:
    """A booking without payments is deleted and made again under the same key in one transaction (S10)."""
    booking = t.lock_from("booking", s.booking())[0]
    payments = t.lock_where("payment", "booking_id", booking.key[0])
    seats = t.lock_where("seat", "booking_id", booking.key[0])
    for child in (*payments, *seats):
        t.delete(child)
    t.delete(booking)
    again = dict(booking.record) | {"booked_at": s.now(), "currency": "EUR"}
    if s.random.random() < 0.5:
        again["notes"] = None
    t.insert("booking", again)
    for child in payments:
        t.insert("payment", dict(child.record))


def change_seat(t: Transaction, s: Surroundings) -> None:
    """Part of a composite key changes (S9)."""
    seat = t.lock_from("seat", s.flight())[0]
    t.update(seat, {"seat": f"{s.random.randint(100, 9999)}{s.random.choice('GHJK')}"})


def move_payment(t: Transaction, s: Surroundings) -> None:
    """A key moves to the far end of the table, or behind its beginning (S8)."""
    payment = t.lock_from("payment", s.booking())[0]
    old = int(payment.key[0])
    t.update(payment, {"id": -old if s.random.random() < 0.5 else _MOVED + abs(old)})


def swap_emails(t: Transaction, s: Surroundings) -> None:
    """Two passengers exchange a unique value by way of a third one (S11)."""
    one = t.lock_from("passenger", s.passenger())[0]
    other = t.lock_from("passenger", s.passenger())[0]
    if one.key == other.key:
        raise NothingThere("passenger")
    first, second = one["email"], other["email"]
    one = t.update(one, {"email": f"swap.{t.token}@example.com"})
    t.update(other, {"email": first})
    t.update(one, {"email": second})


def hand_email_over(t: Transaction, s: Surroundings) -> None:
    """A new passenger takes the unique value that another row gives up (S11)."""
    passenger = t.lock_from("passenger", s.passenger())[0]
    freed = passenger["email"]
    t.update(passenger, {"email": f"moved.{t.token}@example.com"})
    t.insert(
        "passenger", {"name": passenger["name"], "email": freed, "status": "A", "points": 0, "newsletter": False, "created_at": s.now()}
    )


def swap_seats(t: Transaction, s: Surroundings) -> None:
    """Two rows exchange a nullable unique value by way of NULL (S11)."""
    one = t.lock_from("seat", s.flight())[0]
    other = t.lock_from("seat", s.flight())[0]
    if one.key == other.key:
        raise NothingThere("seat")
    first, second = one["booking_id"], other["booking_id"]
    one = t.update(one, {"booking_id": None})
    t.update(other, {"booking_id": first})
    t.update(one, {"booking_id": second})


def delay(t: Transaction, s: Surroundings) -> None:
    """A flight is late; the time may become 24:00:00 (S18)."""
    flight = t.lock_from("flights", s.flight())[0]
    when = "24:00:00" if s.random.random() < 0.05 else f"{s.random.randint(0, 23):02}:{s.random.randint(0, 59):02}:00"
    t.update(flight, {"dep_time": when, "dep_delay": s.random.randint(-30, 600), "updated_at": s.now()})


def reprice(t: Transaction, s: Surroundings) -> None:
    """Many rows in one transaction."""
    for booking in t.lock_from("booking", s.booking(), count=s.random.randint(20, 60)):
        t.update(booking, {"fare": f"{s.random.randint(29, 999)}.{s.random.randint(0, 99):02}"})


OPERATIONS: Final[dict[Operation, int]] = {
    book: 34,
    earn_points: 12,
    amend: 10,
    write_note: 4,
    cancel: 8,
    rebook: 6,
    change_seat: 6,
    move_payment: 4,
    swap_emails: 4,
    hand_email_over: 3,
    swap_seats: 3,
    delay: 12,
    reprice: 1,
}
"""Each operation with its share of the load."""
