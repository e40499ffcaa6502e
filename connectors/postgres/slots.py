"""The kept slot: a copy of the stream's replication slot that stays at what is applied on the target, so that the stream can be sent
again from there. Debezium moves its own slot on as soon as events are in Kafka; what it left out by then is nowhere but here."""

from __future__ import annotations

from typing import Any

import psycopg
import tenacity

from connectors.base import Address
from connectors.postgres.connection import connect, mapped
from connectors.streams import kept_name

_LOOK = (
    "SELECT (confirmed_flush_lsn - '0/0'::pg_lsn)::text, coalesce(wal_status, '') = 'lost' "
    "FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND database = current_database()"
)


def keep(db: psycopg.Connection[Any], slot: str) -> None:
    """Makes the kept slot of a slot that was just made; one that is there stays. Without room for it there is none."""
    kept = kept_name(slot)
    if db.execute(_LOOK, (kept,)).fetchone() is None:
        try:
            db.execute("SELECT pg_catalog.pg_copy_logical_replication_slot(%s, %s)", (slot, kept))
        except psycopg.errors.ConfigurationLimitExceeded:
            return  # max_replication_slots: `plan` has said so


def advance(address: Address, slot: str, position: str) -> None:
    """Moves the kept slot on to an applied position (decimal LSN). Raises `Transient`, CrossfadeError."""
    kept = kept_name(slot)
    with connect(address, autocommit=True, application_name="crossfade slots") as db:
        try:
            row = db.execute(_LOOK, (kept,)).fetchone()
            if row is not None and not row[1] and int(row[0]) < int(position):
                db.execute("SELECT pg_catalog.pg_replication_slot_advance(%s, '0/0'::pg_lsn + %s::numeric)", (kept, position))
        except psycopg.Error as error:
            raise mapped(error, f"replication slot {kept}") from None


def rewind(address: Address, slot: str, position: str, timeout: float = 30.0) -> bool:
    """Puts the slot back to where the kept one is; False when that is not there, has lost its WAL or is beyond `position`. The connector
    must be stopped: an active slot is waited for. Safe to run twice."""
    kept = kept_name(slot)
    with connect(address, autocommit=True, application_name="crossfade slots") as db:
        try:
            row = db.execute(_LOOK, (kept,)).fetchone()
            if row is None or row[1] or (position and int(row[0]) > int(position)):
                return False
            drop(db, slot, timeout)
            db.execute("SELECT pg_catalog.pg_copy_logical_replication_slot(%s, %s)", (kept, slot))
        except psycopg.Error as error:
            raise mapped(error, f"replication slot {slot}") from None
    return True


def drop(db: psycopg.Connection[Any], name: str, timeout: float) -> None:
    """Drops a replication slot if it is there, once nobody uses it any more."""

    def attempt() -> None:
        if db.execute("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", (name,)).fetchone():
            db.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (name,))

    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(psycopg.errors.ObjectInUse),
        wait=tenacity.wait_fixed(0.2),
        stop=tenacity.stop_after_delay(timeout),
        reraise=True,
    )(attempt)
