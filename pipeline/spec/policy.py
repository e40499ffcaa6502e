"""The parts of the file that say how fast, how careful and in which steps: backfill, apply, verify, reads, cutover."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field, field_validator, model_validator

from pipeline.spec.strict import Duration, Size, Strict, fault


class Throttle(Strict):
    """When the copy slows down. None: that signal is not looked at."""

    max_replica_lag: Duration | None = None
    max_running_threads: int | None = Field(default=None, ge=1)
    max_wal_rate: Size | None = None  # bytes a second
    max_apply_lag: Duration | None = 30.0
    http: str | None = None  # 200: go on, anything else: wait (as freno answers)
    interval: Duration = 1.0


class Backfill(Strict):
    """The bulk copy."""

    workers: int = Field(default=4, ge=1, le=64)
    chunk_rows: int = Field(default=50_000, ge=1, le=10_000_000)
    chunk_bytes: Size = 2 << 20  # a worker holds as much for each of its threads
    max_rate: int | None = Field(default=None, ge=1)  # rows a second over all workers
    gate_target: Duration = 0.25  # how long an apply batch may wait for a chunk's merge
    throttle: Throttle = Throttle()


class Apply(Strict):
    """The stream's batches."""

    batch_rows: int = Field(default=5_000, ge=1, le=1_000_000)
    batch_ms: int = Field(default=50, ge=0, le=60_000)
    batch_bytes: Size = 4 << 20
    transaction_memory_rows: int = Field(default=50_000, ge=1)
    transaction_memory_bytes: Size = 32 << 20
    workers: int = Field(default=1, ge=1, le=64)  # threads that write tables of one batch side by side where the product allows it
    synchronous_commit: bool = False
    retry_max: Duration = 5.0  # longest pause between two tries of a passing fault


class Verify(Strict):
    """The consistency checks."""

    continuous: bool = True
    interval: Duration = 300.0  # between two rounds of the continuous check
    chunk_rows: int = Field(default=20_000, ge=1, le=10_000_000)
    workers: int = Field(default=2, ge=1, le=64)
    max_rate: int | None = Field(default=None, ge=1)
    max_differences: int = Field(default=10_000, ge=1)  # stored for one table; more are only counted
    settle: Duration = 10.0  # how long a differing row is looked at again before it counts
    repair: Literal["manual", "auto"] = "manual"


class OnSchemaChange(Strict):
    """What a change of the source's tables does. `additive`: a column that is added; `apply` adds it to the target too."""

    additive: Literal["ignore", "apply", "stop"] = "ignore"
    other: Literal["stop"] = "stop"


class Check(Strict):
    """One judgement of the analysis: a built-in probe or a PromQL query, and the limits it must keep."""

    name: str = Field(min_length=1)
    probe: str | None = None  # error_rate, p95_ms, p99_ms, replication_lag, shadow_mismatches
    query: str | None = None  # PromQL
    max: float | None = None
    min: float | None = None
    max_ratio: float | None = None  # new side against the old side
    interval: Duration = 10.0
    failures: int = Field(default=0, ge=0)  # this many failed measurements are forgiven
    on_no_data: Literal["fail", "pass", "inconclusive"] = "fail"

    @model_validator(mode="after")
    def _whole(self) -> Check:
        if (self.probe is None) == (self.query is None):
            raise fault("needs exactly one of probe and query")
        if self.max is None and self.min is None and self.max_ratio is None:
            raise fault("needs a limit: max, min or max_ratio")
        return self


class Reads(Strict):
    """The progressive read switch."""

    steps: tuple[int, ...] = (1, 5, 25, 50, 100)
    hold: Duration = 60.0
    driver: str | None = None
    manual: bool = False  # each step waits for `crossfade promote`
    checks: tuple[Check, ...] = ()
    prometheus: str | None = None

    @field_validator("steps")
    @classmethod
    def _rising(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value or value[0] < 1 or any(b <= a for a, b in itertools.pairwise(value)) or value[-1] > 100:
            raise fault("must rise from at least 1 to at most 100, such as [1, 5, 25, 50, 100]")
        return value


class Fence(Strict):
    """How the source is kept from being written while it is left."""

    roles: tuple[str, ...] = ()  # application roles (PostgreSQL) or users (MySQL) that lose the right to write


class Cutover(Strict):
    """The write switch and its limits."""

    pause_budget: Duration = 5.0
    max_lag: Duration = 2.0
    max_transaction_age: Duration = 5.0  # a transaction open longer than this holds the cutover back
    max_verify_age: Duration = 3600.0
    driver: str | None = None
    manual: bool = True  # waits for `crossfade cutover`; else the controller asks for it once, when every gate is open
    fence: Fence = Fence()
    sequence_gap: int = Field(default=1000, ge=0)  # how far ahead of the highest value sequences are set


class Complete(Strict):
    """What `crossfade complete` does to the old tables, after everything of crossfade's own is gone."""

    old_tables: Literal["keep", "rename", "drop"] = "keep"
    suffix: str = Field(default="_old", min_length=1, max_length=30)  # of a table that is renamed
