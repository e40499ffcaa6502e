"""One chunk of the backfill into a MySQL-family table: insert if absent, skipping recorded and listed keys, listing what clashes.

Three ways, each tried when the one before cannot do it: straight into the table; through staging; through staging with the gate held
exclusive, which is what putting keys on the re-read list takes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence

from pymysql import err

from connectors.base import MergeOutcome
from connectors.mysql.ddl import quote
from connectors.mysql.infile import NotAllowed
from connectors.mysql.sidetables import unique_keys
from connectors.mysql.staging import GONE, LISTED, WHOLE, Staging
from connectors.mysql.tablewrite import is_duplicate
from pipeline.errors import DataRejected
from pipeline.model import Key, Kind, Text

_MANY = 65535
"""The most warnings that a session keeps."""
_DUPLICATE_WARNINGS = {1062, 1586, 1859}


class Way(enum.Enum):
    """How a chunk is merged, in the order of trying."""

    DIRECT = "direct"
    STAGED = "staged"
    LISTING = "listing"


class ChunkMerge:
    """One chunk's rows, and the ways to merge them."""

    def __init__(self, staging: Staging, chunk_id: int, blocks: Sequence[bytes]) -> None:
        """`blocks`: whole lines of COPY text."""
        self.staging = staging
        self.chunk_id = chunk_id
        self.cursor = staging.connection.cursor()
        self.rows = sum(block.count(b"\n") for block in blocks)
        self._blocks = blocks
        self._in_stage = False

    def possible(self, way: Way) -> bool:
        """Whether to try it; what it needs is prepared outside the gate."""
        if way is Way.DIRECT:
            return self.staging.infile
        if not self._in_stage:
            self.staging.load_blocks(self._blocks)
            self.staging.connection.commit()
            self._in_stage = True
        return True

    def wanted(self) -> bool:
        """Whether the chunk is still to be merged; then it stays so until the transaction ends."""
        self.cursor.execute("SELECT 1 FROM crossfade.chunk WHERE id = %s AND state = 'taken' FOR UPDATE", (self.chunk_id,))
        return self.cursor.fetchone() is not None

    def run(self, way: Way) -> int | None:
        """Rows inserted, the gate held; None: it takes the next way."""
        if way is Way.DIRECT:
            return self._direct()
        return self._staged() if way is Way.STAGED else self._listing()

    def finish(self, inserted: int, way: Way, seconds: float) -> MergeOutcome:
        """Marks the chunk done."""
        self.cursor.execute(
            "UPDATE crossfade.chunk SET state = 'done', rows_done = %s, seconds = %s WHERE id = %s", (inserted, seconds, self.chunk_id)
        )
        return MergeOutcome(inserted, self.rows - inserted, way is Way.DIRECT, seconds)

    # -- the ways --------------------------------------------------------------------------------------------------------------------

    def _direct(self) -> int | None:
        staging = self.staging
        if self._recorded_within():
            return None
        columns = [(quote(name), name) for name in staging.target.columns]
        try:
            loaded = staging.data.load(staging.load_statement(f"IGNORE INTO TABLE {staging.table}", columns), self._blocks)
        except NotAllowed:
            staging.infile = False
            return None
        if loaded.warnings == 0 and loaded.skipped == 0:
            return loaded.rows
        # A row that is there already may be skipped like that only where nothing but its very key can be what it ran into.
        only_key = staging.exact and not unique_keys(self.cursor, staging.target)
        if only_key and loaded.warnings == loaded.skipped <= _MANY and self._only_duplicates():
            return loaded.rows - loaded.skipped
        return None

    def _staged(self) -> int | None:
        try:
            self.cursor.execute(self._insert(""))
        except err.MySQLError as error:
            if is_duplicate(error):
                return None
            raise
        return int(self.cursor.rowcount)

    def _listing(self) -> int:
        """Rows that are neither there nor skipped by rule clash with another row on a unique key: that key is read again later."""
        staging, side = self.staging, self.staging.side
        self.cursor.execute(self._insert("IGNORE "))
        inserted = int(self.cursor.rowcount)
        if self.cursor.warning_count and not self._only_duplicates():
            raise self._refused()
        self.cursor.execute(
            f"UPDATE {staging.new.name} s {side.skipped(staging.new)} LEFT JOIN {staging.table} t "
            f"ON {staging.match('t', 's', staging.new.key)} SET s.cf_w = {LISTED} WHERE {side.unrecorded} AND {staging.absent}"
        )
        side.relist(staging.new, f"s.cf_w = {LISTED}")
        return inserted

    def _insert(self, ignore: str) -> str:
        staging, side = self.staging, self.staging.side
        return (
            f"INSERT {ignore}INTO {staging.table} ({staging.column_list}) SELECT {staging.staged_list} FROM {staging.new.name} s "
            f"{side.skipped(staging.new)} LEFT JOIN {staging.table} t ON {staging.match('t', 's', staging.new.key)} "
            f"WHERE {side.unrecorded} AND {staging.absent}"
        )

    # -- what stands in the way of loading straight ----------------------------------------------------------------------------------

    def _recorded_within(self) -> bool:
        """Whether the side table has a key that this chunk may hold."""
        side, first = self.staging.side, self.staging.target.key[0]
        marked = f"SELECT 1 FROM {side.name} WHERE (cf_deleted OR cf_listed IS NOT NULL)"
        self.cursor.execute(f"{marked} LIMIT 1")
        if self.cursor.fetchone() is None:
            return False
        if self.staging.target.table.column(first).type.kind is not Kind.INT or not self.rows:
            return True
        try:
            bounds = self._first_keys(self.staging.at[first])
        except ValueError:
            return True
        self.cursor.execute(f"{marked} AND {quote(first)} BETWEEN {bounds[0]} AND {bounds[1]} LIMIT 1")
        return self.cursor.fetchone() is not None

    def _first_keys(self, at: int) -> tuple[int, int]:
        low = high = None
        for block in self._blocks:
            found = [int(line.split(b"\t", at + 1)[at]) for line in block.splitlines()]
            low = min(found) if low is None else min(low, *found)
            high = max(found) if high is None else max(high, *found)
        if low is None or high is None:
            raise ValueError("an empty chunk")
        return low, high

    def _only_duplicates(self) -> bool:
        self.cursor.execute(f"SHOW WARNINGS LIMIT {_MANY}")
        return all(int(row[1]) in _DUPLICATE_WARNINGS for row in self.cursor.fetchall())

    def _refused(self) -> DataRejected:
        self.cursor.execute("SHOW WARNINGS")
        text = next((str(row[2]) for row in self.cursor.fetchall() if int(row[1]) not in _DUPLICATE_WARNINGS), "a row was refused")
        return DataRejected(f"table {self.staging.target.table.id}: {text}")


def merge_reread(staging: Staging, read: Mapping[Key, tuple[int, tuple[Text, ...] | None]], *, overwrite: bool) -> int:
    """Re-read rows, inside the caller's transaction, the gate exclusive; answers how many entries came off the list."""
    cursor, side = staging.connection.cursor(), staging.side
    by_sequence: dict[int, tuple[list[tuple[Text, ...]], list[Key]]] = {}
    for key, (sequence, row) in read.items():
        rows, gone = by_sequence.setdefault(sequence, ([], []))
        if row is None:
            gone.append(key)
        else:
            rows.append(row)
    for sequence, (rows, gone) in by_sequence.items():
        if rows:
            staging.load_rows(rows, group=sequence)
        if gone:
            staging.load_keys(gone, rows=True, group=sequence, state=GONE)
    # Entries that are no longer the ones the rows were read for: a later event has seen to them, or will.
    cursor.execute(
        f"DELETE s FROM {staging.new.name} s LEFT JOIN {side.name} k ON {side.match('k', 's', staging.new.key)} AND k.cf_listed = s.cf_g "
        f"WHERE {side.unrecorded}"
    )
    at_key = staging.match("t", "s", staging.new.key)
    if overwrite:
        cursor.execute(f"DELETE t FROM {staging.new.name} s STRAIGHT_JOIN {staging.table} t ON {at_key}")
    cursor.execute(
        f"INSERT IGNORE INTO {staging.table} ({staging.column_list}) SELECT {staging.staged_list} FROM {staging.new.name} s "
        f"LEFT JOIN {staging.table} t ON {at_key} WHERE s.cf_w = {WHOLE} AND {staging.absent}"
    )
    if cursor.warning_count:
        cursor.execute(f"SHOW WARNINGS LIMIT {_MANY}")
        for _, code, text in cursor.fetchall():
            if int(code) not in _DUPLICATE_WARNINGS:
                raise DataRejected(f"table {staging.target.table.id}: {text}")
    # A row whose unique value another row still owns stays listed: the stream will have moved the other one.
    return int(
        cursor.execute(
            f"UPDATE {staging.new.name} s STRAIGHT_JOIN {side.name} k ON {side.match('k', 's', staging.new.key)} "
            f"LEFT JOIN {staging.table} t ON {at_key} SET k.cf_listed = NULL "
            f"WHERE s.cf_w = {GONE} OR NOT {staging.absent}"
        )
    )
