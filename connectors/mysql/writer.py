"""Writes a MySQL-family target: LOAD DATA from memory into staging tables and a few statements a table, position in the same transaction.

Order inside a transaction is the same everywhere, so that no two sessions wait for each other in a ring: the stream's row → gates
(rows of `table_state`), by table number → rows → side table, chunk. The gate is never taken shared first and exclusive later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import pymysql

from connectors.base import NO_NOTES, OTHER_SIDE, Address, ApplyNotes, ApplyOutcome, MergeOutcome, TableBatch, TargetTable
from connectors.mysql.chunkmerge import ChunkMerge, Way, merge_reread
from connectors.mysql.connection import connect, mapped
from connectors.mysql.ddl import quote
from connectors.mysql.infile import LocalData
from connectors.mysql.sidetables import SideTables, target_columns
from connectors.mysql.staging import Staging
from connectors.mysql.tablewrite import apply_table
from connectors.mysql.types import canonical_sql
from pipeline.errors import CommitUnknown, CrossfadeError, Fenced, Transient
from pipeline.model import Applied, Key, Text
from pipeline.stages import Stages

_STREAM = "SELECT epoch, position, partial_id, partial_place, kafka_offset FROM crossfade.stream WHERE migration = %s AND name = %s"

IDLE_SECONDS = 30
"""A live writer sends its next statement within milliseconds."""


class MysqlWriter:
    """See `connectors.base.Writer`."""

    def __init__(self, address: Address, migration: str, *, application: str = "crossfade apply") -> None:
        self._address = address
        self._migration = migration
        self._application = application
        self._staged: dict[int, Staging] = {}
        self._connection: Any = None
        self._data: LocalData | None = None
        self.stages = Stages()
        self._relisted_under: tuple[str, ...] | None = None

    # -- session ---------------------------------------------------------------------------------------------------------------------

    @property
    def _db(self) -> Any:
        if self._connection is None or not self._connection.open:
            self._staged.clear()
            connection: Any = connect(self._address, autocommit=False, application_name=self._application, local_infile=True)
            self._data = LocalData(connection)
            with connection.cursor() as cursor:
                # Whole transactions keep the target's foreign keys satisfied. Notes are not about values that changed; warnings are,
                # and every one of them is looked at.
                cursor.execute("SET foreign_key_checks = 0, unique_checks = 1, sql_notes = 0, max_error_count = 65535")
                if "mariadb" in str(connection.get_server_info()).lower():
                    # A worker that is frozen in the middle of a batch holds the stream's row; another one waits for it.
                    cursor.execute(f"SET idle_transaction_timeout = {IDLE_SECONDS}")
            self._connection = connection
        return self._connection

    def end_holder(self, migration: str, stream: str) -> bool:
        """The server ends a transaction that is idle for too long, see `_db`."""
        return False

    def close(self) -> None:
        """Closes the session; the writer may be used again and then opens a new one."""
        if self._connection is not None:
            with contextlib.suppress(pymysql.Error):
                self._connection.close()
            self._connection = None

    def _failed(self, error: BaseException, what: str) -> CrossfadeError:
        """Rolls back, forgets a broken session, answers the error in crossfade's terms."""
        self._rollback()
        self._staged.clear()  # a table may have changed under its staging tables
        return mapped(error, what)

    def _rollback(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except (pymysql.Error, OSError):
                self.close()

    def _commit(self) -> None:
        try:
            with self.stages.committing():
                self._connection.commit()
        except (pymysql.Error, OSError) as error:
            fault = mapped(error, "COMMIT", committing=True)
            if isinstance(fault, CommitUnknown):
                self.close()
                raise CommitUnknown(f"the connection broke inside COMMIT ({type(error).__name__})") from None
            raise self._failed(error, "COMMIT") from None

    def _staging(self, target: TargetTable) -> Staging:
        """The session's staging tables for `target`, empty. Between transactions only."""
        db = self._db
        staging = self._staged.get(target.number)
        if staging is None or staging.target != target:
            assert self._data is not None
            staging = self._staged[target.number] = Staging(db, self._data, self._migration, target, self.stages)
        staging.empty()
        return staging

    def _gates(self, numbers: Sequence[int], *, shared: bool = False) -> dict[int, tuple[str, bool]]:
        """Takes the tables' gates, in the order of their numbers; answers phase and `tracked` of each."""
        states: dict[int, tuple[str, bool]] = {}
        lock = "LOCK IN SHARE MODE" if shared else "FOR UPDATE"
        with self._db.cursor() as cursor:
            for number in sorted(numbers):
                cursor.execute(
                    f"SELECT phase, tracked FROM crossfade.table_state WHERE migration = %s AND number = %s {lock}",
                    (self._migration, number),
                )
                if (row := cursor.fetchone()) is not None:
                    states[number] = (str(row[0]), bool(row[1]))
        return states

    # -- positions -------------------------------------------------------------------------------------------------------------------

    def prepare(self, tables: Sequence[TargetTable]) -> None:
        try:
            with self._db.cursor() as cursor:
                for target in tables:
                    SideTables(cursor, self._migration, target, target_columns(cursor, target)).create()
            self._commit()
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, "the side tables") from None

    def applied(self, migration: str, stream: str) -> Applied:
        try:
            with self._db.cursor() as cursor:
                cursor.execute(_STREAM, (migration, stream))
                row = cursor.fetchone()
            self._db.rollback()
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"the position of stream {stream}") from None
        if row is None:
            raise CrossfadeError(f"stream {stream} of migration {migration} has no position row on the target")
        return Applied(stream, int(row[0]), str(row[1]), str(row[2]), int(row[3]), int(row[4]))

    # -- apply -----------------------------------------------------------------------------------------------------------------------

    def apply(
        self,
        migration: str,
        batches: Sequence[TableBatch],
        before: Applied,
        after: Applied,
        notes: ApplyNotes = NO_NOTES,
        *,
        probe: bool = False,
    ) -> ApplyOutcome:
        what = "the batch"
        try:
            staged = [self._staging(batch.target) for batch in batches]
            cursor = self._db.cursor()
            cursor.execute(_STREAM + " FOR UPDATE", (migration, before.stream))
            row = cursor.fetchone()
            found = row and (int(row[0]), str(row[1]), str(row[2]), int(row[3]))
            if found != (before.epoch, before.position, before.partial_id, before.partial_place):
                raise Fenced(f"stream {before.stream}: another worker has the position now")
            # Always locked: `tracked` then holds until this batch is over. Without chunks nobody else wants the gate.
            states = self._gates([batch.target.number for batch in batches])
            outcome = ApplyOutcome()
            for staging, batch in zip(staged, batches, strict=True):
                what = f"table {batch.target.table.id}"
                phase, tracked = states.get(batch.target.number, ("copied", False))
                done = apply_table(staging, batch, phase=phase, tracked=tracked)
                outcome = ApplyOutcome(
                    outcome.relisted + done.relisted, outcome.evicted + done.evicted, outcome.second_path + done.second_path
                )
            what = f"the position of stream {before.stream}"
            self._record(cursor, migration, after, sum(batch.events for batch in batches), notes)
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, what) from None
        except BaseException:
            self._rollback()
            raise
        if probe:
            self._rollback()
        else:
            self._commit()
        return outcome

    @staticmethod
    def _record(cursor: Any, migration: str, after: Applied, events: int, notes: ApplyNotes) -> None:
        """The position and what goes with it."""
        now = time.time()
        cursor.execute(
            "UPDATE crossfade.stream SET position = %s, partial_id = %s, partial_place = %s, kafka_offset = %s, updated_at = %s, "
            "applied_events = applied_events + %s, applied_transactions = applied_transactions + %s WHERE migration = %s AND name = %s",
            (
                after.position,
                after.partial_id,
                after.partial_place,
                after.offset,
                now,
                events,
                notes.transactions,
                migration,
                after.stream,
            ),
        )
        for token in notes.markers:
            cursor.execute(
                "INSERT INTO crossfade.marker (migration, stream, token, at) VALUES (%s, %s, %s, %s) ON DUPLICATE KEY UPDATE token = token",
                (migration, after.stream, token, now),
            )
        for held in notes.held:
            cursor.execute(
                "INSERT INTO crossfade.quarantine (migration, stream, number, target, row_key, position, event, error, state, at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                (migration, after.stream, *dataclasses.astuple(held), now),
            )

    # -- backfill --------------------------------------------------------------------------------------------------------------------

    def merge(self, target: TargetTable, chunk_id: int, blocks: Sequence[bytes]) -> MergeOutcome | None:
        try:
            merge = ChunkMerge(self._staging(target), chunk_id, blocks)
            for way in Way:
                if not merge.possible(way):
                    continue
                self._gates([target.number], shared=way is not Way.LISTING)
                started = time.monotonic()
                if not merge.wanted():
                    self._rollback()
                    return None
                done = merge.run(way)
                if done is None:
                    self._rollback()  # and the next way
                    continue
                outcome = merge.finish(done, way, time.monotonic() - started)
                self._commit()
                return outcome
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"table {target.table.id}") from None
        except BaseException:
            self._rollback()
            raise
        raise Transient(f"table {target.table.id}: chunk {chunk_id} could not be merged")

    def relist(self, target: TargetTable, keys: Sequence[Key]) -> None:
        try:
            staging = self._staging(target)
            self._relisted_under = self._applies()
            # The gate would be enough: every batch holds it for as long as it relies on what it read of `tracked`.
            self._gates([target.number])
            if keys:
                staging.load_keys(dict.fromkeys(keys))
                staging.side.relist(staging.gone, "TRUE")
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"the re-read list of table {target.table.id}") from None
        except BaseException:
            self._rollback()
            raise
        self._commit()

    def _applies(self) -> tuple[str, ...]:
        """Locks the streams' rows; answers the markers they have waited for. Raises CrossfadeError while one is waited for."""
        with self._db.cursor() as cursor:
            cursor.execute("SELECT muted FROM crossfade.stream WHERE migration = %s ORDER BY name FOR UPDATE", (self._migration,))
            tokens = [str(token) for (token,) in cursor.fetchall()]
            for token in filter(None, tokens):  # that it came out of one stream proves that it was written
                if not cursor.execute("SELECT 1 FROM crossfade.marker WHERE migration = %s AND token = %s", (self._migration, token)):
                    raise CrossfadeError(OTHER_SIDE)
        return tuple(tokens)

    def untrack(self, target: TargetTable) -> bool:
        try:
            # Behind the gate, as in `relist`: no batch is between reading `tracked` and acting on it.
            self._gates([target.number])
            with self._db.cursor() as cursor:
                side = SideTables(cursor, self._migration, target, target_columns(cursor, target))
                cursor.execute(f"SELECT 1 FROM {side.name} WHERE cf_listed IS NOT NULL LIMIT 1")
                done = cursor.fetchone() is None
                if done:
                    cursor.execute(
                        "UPDATE crossfade.table_state SET tracked = FALSE WHERE migration = %s AND number = %s",
                        (self._migration, target.number),
                    )
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"the re-read list of table {target.table.id}") from None
        except BaseException:
            self._rollback()
            raise
        self._commit()
        return done

    def build_key(self, target: TargetTable) -> None:
        """Nothing to do: tables of this product are made with their key."""

    def touched(self, target: TargetTable, limit: int) -> int:
        try:
            with self._db.cursor() as cursor:
                side = SideTables(cursor, self._migration, target, target_columns(cursor, target))
                cursor.execute(f"SELECT COUNT(*) FROM (SELECT 1 FROM {side.name} LIMIT {int(limit)}) x")
                (count,) = cursor.fetchone() or (0,)
            self._db.rollback()
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"the side table of table {target.table.id}") from None
        return int(count)

    def listed(self, target: TargetTable, limit: int) -> list[tuple[Key, int]]:
        try:
            with self._db.cursor() as cursor:
                side = SideTables(cursor, self._migration, target, target_columns(cursor, target))
                texts = ", ".join(canonical_sql(quote(name), target.table.column(name).type) for name in target.key)
                cursor.execute(
                    f"SELECT cf_listed, {texts} FROM {side.name} WHERE cf_listed IS NOT NULL ORDER BY cf_listed LIMIT {int(limit)}"
                )
                rows = cursor.fetchall()
            self._db.rollback()
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"the re-read list of table {target.table.id}") from None
        return [(tuple(str(value) for value in row[1:]), int(row[0])) for row in rows]

    def merge_listed(self, target: TargetTable, read: Mapping[Key, tuple[int, tuple[Text, ...] | None]], *, overwrite: bool = False) -> int:
        if not read:
            return 0
        try:
            staging = self._staging(target)
            if overwrite and self._relisted_under not in {None, self._applies()}:
                raise CrossfadeError(OTHER_SIDE)
            self._gates([target.number])
            off = merge_reread(staging, read, overwrite=overwrite)
        except (pymysql.Error, OSError) as error:
            raise self._failed(error, f"the re-read rows of table {target.table.id}") from None
        except BaseException:
            self._rollback()
            raise
        self._commit()
        return off
