"""The target converges to the source, whatever order application, Connect, worker, chunks, re-reads and crashes take; with any rule of
the backfill switched off it does not. The rules and why each is there: docs/decisions/backfill-rules.md."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.model.source import Mix
from tests.model.target import ALL, Rules
from tests.model.world import Profile, World, first_failure, run

DICE = st.randoms(use_true_random=False)
USUAL = Profile()
CRASHING = Profile(connect_crash=3, crash=1, zombie=1, piece_rows=(1, 2, 3))
FEW_KEYS = Profile(
    mix=Mix(partial=0.9, hand_over=0, swap_unique=0, truncate=0, delete=5, move=3), reread=6, keys=3, finish=3, rogue=3, chunk=5
)
REPAIRS = Profile(
    mix=Mix(partial=1, hand_over=0, swap_unique=0, truncate=0, delete=0, move=0),
    reread=6,
    keys=2,
    rogue=4,
    finish=4,
    chunk=6,
    crash=0.1,
    connect_crash=0,
    zombie=0,
)
TWO_TABLES = Profile(tables=("item", "other"), mix=Mix(hand_over=20, swap_unique=8, swap_keys=5))
PROFILES = {"usual": USUAL, "crashing": CRASHING, "few keys": FEW_KEYS, "repairs": REPAIRS, "two tables": TWO_TABLES}

FAILS_IN = {"re_read_unchanged": FEW_KEYS, "no_carry": FEW_KEYS, "renew": REPAIRS, "marker_last": REPAIRS}
"""Where the rarer failures live; the others come up in the usual mix."""


class Moving(RuleBasedStateMachine):
    """Every step may come at any time; Hypothesis chooses, and shrinks what breaks. Each step looks at the promises it can break
    (no resurrection, no lost update, no row that goes back); at the end everything comes to rest and the target is the source."""

    world: World

    @initialize(dice=DICE, profile=st.sampled_from(list(PROFILES.values())))
    def begin(self, dice: random.Random, profile: Profile) -> None:
        self.world = World(dice, ALL, profile)

    @rule(dice=DICE)
    def application_commits(self, dice: random.Random) -> None:
        self.world.write(dice)

    @rule(dice=DICE)
    def connect_sends(self, dice: random.Random) -> None:
        self.world.send(dice)

    @rule(dice=DICE)
    def connect_dies(self, dice: random.Random) -> None:
        self.world.connect_crash(dice)

    @rule(dice=DICE)
    def worker_reads(self, dice: random.Random) -> None:
        self.world.feed(dice)

    @rule(dice=DICE)
    def worker_writes(self, dice: random.Random) -> None:
        self.world.apply(dice)

    @rule(dice=DICE)
    def worker_dies_or_freezes(self, dice: random.Random) -> None:
        self.world.crash(dice)

    @rule(dice=DICE)
    def frozen_worker_thaws(self, dice: random.Random) -> None:
        self.world.zombie(dice)

    @rule(dice=DICE)
    def chunk_is_read_or_merged(self, dice: random.Random) -> None:
        self.world.chunk(dice)

    @rule(dice=DICE)
    def listed_rows_are_read_or_merged(self, dice: random.Random) -> None:
        self.world.reread(dice)

    @rule(dice=DICE)
    def controller_looks_whether_all_is_copied(self, dice: random.Random) -> None:
        self.world.finish(dice)

    @rule(dice=DICE)
    def somebody_spoils_a_row(self, dice: random.Random) -> None:
        self.world.rogue(dice)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.settle(random.Random(0))


TestMoving = pytest.mark.filterwarnings("ignore")(Moving.TestCase)
TestMoving.settings = settings(
    max_examples=400, stateful_step_count=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES)
def test_s2_s7_s8_s11_all_rules_on_thousands_of_histories_converge(profile: Profile) -> None:
    checked = sum(run(seed, ALL, profile).commits_checked for seed in range(4000))
    assert checked >= 4000


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Rules)])
def test_s7_without_any_one_rule_some_history_breaks_a_promise(name: str) -> None:
    assert first_failure(dataclasses.replace(ALL, **{name: False}), FAILS_IN.get(name, USUAL), 8000) is not None
