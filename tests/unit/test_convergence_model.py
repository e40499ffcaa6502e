"""The target converges to the source, whatever order application, Connect, worker, chunks, re-reads and crashes take; with any rule of
the backfill switched off it does not. The rules and why each is there: docs/decisions/backfill-rules.md."""

from __future__ import annotations

import dataclasses
import random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.model.source import Mix
from tests.model.target import ALL, Rules
from tests.model.world import Profile, World, first_failure, run

DICE = st.integers(0, 2**32 - 1).map(random.Random)
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
FROZEN = Profile(keys=3, chunk=5, finish=2, crash=2, zombie=2, piece_rows=(1, 2, 3))
TRUNCATES = Profile(mix=Mix(truncate=10))
MOVES = Profile(  # every key change lists its new key; one event at a time
    mix=Mix(partial=1, update_big=2, delete=25, move=30, hand_over=0, swap_unique=0, truncate=0, statements=(1,), rows=(1,)),
    steps=(60, 160),
    keys=6,
    reread=4,
    crash=0,
    connect_crash=0,
    zombie=0,
    rogue=0,
    records=(3,),
)
LONG_COPY = dataclasses.replace(MOVES, chunk=1, finish=0)
SHORT_COPY = dataclasses.replace(MOVES, chunk=5, finish=3)
TWO_TABLES = Profile(tables=("item", "other"), mix=Mix(hand_over=20, swap_unique=8, swap_keys=5))
KEYLESS = Profile(keyless=True, finish=1.5)
KEYLESS_CRASHING = dataclasses.replace(CRASHING, keyless=True, early_key=0.5, finish=3)
PROFILES = {
    "usual": USUAL,
    "crashing": CRASHING,
    "few keys": FEW_KEYS,
    "repairs": REPAIRS,
    "two tables": TWO_TABLES,
    "keyless": KEYLESS,
    "keyless crashing": KEYLESS_CRASHING,
}

FAILS_IN = {
    "re_read_unchanged": FEW_KEYS,
    "truncate_ends_copy": TRUNCATES,
    "delete_unlists": LONG_COPY,
    "no_carry": LONG_COPY,
    "fence": FROZEN,
    "renew": REPAIRS,
    "marker_last": SHORT_COPY,
    "keyless_lists": KEYLESS,
    "key_takes_out": KEYLESS,
}
"""Where the rarer failures live, each in one run of some two hundred or more; the others come up in the usual mix."""


def some(steps: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(steps), min_size=1, max_size=6)


class Moving(RuleBasedStateMachine):
    """Every step may come at any time; Hypothesis chooses, and shrinks what breaks. Each step looks at the promises it can break
    (no resurrection, no lost update, no row that goes back); at the end everything comes to rest and the target is the source.

    Few rules with several steps each: Hypothesis leaves rules out at random, and without any one step of the stream nothing moves.
    """

    world: World

    @initialize(dice=DICE, profile=st.sampled_from(list(PROFILES.values())))
    def begin(self, dice: random.Random, profile: Profile) -> None:
        self.world = World(dice, ALL, profile)

    @rule(steps=some(["write", "send", "feed", "apply"]), dice=DICE)
    def stream(self, steps: list[str], dice: random.Random) -> None:
        for step in steps:
            getattr(self.world, step)(dice)

    @rule(dice=DICE)
    def stream_catches_up(self, dice: random.Random) -> None:
        world = self.world
        while not world.connect.idle:
            world.send(dice)
        while world.worker.offset < len(world.connect.topic):
            world.feed(dice)
            world.apply(dice)

    @precondition(lambda self: self.copying)
    @rule(steps=some(["chunk", "chunk", "chunk", "reread", "finish"]), dice=DICE)
    def copying_goes_on(self, steps: list[str], dice: random.Random) -> None:
        for step in steps:
            getattr(self.world, step)(dice)

    @precondition(lambda self: not self.copying)
    @rule(steps=some(["reread", "reread", "rogue"]), dice=DICE)
    def repair(self, steps: list[str], dice: random.Random) -> None:
        for step in steps:
            getattr(self.world, step)(dice)

    @rule(step=st.sampled_from(["crash", "connect_crash", "zombie"]), dice=DICE)
    def trouble(self, step: str, dice: random.Random) -> None:
        getattr(self.world, step)(dice)

    @property
    def copying(self) -> bool:
        return any(table.copying for table in self.world.target.tables.values())

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
