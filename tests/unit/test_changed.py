"""Which keys the final verify of a crossing looks at."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import orjson

from connectors.postgres.events import PostgresEvents
from pipeline.apply.collapse import Route
from pipeline.control.changed import Changes, Keys
from pipeline.errors import DataRejected
from pipeline.model import Key, TableId


def test_the_newest_are_kept_and_a_key_that_changes_again_is_new() -> None:
    keys = Keys(3)
    for key in "1", "2", "3", "1", "4", "5":
        keys.add((key,))
    assert keys.take() == [("1",), ("4",), ("5",)] and keys.lost == 2
    assert len(keys) == 0 and keys.take() == []


def _key(text: bytes) -> Key:
    row = orjson.loads(bytes(text))
    if "id" not in row:
        raise DataRejected("no id")
    return (None if row["id"] is None else str(row["id"]),)  # type: ignore[return-value]


def _changes() -> Changes:
    route = SimpleNamespace(target=SimpleNamespace(number=7), shape=SimpleNamespace(key=_key))
    return Changes(PostgresEvents(), {TableId("public", "item"): [cast(Route, route)]})


def _event(op: str, before: Any, after: Any, table: str = "item") -> bytes:
    return orjson.dumps({"op": op, "source": {"schema": "public", "table": table}, "before": before, "after": after})


def test_a_key_that_becomes_another_gives_both_and_what_carries_none_gives_none() -> None:
    changes = _changes()
    changes.add(
        [
            orjson.dumps({"status": "BEGIN", "id": "7:1"}),
            _event("c", None, {"id": 1, "v": 1}),
            _event("u", {"id": 1, "v": 1}, {"id": 2, "v": 1}),
            _event("u", {"id": None, "v": 1}, {"id": 3, "v": 2}),  # a row before that came without its key
            _event("d", {"id": 4}, None),
            _event("d", {"v": 4}, None),
            _event("c", None, {"id": 5}, table="another"),
            _event("t", None, None),
        ]
    )
    assert changes.keys[7].take() == [("1",), ("2",), ("3",), ("4",)]


def test_markers_are_seen_and_heartbeats_are_not_kept() -> None:
    changes = _changes()
    said = [{"op": "m", "message": {"prefix": "crossfade", "content": text}} for text in ("aGI6MTIuMA==", "bTox")]  # hb:12.0, m:1
    changes.add([orjson.dumps(one) for one in said])
    assert changes.markers == {"m:1"}
