"""Writes a PostgreSQL target: COPY into a staging table and one statement a table, position in the same transaction.

Order inside a transaction matters and is the same everywhere (so that no two sessions wait for each other in a ring):
the stream's row → gates, by table number → the tables themselves, looking at them included → chunk and table state.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
from psycopg import errors as pg

from connectors.base import NO_NOTES, OTHER_SIDE, Address, ApplyNotes, ApplyOutcome, MergeOutcome, TableBatch, TargetTable
from connectors.postgres import keyless
from connectors.postgres.chunkmerge import merge_chunk, merge_reread
from connectors.postgres.connection import connect, mapped
from connectors.postgres.ddl import quote
from connectors.postgres.sidetables import SideTables, gate_class
from connectors.postgres.tablewrite import COPYING, TablePlan, UniqueIndexes, apply_table, stage, stage_keys, unique_indexes
from connectors.postgres.types import canonical_sql
from connectors.postgres.wakeups import CHANNEL
from pipeline import copytext
from pipeline.errors import CommitUnknown, CrossfadeError, DataRejected, Fenced
from pipeline.model import Applied, Key, Text
from pipeline.stages import Stages

_STREAM = "SELECT epoch, position, partial_id, partial_place, kafka_offset FROM crossfade.stream WHERE migration = %s AND name = %s"

_MUTED = (
    "SELECT s.muted, EXISTS (SELECT FROM crossfade.marker m WHERE m.migration = s.migration AND m.token = s.muted) "
    "FROM crossfade.stream s WHERE s.migration = %s ORDER BY s.name FOR UPDATE OF s"
)


@dataclasses.dataclass(frozen=True, slots=True)
class _State:
    """What of `table_state` decides how a table is written."""

    phase: str
    tracked: bool
    keyless: bool


_COPIED = _State("copied", tracked=False, keyless=False)


class PostgresWriter:
    """See `connectors.base.Writer`."""

    def __init__(self, address: Address, migration: str, *, application: str = "crossfade apply", durable: bool = False) -> None:
        """`durable`: each commit waits for the disk. Without, a crash of the server may take back the last commits, rows and position
        together, and the stream sends them again."""
        self._durable = durable
        self._address = address
        self._migration = migration
        self._application = application
        self._gate_class = gate_class(migration)
        self._plans: dict[int, TablePlan] = {}
        self._plans_seen: dict[int, UniqueIndexes] = {}
        self._connection: psycopg.Connection[Any] | None = None
        self.stages = Stages()
        self._relisted_under: tuple[str, ...] | None = None

    # -- session ---------------------------------------------------------------------------------------------------------------------

    @property
    def _db(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = connect(self._address, autocommit=False, application_name=self._application)
            try:
                # Whole transactions keep the target's foreign keys satisfied; its triggers ran on the source already.
                connection.execute("SET session_replication_role = replica")
                if not self._durable:
                    connection.execute("SET synchronous_commit = off")
                connection.commit()
            except psycopg.Error as error:
                connection.close()
                raise mapped(error, "the target session") from None
            self._connection = connection
            self._plans.clear()
        return self._connection

    def close(self) -> None:
        """Closes the session; the writer may be used again and then opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _failed(self, error: psycopg.Error, what: str) -> CrossfadeError:
        """Rolls back, forgets a broken session, answers the error in crossfade's terms."""
        if self._connection is not None:
            try:
                self._connection.rollback()
            except psycopg.Error:
                self.close()
            self._plans.clear()  # staging tables may be of this very transaction, or of a table that has changed
        return mapped(error, what)

    def _undo(self) -> None:
        """Rolls back. Staging tables made in this very transaction go with it, so what is known of them does too."""
        self._db.rollback()
        self._plans.clear()

    def _commit(self) -> None:
        try:
            with self.stages.committing():
                self._db.commit()
        except psycopg.OperationalError as error:
            self.close()
            raise CommitUnknown(f"the connection broke inside COMMIT ({type(error).__name__})") from None

    def _plan(self, target: TargetTable, *, without_key: bool = False) -> TablePlan:
        plan = self._plans.get(target.number)
        if plan is not None and plan.target == target and plan.keyless == without_key:
            return plan
        plan = stage(self._db, self._migration, target, keyless=without_key)
        self._plans[target.number] = plan
        self._plans_seen[target.number] = plan.indexes
        return plan

    def _gate(self, number: int, *, shared: bool) -> None:
        self._db.execute(f"SELECT pg_catalog.pg_advisory_xact_lock{'_shared' if shared else ''}(%s, %s)", (self._gate_class, number))

    # -- positions -------------------------------------------------------------------------------------------------------------------

    def prepare(self, tables: Sequence[TargetTable]) -> None:
        try:
            for target in tables:
                SideTables(self._migration, target).create(self._db)
            self._commit()
        except psycopg.Error as error:
            raise self._failed(error, "the side tables") from None

    def applied(self, migration: str, stream: str) -> Applied:
        try:
            row = self._db.execute(_STREAM, (migration, stream)).fetchone()
            self._db.commit()
        except psycopg.Error as error:
            raise self._failed(error, f"the position of stream {stream}") from None
        if row is None:
            raise CrossfadeError(f"stream {stream} of migration {migration} has no position row on the target")
        return Applied(stream, int(row[0]), row[1], row[2], int(row[3]), int(row[4]))

    def end_holder(self, migration: str, stream: str) -> bool:
        try:
            ended = self._db.execute(
                "SELECT pg_catalog.pg_terminate_backend(l.pid) FROM crossfade.stream s "
                "JOIN pg_catalog.pg_locks l ON l.locktype = 'transactionid' AND l.transactionid = s.xmax AND l.granted "
                "WHERE s.migration = %s AND s.name = %s AND l.pid <> pg_catalog.pg_backend_pid()",
                (migration, stream),
            ).fetchall()
            self._db.commit()
        except psycopg.Error as error:
            raise self._failed(error, f"whoever holds stream {stream}") from None
        return bool(ended)

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
        try:
            return self._apply(migration, batches, before, after, notes, probe)
        except DataRejected:
            if not self._stale(batches):
                raise
            # A unique index has come since the tables were looked at (they are built after the copy): now there is a second path.
            return self._apply(migration, batches, before, after, notes, probe)

    def _stale(self, batches: Sequence[TableBatch]) -> bool:
        """Whether some table has other unique indexes now than its plan says; forgets the plans when so."""
        try:
            known = {b.target.number: self._plans_seen.get(b.target.number) for b in batches}
            changed = any(unique_indexes(self._db, b.target) != known[b.target.number] for b in batches)
            self._db.rollback()
        except psycopg.Error as error:
            raise self._failed(error, "the target's indexes") from None
        return changed

    def _apply(  # noqa: PLR0917
        self, migration: str, batches: Sequence[TableBatch], before: Applied, after: Applied, notes: ApplyNotes, probe: bool
    ) -> ApplyOutcome:
        what = "the batch"
        try:
            db = self._db
            row = db.execute(_STREAM + " FOR UPDATE", (migration, before.stream)).fetchone()
            if row is None or (int(row[0]), row[1], row[2], int(row[3])) != (
                before.epoch,
                before.position,
                before.partial_id,
                before.partial_place,
            ):
                self._undo()
                raise Fenced(f"stream {before.stream}: another worker has the position now")
            states: dict[int, _State] = {}
            if batches:
                states = self._states(migration, batches)
                for number in sorted(n for n, state in states.items() if state.tracked):
                    self._gate(number, shared=False)
                if any(state.keyless for state in states.values()):
                    states = self._states(migration, batches)  # keys come under the gate
            outcome = ApplyOutcome()
            for batch in batches:
                what = f"table {batch.target.table.id}"
                state = states.get(batch.target.number, _COPIED)
                plan = self._plan(batch.target, without_key=state.keyless)
                if state.keyless:
                    done = keyless.record(db, plan, batch)
                else:
                    done = apply_table(db, plan, batch, copying=state.phase in COPYING, tracked=state.tracked, stages=self.stages)
                outcome = ApplyOutcome(
                    outcome.relisted + done.relisted, outcome.evicted + done.evicted, outcome.second_path + done.second_path
                )
            what = f"the position of stream {before.stream}"
            db.execute(
                "UPDATE crossfade.stream SET position = %s, partial_id = %s, partial_place = %s, kafka_offset = %s, updated_at = %s, "
                "applied_events = applied_events + %s, applied_transactions = applied_transactions + %s WHERE migration = %s AND name = %s",
                (
                    after.position,
                    after.partial_id,
                    after.partial_place,
                    after.offset,
                    time.time(),
                    sum(b.events for b in batches),
                    notes.transactions,
                    migration,
                    before.stream,
                ),
            )
            for token in notes.markers:
                db.execute(
                    "INSERT INTO crossfade.marker (migration, stream, token, at) VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                    (migration, before.stream, token, time.time()),
                )
            if notes.markers:
                db.execute("SELECT pg_catalog.pg_notify(%s, %s)", (CHANNEL, migration))
            for held in notes.held:
                db.execute(
                    "INSERT INTO crossfade.quarantine (migration, stream, number, target, row_key, position, event, error, state, at) "
                    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                    (migration, before.stream, *dataclasses.astuple(held), time.time()),
                )
            if probe:
                self._undo()
                return outcome
        except psycopg.Error as error:
            raise self._failed(error, what) from None
        except BaseException:
            if self._connection is not None and not self._connection.closed:
                self._undo()
            raise
        self._commit()
        return outcome

    def _states(self, migration: str, batches: Sequence[TableBatch]) -> dict[int, _State]:
        found = self._db.execute(
            "SELECT number, phase, tracked, keyless FROM crossfade.table_state WHERE migration = %s AND number = ANY(%s)",
            (migration, [b.target.number for b in batches]),
        ).fetchall()
        return {int(row[0]): _State(row[1], bool(row[2]), bool(row[3])) for row in found}

    # -- backfill --------------------------------------------------------------------------------------------------------------------

    def merge(self, target: TargetTable, chunk_id: int, blocks: Sequence[bytes]) -> MergeOutcome | None:
        try:
            try:
                return self._merge(target, chunk_id, blocks, fast=True)
            except pg.UniqueViolation:
                self._undo()
                return self._merge(target, chunk_id, blocks, fast=False)
        except psycopg.Error as error:
            raise self._failed(error, f"table {target.table.id}") from None
        except BaseException:
            if self._connection is not None and not self._connection.closed:
                self._undo()
            raise

    def _merge(self, target: TargetTable, chunk_id: int, blocks: Sequence[bytes], *, fast: bool) -> MergeOutcome | None:
        db = self._db
        self._gate(target.number, shared=True)
        started = time.monotonic()
        row = db.execute(
            "SELECT s.keyless FROM crossfade.chunk c JOIN crossfade.table_state s ON s.migration = c.migration AND s.number = c.number "
            "WHERE c.id = %s AND c.state = 'taken' FOR UPDATE OF c",
            (chunk_id,),
        ).fetchone()
        if row is None:
            self._undo()
            return None
        plan = self._plan(target, without_key=bool(row[0]))
        rows, skipped = merge_chunk(db, plan, blocks, fast=fast)
        seconds = time.monotonic() - started
        db.execute(
            "UPDATE crossfade.chunk SET state = 'done', rows_done = %s, seconds = %s WHERE id = %s", (rows - skipped, seconds, chunk_id)
        )
        self._commit()
        return MergeOutcome(rows - skipped, skipped, fast, seconds)

    def build_key(self, target: TargetTable) -> None:
        alone = -target.number  # who led before may still be at it; gates have the tables' own numbers, which are positive
        try:
            self._gate(alone, shared=False)
            keyless.build_index(self._db, self._migration, target)
            self._commit()
            self._gate(alone, shared=False)
            self._gate(target.number, shared=False)
            keyless.attach(self._db, SideTables(self._migration, target))
        except psycopg.Error as error:
            raise self._failed(error, f"the key of table {target.table.id}") from None
        self._commit()

    def touched(self, target: TargetTable, limit: int) -> int:
        side = SideTables(self._migration, target)
        try:
            row = self._db.execute(f"SELECT count(*) FROM (SELECT FROM {side.name} LIMIT {int(limit)}) x").fetchone()
            self._db.commit()
        except psycopg.Error as error:
            raise self._failed(error, f"the side table of table {target.table.id}") from None
        assert row is not None
        return int(row[0])

    def relist(self, target: TargetTable, keys: Sequence[Key]) -> None:
        """Puts keys on the re-read list and makes the table tracked. See `connectors.base.Writer`."""
        try:
            # The stream's rows first: a batch that read `tracked` as false is over before this goes on.
            self._relisted_under = self._applies()
            self._gate(target.number, shared=False)
            plan = self._plan(target)
            stage_keys(self._db, plan, copytext.encode(keys))
            plan.side.relist(self._db, f"SELECT DISTINCT {plan.side.key_list} FROM {plan.keys}")
        except psycopg.Error as error:
            raise self._failed(error, f"the re-read list of table {target.table.id}") from None
        except CrossfadeError:
            self._undo()
            raise
        self._commit()

    def _applies(self) -> tuple[str, ...]:
        """Locks the streams' rows; answers the markers they have waited for. Raises CrossfadeError while one is waited for."""
        rows = self._db.execute(_MUTED, (self._migration,)).fetchall()
        if any(token and not came for token, came in rows):
            raise CrossfadeError(OTHER_SIDE)
        return tuple(str(token) for token, _ in rows)

    def untrack(self, target: TargetTable) -> bool:
        side = SideTables(self._migration, target)
        try:
            # Behind the stream's rows, as in `relist`: no batch is between reading `tracked` and acting on it.
            self._db.execute("SELECT FROM crossfade.stream WHERE migration = %s ORDER BY name FOR UPDATE", (self._migration,))
            done = self._db.execute(
                "UPDATE crossfade.table_state SET tracked = false WHERE migration = %s AND number = %s "
                f"AND NOT EXISTS (SELECT FROM {side.name} WHERE cf_listed IS NOT NULL)",
                (self._migration, target.number),
            ).rowcount
        except psycopg.Error as error:
            raise self._failed(error, f"the re-read list of table {target.table.id}") from None
        self._commit()
        return bool(done)

    def listed(self, target: TargetTable, limit: int) -> list[tuple[Key, int]]:
        side = SideTables(self._migration, target)
        texts = ", ".join(canonical_sql(quote(k), target.table.column(k).type) for k in target.key)
        try:
            rows = self._db.execute(
                f"SELECT cf_listed, {texts} FROM {side.name} WHERE cf_listed IS NOT NULL ORDER BY cf_listed LIMIT {int(limit)}"
            ).fetchall()
            self._db.commit()
        except psycopg.Error as error:
            raise self._failed(error, f"the re-read list of table {target.table.id}") from None
        return [(tuple(row[1:]), int(row[0])) for row in rows]

    def merge_listed(self, target: TargetTable, read: Mapping[Key, tuple[int, tuple[Text, ...] | None]], *, overwrite: bool = False) -> int:
        if not read:
            return 0
        try:
            if overwrite and self._relisted_under not in {None, self._applies()}:
                raise CrossfadeError(OTHER_SIDE)
            self._gate(target.number, shared=False)
            off = merge_reread(self._db, self._plan(target), read, overwrite=overwrite)
        except psycopg.Error as error:
            raise self._failed(error, f"the re-read rows of table {target.table.id}") from None
        except CrossfadeError:
            self._undo()
            raise
        self._commit()
        return off
