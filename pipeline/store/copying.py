"""The states of table pairs in the control store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.store import tables as t
from pipeline.store.room import Room


class Tables(Room):
    """Every method is one transaction."""

    def add_tables(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Records table pairs (number, source, target, rows_estimated) as waiting; those that are there stay as they are."""
        with self.begin() as db:
            there = set(db.execute(sa.select(t.table_state.c.number).where(t.table_state.c.migration == self.migration)).scalars())
            new = [
                {"migration": self.migration, "phase": "waiting", "tracked": True, "planned": False, **row}
                for row in rows
                if row["number"] not in there
            ]
            if new:
                db.execute(t.table_state.insert(), new)

    def tables(self) -> list[Row[Any]]:
        """Every table's state, by number."""
        with self.look() as db:
            query = sa.select(t.table_state).where(t.table_state.c.migration == self.migration).order_by(t.table_state.c.number)
            return list(db.execute(query).all())

    def set_table(self, number: int, **values: object) -> None:
        """Changes a table's state."""
        with self.begin() as db:
            db.execute(t.table_state.update().where(*self._table(number)).values(**values))

    def copy_again(self, numbers: Sequence[int], *, plan: bool, where: str | None = None) -> None:
        """Puts tables back into the copying phase: `plan` makes new chunks (rows that are absent are copied); without, only the
        bookkeeping of the copying phase is on until the next marker, as a replay needs it."""
        with self.begin() as db:
            # Behind the stream's rows: writers read `phase` and `tracked` after locking theirs.
            db.execute(sa.select(t.stream.c.name).where(t.stream.c.migration == self.migration).order_by(t.stream.c.name).with_for_update())
            mine = (t.table_state.c.migration == self.migration, t.table_state.c.number.in_(numbers))
            values: dict[str, object] = {"phase": "waiting" if plan else "copying", "tracked": True, "planned": not plan, "marker": ""}
            db.execute(t.table_state.update().where(*mine).values(**values, planned_to=None, where_sql=where, copied_at=None))
            db.execute(t.chunk.delete().where(t.chunk.c.migration == self.migration, t.chunk.c.number.in_(numbers)))

    def _table(self, number: int) -> tuple[sa.ColumnElement[bool], ...]:
        return (t.table_state.c.migration == self.migration, t.table_state.c.number == number)
