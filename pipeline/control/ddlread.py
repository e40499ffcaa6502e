"""What a statement that comes in the stream does to tables, as far as it only adds."""

from __future__ import annotations

import sqlglot
from sqlglot import exp


def added_columns(ddl: str, dialect: str) -> list[str] | None:
    """The columns that a statement adds, where that is all it does to tables that move, with indexes, comments and the like; None for
    any other statement."""
    try:
        statements = [s for s in sqlglot.parse(ddl, read=dialect, error_level=sqlglot.ErrorLevel.RAISE) if s is not None]
    except sqlglot.errors.SqlglotError:
        return None
    if not statements:
        return None
    found: list[str] = []
    for statement in statements:
        names = _adds(statement)
        if names is None:
            return None
        found += names
    return found


def _adds(statement: exp.Expr) -> list[str] | None:
    if isinstance(statement, exp.Create):
        kind = str(statement.args.get("kind", "")).upper()
        return [] if kind in {"INDEX", "TABLE", "VIEW"} and not (kind == "TABLE" and statement.args.get("replace")) else None
    if isinstance(statement, (exp.Comment, exp.Analyze)):
        return []
    if not isinstance(statement, exp.Alter):
        return None
    actions = statement.args.get("actions") or []
    columns = [action for action in actions if isinstance(action, exp.ColumnDef)]
    others = [action for action in actions if not isinstance(action, (exp.ColumnDef, exp.AddConstraint))]
    keys = any(action.find(exp.PrimaryKey, exp.PrimaryKeyColumnConstraint) for action in actions)
    return [column.name for column in columns] if actions and not others and not keys else None
