"""`schema: create`: the target's tables from the source's, before the copy; what slows a copy down, after it."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from connectors.base import Ddl, Statement
from connectors.engine import connect, mapped, module
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError


def plan_schema(runtime: Runtime) -> Ddl:
    """The statements, with what has no counterpart as findings. `indexes: before` is about indexes: constraints and foreign keys
    come after the copy anyway, since chunks may be ahead of one another."""
    ddl = _all(runtime)
    if runtime.migration.indexes == "after":
        return ddl
    early = [s for s in ddl.after if s.object.startswith("index ")]
    return dataclasses.replace(ddl, before=(*ddl.before, *early), after=tuple(s for s in ddl.after if s not in early))


def _all(runtime: Runtime) -> Ddl:
    ddl: Ddl = module(runtime.target_engine, "ddl").plan_ddl(
        [pair.shaped() for pair in runtime.resolved[0]], runtime.source_catalog, runtime.target_engine, runtime.target_catalog.flavour
    )
    return ddl


def run_before(runtime: Runtime) -> None:
    """Makes what is not there yet, and reads the target again."""
    run(runtime, plan_schema(runtime).before)
    for name in ("target_catalog", "resolved", "pairs"):
        runtime.__dict__.pop(name, None)


def run(runtime: Runtime, statements: Iterable[Statement], said: Callable[[str], None] = lambda _text: None, *, sessions: int = 1) -> None:
    """Runs statements whose object is not there yet, each by itself; those that read whole tables in up to so many sessions at once.
    Raises CrossfadeError naming the object."""
    for alongside, some in itertools.groupby(statements, lambda statement: statement.reads is not None):
        group = list(some)
        if not alongside or sessions == 1 or len(group) == 1:
            _run(runtime, group, said)
            continue
        with ThreadPoolExecutor(min(sessions, len(group)), thread_name_prefix="schema") as pool:
            for done in [pool.submit(_run, runtime, [statement], said) for statement in group]:
                done.result()


def _run(runtime: Runtime, statements: Sequence[Statement], said: Callable[[str], None]) -> None:
    connection = connect(runtime.target, autocommit=True)
    try:
        for statement in statements:
            said(statement.object)
            try:
                with connection.cursor() as cursor:
                    if statement.exists is not None:
                        cursor.execute(statement.exists)
                        if cursor.fetchone():
                            continue
                    cursor.execute(statement.sql)
            except CrossfadeError:
                raise
            except Exception as error:
                raise mapped(error, statement.object, runtime.target) from None
    finally:
        connection.close()
