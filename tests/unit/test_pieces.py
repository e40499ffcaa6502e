"""Transactions in pieces: a key change stays whole, and reading goes on anywhere between the pieces."""

from __future__ import annotations

import orjson
import pytest

from connectors.postgres.events import PostgresEvents
from pipeline.apply.batch import Intake
from pipeline.errors import GapInStream
from pipeline.model import Applied
from pipeline.stream.assembler import Assembler, Pieces


def records(*ops: str, count: int | None = None) -> list[tuple[int, bytes]]:
    """One transaction: BEGIN, an event for each letter, END; offsets from 0."""
    rows: list[dict[str, object]] = [{"status": "BEGIN", "id": "7:100", "event_count": None}]
    place = 99
    for order, op in enumerate(ops, 1):
        place += not (op == "c" and ops[order - 2] == "d")  # a key change is one event of the source's log
        source = {"schema": "public", "table": "t", "lsn": place, "sequence": '["60","101"]'}
        image = {"id": order}
        rows.append(
            {
                "op": op,
                "before": image if op == "d" else None,
                "after": None if op == "d" else image,
                "source": source,
                "transaction": {"id": f"7:{place}", "total_order": order},
            }
        )
    rows.append({"status": "END", "id": "7:200", "event_count": len(ops) if count is None else count})
    return [(at, orjson.dumps(row)) for at, row in enumerate(rows)]


def test_s9_s22_a_piece_never_ends_between_the_halves_of_a_key_change() -> None:
    pieces = Assembler(PostgresEvents(), pieces=Pieces(rows=2)).feed(records("u", "d", "c", "u", "d"))
    assert [[c.op for c in p.changes] for p in pieces] == [["u", "d", "c"], ["u", "d"]]
    assert [(p.begins, p.place, p.last) for p in pieces] == [(True, 101, False), (False, 103, True)]
    assert [p.next_offset for p in pieces] == [4, 7]


def test_s22_what_follows_the_first_piece_takes_less_memory() -> None:
    topic, limits = records(*"uuuuuuuuuu"), Pieces(rows=5, next_rows=2)
    pieces = Assembler(PostgresEvents(), pieces=limits).feed(topic)
    assert [len(p.changes) for p in pieces] == [5, 2, 2, 1]
    # Taken up in the middle, as after a restart, it is not whole any more either.
    again = Assembler(PostgresEvents(), pieces=limits).feed(topic[pieces[0].next_offset :])
    assert [len(p.changes) for p in again] == [2, 2, 1]
    # One that just fits stays whole.
    assert [len(p.changes) for p in Assembler(PostgresEvents(), pieces=limits).feed(records(*"uuuuu"))] == [5]


def test_s22_reading_goes_on_after_any_piece_and_applies_each_event_once() -> None:
    topic = records("u", "u", "d", "c", "u")
    whole = Assembler(PostgresEvents(), pieces=Pieces(rows=2)).feed(topic)
    for stop in range(len(whole)):
        intake = Intake(PostgresEvents(), {}, Applied("main", 1, "60"))
        for piece in whole[: stop + 1]:
            intake.add(piece, lambda _t: None)
        applied = intake.take().after
        again = Intake(PostgresEvents(), {}, applied)
        for piece in Assembler(PostgresEvents(), pieces=Pieces(rows=100)).feed(topic[applied.offset :]):
            again.add(piece, lambda _t: None)
        places = [c.place for t in again.batch.transactions for c in t.changes if c.place > applied.partial_place]
        first = [c.place for piece in whole[stop + 1 :] for c in piece.changes]
        assert places == first
        assert again.after.position == "200" and again.after.partial_id == ""


def test_s6_i9_an_end_whose_events_were_never_applied_is_a_gap() -> None:
    end = records("u", "u")[-1:]
    intake = Intake(PostgresEvents(), {}, Applied("main", 1, "60"))
    (transaction,) = Assembler(PostgresEvents()).feed(end)
    with pytest.raises(GapInStream):
        intake.add(transaction, lambda _t: None)
