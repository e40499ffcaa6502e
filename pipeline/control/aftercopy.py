"""Indexes, checks and foreign keys of the target, each as soon as the tables it is about are copied, beside the copying of others."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence, Set

import structlog

from connectors.base import Statement
from pipeline.control import schema
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError
from pipeline.model import TableId

log = structlog.get_logger("copy")


class AfterCopy:
    """What `schema: create` makes after the copy. Call `turn` now and then."""

    def __init__(self, runtime: Runtime) -> None:
        """Reads catalogs, so it is made when the first table is copied, not before."""
        self._most = max(1, runtime.migration.backfill.workers)
        found: Sequence[Statement] = schema.plan_schema(runtime).after if runtime.migration.schema_ == "create" else ()
        grouped = itertools.groupby(found, lambda statement: statement.job or statement.object)
        self._jobs = [_Job(runtime, name, tuple(statements)) for name, statements in grouped]

    def turn(self, copied: Set[TableId], *, all_copied: bool) -> bool:
        """Starts what can be started; answers whether everything is done. Raises what a statement failed with."""
        for job in self._jobs:
            if job.fault is not None and not job.is_alive():
                raise job.fault
        self._jobs = [job for job in self._jobs if not job.begun or job.is_alive()]
        at_work = sum(job.begun for job in self._jobs)
        for at, job in enumerate(self._jobs):
            if at_work == self._most:
                break
            # In their order where they share a table: a foreign key may refer to what a unique index before it is about.
            ready = job.tables <= copied if job.tables else all_copied
            if not job.begun and ready and not any(before.first_of(job) for before in self._jobs[:at]):
                job.begin()
                at_work += 1
        return not self._jobs


class _Job(threading.Thread):
    """Statements that belong together, in a session of their own. Nobody waits for it at the end of the process: each statement is whole or
    not at all, and those that are there already are left out the next time."""

    def __init__(self, runtime: Runtime, name: str, statements: Sequence[Statement]) -> None:
        super().__init__(name=name, daemon=True)
        self._runtime, self._statements = runtime, statements
        self.tables = frozenset(table for statement in statements for table in statement.tables)
        self._foreign = len(self.tables) > 1
        self.begun = False
        self.fault: CrossfadeError | None = None

    def first_of(self, other: _Job) -> bool:
        """Whether `other`, which comes later, has to wait for this one."""
        if not self.tables or not other.tables:
            return True
        return bool(self.tables & other.tables) and not (self._foreign and other._foreign)

    def begin(self) -> None:
        self.begun = True
        self.start()

    def run(self) -> None:
        try:
            schema.run(self._runtime, self._statements, lambda what: log.info("after the copy", object=what))
        except CrossfadeError as error:
            self.fault = error
