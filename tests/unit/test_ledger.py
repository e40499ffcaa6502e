"""The ledger itself: what it promises after every way a transaction can end, and that a target which breaks a promise is caught."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from deploy.local.database import Record
from deploy.local.expected import Travel
from deploy.local.ledger import Account, Effect, Ledger, RowKey
from deploy.local.reckoning import Fault, identity, reckon
from pipeline.errors import CrossfadeError

KEYS = {"person": ("id",), "seat": ("flight", "seat"), "request": ("token",)}


class Target:
    """Rows of a target in memory."""

    def __init__(self, **tables: list[Record]) -> None:
        self.tables = tables

    def fetch(self, table: str, key_columns: Sequence[str], keys: Sequence[RowKey] | None) -> Iterator[Record]:
        wanted = None if keys is None else {tuple(map(str, key)) for key in keys}
        for record in self.tables.get(table, []):
            if wanted is None or tuple(record[column] for column in key_columns) in wanted:
                yield record


def person(number: int, name: str) -> tuple[Effect, Record]:
    record: Record = {"id": str(number), "name": name}
    return ("person", (number,), record), record


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    yield ledger
    ledger.close()


def test_lost_stale_and_extra_rows_are_caught_and_nothing_else(ledger: Ledger) -> None:
    for number in range(1, 6):
        effect, _ = person(number, f"p{number}")
        token = f"t{number}"
        ledger.intent(token, [effect, ("request", (token,), {"token": token})])
        ledger.ack(token)
    ledger.intent("t6", [("person", (5,), None), ("request", ("t6",), {"token": "t6"})])
    ledger.ack("t6")
    ledger.rolled_back("t7", [("person", (7,), None), ("request", ("t7",), None)])
    people = [person(number, f"p{number}")[1] for number in range(1, 5)]
    requests: list[Record] = [{"token": f"t{number}"} for number in range(1, 7)]

    account = Account.read(ledger.path)
    right = reckon(account, Target(person=people, request=requests), identity(KEYS), [("request", ("token",))])
    assert right.clean and right.acknowledged == 6 and right.rolled_back == 1 and right.keys == 13

    stale: Record = {"id": "2", "name": "older"}
    back: Record = {"id": "5", "name": "p5"}  # deleted in t6
    failed: Record = {"id": "7", "name": "p7"}  # rolled back in t7
    wrong = Target(person=[people[0], stale, people[3], back, failed], request=[*requests, {"token": "t7"}, {"token": "never promised"}])
    found = reckon(account, wrong, identity(KEYS), [("request", ("token",))])
    assert set(found.details) == {
        Fault("missing", "person", ("3",)),
        Fault("stale", "person", ("2",), ("name",)),
        Fault("unexpected", "person", ("5",)),
        Fault("unexpected", "person", ("7",)),
        Fault("unexpected", "request", ("t7",)),
        Fault("unexpected", "request", ("never promised",)),
    }
    assert (found.lost, found.unexpected) == (2, 4)


def test_an_unknown_outcome_counts_as_the_source_says_and_at_its_place(ledger: Ledger) -> None:
    ledger.intent("seen", [person(1, "old")[0]])
    ledger.ack("seen")
    ledger.intent("yes", [person(1, "committed")[0], person(2, "two")[0]])
    ledger.unknown("yes")
    ledger.intent("no", [person(2, "never")[0], person(3, "never")[0]])
    ledger.unknown("no")
    ledger.intent("later", [person(2, "newest")[0]])  # before anybody was asked
    ledger.ack("later")
    with pytest.raises(CrossfadeError, match="2 transactions of unknown outcome"):
        reckon(Account.read(ledger.path), Target(), identity(KEYS))
    ledger.settle("no", False, [person(2, "two")[0], ("person", (3,), None)])

    account = Account.read(ledger.path, ask=lambda token: token == "yes")
    assert account.undecided == () and (account.acknowledged, account.rolled_back) == (3, 1)
    assert account.state == {
        ("person", (1,)): {"id": "1", "name": "committed"},
        ("person", (2,)): {"id": "2", "name": "newest"},
        ("person", (3,)): None,
    }


def test_a_line_cut_short_by_a_kill_promises_nothing_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    first = Ledger(path)
    first.intent("a", [person(1, "one")[0]])
    first.ack("a")
    first.close()
    with path.open("ab") as file:
        file.write(b'["intent","b",[["person",[1],{"id":"1","na')
    assert Account.read(path).state["person", (1,)] == {"id": "1", "name": "one"}
    second = Ledger(path)
    second.intent("c", [person(1, "two")[0]])
    second.ack("c")
    second.close()
    assert Account.read(path).state == {("person", (1,)): {"id": "1", "name": "two"}}


def test_lines_of_many_threads_do_not_mix(ledger: Ledger) -> None:
    def write(thread: int) -> None:
        for number in range(200):
            ledger.intent(
                f"{thread}/{number}", [("seat", (thread, str(number)), {"flight": str(thread), "seat": str(number), "x": "y" * 3_000})]
            )
            ledger.ack(f"{thread}/{number}")

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    account = Account.read(ledger.path)
    assert account.acknowledged == len(account.state) == 800


def test_the_demos_mapping_is_expected_as_its_file_says() -> None:
    """Split name, mapped status, masked card, concatenated route, dropped column, changed names."""
    expect = Travel("mariadb")
    passenger: Record = {
        "id": "1",
        "name": "Zoë García",
        "email": "z@example.com",
        "status": "I",
        "points": "7",
        "born": None,
        "newsletter": "t",
        "legacy_code": "P1",
        "created_at": "2024-01-31 23:59:59.500000",
    }
    (customer,) = expect("passenger", (1,), passenger)
    assert (customer.table, customer.key_columns, customer.key) == ("customer", ("id",), (1,))
    assert customer.row == {
        "id": "1",
        "first_name": "Zoë",
        "last_name": "García",
        "email": "z@example.com",
        "state": "inactive",
        "points": "7",
        "born": None,
        "newsletter": "1",
        "created_at": "2024-01-31 23:59:59.500000",
    }
    (payment,) = expect(
        "payment", (2,), {"id": "2", "booking_id": "3", "amount": "1.50", "method": "card", "card": "1234567890123456", "paid_at": None}
    )
    assert (
        payment.row is not None
        and payment.row["card_number"] == "1234567890123456"
        and payment.row["card_shown"] == "************3456"
        and payment.row["reservation_id"] == "3"
    )
    assert [gone.row for gone in expect("seat", (4, "1A"), None)] == [None]
