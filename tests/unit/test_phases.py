"""The phase machine."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.cli.status import PHASES as WAITED_FOR
from pipeline.control.controller import LEASE_SECONDS
from pipeline.control.crossing import ACT_SECONDS
from pipeline.errors import CrossfadeError
from pipeline.store.phases import ENDED, PHASES, TRANSITIONS, check


def reachable(start: str, without: str = "") -> set[str]:
    found, more = {start}, [start]
    while more:
        here = more.pop()
        more += [way.after for way in TRANSITIONS if way.before == here and way.after not in found and way.by != without]
        found |= {way.after for way in TRANSITIONS if way.before == here and way.by != without}
    return found


def test_every_phase_is_reached_and_none_is_a_trap() -> None:
    assert reachable("planned") == set(PHASES)
    for phase in PHASES:
        assert (reachable(phase) & ENDED) or phase in ENDED
        assert phase not in ENDED or reachable(phase) == {phase}
    assert set(PHASES) <= set(WAITED_FOR)


def test_the_target_is_never_left_without_a_crossing() -> None:
    """From `switched` back to where the source leads there is the rollback alone, and what has switched cannot be cancelled."""
    assert reachable("switched", without="rollback") == {"switched", "completed"}
    with pytest.raises(CrossfadeError, match="m is switched: from there it cannot become cancelled"):
        check("m", "switched", "cancelled")
    with pytest.raises(CrossfadeError):
        check("m", "following", "switched")
    check("m", "following", "following")


def test_it_can_be_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from pipeline.cli import main; main()", "phases", "--json"], capture_output=True, check=True
    )
    assert len(json.loads(done.stdout)) == len(TRANSITIONS)


def test_s27_what_a_controller_may_still_do_without_its_lease_ends_before_another_leads() -> None:
    """A lease that is renewed every third of its time has two thirds left when its holder freezes, at the least."""
    assert ACT_SECONDS < LEASE_SECONDS * 2 / 3
