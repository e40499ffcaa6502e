"""What a DDL event of the source does: additive changes that the mapping does not name go by, anything else stops the stream."""

from __future__ import annotations

import sqlglot
import structlog
from sqlglot import exp

from pipeline.control.runtime import Runtime
from pipeline.errors import SchemaChanged
from pipeline.model import SchemaChange, Transaction

log = structlog.get_logger("schema")


class SchemaPolicy:
    """Judges the schema changes of one migration's source."""

    def __init__(self, runtime: Runtime) -> None:
        self._tables = {pair.source.id for pair in runtime.pairs.values()}
        self._policy = runtime.migration.on_schema_change
        self._dialect = "mysql" if runtime.source_engine == "mysql" else "postgres"

    def check(self, transaction: Transaction) -> None:
        """Raises `SchemaChanged` with what to do when a change of ours is not additive."""
        for change in transaction.schema_changes:
            ours = [table for table in change.tables if table in self._tables]
            if ours and not additive(change.ddl, self._dialect):
                raise SchemaChanged(
                    f"table {ours[0]}: the source's schema changed: {_short(change)}",
                    hint="make the same change on the target and in the mapping, then crossfade resume",
                )
            if ours:
                log.info("additive schema change ignored", table=str(ours[0]), ddl=_short(change))


def additive(ddl: str, dialect: str) -> bool:
    """Whether a statement only adds what no mapping can name yet: columns that may be left out, indexes, comments, statistics."""
    try:
        statements = [s for s in sqlglot.parse(ddl, read=dialect, error_level=sqlglot.ErrorLevel.RAISE) if s is not None]
    except sqlglot.errors.SqlglotError:
        return False
    return bool(statements) and all(_additive(s) for s in statements)


def _additive(statement: exp.Expr) -> bool:
    if isinstance(statement, exp.Create):
        return str(statement.args.get("kind", "")).upper() in {"INDEX", "TABLE", "VIEW"}
    if isinstance(statement, (exp.Comment, exp.Analyze)):
        return True
    if isinstance(statement, exp.Alter):
        return all(isinstance(action, exp.ColumnDef) for action in statement.args.get("actions") or [None])
    return False


def _short(change: SchemaChange) -> str:
    text = " ".join(change.ddl.split())
    return text if len(text) <= 200 else text[:200] + "…"
