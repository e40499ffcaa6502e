"""The net effect of one batch on one PostgreSQL table: deletes, carried moves, whole rows, partial rows, and the backfill's bookkeeping.

First the cheap way (COPY into staging, one upsert). If a secondary unique key is in the way, the second path: delete every key the
batch touches, insert every row. The end state of whole transactions satisfies the source's own constraints, so a violation that is
still there is a real conflict and is raised.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from psycopg import errors as pg

from connectors.base import ApplyOutcome, TableBatch, TargetTable
from connectors.postgres.ddl import qualified, quote
from connectors.postgres.sidetables import Connection, Cursor, SideTables
from connectors.postgres.types import canonical_sql
from pipeline.errors import DataRejected
from pipeline.model import UNCHANGED, Key, Row, Text, Value
from pipeline.stages import Stages

COPYING = ("waiting", "copying")
"""Phases of `table_state` in which chunks may still be merged."""

_LOOK_UP = "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
_LOOK_UP_NO_MORE = "SET LOCAL enable_hashjoin TO DEFAULT; SET LOCAL enable_mergejoin TO DEFAULT"


@dataclasses.dataclass(frozen=True, slots=True)
class TablePlan:
    """What is worked out once a session for one table: its staging tables and its unique indexes."""

    target: TargetTable
    side: SideTables
    stage: str  # staging of whole rows
    keys: str  # staging of keys
    arbiter: bool  # a plain, immediate unique index over exactly the key can answer ON CONFLICT
    unique: tuple[tuple[str, ...], ...]  # the other plain unique indexes
    may_clash: bool  # there is any unique index beside the key's
    casefold: bool  # the key's equality is weaker than equality of text
    indexes: UniqueIndexes
    keyless: bool = False  # looked at while the table had no key yet


UniqueIndexes = tuple[tuple[bool, tuple[str, ...]], ...]
"""(plain and immediate, columns) of each unique index or exclusion constraint."""


def unique_indexes(db: Connection, target: TargetTable) -> UniqueIndexes:
    """What rows of the target may clash on."""
    rows = db.execute(
        "SELECT NOT (0 = ANY (i.indkey::int2[])) AND i.indpred IS NULL AND i.indimmediate AND i.indisunique AS plain, "
        "ARRAY(SELECT a.attname::text FROM pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY u(att, n) "
        " JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.att WHERE n <= i.indnkeyatts ORDER BY n) AS columns "
        "FROM pg_catalog.pg_index i WHERE i.indrelid = %s::pg_catalog.regclass AND (i.indisunique OR i.indisexclusion) AND i.indislive",
        (qualified(target.table.id),),
    ).fetchall()
    return tuple(sorted((bool(plain), tuple(columns)) for plain, columns in rows))


def stage(db: Connection, migration: str, target: TargetTable, *, keyless: bool = False) -> TablePlan:
    """Makes the session's staging tables for `target` and reads what its indexes are."""
    table = qualified(target.table.id)
    side = SideTables(migration, target)
    rows, keys = f"cf_stage_{target.number}", f"cf_keys_{target.number}"
    for name, what in ((rows, ", ".join(quote(c) for c in target.columns)), (keys, side.key_list)):
        db.execute(f"DROP TABLE IF EXISTS pg_temp.{name}")
        db.execute(f"CREATE TEMPORARY TABLE {name} ON COMMIT DELETE ROWS AS SELECT {what} FROM {table} WITH NO DATA")
    indexes = unique_indexes(db, target)
    key = sorted(target.key)
    others = [(plain, tuple(columns)) for plain, columns in indexes if not (plain and sorted(columns) == key)]
    return TablePlan(
        target=target,
        side=side,
        stage=f"pg_temp.{rows}",
        keys=f"pg_temp.{keys}",
        arbiter=any(plain and sorted(columns) == key for plain, columns in indexes),
        unique=tuple(columns for plain, columns in others if plain and set(columns) <= set(target.columns)),
        may_clash=bool(others),
        indexes=indexes,
        casefold=any(target.table.column(c).type.case_insensitive for c in target.key),
        keyless=keyless,
    )


def copy_in(db: Connection, into: str, columns: Sequence[str], blocks: Iterable[bytes]) -> int:
    """COPY text into a relation; answers how many rows."""
    with db.cursor() as cursor:
        with cursor.copy(f"COPY {into} ({', '.join(quote(c) for c in columns)}) FROM STDIN") as copy:
            for block in blocks:
                copy.write(block)
        return cursor.rowcount


def stage_keys(db: Connection, plan: TablePlan, block: bytes) -> None:
    """Puts these keys, as COPY text, into the session's staging table in place of those that are there."""
    db.execute(f"DELETE FROM {plan.keys}")
    copy_in(db, plan.keys, plan.target.key, [block])


def by_key(db: Connection, plan: TablePlan, statement: str) -> Cursor:
    """Runs a statement that joins staged keys to the target: each is looked up in the key's index. Nobody has counted what is staged, and
    the planner would rather read a whole table of some million rows for each batch."""
    return look_up(db, statement) if plan.arbiter else db.execute(statement.encode())


def look_up(db: Connection, statement: str) -> Cursor:
    """Runs a statement so that keys are looked up in an index one by one, whatever the planner thinks of how many there are."""
    cursor = db.execute(f"{_LOOK_UP}; {statement}; {_LOOK_UP_NO_MORE}".encode())  # in one go: a round trip each costs more
    for _ in range(_LOOK_UP.count(";") + 1):
        cursor.nextset()
    return cursor


def apply_table(db: Connection, plan: TablePlan, batch: TableBatch, *, copying: bool, tracked: bool, stages: Stages) -> ApplyOutcome:
    """Writes one table's part of the batch inside the caller's transaction. Raises `DataRejected`, psycopg's own errors."""
    return _TableApply(db, plan, batch, copying=copying, tracked=tracked, stages=stages).run()


class _TableApply:
    def __init__(self, db: Connection, plan: TablePlan, batch: TableBatch, *, copying: bool, tracked: bool, stages: Stages) -> None:
        self.db, self.plan, self.batch, self.copying, self.tracked, self.stages = db, plan, batch, copying, tracked, stages
        self.target = batch.target
        self.table = qualified(self.target.table.id)
        self.key_at = [self.target.columns.index(c) for c in self.target.key]
        self.relisted = self.evicted = 0
        self.carried: list[Key] = []  # rows that hold columns of what stood on the target

    def key_of(self, row: Row) -> Key:
        return tuple(row[at] for at in self.key_at)  # type: ignore[misc]

    def run(self) -> ApplyOutcome:
        batch, side = self.batch, self.plan.side
        if batch.truncate:
            # In this transaction and with its triggers asleep; RESTRICT is lifted because the session's replica role keeps no foreign keys.
            self.db.execute(f"DELETE FROM {self.table}" if self._referenced() else f"TRUNCATE {self.table}")
            if self.tracked:
                side.clear(self.db)
        rows, partials, absent = batch.rows, batch.partials, []
        moved: list[Key] = []
        if batch.moves:
            if self.copying:
                # The row at the old key may be a later life of that key: nothing is carried over from it.
                absent += [self.key_of(row) for _, row in batch.moves]
            else:
                carried, lost = self._carry(batch.moves)
                rows = rows + carried
                moved = [self.key_of(row) for row in carried]
                absent += lost
        if batch.deletes:
            self._stage_keys(batch.deletes)
            self._delete_staged()
            if self.copying:
                side.record_deleted(self.db, self.plan.keys)
            elif self.tracked:
                side.unlist(self.db, self.plan.keys)
        second = 0
        if rows or partials:
            if self.plan.may_clash:
                self.db.execute("SAVEPOINT cf_table")
                try:
                    absent += self._write(rows, partials)
                    self.db.execute("RELEASE SAVEPOINT cf_table")
                except (pg.UniqueViolation, pg.ExclusionViolation):
                    self.db.execute("ROLLBACK TO SAVEPOINT cf_table")
                    absent += self._write_again(rows, partials)
                    second = 1
            else:
                absent += self._write(rows, partials)
        if moved and self.tracked:
            # What they carried over may be what a repair is about: they stay to be seen, and are read anew.
            self._stage_keys(moved)
            self.relisted += side.relist(self.db, f"SELECT DISTINCT {side.key_list} FROM {self.plan.keys}")
        if absent:
            self._list(absent)
        return ApplyOutcome(self.relisted, self.evicted, second)

    def _texts(self, alias: str, columns: Sequence[str]) -> str:
        """Canonical text of columns, for a SELECT."""
        return ", ".join(canonical_sql(f"{alias}.{quote(c)}", self.target.table.column(c).type) for c in columns)

    # -- pieces ----------------------------------------------------------------------------------------------------------------------

    def _referenced(self) -> bool:
        found = self.db.execute(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE confrelid = %s::pg_catalog.regclass AND conrelid <> confrelid)",
            (self.table,),
        ).fetchone()
        return bool(found and found[0])

    def _stage_keys(self, keys: Iterable[Key]) -> None:
        stage_keys(self.db, self.plan, self._encoded(keys))

    def _delete_staged(self) -> None:
        self._by_key(f"DELETE FROM {self.table} t USING {self.plan.keys} s WHERE {self.plan.side.match('t', 's')}")

    def _by_key(self, statement: str) -> Cursor:
        return by_key(self.db, self.plan, statement)

    def _list(self, keys: Iterable[Key]) -> None:
        """Puts keys on the re-read list; whatever stands there under that key is not to be trusted any more."""
        self._stage_keys(keys)
        self._delete_staged()
        self.relisted += self.plan.side.relist(self.db, f"SELECT DISTINCT {self.plan.side.key_list} FROM {self.plan.keys}")

    def _write(self, rows: Sequence[Row], partials: Sequence[Row]) -> list[Key]:
        """Upserts whole rows, updates partial ones; answers the keys of partial rows that are not there."""
        plan, side = self.plan, self.plan.side
        if rows:
            self._stage_rows(rows, self.target.columns)
            self._upsert(len(rows))
            if self.tracked:
                self._settle_listed()
        absent: list[Key] = []
        for columns, group in _by_given(self.target.columns, partials):
            self._stage_rows(group, columns, clear=True)
            if self.tracked:
                side.renew(self.db, plan.stage)
            if len(columns) > len(self.target.key):
                sets = ", ".join(f"{quote(c)} = s.{quote(c)}" for c in columns if c not in self.target.key)
                hit = self._by_key(f"UPDATE {self.table} t SET {sets} FROM {plan.stage} s WHERE {side.match('t', 's')}").rowcount
                if hit == len(group):
                    continue
            texts = self._texts("s", self.target.key)
            found = self._by_key(
                f"SELECT {texts} FROM {plan.stage} s WHERE NOT EXISTS (SELECT FROM {self.table} t WHERE {side.match('t', 's')})"
            ).fetchall()
            absent += [tuple(row) for row in found]
        return absent

    def _settle_listed(self) -> None:
        """Rows that the stream carried whole come off the list; those whose columns it carried over only in part stay, to be read anew."""
        side = self.plan.side
        if self.carried:
            self._stage_keys(self.carried)
            side.renew(self.db, self.plan.keys)
            side.unlist(
                self.db,
                f"(SELECT {side.key_list} FROM {self.plan.stage} r WHERE NOT EXISTS "
                f"(SELECT FROM {self.plan.keys} c WHERE {side.match('c', 'r')}))",
            )
        else:
            side.unlist(self.db, self.plan.stage)

    def _stage_rows(self, rows: Sequence[Sequence[Value]], columns: Sequence[str], *, clear: bool = False) -> None:
        if clear:
            self.db.execute(f"DELETE FROM {self.plan.stage}")
        copy_in(self.db, self.plan.stage, columns, [self._encoded(rows)])

    def _encoded(self, rows: Iterable[Sequence[Value]]) -> bytes:
        with self.stages.encoding():
            return self.batch.encoded(rows)

    def _upsert(self, count: int) -> None:
        plan, side = self.plan, self.plan.side
        names = [quote(c) for c in self.target.columns]
        listed = ", ".join(names)
        rest = [n for n in names if n not in side.key]
        insert = f"INSERT INTO {self.table} AS t ({listed}) OVERRIDING SYSTEM VALUE SELECT {listed} FROM {plan.stage} s"
        if not plan.arbiter:
            self.db.execute(f"DELETE FROM {self.table} t USING {plan.stage} s WHERE {side.match('t', 's')}")
            done = self.db.execute(insert).rowcount
        elif rest:
            same = " AND ".join(f't.{k}::text COLLATE "C" = excluded.{k}::text COLLATE "C"' for k in side.key) if plan.casefold else ""
            done = self.db.execute(
                f"{insert} ON CONFLICT ({side.key_list}) DO UPDATE SET {', '.join(f'{n} = excluded.{n}' for n in rest)}"
                + (f" WHERE {same}" if same else "")
            ).rowcount
        else:
            self.db.execute(f"{insert} ON CONFLICT ({side.key_list}) DO NOTHING")
            done = count
        if done != count:
            raise DataRejected(
                f"table {self.target.table.id}: two source keys are one key on the target ({', '.join(self.target.key)} compares "
                f"case-insensitively there)"
            )

    def _existing(self, keys: Sequence[Key]) -> dict[Key, tuple[Text, ...]]:
        """The target's rows at these keys, as canonical text, found by the canonical text of the key asked for."""
        self._stage_keys(keys)
        asked, texts = self._texts("s", self.target.key), self._texts("t", self.target.columns)
        found = self._by_key(
            f"SELECT {asked}, {texts} FROM {self.table} t JOIN {self.plan.keys} s ON {self.plan.side.match('t', 's')}"
        ).fetchall()
        width = len(self.target.key)
        return {tuple(row[:width]): tuple(row[width:]) for row in found}

    def _carry(self, moves: Sequence[tuple[Key, Row]]) -> tuple[list[Row], list[Key]]:
        """Rows whose UNCHANGED columns come from the row at another key; and new keys whose old row is not there."""
        there = self._existing([old for old, _ in moves])
        whole: list[Row] = []
        lost: list[Key] = []
        for old, row in moves:
            base = there.get(old)
            if base is None:
                lost.append(self.key_of(row))
            else:
                whole.append(tuple(b if v is UNCHANGED else v for v, b in zip(row, base, strict=True)))
        return whole, lost

    def _write_again(self, rows: Sequence[Row], partials: Sequence[Row]) -> list[Key]:
        """The second path: every touched key out, every row in."""
        plan, side = self.plan, self.plan.side
        carried, absent = self._carry([(self.key_of(row), row) for row in partials])
        everything = [*rows, *carried]
        self.carried += [self.key_of(row) for row in carried]
        self._stage_rows(everything, self.target.columns, clear=True)
        if self.tracked:
            self._evict()
        self._by_key(f"DELETE FROM {self.table} t USING {plan.stage} s WHERE {side.match('t', 's')}")
        names = ", ".join(quote(c) for c in self.target.columns)
        try:
            self.db.execute(f"INSERT INTO {self.table} ({names}) OVERRIDING SYSTEM VALUE SELECT {names} FROM {plan.stage} s")
        except pg.UniqueViolation as error:
            raise DataRejected(
                f"table {self.target.table.id}: unique constraint {error.diag.constraint_name} of the target refuses "
                "rows that the source allows",
                hint="the target is stricter than the source; make its constraint as wide, or quarantine the rows",
            ) from None
        if self.tracked:
            self._settle_listed()
        return absent

    def _evict(self) -> None:
        """Rows that the batch does not touch but that hold a unique value it writes came from a chunk read later than the stream's
        position: the stream will have moved them. Until then they go, and their keys are listed."""
        plan, side = self.plan, self.plan.side
        for columns in plan.unique:
            same = " AND ".join(f"t.{quote(c)} = s.{quote(c)}" for c in columns)
            self.db.execute(f"DELETE FROM {plan.keys}")
            evicted = self.db.execute(
                f"WITH gone AS (DELETE FROM {self.table} t USING {plan.stage} s WHERE {same} "
                f"AND NOT EXISTS (SELECT FROM {plan.stage} o WHERE {side.match('o', 't')}) "
                f"RETURNING {', '.join('t.' + k for k in side.key)}) "
                f"INSERT INTO {plan.keys} SELECT DISTINCT * FROM gone"
            ).rowcount
            if evicted:
                self.evicted += evicted
                self.relisted += side.relist(self.db, f"SELECT {side.key_list} FROM {plan.keys}")


def _by_given(columns: Sequence[str], rows: Sequence[Row]) -> Iterable[tuple[list[str], list[list[Value]]]]:
    """Partial rows grouped by the columns they do carry."""
    groups: dict[tuple[int, ...], list[list[Value]]] = {}
    for row in rows:
        given = tuple(at for at, value in enumerate(row) if value is not UNCHANGED)
        groups.setdefault(given, []).append([row[at] for at in given])
    for given, group in groups.items():
        yield [columns[at] for at in given], group
