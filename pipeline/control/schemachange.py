"""What a change of the source's tables does to a stream: columns that are added are ignored, applied or stop it, anything else stops it.

MySQL and MariaDB put DDL into the stream at its place. PostgreSQL does not: an event that carries a column nobody knows tells.
"""

from __future__ import annotations

from collections.abc import Sequence, Set

import structlog

from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError, SchemaChanged
from pipeline.model import SchemaChange, TableId, Transaction
from transforms.shapecode import ColumnsUnknown

log = structlog.get_logger("schema")

Offsets = Set[int]


class ColumnsAdded(SchemaChanged):
    """The source has columns that the stream comes to now, and policy `apply` says that the target gets them: everything before is
    applied; add them, then read on from here."""

    def __init__(self, table: TableId, columns: Sequence[str], ddl: str = "") -> None:
        super().__init__(f"table {table}: the source has new columns: {', '.join(columns)}")
        self.table, self.columns, self.ddl = table, tuple(columns), ddl


class SchemaPolicy:
    """Judges the schema changes that one opening of a stream comes to.

    `left_out`: columns by table that the target does not get, as was found when they came. `seen_to`: Kafka offsets of DDL that the
    stream stopped at and that somebody let it go on from (`crossfade resume`).
    """

    def __init__(self, runtime: Runtime, left_out: dict[TableId, set[str]], seen_to: Offsets = frozenset()) -> None:
        self._tables = {pair.source.id for pair in runtime.pairs.values()}
        self._policy = runtime.migration.on_schema_change.additive
        self._dialect = "mysql" if runtime.source_engine == "mysql" else "postgres"
        self._left_out, self._seen_to = left_out, seen_to
        self.stopped_at: int | None = None  # offset of the DDL that stopped it
        catalog = runtime.source_catalog.tables
        self._known = {
            table: {c.name for c in catalog[table].columns} - runtime.uncarried(table) | left_out.get(table, set())
            for table in self._tables
            if table in catalog
        }

    # -- MySQL family: DDL in line ---------------------------------------------------------------------------------------------------

    def check(self, transaction: Transaction) -> None:
        """Raises `SchemaChanged` with what to do, or `ColumnsAdded`."""
        for change in transaction.schema_changes:
            ours = [table for table in change.tables if table in self._tables]
            if not ours or change.offset in self._seen_to:
                continue
            from pipeline.control.ddlread import added_columns  # brings a parser of SQL: most streams never need it

            added = added_columns(change.ddl, self._dialect)
            if added is None:
                self.stopped_at = change.offset
                raise SchemaChanged(
                    f"table {ours[0]}: the source's schema changed: {_short(change)}",
                    hint="make the same change on the target and in the mapping, then crossfade resume",
                )
            new = [name for name in added if name not in self._known.get(ours[0], set())]
            if not new:
                log.info("additive schema change needs nothing", table=str(ours[0]), ddl=_short(change))
                continue
            self.stopped_at = change.offset
            self._judge(ours[0], new, change.ddl)

    # -- PostgreSQL: from rows -------------------------------------------------------------------------------------------------------

    def known(self, table: TableId) -> Set[str]:
        """The columns that events of a table may have without anybody being told."""
        return self._known.get(table, frozenset())

    def found(self, unknown: ColumnsUnknown) -> CrossfadeError | None:
        """What comes of columns that an event has and nobody knows: `ColumnsAdded` or `SchemaChanged`; None: they are left out from now
        on, and the stream may be opened again."""
        table = next(table for table in self._tables if str(table) == unknown.table)
        try:
            self._judge(table, unknown.columns)
        except SchemaChanged as told:
            return told
        return None

    def _judge(self, table: TableId, names: Sequence[str], ddl: str = "") -> None:
        if self._policy == "apply":
            raise ColumnsAdded(table, names, ddl)
        shown = ", ".join(names)
        if self._policy == "stop":
            raise SchemaChanged(
                f"table {table}: the source has new columns that the target lacks: {shown}",
                hint="add them to the target (or name them in `drop`), then crossfade resume;"
                " or set on_schema_change.additive to apply or ignore",
            )
        log.warning("columns added on the source are left out (on_schema_change.additive: ignore)", table=str(table), columns=shown)
        self._left_out.setdefault(table, set()).update(names)
        self._known.setdefault(table, set()).update(names)


def _short(change: SchemaChange) -> str:
    text = " ".join(change.ddl.split())
    return text if len(text) <= 200 else text[:200] + "…"
