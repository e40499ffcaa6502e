"""What a target gets after the copy: each thing as soon as its tables are copied, and in an order in which it can be made."""

from __future__ import annotations

import threading
import types
from collections.abc import Iterable
from typing import Any

import pytest

from connectors.base import Ddl, Statement
from pipeline.control import schema
from pipeline.control.aftercopy import AfterCopy
from pipeline.errors import CrossfadeError, Transient
from pipeline.model import TableId

A, B, C = (TableId("public", name) for name in "abc")


def about(name: str, *tables: TableId, job: str = "") -> Statement:
    return Statement(name, f"MAKE {name}", tables=frozenset(tables), job=job)


class Made:
    """Stands in for the target: statements begin, and end when they are let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *statements: Statement, sessions: int = 4) -> None:
        self.began: list[str] = []
        self.ended = {statement.object: threading.Event() for statement in statements}
        self.faults: dict[str, Exception] = {}
        monkeypatch.setattr(schema, "plan_schema", lambda _runtime: Ddl((), statements, ()))
        monkeypatch.setattr(schema, "run", self.run)
        spec = types.SimpleNamespace(schema_="create", backfill=types.SimpleNamespace(workers=sessions))
        runtime: Any = types.SimpleNamespace(migration=spec)
        self.after = AfterCopy(runtime, threading.Event())

    def run(self, _runtime: object, statements: Iterable[Statement], said: object) -> None:
        for statement in statements:
            self.began.append(statement.object)
            assert self.ended[statement.object].wait(30)
            if statement.object in self.faults:
                raise self.faults.pop(statement.object)

    def end(self, *names: str) -> None:
        for name in names:
            self.ended[name].set()

    def until(self, *names: str, copied: frozenset[TableId], all_copied: bool = False) -> None:
        """Turns until exactly these have begun."""
        waited = threading.Event()
        for _ in range(3000):
            self.after.turn(copied, all_copied=all_copied)
            if sorted(self.began) == sorted(names):
                return
            waited.wait(0.005)
        raise AssertionError(self.began)

    def until_done(self, *copied: TableId) -> None:
        waited = threading.Event()
        for _ in range(3000):
            if self.after.turn(frozenset(copied), all_copied=True):
                return
            waited.wait(0.005)
        raise AssertionError(self.began)


def test_each_begins_when_its_tables_are_copied_and_foreign_keys_behind_what_they_refer_to(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(
        monkeypatch,
        about("index a", A),
        about("unique b", B),
        about("key a b", A, B, job="a b"),
        about("validation a b", A, B, job="a b"),
        about("key a c", A, C),
        about("elsewhere"),
    )
    made.until("index a", copied=frozenset({A}))
    made.until("index a", "unique b", copied=frozenset({A, B}))
    made.end("index a")
    made.until("index a", "unique b", copied=frozenset({A, B}))
    made.end("unique b")
    made.until("index a", "unique b", "key a b", copied=frozenset({A, B}))
    made.until("index a", "unique b", "key a b", "key a c", copied=frozenset({A, B, C}), all_copied=True)
    made.end("key a b", "key a c", "validation a b")
    made.until(*made.ended, copied=frozenset({A, B, C}), all_copied=True)
    assert not made.after.turn(frozenset({A, B, C}), all_copied=True)
    made.end("elsewhere")
    made.until_done(A, B, C)


def test_no_more_at_once_than_there_are_sessions_and_a_fault_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, about("one", A), about("two", B), sessions=1)
    made.until("one", copied=frozenset({A, B}))
    made.faults["one"] = CrossfadeError("index one: no room")
    made.end("one")
    with pytest.raises(CrossfadeError, match="no room"):
        made.until("one", "two", copied=frozenset({A, B}))


def test_what_passes_is_tried_again_and_what_somebody_has_mended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(monkeypatch, about("index a", A))
    made.faults["index a"] = Transient("the target is away")
    made.end("index a")
    made.until_done(A)
    assert made.began == ["index a"] * 2

    made = Made(monkeypatch, about("index a", A))
    made.faults["index a"] = ValueError("a fault of our own")
    made.end("index a")
    with pytest.raises(CrossfadeError, match="ValueError: a fault of our own"):
        made.until_done(A)
    made.until_done(A)
