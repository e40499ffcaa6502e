"""Woken by the applier's commit: it notifies with each marker that it records, and whoever waits for one listens."""

from __future__ import annotations

import psycopg

from connectors.base import Address
from connectors.postgres.connection import connect, mapped

CHANNEL = "crossfade_marker"


class Wakeups:
    """Listens from the moment it is made, so nothing that is committed afterwards is missed."""

    def __init__(self, address: Address) -> None:
        self._db = connect(address, autocommit=True, application_name="crossfade wakeups")
        try:
            self._db.execute(f"LISTEN {CHANNEL}".encode())
        except psycopg.Error as error:
            self._db.close()
            raise mapped(error, "listening for markers") from None

    def wait(self, seconds: float) -> None:
        """Returns when a marker of any migration has been recorded, or after so many seconds. Raises `Transient`, CrossfadeError."""
        try:
            for _ in self._db.notifies(timeout=seconds, stop_after=1):
                pass
        except psycopg.Error as error:
            raise mapped(error, "listening for markers") from None

    def close(self) -> None:
        """Ends the session."""
        self._db.close()
