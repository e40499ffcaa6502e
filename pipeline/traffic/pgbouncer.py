"""PgBouncer, one process or several: PAUSE, another `[databases]` file, RELOAD, RESUME.

The file is ours alone and is included by pgbouncer.ini (`%include /etc/pgbouncer/crossfade.ini`). The admin console speaks the simple
protocol only; PAUSE answers when every server connection is free, however long that takes, so it runs beside a clock and is taken back
by RESUME on another connection. With session pooling that may be never: `problems` says so.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row
from pydantic import BaseModel, ConfigDict, Field

from pipeline.errors import CrossfadeError, TimedOut
from pipeline.spec.secret import Secret
from pipeline.traffic.base import Side

_LOOK_AGAIN = 0.002
_RELOAD_SECONDS = 10.0


class Settings(BaseModel):
    """`drivers.pgbouncer` of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    admin: tuple[str, ...] = Field(min_length=1)  # postgresql://pgbouncer@127.0.0.1:6432/pgbouncer, one a process
    password: Secret | None = None
    database: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")  # as clients name it; other names do not go into its file
    file: Path  # the included file that crossfade writes
    source: str  # what stands in it for the source: "host=db1 port=5432 dbname=shop"
    target: str


class PgBouncer:
    """See `pipeline.traffic.base.Traffic`."""

    name = "pgbouncer"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def problems(self) -> list[str]:
        out: list[str] = []
        settings = self._settings
        for at, admin in enumerate(settings.admin):
            try:
                with self._console(at) as db:
                    found = next((row for row in db.execute("SHOW DATABASES").fetchall() if row["name"] == settings.database), None)
                    if found is None:
                        out.append(f"pgbouncer at {admin} has no database {settings.database}")
                    elif (found.get("pool_mode") or self._pool_mode(db)) == "session":
                        out.append(
                            f"pgbouncer at {admin} pools sessions: PAUSE would wait for clients to leave; use pool_mode = transaction"
                        )
            except CrossfadeError as error:
                out.append(str(error))
        folder = settings.file.parent
        if not os.access(folder, os.W_OK):
            out.append(f"{folder} cannot be written: crossfade replaces {settings.file.name} there")
        elif settings.file.exists() and settings.database not in settings.file.read_text():
            out.append(f"{settings.file} does not name database {settings.database}")
        return out

    def pause(self, deadline: float) -> None:
        errors = self._everywhere(lambda db: db.execute(f"PAUSE {self._name}".encode()), deadline, fine="already suspended/paused")
        if errors:
            self.resume()
            raise errors[0]

    def repoint(self, side: Side) -> None:
        settings = self._settings
        where = settings.source if side == "source" else settings.target
        text = f"; written by crossfade\n[databases]\n{self._name} = {where}\n"
        half = settings.file.with_name(f".{settings.file.name}.{os.getpid()}")
        with half.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if settings.file.exists():
            os.chmod(half, settings.file.stat().st_mode & 0o777)
        half.replace(settings.file)
        wanted = dict(part.split("=", 1) for part in where.split())
        errors = self._everywhere(lambda db: self._reload(db, wanted), time.monotonic() + _RELOAD_SECONDS)
        if errors:
            raise errors[0]

    def resume(self) -> None:
        errors = self._everywhere(lambda db: db.execute(f"RESUME {self._name}".encode()), time.monotonic() + 10, fine="is not paused")
        if errors:
            raise errors[0]

    # -- the consoles ----------------------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return self._settings.database

    def _reload(self, db: psycopg.Connection[Mapping[str, Any]], wanted: Mapping[str, str]) -> None:
        """RELOAD answers before it is done."""
        db.execute("RELOAD")
        deadline = time.monotonic() + _RELOAD_SECONDS
        while True:
            for row in db.execute("SHOW DATABASES").fetchall():
                if row["name"] == self._settings.database and all(
                    str(row.get({"dbname": "database"}.get(key, key), value)) == value for key, value in wanted.items()
                ):
                    return
            if time.monotonic() > deadline:
                raise TimedOut(f"pgbouncer does not take {self._settings.file} up: is it included by its pgbouncer.ini?")
            time.sleep(_LOOK_AGAIN)

    def _everywhere(
        self, act: Callable[[psycopg.Connection[Mapping[str, Any]]], object], deadline: float, fine: str = ""
    ) -> list[CrossfadeError]:
        """Does it on every process at once; what went wrong, one for each."""
        errors: list[CrossfadeError | None] = [TimedOut(f"pgbouncer at {admin} takes too long") for admin in self._settings.admin]

        def one(at: int) -> None:
            try:
                with self._console(at) as db:
                    act(db)
                errors[at] = None
            except CrossfadeError as error:
                errors[at] = None if fine and fine in str(error) else error

        threads = [threading.Thread(target=one, args=(at,), daemon=True) for at in range(len(errors))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return [error for error in errors if error is not None]

    @contextlib.contextmanager
    def _console(self, at: int) -> Iterator[psycopg.Connection[Mapping[str, Any]]]:
        admin = self._settings.admin[at]
        secret = self._settings.password
        try:
            password = secret.read("drivers.pgbouncer.password").get_secret_value() if secret is not None else None
            connection = psycopg.connect(
                admin, password=password, autocommit=True, connect_timeout=5, prepare_threshold=None, row_factory=dict_row
            )
        except psycopg.Error as error:
            raise CrossfadeError(f"pgbouncer at {admin}: {_line(error)}") from None
        try:
            yield connection
        except psycopg.Error as error:
            raise CrossfadeError(f"pgbouncer at {admin}: {_line(error)}") from None
        finally:
            connection.close()

    def _pool_mode(self, db: psycopg.Connection[Mapping[str, Any]]) -> str:
        return next((str(row["value"]) for row in db.execute("SHOW CONFIG").fetchall() if row["key"] == "pool_mode"), "session")


def _line(error: psycopg.Error) -> str:
    return " ".join(str(error).split()) or type(error).__name__
