"""Indexes, checks and foreign keys of the target, each as soon as the tables it is about are copied, beside the copying of others."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import threading
from collections.abc import Sequence, Set

import structlog

from connectors.base import Statement
from pipeline.control import schema
from pipeline.control.beside import Beside
from pipeline.control.runtime import Runtime
from pipeline.model import TableId

log = structlog.get_logger("copy")


@dataclasses.dataclass(slots=True)
class _Job:
    """Statements that belong together, in a session of their own. Those that are there already are left out."""

    name: str
    statements: tuple[Statement, ...]
    work: Beside | None = None

    @property
    def tables(self) -> frozenset[TableId]:
        return frozenset(table for statement in self.statements for table in statement.tables)

    def before(self, other: _Job) -> bool:
        """Whether `other`, which comes later, has to wait for this one: a foreign key may refer to what a unique index is about."""
        if not self.tables or not other.tables:
            return True
        foreign = len(self.tables) > 1 and len(other.tables) > 1
        return bool(self.tables & other.tables) and not foreign


class AfterCopy:
    """What `schema: create` makes after the copy. Call `turn` now and then."""

    def __init__(self, runtime: Runtime, ended: threading.Event) -> None:
        """Reads catalogs, so it is made when the first table is copied, not before."""
        self._runtime, self._ended = runtime, ended
        self._most = max(1, runtime.migration.backfill.workers)
        found: Sequence[Statement] = schema.plan_schema(runtime).after if runtime.migration.schema_ == "create" else ()
        grouped = itertools.groupby(found, lambda statement: statement.job or statement.object)
        self._jobs = [_Job(name, tuple(statements)) for name, statements in grouped]

    def turn(self, copied: Set[TableId], *, all_copied: bool) -> bool:
        """Starts what can be started; answers whether everything is done. Raises what a statement failed with."""
        for job in list(self._jobs):
            if job.work is not None and job.work.over:
                work, job.work = job.work, None
                if work.done():
                    self._jobs.remove(job)
        for at, job in enumerate(self._jobs):
            ready = job.tables <= copied if job.tables else all_copied
            if job.work is None and ready and not any(earlier.before(job) for earlier in self._jobs[:at]):
                if sum(one.work is not None for one in self._jobs) == self._most:
                    break
                job.work = Beside(job.name, functools.partial(schema.run, self._runtime, job.statements, _said), self._ended)
        return not self._jobs


def _said(what: str) -> None:
    log.info("after the copy", object=what)
