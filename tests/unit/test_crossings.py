"""How the demo crosses over: in turn, compared each time in the direction that applies, patient with gates and not with failures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import pytest

from deploy.local.commands import Commands
from deploy.local.crossings import across, cross, leading
from pipeline.errors import CrossfadeError

OPEN = {"id": "lag", "ok": True, "value": "0.1 s", "limit": "5 s", "why": ""}
SHUT = OPEN | {"ok": False, "value": "9 s", "why": "the stream lags"}
CROSSED = {"crossed": True, "gates": [OPEN], "pause_ms": 200.0, "step_ms": {}}
WAITS = {"crossed": False, "gates": [SHUT]}
UNDONE = {"crossed": False, "gates": [OPEN], "reason": "not crossed: the budget is spent"}


class Answers:
    """Stands in for the commands: answers what it is given, one after the other, and keeps what was asked."""

    def __init__(self, *said: dict[str, Any]) -> None:
        self.asked: list[str] = []
        self._said: Iterator[dict[str, Any]] = iter(said)

    def document(self, *arguments: str, accept: tuple[int, ...] = (0,)) -> dict[str, Any]:
        self.asked.append(arguments[0])
        return next(self._said)

    def hold(self, seconds: float) -> None:
        self.asked.append(f"hold {seconds:g}")


def test_there_and_back_with_a_comparison_between_and_none_left_out() -> None:
    commands, compared = Answers(CROSSED, CROSSED, CROSSED), iter(range(9))

    def compare() -> dict[str, Any]:
        commands.asked.append("verify")
        return {"differences": next(compared), "tables": []}

    done = across(cast(Commands, commands), "shop", 3, compare=compare, hold=5, say=lambda _text: None)
    assert commands.asked == ["verify", "cutover", "hold 5", "verify", "rollback", "hold 5", "verify", "cutover", "hold 5"]
    assert [crossing.verify and crossing.verify["differences"] for crossing in done] == [1, 2, None]  # the last is compared at the end
    assert not done[-1].equal  # nobody has looked yet
    assert [crossing.leads for crossing in done] == ["target", "source", "target"]
    assert (leading(done, done[0].began - 1), leading(done, done[-1].ended)) == ("source", "target")


def test_a_shut_gate_is_waited_for_and_one_that_was_undone_is_asked_for_again() -> None:
    commands = Answers(WAITS, UNDONE, CROSSED)
    found = cross(cast(Commands, commands), "shop", "cutover")
    assert commands.asked == ["cutover", "hold 1", "cutover", "hold 1", "cutover"] and found.undone == 1


def test_one_that_is_undone_again_and_again_is_said_with_its_reason() -> None:
    with pytest.raises(CrossfadeError, match="rollback: not crossed: the budget is spent"):
        cross(cast(Commands, Answers(UNDONE, UNDONE, UNDONE)), "shop", "rollback")
