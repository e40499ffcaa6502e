"""What becomes of the old tables when a migration is completed: they stay, get another name, or go, as `complete.old_tables` says."""

from __future__ import annotations

from collections.abc import Collection

from connectors.engine import connect, mapped, module
from pipeline.control.runtime import Runtime
from pipeline.errors import CrossfadeError
from pipeline.model import TableId


class OldTables:
    """The source tables of one migration that are there still under their old names. `names` as the control store has them."""

    def __init__(self, runtime: Runtime, names: Collection[str]) -> None:
        self._runtime = runtime
        said = runtime.migration.complete
        self.what = said.old_tables
        self._suffix = said.suffix
        self._tables: list[TableId] = []
        if self.what != "keep":
            runtime.reload()
            self._tables = sorted(table for table in runtime.source_catalog.tables if str(table) in names)

    def check(self) -> None:
        """Raises CrossfadeError naming what would keep them from being renamed or dropped; nothing is changed."""
        catalog, going = self._runtime.source_catalog, set(self._tables)
        if self.what == "drop":
            for other in catalog.tables.values():
                for key in other.foreign_keys:
                    if key.references in going and other.id not in going:
                        raise CrossfadeError(
                            f"old table {key.references} cannot be dropped: foreign key {key.name} of {other.id} refers to it",
                            hint="drop that key, or set complete: {old_tables: rename}",
                        )
        elif self.what == "rename":
            longest = 63 if catalog.engine == "postgresql" else 64
            taken = set(catalog.tables) | set(catalog.views)
            for table in self._tables:
                new = self._renamed(table)
                if new in taken:
                    raise CrossfadeError(f"old table {table} cannot be renamed: {new} is there already", hint="set another complete.suffix")
                if len(new.name.encode() if catalog.engine == "postgresql" else new.name) > longest:
                    raise CrossfadeError(
                        f"old table {table} cannot be renamed: {new} is too long a name", hint="set a shorter complete.suffix"
                    )

    def settle(self) -> None:
        """Does it, all tables at once. Those that an earlier try has seen to are not there any more under their names."""
        if not self._tables:
            return
        connection = connect(self._runtime.source, autocommit=False)
        try:
            with connection.cursor() as cursor:
                for statement in self._statements():
                    cursor.execute(statement)
            connection.commit()
        except Exception as error:
            raise mapped(error, f"the old tables ({self.what})", self._runtime.source) from None
        finally:
            connection.close()

    def _renamed(self, table: TableId) -> TableId:
        return TableId(table.schema, table.name + self._suffix)

    def _statements(self) -> list[str]:
        quote = module(self._runtime.source_engine, "ddl").quote

        def full(table: TableId) -> str:
            return f"{quote(table.schema)}.{quote(table.name)}"

        if self.what == "drop":
            everything = "DROP TABLE " + ", ".join(full(table) for table in self._tables)
            # Listed in one statement they may refer to one another; MySQL looks at each by itself. Nobody else does: that was checked.
            return [everything] if self._runtime.source_engine == "postgresql" else ["SET SESSION foreign_key_checks = 0", everything]
        if self._runtime.source_engine == "postgresql":
            return [f"ALTER TABLE {full(table)} RENAME TO {quote(self._renamed(table).name)}" for table in self._tables]
        return ["RENAME TABLE " + ", ".join(f"{full(table)} TO {full(self._renamed(table))}" for table in self._tables)]
