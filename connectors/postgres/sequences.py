"""Counters behind columns (serial, identity): where they are, and moving them on before a side is written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import psycopg

from connectors.base import Address
from connectors.postgres.connection import connect, mapped
from connectors.postgres.names import qualified, quote
from pipeline.model import TableId

Column = tuple[TableId, str]


class Counters:
    """The counters behind columns of some tables. Holds a session and knows which they are, so that little is left for the pause."""

    def __init__(self, address: Address, tables: Iterable[TableId]) -> None:
        self._db = connect(address, autocommit=True, application_name="crossfade sequences")
        try:
            self._counters = counters_of(self._db, tables)
        except psycopg.Error as error:
            self._db.close()
            raise mapped(error, "sequences") from None

    def close(self) -> None:
        self._db.close()

    def read(self) -> dict[Column, int]:
        """The last value that each counter gave out, by the column it is behind; one that gave out nothing yet is left out."""
        found: dict[Column, int] = {}
        try:
            for table, column, sequence in self._counters:
                row = self._db.execute(f"SELECT last_value, is_called FROM {sequence}".encode()).fetchone()
                if row is not None and row[1]:
                    found[table, column] = int(row[0])
        except psycopg.Error as error:
            raise mapped(error, "sequences") from None
        return found

    def ahead(self, given: Mapping[Column, int], gap: int) -> dict[str, int]:
        """Moves each counter beyond the column's values and beyond what the other side gave out, plus a gap, in its own direction. One
        that is there already stays. Answers {counter: where it is now}."""
        out: dict[str, int] = {}
        try:
            for table, column, sequence in self._counters:
                name = quote(column)
                row = self._db.execute(
                    f"SELECT s.seqincrement, c.last_value, c.is_called, t.highest, t.lowest, s.seqmin, s.seqmax "
                    f"FROM pg_catalog.pg_sequence s, {sequence} c, "
                    f"(SELECT max({name})::bigint AS highest, min({name})::bigint AS lowest FROM {qualified(table)}) t "
                    "WHERE s.seqrelid = %s::pg_catalog.regclass".encode(),
                    (sequence,),
                ).fetchone()
                assert row is not None
                step, last, called, highest, lowest, least, most = row
                extreme = max if step > 0 else min
                taken = [value for value in (given.get((table, column)), highest if step > 0 else lowest) if value is not None]
                if not taken or (called and extreme(*taken, last) == last):
                    out[sequence] = last
                    continue
                to = max(least, min(most, extreme(taken) + (gap if step > 0 else -gap)))
                self._db.execute("SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s, true)", (sequence, to))
                out[sequence] = to
        except psycopg.Error as error:
            raise mapped(error, "sequences") from None
        return out


def counters_of(db: psycopg.Connection[Any], tables: Iterable[TableId]) -> list[tuple[TableId, str, str]]:
    """(table, column, quoted name of the sequence) of every owned sequence, and of those that a default merely calls."""
    out: list[tuple[TableId, str, str]] = []
    for table in tables:
        rows = db.execute(
            "SELECT a.attname::text, d.refobjid IS NOT NULL, s.oid::pg_catalog.regclass::text "
            "FROM pg_catalog.pg_attribute a "
            "JOIN pg_catalog.pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum "
            "JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass AND d.objid = f.oid "
            "AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass "
            "JOIN pg_catalog.pg_class s ON s.oid = d.refobjid AND s.relkind = 'S' "
            "WHERE a.attrelid = %s::pg_catalog.regclass AND NOT a.attisdropped "
            "UNION SELECT a.attname::text, true, s.oid::pg_catalog.regclass::text FROM pg_catalog.pg_attribute a "
            "JOIN pg_catalog.pg_depend d ON d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = a.attrelid "
            "AND d.refobjsubid = a.attnum AND d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.deptype IN ('a', 'i') "
            "JOIN pg_catalog.pg_class s ON s.oid = d.objid AND s.relkind = 'S' WHERE a.attrelid = %s::pg_catalog.regclass",
            (qualified(table), qualified(table)),
        ).fetchall()
        out += [(table, str(column), str(sequence)) for column, _, sequence in rows]
    return out
