"""The net effect of one batch on one MySQL-family table: deletes, carried moves, whole rows, partial rows, and the backfill's bookkeeping.

First the cheap way: UPDATE of the rows that are there, INSERT of those that are not. Never `ON DUPLICATE KEY UPDATE`, which would
overwrite whichever row holds a secondary unique value. If a unique key is in the way, the second path: delete every key the batch
touches, insert every row. The end state of whole transactions satisfies the source's own constraints, so a violation that is still
there is a real conflict and is raised.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from pymysql import err

from connectors.base import ApplyOutcome, TableBatch
from connectors.mysql.ddl import quote
from connectors.mysql.infile import numbers
from connectors.mysql.sidetables import unique_keys
from connectors.mysql.staging import LISTED, PART, WHOLE, Staging
from pipeline.errors import DataRejected
from pipeline.model import UNCHANGED, Key, Row, Value

_DUPLICATE = {1022, 1062, 1169, 1586, 1859}
_OPEN_PHASES = frozenset({"waiting", "copying", "indexing"})


def is_duplicate(error: BaseException) -> bool:
    """Whether a unique key is what the server objects to."""
    return isinstance(error, err.MySQLError) and bool(error.args) and error.args[0] in _DUPLICATE


def apply_table(staging: Staging, batch: TableBatch, *, phase: str, tracked: bool) -> ApplyOutcome:
    """Writes one table's part of the batch inside the caller's transaction, the table's gate held. The staging tables are empty.
    Raises `DataRejected`, pymysql's own errors."""
    return _TableApply(staging, batch, phase in _OPEN_PHASES, tracked).run()


class _TableApply:
    def __init__(self, staging: Staging, batch: TableBatch, copying: bool, tracked: bool) -> None:
        self.staging, self.batch, self.copying = staging, batch, copying
        # the target may hold rows that were read from the source after the stream's position: by chunks, by re-reads
        self.later = copying or tracked
        self.cursor = staging.connection.cursor()
        self.side = staging.side
        self.whole = 0  # staged rows that are whole
        self.parts: dict[int, tuple[tuple[int, ...], int]] = {}  # group → (columns given, rows)
        self.moved: dict[int, tuple[int, ...]] = {}
        self.relisted = self.evicted = 0

    def run(self) -> ApplyOutcome:
        batch, staging, second = self.batch, self.staging, 0
        if batch.truncate:
            self.cursor.execute(f"DELETE FROM {staging.table}")  # TRUNCATE would commit what came before
            self.side.clear()
        self._stage()
        if self.moved and not self.copying:
            self._carry()
        dead = list(dict.fromkeys([*batch.deletes, *(old for old, _ in batch.moves)])) if batch.moves else batch.deletes
        if dead:
            self._delete(dead)
        if self.whole or self.parts:
            self.cursor.execute("SAVEPOINT cf_table")
            try:
                self._write()
            except err.MySQLError as error:
                if not is_duplicate(error):
                    raise
                self.cursor.execute("ROLLBACK TO SAVEPOINT cf_table")
                self._write_again()
                second = 1
            if self.later:
                self.side.unlist(staging.new, f"s.cf_g = 0 AND s.cf_w = {WHOLE}")
                if self.moved:
                    # what was carried may be of a later life of the old key
                    self.relisted += self.side.relist(staging.new, f"s.cf_g < 0 AND s.cf_w = {WHOLE}")
                if self.parts:
                    self.side.renew(staging.new, f"s.cf_g > 0 AND s.cf_w <> {LISTED}")
        if self.parts or self.moved:
            self._list()
        return ApplyOutcome(self.relisted, self.evicted, second)

    # -- staging ---------------------------------------------------------------------------------------------------------------------

    def _stage(self) -> None:
        staging, batch = self.staging, self.batch
        moved_whole = [row for _, row in batch.moves if UNCHANGED not in row]
        rows = [*batch.rows, *moved_whole] if moved_whole else batch.rows
        if rows:
            self.whole = staging.load_rows(rows, encode=batch.encoded)
        for group, (given, parts) in enumerate(_by_given(batch.partials).items(), 1):
            staging.load_rows([tuple(row[at] for at in given) for row in parts], group=group, state=PART, given=given)
            self.parts[group] = (given, len(parts))
        moves: dict[tuple[int, ...], list[tuple[Key, Row]]] = {}
        for old, row in batch.moves:
            if UNCHANGED in row:
                moves.setdefault(_given(row), []).append((old, row))
        for number, (given, moved) in enumerate(moves.items(), 1):
            # While copying, the row at the old key may well be a later life of it: nothing is carried over.
            state = LISTED if self.copying else PART
            staging.load_moves([(old, [row[at] for at in given]) for old, row in moved], group=-number, state=state, given=given)
            self.moved[-number] = given

    def _missing(self, given: Sequence[int]) -> list[tuple[str, int]]:
        return [(name, at) for name, at in self.staging.at.items() if at not in given]

    def _carry(self) -> None:
        """Moved rows get the columns that their events left out from the row at the old key, before any row is touched."""
        staging = self.staging
        for group, given in self.moved.items():
            sets = "".join(f", s.c{at} = t.{quote(name)}" for name, at in self._missing(given))
            self.cursor.execute(
                f"UPDATE {staging.old.name} s STRAIGHT_JOIN {staging.table} t ON {staging.match('t', 's', staging.old.key)} "
                f"SET s.cf_w = {WHOLE}{sets} WHERE s.cf_g = {group}"
            )
        self.cursor.execute(f"SELECT COUNT(*) FROM {staging.new.name} s WHERE s.cf_g < 0 AND s.cf_w = {WHOLE}")
        self.whole += int(self.cursor.fetchone()[0])
        self.cursor.execute(f"UPDATE {staging.new.name} s SET s.cf_w = {LISTED} WHERE s.cf_g < 0 AND s.cf_w = {PART}")

    # -- writing ---------------------------------------------------------------------------------------------------------------------

    def _delete(self, keys: Sequence[Key]) -> None:
        staging = self.staging
        staging.load_keys(keys, encode=self.batch.encoded)
        self._delete_staged(staging.gone.name, staging.gone.key)
        if self.later:
            self.side.record_deleted(staging.gone)

    def _delete_staged(self, name: str, key: Sequence[str], where: str = "TRUE") -> int:
        return int(
            self.cursor.execute(
                f"DELETE t FROM {name} s STRAIGHT_JOIN {self.staging.table} t ON {self.staging.match('t', 's', key)} WHERE {where}"
            )
        )

    def _update(self, columns: Sequence[str], where: str) -> int:
        """Sets these columns of the rows that are there; answers how many are."""
        staging = self.staging
        joined = f"{staging.new.name} s STRAIGHT_JOIN {staging.table} t ON {staging.match('t', 's', staging.new.key)}"
        if not columns:
            self.cursor.execute(f"SELECT COUNT(*) FROM {joined} WHERE {where}")
            return int(self.cursor.fetchone()[0])
        sets = [f"t.{quote(name)} = s.c{staging.at[name]}" for name in columns]
        # a column with ON UPDATE CURRENT_TIMESTAMP that the event does not carry keeps its value
        sets += [f"t.{quote(c.name)} = t.{quote(c.name)}" for c in staging.columns.values() if c.on_update and c.name not in columns]
        self.cursor.execute(f"UPDATE {joined} SET {', '.join(sets)} WHERE {where}")
        found = numbers(staging.connection._result.message)
        return found[-3]  # matched, changed, warnings

    def _write(self) -> None:
        staging, where = self.staging, f"s.cf_w = {WHOLE}"
        if self.whole:
            there = self._update(staging.rest, where)
            if there < self.whole:
                insert = f"INSERT INTO {staging.table} ({staging.column_list}) SELECT {staging.staged_list} FROM {staging.new.name} s "
                if there:
                    insert += (
                        f"LEFT JOIN {staging.table} t ON {staging.match('t', 's', staging.new.key)} WHERE {staging.absent} AND {where}"
                    )
                else:
                    insert += f"WHERE {where}"
                there += int(self.cursor.execute(insert))
            if there != self.whole:
                raise self._two_in_one()
        for group, (given, count) in self.parts.items():
            columns = [name for name in staging.rest if staging.at[name] in given]
            if self._update(columns, f"s.cf_g = {group}") != count:
                self.cursor.execute(
                    f"UPDATE {staging.new.name} s LEFT JOIN {staging.table} t ON {staging.match('t', 's', staging.new.key)} "
                    f"SET s.cf_w = {LISTED} WHERE s.cf_g = {group} AND {staging.absent}"
                )

    def _write_again(self) -> None:
        """The second path: every touched key out, every row in."""
        staging, where = self.staging, f"s.cf_w = {WHOLE}"
        for group, (given, _) in self.parts.items():
            sets = "".join(f", s.c{at} = t.{quote(name)}" for name, at in self._missing(given))
            self.cursor.execute(
                f"UPDATE {staging.new.name} s STRAIGHT_JOIN {staging.table} t ON {staging.match('t', 's', staging.new.key)} "
                f"SET s.cf_w = {WHOLE}{sets} WHERE s.cf_g = {group}"
            )
        self.cursor.execute(f"UPDATE {staging.new.name} s SET s.cf_w = {LISTED} WHERE s.cf_w = {PART}")
        self._delete_staged(staging.new.name, staging.new.key, where)
        if self.later:
            self._evict()
        try:
            self.cursor.execute(
                f"INSERT INTO {staging.table} ({staging.column_list}) SELECT {staging.staged_list} FROM {staging.new.name} s WHERE {where}"
            )
        except err.MySQLError as error:
            if not is_duplicate(error):
                raise
            name = re.search(r"for key '([^']*)'", str(error.args[-1]))
            constraint = name[1].rpartition(".")[2] if name else "?"
            if constraint == "PRIMARY" and not staging.exact:
                raise self._two_in_one() from None
            raise DataRejected(
                f"table {staging.target.table.id}: unique key {constraint} of the target refuses rows that the source allows",
                hint="the target is stricter than the source; make its constraint or collation as wide, or quarantine the rows",
            ) from None

    def _two_in_one(self) -> DataRejected:
        return DataRejected(
            f"table {self.staging.target.table.id}: two source keys are one key on the target ({', '.join(self.staging.target.key)})",
            hint="the type or collation of the target's key is narrower than the source's",
        )

    def _evict(self) -> None:
        """Rows that the batch does not touch but that hold a unique value it writes were read later than the stream's position: the
        stream will have moved them. Until then they go, and their keys are listed. Every touched row is out of the table already."""
        staging = self.staging
        uniques = [columns for columns in unique_keys(self.cursor, staging.target) if columns]
        if not staging.exact:
            uniques.append(tuple((column, None) for column in staging.target.key))
        keys = ", ".join(f"t.{quote(column)}" for column in staging.target.key)
        for columns in uniques:
            if any(column not in staging.at for column, _ in columns):
                continue  # not ours to compare; if it is in the way, the INSERT says so
            same = " AND ".join(
                f"LEFT(t.{quote(column)}, {prefix}) = LEFT(s.c{staging.at[column]}, {prefix})"
                if prefix
                else f"t.{quote(column)} = s.c{staging.at[column]}"
                for column, prefix in columns
            )
            staging.clear_gone()
            found = self.cursor.execute(
                f"INSERT INTO {staging.gone.name} ({', '.join(staging.gone.key)}) SELECT DISTINCT {keys} "
                f"FROM {staging.new.name} s STRAIGHT_JOIN {staging.table} t ON {same} WHERE s.cf_w = {WHOLE}"
            )
            if found:
                self.relisted += self.side.relist(staging.gone, "TRUE")
                self.evicted += self._delete_staged(staging.gone.name, staging.gone.key)

    def _list(self) -> None:
        """Keys of rows that could not be made whole: whatever stands there under them is not to be trusted."""
        staging, where = self.staging, f"s.cf_w = {LISTED}"
        listed = self.side.relist(staging.new, where)
        if listed:
            self._delete_staged(staging.new.name, staging.new.key, where)
            self.relisted += listed


def _given(row: Sequence[Value]) -> tuple[int, ...]:
    return tuple(at for at, value in enumerate(row) if value is not UNCHANGED)


def _by_given(rows: Sequence[Row]) -> dict[tuple[int, ...], list[Row]]:
    """Partial rows by the columns that they do carry."""
    groups: dict[tuple[int, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(_given(row), []).append(row)
    return groups
