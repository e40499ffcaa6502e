"""The control store's room: connections, one transaction at a time, its schema, and the lease that transactions stand under."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import time
from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from connectors.base import Address
from connectors.engine import mapped, sqlalchemy_engine
from pipeline.errors import CrossfadeError, Fenced
from pipeline.store import tables as t


def who() -> str:
    """The person or service behind a command, for the audit trail."""
    with contextlib.suppress(Exception):
        return f"{getpass.getuser()}@{socket.gethostname()}"
    return f"uid {os.getuid()}@{socket.gethostname()}"


class Room:
    """Of one migration. Safe to use from several threads; every method is one transaction."""

    def __init__(self, address: Address, migration: str) -> None:
        self.migration = migration
        self._address = address
        # READ COMMITTED on both products: MySQL's default would show a poller the same snapshot for ever.
        self._leads: tuple[str, int] | None = None
        self._looked = False
        self.engine = sqlalchemy_engine(address, pool_pre_ping=True, pool_size=4, isolation_level="READ COMMITTED")
        self._quick = sqlalchemy_engine(address, durable=False, pool_size=4, isolation_level="READ COMMITTED")

    def close(self) -> None:
        """Lets go of the connections."""
        self.engine.dispose()
        self._quick.dispose()

    @contextlib.contextmanager
    def look(self, *, quick: bool = False) -> Iterator[Connection]:
        """One transaction that only reads: it leaves nothing to be written to the disk. Raises as `begin` does; but who takes over at this
        moment is not kept waiting, so whatever is done about what was read asks again who leads."""
        with self.begin(quick=quick, reads=True) as connection:
            yield connection

    @contextlib.contextmanager
    def begin(self, *, fenced: bool = True, quick: bool = False, reads: bool = False) -> Iterator[Connection]:
        """One transaction. Driver errors come out in crossfade's terms. Raises `Fenced` when this store was a controller's that leads no
        more: whatever it still tries comes to nothing.

        `quick`: for what happens many times a second and may be forgotten. It does not ask first whether the session is alive (`Transient`
        when it is not), and does not wait for the disk: a crash of the server may take it although its caller goes on.
        """
        try:
            if not self._looked:
                self._looked = self._of_this_version()
            with (self._quick if quick else self.engine).begin() as connection:
                if fenced and self._leads is not None:
                    lease = t.lease.c
                    query = sa.select(lease.holder, lease.epoch).where(lease.name == self.migration)
                    row = connection.execute(query if reads else query.with_for_update(read=True)).one_or_none()
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
            _make(db)

    def _of_this_version(self) -> bool:
        """Brings a store that an older crossfade made up to date, whoever comes first. False where there is none yet. Processes of before
        do not know what is new, and go on beside."""
        with self.engine.begin() as db:
            if not sa.inspect(db).has_table("version", schema=t.SCHEMA):
                return False
            if (db.execute(sa.select(t.version.c.version)).scalar() or 0) < t.VERSION:
                _make(db)
            return True

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

    def _audit(self, db: Connection, action: str, before: str | None, after: str | None, detail: str) -> None:
        db.execute(
            t.audit.insert().values(
                migration=self.migration, at=time.time(), who=who(), action=action, from_phase=before, to_phase=after, detail=detail
            )
        )


def _make(db: Connection) -> None:
    """What is not there of schema, tables and, since version 1, columns."""
    with _alone(db):
        if t.SCHEMA not in sa.inspect(db).get_schema_names():
            db.execute(sa.schema.CreateSchema(t.SCHEMA, if_not_exists=True))
        t.metadata.create_all(db)
        found = db.execute(sa.select(t.version.c.version)).scalar()
        if found is None:
            db.execute(t.version.insert().values(version=t.VERSION))
        elif found > t.VERSION:
            raise CrossfadeError(f"the control store is of version {found}, this crossfade knows {t.VERSION}", hint="upgrade crossfade")
        elif found < t.VERSION:
            for column, sql in _NEW:
                if column.name not in {there["name"] for there in sa.inspect(db).get_columns(column.table.name, schema=t.SCHEMA)}:
                    db.execute(sa.text(f"ALTER TABLE {t.SCHEMA}.{column.table.name} ADD COLUMN {column.name} {sql}"))
            db.execute(t.version.update().values(version=t.VERSION))


@contextlib.contextmanager
def _alone(db: Connection) -> Iterator[None]:
    """One at a time: two starts at once collide, CREATE SCHEMA IF NOT EXISTS or not (in PostgreSQL's catalog)."""
    if db.dialect.name == "postgresql":
        db.execute(sa.text("SELECT pg_advisory_xact_lock(1668507246)"))
        yield
        return
    db.execute(sa.text("SELECT GET_LOCK('crossfade store', 60)"))
    try:
        yield
    finally:
        db.execute(sa.text("SELECT RELEASE_LOCK('crossfade store')"))


_NEW = ((t.stream.c.topic_id, "varchar(40) NOT NULL DEFAULT ''"), (t.table_state.c.keyless, "boolean NOT NULL DEFAULT false"))
"""Columns that came since version 1; `stream` first, as writers lock."""
