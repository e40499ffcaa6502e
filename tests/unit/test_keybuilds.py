"""Keys over copied rows: two at a time, each table's turn comes, and what ends in a passing fault is begun again."""

from __future__ import annotations

import threading
import types
from typing import Any

from pipeline.control.keybuilds import KeyBuilds
from pipeline.errors import Transient


class Target:
    """Stands in for the target: a build ends when it is let, and its table has its key from then on."""

    def __init__(self) -> None:
        self.keyless = {1, 2, 3, 4, 5}
        self.began: list[int] = []
        self.let = {number: threading.Event() for number in self.keyless}
        self.faults: set[int] = set()

    def writer(self, _application: str) -> Target:
        return self

    def build_key(self, table: Any) -> None:
        self.began.append(table.number)
        assert self.let[table.number].wait(30)
        if table.number in self.faults:
            self.faults.discard(table.number)
            raise Transient("deadlock")
        self.keyless.discard(table.number)

    def close(self) -> None:
        pass


def test_every_table_gets_its_key_though_nobody_asks_about_those_that_have_it() -> None:
    """The controller asks for tables that are keyless only: of one whose key is there it says no more."""
    target = Target()
    target.faults.add(3)
    runtime: Any = target
    builds, looked = KeyBuilds(runtime, threading.Event()), threading.Event()

    def turns_until(*began: int) -> None:
        for _ in range(3000):
            builds.turn()
            for number in sorted(target.keyless):
                table: Any = types.SimpleNamespace(number=number, table=types.SimpleNamespace(id=f"t{number}"))
                builds.build(table)
            if sorted(target.began) == sorted(began):
                return
            looked.wait(0.005)
        raise AssertionError(target.began)

    turns_until(1, 2)
    target.let[2].set()
    turns_until(1, 2, 3)
    target.let[3].set()  # in vain: a passing fault
    turns_until(1, 2, 3, 3, 4)
    for event in target.let.values():
        event.set()
    turns_until(1, 2, 3, 3, 4, 5)
    for _ in range(3000):
        builds.turn()
        if not target.keyless:
            return
        looked.wait(0.005)
    raise AssertionError(target.keyless)
