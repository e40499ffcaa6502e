"""The one door to the control store: schema `crossfade` in the target database.

Hot writes (position, gates, chunk done) are in `connectors/<product>/writer.py`, in the rows' own transactions.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from connectors.base import Address
from connectors.engine import mapped, sqlalchemy_engine
from pipeline.errors import BadInput, CrossfadeError, Fenced
from pipeline.model import Key
from pipeline.stages import Stages
from pipeline.store import phases
from pipeline.store import tables as t


def who() -> str:
    """The person or service behind a command, for the audit trail."""
    with contextlib.suppress(Exception):
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return f"uid {os.getuid()}@{socket.gethostname()}"


CLAIM_SECONDS = 10
"""A worker that is asked to give up its stream is given so long to end its batch."""


class Store:
    """Control store of one migration. Safe to use from several threads; every method is one transaction."""

    def __init__(self, address: Address, migration: str) -> None:
        self.migration = migration
        self._address = address
        # READ COMMITTED on both products: MySQL's default would show a poller the same snapshot for ever.
        self._leads: tuple[str, int] | None = None
        self.engine = sqlalchemy_engine(address, pool_pre_ping=True, pool_size=4, isolation_level="READ COMMITTED")
        self._quick = sqlalchemy_engine(address, durable=False, pool_size=4, isolation_level="READ COMMITTED")

    def close(self) -> None:
        """Lets go of the connections."""
        self.engine.dispose()
        self._quick.dispose()

    @contextlib.contextmanager
    def begin(self, *, fenced: bool = True, quick: bool = False) -> Iterator[Connection]:
        """One transaction. Driver errors come out in crossfade's terms. Raises `Fenced` when this store was a controller's that leads no
        more: whatever it still tries comes to nothing.

        `quick`: for what happens many times a second and may be forgotten. It does not ask first whether the session is alive (`Transient`
        when it is not), and does not wait for the disk: a crash of the server may take it although its caller goes on.
        """
        try:
            with (self._quick if quick else self.engine).begin() as connection:
                if fenced and self._leads is not None:
                    lease = t.lease.c
                    query = sa.select(lease.holder, lease.epoch).where(lease.name == self.migration).with_for_update(read=True)
                    row = connection.execute(query).one_or_none()
                    if row is None or (row.holder, row.epoch) != self._leads:
                        raise Fenced(f"another controller leads migration {self.migration}")
                yield connection
        except sa.exc.DBAPIError as error:
            raise mapped(error.orig if isinstance(error.orig, Exception) else error, "the control store", self._address) from None

    # -- schema ----------------------------------------------------------------------------------------------------------------------

    def exists(self) -> bool:
        """Whether the control store was set up on this target."""
        with self.begin() as db:
            return bool(sa.inspect(db).has_table("version", schema=t.SCHEMA))

    def create(self) -> None:
        """Makes schema and tables; safe to run twice. Raises CrossfadeError when they are of a newer version."""
        with self.begin() as db:
            if db.dialect.name == "postgresql":
                # Two starts at once: CREATE SCHEMA IF NOT EXISTS alone can still collide in the catalog.
                db.execute(sa.text("SELECT pg_advisory_xact_lock(1668507246)"))
            if t.SCHEMA not in sa.inspect(db).get_schema_names():
                db.execute(sa.schema.CreateSchema(t.SCHEMA, if_not_exists=True))
            t.metadata.create_all(db)
            found = db.execute(sa.select(t.version.c.version)).scalar()
            if found is None:
                db.execute(t.version.insert().values(version=t.VERSION))
            elif found > t.VERSION:
                raise CrossfadeError(f"the control store is of version {found}, this crossfade knows {t.VERSION}", hint="upgrade crossfade")
            elif found < t.VERSION:
                _upgrade(db)

    # -- migration -------------------------------------------------------------------------------------------------------------------

    def migration_row(self) -> Row[Any] | None:
        """The migration's row, or None."""
        with self.begin() as db:
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
        with self.begin() as db:
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
        with self.begin() as db:
            query = sa.select(t.audit).where(t.audit.c.migration == self.migration).order_by(t.audit.c.id.desc()).limit(limit)
            return list(reversed(db.execute(query).all()))

    def _audit(self, db: Connection, action: str, before: str | None, after: str | None, detail: str) -> None:
        db.execute(
            t.audit.insert().values(
                migration=self.migration, at=time.time(), who=who(), action=action, from_phase=before, to_phase=after, detail=detail
            )
        )

    # -- lease -----------------------------------------------------------------------------------------------------------------------

    def lead(self, holder: str, seconds: float) -> int | None:
        """Takes or renews the controller's lease; answers its epoch, or None while somebody else holds it. From then on every transaction
        of this store needs that epoch."""
        now = time.time()
        with self.begin(fenced=False) as db:
            row = db.execute(sa.select(t.lease).where(t.lease.c.name == self.migration).with_for_update()).one_or_none()
            if row is not None and row.holder != holder and row.expires_at > now:
                return None
            epoch = 1 if row is None else int(row.epoch) + (row.holder != holder)
            values = {"holder": holder, "epoch": epoch, "expires_at": now + seconds}
            if row is None:
                db.execute(t.lease.insert().values(name=self.migration, **values))
            else:
                db.execute(t.lease.update().where(t.lease.c.name == self.migration).values(**values))
        self._leads = (holder, epoch)
        return epoch

    def renew(self, seconds: float) -> None:
        """Keeps the lease of before. Raises `Fenced` when somebody else has had it since: what was begun under it is theirs now."""
        with self.begin() as db:
            db.execute(t.lease.update().where(t.lease.c.name == self.migration).values(expires_at=time.time() + seconds))

    def resign(self, holder: str) -> None:
        """Gives the lease up, so that the next controller need not wait."""
        with self.begin() as db:
            db.execute(t.lease.update().where(t.lease.c.name == self.migration, t.lease.c.holder == holder).values(expires_at=0))

    # -- streams ---------------------------------------------------------------------------------------------------------------------

    def add_stream(self, name: str, *, topic: str, topic_id: str, connector: str, started_at: str) -> None:
        """Records a stream at its beginning; safe to run twice: what is there stays as it is."""
        with self.begin() as db:
            if db.execute(sa.select(t.stream.c.name).where(*self._stream(name))).one_or_none() is None:
                db.execute(
                    t.stream.insert().values(
                        migration=self.migration,
                        name=name,
                        position="",
                        topic=topic,
                        topic_id=topic_id,
                        connector=connector,
                        started_at=started_at,
                    )
                )

    def set_topic_id(self, name: str, topic_id: str) -> None:
        """Whose offsets the stream's are, where that was not known."""
        with self.begin() as db:
            db.execute(t.stream.update().where(*self._stream(name), t.stream.c.topic_id == "").values(topic_id=topic_id))

    def streams(self) -> list[Row[Any]]:
        """Every stream's row."""
        with self.begin() as db:
            return list(db.execute(sa.select(t.stream).where(t.stream.c.migration == self.migration).order_by(t.stream.c.name)).all())

    def claim_stream(self, name: str) -> Row[Any]:
        """Takes the stream over: a new epoch fences whoever had it. Answers its row. Raises `Transient` when somebody is in the middle of a
        batch and does not end it."""
        with self.begin() as db:
            if db.dialect.name == "postgresql":
                db.execute(sa.text(f"SET LOCAL lock_timeout = '{CLAIM_SECONDS}s'"))
            row = db.execute(sa.select(t.stream).where(*self._stream(name)).with_for_update()).one_or_none()
            if row is None:
                raise CrossfadeError(f"stream {name} of migration {self.migration} is not set up")
            db.execute(t.stream.update().where(*self._stream(name)).values(epoch=row.epoch + 1))
            return db.execute(sa.select(t.stream).where(*self._stream(name))).one()

    def set_stream(self, name: str, *, state: str, error: str | None = None) -> None:
        """running, paused, stopped, or gap (stopped, and the controller tries to have it sent again); with why."""
        with self.begin() as db:
            db.execute(t.stream.update().where(*self._stream(name)).values(state=state, error=error))

    def _stream(self, name: str) -> tuple[sa.ColumnElement[bool], ...]:
        return (t.stream.c.migration == self.migration, t.stream.c.name == name)

    def markers_applied(self, token: str) -> int:
        """In how many streams this marker came out and is applied."""
        with self.begin() as db:
            query = sa.select(sa.func.count()).select_from(t.marker)
            return int(db.execute(query.where(t.marker.c.migration == self.migration, t.marker.c.token == token)).scalar() or 0)

    def marker_came(self, stream: str, token: str) -> bool:
        """Whether this marker came out of this stream and is applied."""
        with self.begin() as db:
            query = sa.select(t.marker.c.token).where(
                t.marker.c.migration == self.migration, t.marker.c.stream == stream, t.marker.c.token == token
            )
            return db.execute(query).one_or_none() is not None

    def forget_markers(self, before: float) -> None:
        """Takes out markers nobody waits for any more."""
        with self.begin() as db:
            kept = sa.select(t.stream.c.muted).where(t.stream.c.migration == self.migration)
            old = (t.marker.c.migration == self.migration, t.marker.c.at < before, t.marker.c.token.not_in(kept))
            db.execute(t.marker.delete().where(*old))

    def add_lag(self, stream: str, samples: Sequence[tuple[float, float, int, int]]) -> None:
        """(at, lag in ms, events in all, transactions in all) of one stream."""
        with self.begin() as db:
            db.execute(
                t.lag_sample.insert(),
                [
                    {"migration": self.migration, "stream": stream, "at": a, "lag_ms": lag, "events_total": e, "transactions_total": n}
                    for a, lag, e, n in samples
                ],
            )

    def set_stages(self, stream: str, stages: Stages) -> None:
        """Where the time of a stream's applier went so far."""
        mine = (t.stage.c.migration == self.migration, t.stage.c.stream == stream)
        seconds = orjson.dumps({name: round(value, 3) for name, value in stages.seconds().items()}).decode()
        values = {"since": stages.since, "seconds": seconds, "batches": stages.batches, "events": stages.events, "at": time.time()}
        with self.begin() as db:
            if not db.execute(t.stage.update().where(*mine).values(**values)).rowcount:
                db.execute(t.stage.delete().where(*mine))  # MySQL answers 0 where nothing changed
                db.execute(t.stage.insert().values(migration=self.migration, stream=stream, **values))

    def stages(self) -> list[Row[Any]]:
        """Where each stream's time went, as its worker said last."""
        with self.begin() as db:
            return list(db.execute(sa.select(t.stage).where(t.stage.c.migration == self.migration)).all())

    def lag(self, since: float) -> list[Row[Any]]:
        """Lag samples, oldest first."""
        with self.begin() as db:
            query = sa.select(t.lag_sample).where(t.lag_sample.c.migration == self.migration, t.lag_sample.c.at >= since)
            return list(db.execute(query.order_by(t.lag_sample.c.id)).all())

    # -- tables ----------------------------------------------------------------------------------------------------------------------

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
        with self.begin() as db:
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

    def rewind(self, stream: str, offset: int) -> None:
        """The stream is to be applied again from a Kafka offset on; the new epoch makes its worker open it anew."""
        with self.begin() as db:
            row = db.execute(sa.select(t.stream).where(*self._stream(stream)).with_for_update()).one()
            values = {"epoch": row.epoch + 1, "position": "", "partial_id": "", "partial_place": 0, "kafka_offset": offset}
            db.execute(t.stream.update().where(*self._stream(stream)).values(**values))
            self._audit(db, "replay", None, None, f"stream {stream} from offset {offset}, was {row.kafka_offset}")

    def sent_again(self, stream: str, topic_id: str, offset: int) -> None:
        """What comes after the applied position is in the topic once more, from this Kafka offset of this topic on; the new epoch makes the
        stream's worker go on there."""
        with self.begin() as db:
            row = db.execute(sa.select(t.stream).where(*self._stream(stream)).with_for_update()).one()
            values = {"epoch": row.epoch + 1, "topic_id": topic_id, "kafka_offset": offset, "state": "running", "error": None}
            db.execute(t.stream.update().where(*self._stream(stream)).values(**values))
            since = row.position or "the beginning"
            self._audit(db, "sent-again", None, None, f"stream {stream} from {since} on: {row.error or ''}")

    def mute(self, token: str) -> None:
        """The streams take nothing but markers in until this one has come: "" for taking all in. The new epoch fences whoever is at a
        batch, so nothing that was taken in before is written after this."""
        with self.begin() as db:
            rows = db.execute(sa.select(t.stream).where(t.stream.c.migration == self.migration).order_by(t.stream.c.name).with_for_update())
            for row in rows.all():
                db.execute(t.stream.update().where(*self._stream(row.name)).values(epoch=row.epoch + 1, muted=token))

    def _table(self, number: int) -> tuple[sa.ColumnElement[bool], ...]:
        return (t.table_state.c.migration == self.migration, t.table_state.c.number == number)

    def last_verify(self) -> dict[str, object] | None:
        """The newest verify: when, how far, and the rows that it found not to be the same and nobody has repaired."""
        run, table, found = t.verify.run, t.verify.table, t.verify.difference
        with self.begin() as db:
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
        with self.begin() as db:
            return list(db.execute(sa.select(t.worker).where(t.worker.c.seen_at > time.time() - within)).all())

    # -- quarantine ------------------------------------------------------------------------------------------------------------------

    def held_keys(self, stream: str) -> list[tuple[int, Key]]:
        """(table number, key) of everything in quarantine."""
        with self.begin() as db:
            query = sa.select(t.quarantine.c.number, t.quarantine.c.row_key).where(
                t.quarantine.c.migration == self.migration,
                t.quarantine.c.stream == stream,
                t.quarantine.c.state.in_(("held", "waiting")),
            )
            return [(int(n), tuple(orjson.loads(k))) for n, k in db.execute(query.distinct()).all()]

    def quarantined(self) -> list[Row[Any]]:
        """Everything in quarantine, oldest first."""
        with self.begin() as db:
            query = sa.select(t.quarantine).where(t.quarantine.c.migration == self.migration)
            return list(db.execute(query.where(t.quarantine.c.state.in_(("held", "waiting"))).order_by(t.quarantine.c.id)).all())

    def set_quarantine(self, ids: Sequence[int], state: str) -> None:
        """applied or dropped."""
        with self.begin() as db:
            db.execute(t.quarantine.update().where(t.quarantine.c.id.in_(ids)).values(state=state))


def _upgrade(db: Connection) -> None:
    """Columns that came since version 1."""
    for column, sql in (
        (t.table_state.c.keyless, "boolean NOT NULL DEFAULT false"),
        (t.stream.c.topic_id, "varchar(40) NOT NULL DEFAULT ''"),
    ):
        if column.name not in {there["name"] for there in sa.inspect(db).get_columns(column.table.name, schema=t.SCHEMA)}:
            db.execute(sa.text(f"ALTER TABLE {t.SCHEMA}.{column.table.name} ADD COLUMN {column.name} {sql}"))
    db.execute(t.version.update().values(version=t.VERSION))
