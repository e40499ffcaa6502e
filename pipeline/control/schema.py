"""`schema: create`: the target's tables from the source's, before the copy; what slows a copy down, after it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from connectors.base import Ddl, Statement
from connectors.engine import connect, mapped, module
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError, DataRejected


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
        [pair.shaped() for pair in runtime.resolved[0]],
        runtime.source_catalog,
        runtime.target_engine,
        runtime.target_catalog.flavour,
        keys_after=runtime.keys_after,
    )
    return ddl


def run_before(runtime: Runtime) -> None:
    """Makes what is not there yet, and reads the target again."""
    run(runtime, plan_schema(runtime).before)
    for name in ("_target", "resolved", "pairs"):
        runtime.__dict__.pop(name, None)


def run(runtime: Runtime, statements: Iterable[Statement], said: Callable[[str], None] = lambda _text: None) -> None:
    """Runs statements whose object is not there yet, each by itself. Raises CrossfadeError naming the object."""
    connection = connect(runtime.target, autocommit=True)
    try:
        for statement in statements:
            said(statement.object)
            try:
                with connection.cursor() as cursor:
                    if _answers(cursor, statement.exists):
                        continue
                    if _answers(cursor, statement.against):
                        look = f"look with: {statement.against}"
                        raise DataRejected(f"{statement.object}: rows that were copied are against it", hint=look)
                    if statement.session is not None:
                        cursor.execute(statement.session)
                    try:
                        cursor.execute(statement.sql)
                    except Exception:
                        # A controller that led before may still have been at it, and waited for.
                        if not _answers(cursor, statement.exists):
                            raise
            except CrossfadeError:
                raise
            except Exception as error:
                raise mapped(error, statement.object, runtime.target) from None
    finally:
        connection.close()


def _answers(cursor: Any, query: str | None) -> bool:
    """Whether there is such a query, and a row in answer to it."""
    if query is None:
        return False
    cursor.execute(query)
    return cursor.fetchone() is not None
