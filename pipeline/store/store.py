"""The one door to the control store: schema `crossfade` in the target database.

Hot writes (position, gates, chunk done) are in `connectors/<product>/writer.py`, in the rows' own transactions.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Row

from pipeline.errors import BadInput
from pipeline.model import Key
from pipeline.store import phases
from pipeline.store import tables as t
from pipeline.store.copying import Tables
from pipeline.store.streams import Streams


class Store(Streams, Tables):
    """Control store of one migration. Safe to use from several threads; every method is one transaction."""

    # -- migration -------------------------------------------------------------------------------------------------------------------

    def migration_row(self) -> Row[Any] | None:
        """The migration's row, or None."""
        with self.look() as db:
            return db.execute(sa.select(t.migration).where(t.migration.c.name == self.migration)).one_or_none()

    def phase(self) -> str:
        """The migration's phase. Raises BadInput for a migration that was never started."""
        row = self.migration_row()
        if row is None:
            raise BadInput(f"migration {self.migration} was never started on this target")
        return str(row.phase)

    def add_migration(self, spec: Mapping[str, object]) -> bool:
        """Records a new migration in phase planned; False when it is there already."""
        now = time.time()
        with self.begin() as db:
            if db.execute(sa.select(t.migration.c.name).where(t.migration.c.name == self.migration)).one_or_none() is not None:
                return False
            db.execute(
                t.migration.insert().values(
                    name=self.migration, phase="planned", spec=orjson.dumps(spec).decode(), created_at=now, updated_at=now
                )
            )
            self._audit(db, "start", None, "planned", "")
            return True

    def set_phase(self, to: str, *, reason: str | None = None, action: str = "phase") -> None:
        """Moves the migration to a phase, with an audit row. Raises CrossfadeError for a way that the phase machine has not."""
        with self.begin() as db:
            before = db.execute(sa.select(t.migration.c.phase).where(t.migration.c.name == self.migration).with_for_update()).scalar()
            if before == to and reason is None:
                return
            phases.check(self.migration, before, to)
            db.execute(
                t.migration.update().where(t.migration.c.name == self.migration).values(phase=to, reason=reason, updated_at=time.time())
            )
            self._audit(db, action, before, to, reason or "")

    def set_reason(self, reason: str | None) -> None:
        """Why the migration waits or failed, without moving it."""
        with self.begin() as db:
            db.execute(t.migration.update().where(t.migration.c.name == self.migration).values(reason=reason))

    def want(self, phase: str, *, budget: float | None = None, detail: str = "") -> None:
        """How far the controller shall take it, writes waiting for `budget` seconds at most; `following` is as far as it goes by itself."""
        with self.begin() as db:
            mine = t.migration.c.name == self.migration
            before = db.execute(sa.select(t.migration.c.wanted).where(mine).with_for_update()).scalar()
            if before != phase:
                db.execute(t.migration.update().where(mine).values(wanted=phase, budget=budget))
                self._audit(db, "want", None, None, f"{phase} {detail}".strip())

    def set_rate(self, rate: float | None) -> None:
        """Throttles the backfill: rows a second, None for no limit."""
        with self.begin() as db:
            db.execute(t.migration.update().where(t.migration.c.name == self.migration).values(rate=rate))
            self._audit(db, "throttle", None, None, f"{rate} rows/s" if rate is not None else "off")

    def added_columns(self) -> dict[str, dict[str, dict[str, Any]]]:
        """By source table and column what the source got since the start: `old`, the text that rows of before have there; `reread`,
        whether rows have to be read again for it; `state`, adding or done."""
        with self.look() as db:
            text = db.execute(sa.select(t.migration.c.pairs).where(t.migration.c.name == self.migration)).scalar()
        found: dict[str, dict[str, dict[str, Any]]] = orjson.loads(text) if text else {}
        return found

    def set_added(self, table: str, columns: Mapping[str, Mapping[str, object]]) -> None:
        """Records columns of a source table, over what was recorded of them before, with an audit row."""
        with self.begin() as db:
            text = db.execute(sa.select(t.migration.c.pairs).where(t.migration.c.name == self.migration).with_for_update()).scalar()
            all_ = orjson.loads(text) if text else {}
            all_.setdefault(table, {}).update(columns)
            db.execute(t.migration.update().where(t.migration.c.name == self.migration).values(pairs=orjson.dumps(all_).decode()))
            self._audit(db, "column", None, None, f"{table}: " + ", ".join(f"{name} {of['state']}" for name, of in columns.items()))

    def forget(self) -> None:
        """Takes every row of the migration out, but for its phase and the audit trail."""
        with self.begin() as db:
            for table in reversed(t.metadata.sorted_tables):
                if "migration" in table.c and table is not t.audit:
                    db.execute(table.delete().where(table.c.migration == self.migration))

    def drop_if_empty(self) -> None:
        """Takes the whole schema away when no migration is in it any more, the audit trail with it."""
        with self.begin() as db:
            if db.execute(sa.select(t.migration.c.name).limit(1)).one_or_none() is None:
                t.metadata.drop_all(db)
                db.execute(sa.schema.DropSchema(t.SCHEMA, if_exists=True))

    def start_over(self) -> None:
        """After a cancelled or completed one: the name is free again."""
        with self.begin() as db:
            db.execute(t.migration.delete().where(t.migration.c.name == self.migration))

    # -- audit -----------------------------------------------------------------------------------------------------------------------

    def audit(self, action: str, detail: str = "") -> None:
        """One audit row: who did what, when."""
        with self.begin() as db:
            self._audit(db, action, None, None, detail)

    def audit_trail(self, limit: int = 200) -> list[Row[Any]]:
        """The newest audit rows, oldest first."""
        with self.look() as db:
            query = sa.select(t.audit).where(t.audit.c.migration == self.migration).order_by(t.audit.c.id.desc()).limit(limit)
            return list(reversed(db.execute(query).all()))

    # -- verify ----------------------------------------------------------------------------------------------------------------------------

    def last_verify(self) -> dict[str, object] | None:
        """The newest verify: when, how far, and the rows that it found not to be the same and nobody has repaired."""
        run, table, found = t.verify.run, t.verify.table, t.verify.difference
        with self.look() as db:
            row = db.execute(sa.select(run).where(run.c.migration == self.migration).order_by(run.c.id.desc()).limit(1)).one_or_none()
            if row is None:
                return None
            rows = db.execute(sa.select(sa.func.coalesce(sa.func.sum(table.c.rows_compared), 0)).where(table.c.run == row.id)).scalar()
            left = sa.select(sa.func.count()).select_from(found).where(found.c.run == row.id, found.c.state == "open")
            return {
                "mode": row.mode,
                "started_at": row.started_at,
                "finished_at": row.finished_at,
                "rows_compared": int(rows or 0),
                "differences": int(db.execute(left).scalar() or 0),
            }

    # -- workers ---------------------------------------------------------------------------------------------------------------------

    def seen(self, worker: str, roles: str) -> None:
        """A worker says that it lives."""
        now = time.time()
        with self.begin() as db:
            there = db.execute(t.worker.update().where(t.worker.c.id == worker).values(seen_at=now)).rowcount
            if not there:
                values = {"id": worker, "host": socket.gethostname(), "pid": os.getpid(), "roles": roles, "seen_at": now}
                db.execute(t.worker.insert().values(**values))

    def workers(self, within: float = 15.0) -> list[Row[Any]]:
        """Workers heard of lately."""
        with self.look() as db:
            return list(db.execute(sa.select(t.worker).where(t.worker.c.seen_at > time.time() - within)).all())

    # -- quarantine ------------------------------------------------------------------------------------------------------------------

    def held_keys(self, stream: str) -> list[tuple[int, Key]]:
        """(table number, key) of everything in quarantine."""
        with self.look() as db:
            query = sa.select(t.quarantine.c.number, t.quarantine.c.row_key).where(
                t.quarantine.c.migration == self.migration,
                t.quarantine.c.stream == stream,
                t.quarantine.c.state.in_(("held", "waiting")),
            )
            return [(int(n), tuple(orjson.loads(k))) for n, k in db.execute(query.distinct()).all()]

    def quarantined(self) -> list[Row[Any]]:
        """Everything in quarantine, oldest first."""
        with self.look() as db:
            query = sa.select(t.quarantine).where(t.quarantine.c.migration == self.migration)
            return list(db.execute(query.where(t.quarantine.c.state.in_(("held", "waiting"))).order_by(t.quarantine.c.id)).all())

    def set_quarantine(self, ids: Sequence[int], state: str) -> None:
        """applied or dropped."""
        with self.begin() as db:
            db.execute(t.quarantine.update().where(t.quarantine.c.id.in_(ids)).values(state=state))
