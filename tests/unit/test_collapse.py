"""The net effect of many events is what the events do one after the other."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.postgres.decode import decoder
from pipeline.apply.collapse import Collapse, Route
from pipeline.errors import DataRejected, SchemaChanged
from pipeline.model import Applied, Catalog, Change, Key, TableId
from pipeline.spec.load import parse
from tests.model.source import SCHEMA, UNAVAILABLE, source_table
from tests.model.target import ModelTable, ModelTarget, ModelWriter, TextRow
from tests.rowtext import rowtext
from tests.unit.applylab import ITEM, Source
from transforms.pairing import resolve


def route(**entry: object) -> Route:
    """A migration of `item` (id, v, big, u), compiled."""
    source = source_table("item")
    catalog = Catalog("postgresql", "postgresql", "18", "shop", SCHEMA, {source.id: source})
    spec = {
        "name": "m",
        "source": {"url": "postgresql://a@old/shop"},
        "target": {"url": "postgresql://a@new/shop"},
        "kafka": {"bootstrap": "k:9092"},
        "connect": {"url": "http://c:8083"},
        "tables": [{"from": "item", **entry}],
    }
    (pair,), _ = resolve(parse(orjson.dumps(spec).decode()), catalog, None)
    shape = pair.shape_events({c.name: decoder(c.type) for c in pair.source.columns})
    return Route(pair.with_target(pair.source).target_table(), shape, pair.filtered)


WHOLE, FILTERED = route(), route(where="v <> 'x'")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "move", "rekey", "truncate"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.booleans(),
        st.sampled_from(["x", "y", "z"]),
    ),
    max_size=12,
)


def applied(before: dict[Key, TextRow], events: list[Change], by: Route) -> dict[Key, TextRow]:
    """The target after one batch of these events."""
    collapse = Collapse({ITEM: [by]})
    collapse.add(events)
    table = ModelTable(by.target, rows=dict(before), copying=False, tracked=False)
    target = ModelTarget({by.target.number: table})
    ModelWriter(target).apply("m", collapse.batches(), target.applied, Applied("main", 0, "1"))
    done = target.tables[by.target.number]
    assert not done.listed, "a row whose columns could not be told"
    return done.rows


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(STEPS, STEPS, st.booleans())
def test_s9_s10_s14_s15_one_batch_does_what_its_events_do_one_by_one(first: list[Any], second: list[Any], full: bool) -> None:
    """Inserts, deletes, key changes there and back, columns left out (unchanged TOAST), truncates, of three keys, in any order."""
    source = Source(full=full)
    for step in first:
        source.do(*step)
    before = source.text()
    source.events.clear()
    for step in second:
        source.do(*step)
    assert applied(before, source.events, WHOLE) == source.text()


EVERY = [
    *(("put", key, 0, left_out, "y") for key in (0, 1) for left_out in (False, True)),
    *(("delete", key, 0, False, "y") for key in (0, 1)),
    *((what, key, 1 - key, True, "z") for what in ("move", "rekey") for key in (0, 1)),
    ("truncate", 0, 0, False, "y"),
]


def test_s10_every_sequence_of_two_keys() -> None:
    """insert→delete→insert and all the others: up to three statements on two keys that are there or not."""
    count = 0
    for there in itertools.product((False, True), repeat=2):
        for length in (1, 2, 3):
            for steps in itertools.product(EVERY, repeat=length):
                source = Source({k: {"id": k, "v": "x", "big": f"b-{k}", "u": None} for k in (0, 1) if there[k]})
                before = source.text()
                for step in steps:
                    source.do(*step)
                assert applied(before, source.events, WHOLE) == source.text(), (there, steps)
                count += 1
    assert count == 4 * (11 + 11**2 + 11**3)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(STEPS, STEPS, st.booleans())
def test_s10_a_row_that_enters_or_leaves_the_filter_is_an_insert_or_a_delete(first: list[Any], second: list[Any], full: bool) -> None:
    def kept(source: Source) -> dict[Key, TextRow]:
        return {k: r for k, r in source.text().items() if r[1] != "x"}

    def whole(steps: list[Any]) -> list[Any]:
        return [(what, key, other, False, v) for what, key, other, _, v in steps]  # a filter may need any column: nothing is left out

    source = Source(full=full)
    for step in whole(first):
        source.do(*step)
    before = kept(source)
    source.events.clear()
    for step in whole(second):
        source.do(*step)
    assert applied(before, source.events, FILTERED) == kept(source)


@pytest.mark.parametrize(
    ("event", "match"),
    [
        (("u", None, None), "op 'u' without a row"),
        (("d", None, None), "delete without a key"),
        (("c", None, {"id": 1, "v": "a", "big": UNAVAILABLE, "u": None}), "an inserted row of key .* lacks columns"),
        (("u", None, {"v": "a", "big": "b", "u": None}), "has no column 'id'"),  # the source's schema has changed
        (("c", None, {"id": 1, "v": "a", "u": None}), "has no column 'big'"),
    ],
)
def test_s24_an_event_that_lacks_what_it_must_have_names_its_table(event: tuple[str, Any, Any], match: str) -> None:
    collapse = Collapse({ITEM: [WHOLE]})
    op, before, after = event
    with pytest.raises((DataRejected, SchemaChanged), match=match) as raised:
        collapse.add([Change(op, ITEM, rowtext(before), rowtext(after), 1, 77)])
    assert "item" in str(raised.value)


def test_s24_a_partial_update_of_a_key_deleted_before_it_is_refused() -> None:
    collapse = Collapse({ITEM: [WHOLE]})
    gone = rowtext({"id": 1, "v": None, "big": None, "u": None})
    with pytest.raises(DataRejected, match="updated after it was deleted"):
        collapse.add(
            [
                Change("d", ITEM, gone, None, 1, 1),
                Change("u", ITEM, None, rowtext({"id": 1, "v": "a", "big": UNAVAILABLE, "u": None}), 2, 2),
            ]
        )


def test_changes_of_tables_that_do_not_migrate_are_left_out() -> None:
    collapse = Collapse({ITEM: [WHOLE]})
    collapse.add([Change("c", TableId(SCHEMA, "audit"), None, rowtext({"id": 1}), 1, 1)])
    assert collapse.batches() == []
