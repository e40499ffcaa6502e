"""Poison: bisection finds exactly the rows that the target refuses, and nothing later of a held key overtakes what is held of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from connectors.base import HeldEvent
from connectors.postgres.events import PostgresEvents
from pipeline.apply.batch import Intake
from pipeline.apply.quarantine import narrow
from pipeline.control.held import _batch as batch_of
from pipeline.errors import DataRejected
from pipeline.model import Applied
from tests.unit.applylab import ITEM, ROUTES, Flaky, Source, change, lab, transaction


def said(held: Sequence[HeldEvent]) -> list[str]:
    return [f"{h.state} {h.key}" for h in held]


def test_s24_poison_goes_to_quarantine_and_nothing_later_of_its_key_overtakes_it() -> None:
    async def go() -> None:
        one = lab(on_error="quarantine")
        one.writer.poison = {"bad"}
        many = [transaction(n, change(n, "bad" if n in (7, 23) else f"v{n}")) for n in range(1, 41)]
        await one.applier.submit(many)
        await one.applier.drain()
        assert set(one.rows) == {str(n) for n in range(1, 41)} - {"7", "23"}
        assert sorted(said(one.writer.held)) == ['held ["23"]', 'held ["7"]'] and one.target.applied.position == "40000"
        one.writer.held.clear()
        await one.applier.submit([transaction(41, change(7, "good"), change(8, "w")), transaction(42, change(7, None))])
        await one.applier.drain()
        assert one.rows["8"] == "w" and "7" not in one.rows
        assert said(one.writer.held) and set(said(one.writer.held)) == {'waiting ["7"]'}
        await one.applier.stop()
        later = lab(one.target, on_error="quarantine", held=[(1, ("7",)), (1, ("23",))])  # as the store tells the next opening
        await later.applier.submit([transaction(43, change(23, "good"))])
        await later.applier.drain()
        assert said(later.writer.held) == ['waiting ["23"]'] and "23" not in later.rows
        await later.applier.stop()

    asyncio.run(go())


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.sets(st.integers(1, 60), max_size=6), st.integers(1, 60))
def test_s24_bisection_finds_exactly_the_poison_rows(bad: set[int], count: int) -> None:
    one = lab()
    one.writer.poison = {"bad"}
    intake = Intake(PostgresEvents(), ROUTES, one.target.applied)
    for n in range(1, count + 1):
        intake.add(transaction(n, change(n, "bad" if n in bad else "v"), change(n + 1000, None)), lambda _t: None)
    batch = intake.take()
    found = narrow(one.writer, "m", batch, batch.collapse.batches(), DataRejected("refused"))
    poison = {n for n in bad if n <= count}
    assert found.keys == {(1, (str(n),)) for n in poison}
    assert sorted(said(found.events)) == sorted(f'held ["{n}"]' for n in poison)
    assert one.rows == {} and one.target.applied.position == ""  # looking changes nothing
    if poison:
        (rest,) = found.tables
        assert {int(str(row[0])) for row in rest.rows} == set(range(1, count + 1)) - poison and len(rest.deletes) == count
        assert one.writer.probes <= 2 * len(poison) * (count * 2).bit_length() + 1
        assert str(found.error).startswith(f"table {ITEM}, key id={min(poison)}: value bad is refused")


def test_s24_a_row_that_moves_away_from_a_held_key_waits_and_so_does_all_that_follows_it() -> None:
    """Its columns are partly those of the held row (unchanged TOAST). It waits as a delete and a row to be read from the source."""

    async def go() -> None:
        one = lab(on_error="quarantine")
        one.writer.poison = {"bad"}
        source = Source()
        source.do("put", 1, 0, False, "a")
        steps: list[tuple[Any, ...]] = [("put", 1, 0, False, "bad"), ("move", 1, 2, True, "c"), ("put", 2, 0, True, "d")]
        await one.applier.submit([transaction(1, *source.events)])
        await one.applier.drain()
        for n, step in enumerate(steps, 2):
            source.events.clear()
            source.do(*step)
            await one.applier.submit([transaction(n, *source.events)])
            await one.applier.drain()
        assert said(one.writer.held) == ['held ["1"]', 'waiting ["1"]', *['waiting ["2"]'] * 3]
        assert one.rows == {"1": "a"} and not one.target.tables[1].listed
        await one.applier.stop()

    asyncio.run(go())


STEP = st.tuples(
    st.sampled_from(["put", "put", "put", "delete", "move", "rekey"]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.booleans(),
    st.sampled_from(["a", "b", "c", "bad"]),
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.lists(st.lists(STEP, min_size=1, max_size=3), min_size=1, max_size=3), min_size=1, max_size=6), st.booleans())
def test_s24_once_the_target_is_mended_the_held_events_bring_it_to_where_the_source_is(batches: list[Any], reopened: bool) -> None:
    """Batches of transactions with poison in them; each batch is applied before the next comes. What was held goes in, in order."""

    async def go() -> None:
        source, number = Source(), 0
        one = lab(on_error="quarantine")
        target, held = one.target, []
        for batch in batches:
            one.writer.poison = {"bad"}
            transactions = []
            for steps in batch:
                source.events.clear()
                for step in steps:
                    source.do(*step)
                number += 1
                transactions.append(transaction(number, *source.events))
            await one.applier.submit(transactions)
            await one.applier.drain()
            held += one.writer.held
            one.writer.held.clear()
            if reopened:
                await one.applier.stop()
                one = lab(target, on_error="quarantine", held=[(1, tuple(orjson.loads(h.key))) for h in held])
        await one.applier.stop()
        keys = {tuple(orjson.loads(h.key)) for h in held}
        assert {k: v for k, v in target.tables[1].rows.items() if k not in keys and k not in target.tables[1].listed} == {
            k: v for k, v in source.text().items() if k not in keys and k not in target.tables[1].listed
        }  # whoever is not held is as on the source
        writer = Flaky(target)
        (route,) = ROUTES[ITEM]
        for event in held:
            now = writer.applied("m", "main")
            writer.apply("m", [batch_of(route.target, orjson.loads(event.event))], now, structs.replace(now))
        read = {key: (sequence, source.text().get(key)) for key, sequence in writer.listed(route.target, 100)}
        writer.merge_listed(route.target, read, overwrite=True)
        assert target.tables[1].rows == source.text()

    asyncio.run(go())


def test_s24_stop_says_which_row_and_keeps_nothing() -> None:
    async def go() -> None:
        one = lab(on_error="stop")
        one.writer.poison = {"bad"}
        with pytest.raises(DataRejected, match=r"key id=2: value bad is refused: mend the row or the target, or set on_error: quarantine"):
            await one.applier.submit([transaction(1, change(1, "a"), change(2, "bad"))])
            await one.applier.drain()
        assert one.rows == {} and one.writer.held == [] and one.target.applied == Applied("main", one.target.applied.epoch, "")
        await one.applier.stop()

    asyncio.run(go())
