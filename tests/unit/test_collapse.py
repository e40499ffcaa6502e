"""The net effect of many events is what the events do one after the other."""

from __future__ import annotations

import dataclasses
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
from transforms.pairing import resolve

ITEM = TableId(SCHEMA, "item")


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


@dataclasses.dataclass
class Source:
    """The table as it is, and the events that made it so."""

    rows: dict[int, dict[str, Any]]
    events: list[Change] = dataclasses.field(default_factory=list)
    ticks: int = 0

    def event(self, op: str, before: Any, after: Any) -> None:
        self.events.append(Change(op, ITEM, before, after and dict(after), len(self.events) + 1, len(self.events)))

    def do(self, what: str, key: int, other: int, left_out: bool, v: str) -> None:
        rows = self.rows
        self.ticks += 1
        if what == "put" and key not in rows:
            rows[key] = {"id": key, "v": v, "big": f"b{self.ticks}", "u": None}
            self.event("c", None, rows[key])
        elif what == "put":
            rows[key] |= {"v": v} if left_out else {"v": v, "big": f"b{self.ticks}"}
            self.event("u", None, rows[key] | ({"big": UNAVAILABLE} if left_out else {}))
        elif what == "delete" and key in rows:
            del rows[key]
            self.event("d", {"id": key, "v": None, "big": None, "u": None}, None)
        elif what == "move" and key in rows and other not in rows:
            rows[other] = rows.pop(key) | {"id": other, "v": v}
            self.event("d", {"id": key, "v": None, "big": None, "u": None}, None)
            self.event("c", None, rows[other] | ({"big": UNAVAILABLE} if left_out else {}))
        elif what == "truncate":
            rows.clear()
            self.event("t", None, None)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "move", "move", "truncate"]),
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


def text(rows: dict[int, dict[str, Any]]) -> dict[Key, TextRow]:
    return {(str(k),): (str(k), r["v"], r["big"], r["u"]) for k, r in rows.items()}


@settings(max_examples=1500, deadline=None, derandomize=True)
@given(STEPS, STEPS)
def test_s9_s10_s14_s15_one_batch_does_what_its_events_do_one_by_one(first: list[Any], second: list[Any]) -> None:
    """Inserts, deletes, key changes there and back, columns left out (unchanged TOAST), truncates, of three keys, in any order."""
    source = Source({})
    for step in first:
        source.do(*step)
    before = text(source.rows)
    source.events.clear()
    for step in second:
        source.do(*step)
    assert applied(before, source.events, WHOLE) == text(source.rows)


@settings(max_examples=800, deadline=None, derandomize=True)
@given(STEPS, STEPS)
def test_a_row_that_enters_or_leaves_the_filter_is_an_insert_or_a_delete(first: list[Any], second: list[Any]) -> None:
    def kept(rows: dict[int, dict[str, Any]]) -> dict[int, dict[str, Any]]:
        return {k: r for k, r in rows.items() if r["v"] != "x"}

    def whole(steps: list[Any]) -> list[Any]:
        return [(what, key, other, False, v) for what, key, other, _, v in steps]  # a filter may need any column: full identity

    source = Source({})
    for step in whole(first):
        source.do(*step)
    before = text(kept(source.rows))
    source.events.clear()
    for step in whole(second):
        source.do(*step)
    assert applied(before, source.events, FILTERED) == text(kept(source.rows))


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
        collapse.add([Change(op, ITEM, before, after, 1, 77)])
    assert "item" in str(raised.value)


def test_s24_a_partial_update_of_a_key_deleted_before_it_is_refused() -> None:
    collapse = Collapse({ITEM: [WHOLE]})
    gone = {"id": 1, "v": None, "big": None, "u": None}
    with pytest.raises(DataRejected, match="updated after it was deleted"):
        collapse.add(
            [Change("d", ITEM, gone, None, 1, 1), Change("u", ITEM, None, {"id": 1, "v": "a", "big": UNAVAILABLE, "u": None}, 2, 2)]
        )


def test_changes_of_tables_that_do_not_migrate_are_left_out() -> None:
    collapse = Collapse({ITEM: [WHOLE]})
    collapse.add([Change("c", TableId(SCHEMA, "audit"), None, {"id": 1}, 1, 1)])
    assert collapse.batches() == []
