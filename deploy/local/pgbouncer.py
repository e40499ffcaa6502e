"""A PgBouncer in front of one of the stack's PostgreSQL servers: transaction pooling, loopback only, its databases in an included file.

It comes from the system's package manager, not from a package registry: where it is not installed, starting one is a StackError.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import psycopg

from deploy.local import place
from deploy.local.component import Component, Surroundings
from deploy.local.place import User
from deploy.local.stack import Stack
from pipeline.errors import StackError

_SETTINGS = """\
; Written at every start.
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
admin_users = {admin}
pool_mode = {pool_mode}
max_client_conn = 500
default_pool_size = 20
ignore_startup_parameters = extra_float_digits
%include {databases}
"""


def installed() -> Path | None:
    """The program, where it is installed. Debian puts it where ordinary users do not look."""
    found = shutil.which("pgbouncer", path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin")))
    return Path(found) if found is not None else None


class PgBouncer(Component):
    """One process. `databases` is the included file, which a traffic driver may replace; it is written when it is not there yet.

    Several of one `name` stem share a file when they are given the same `databases`.
    """

    stop_seconds: float = 2  # newer ones wait for their clients to leave
    stop_signal: ClassVar[signal.Signals] = signal.SIGTERM
    admin: ClassVar[str] = "crossfade"

    def __init__(
        self,
        name: str,
        around: Surroundings,
        *,
        database: str,
        where: str,
        users: Mapping[str, str],
        databases: Path | None = None,
        pool_mode: str = "transaction",
    ) -> None:
        super().__init__(name, around)
        self.database, self.pool_mode = database, pool_mode
        self._where, self._users = where, dict(users)
        self._databases = databases

    @classmethod
    def beside(
        cls,
        stack: Stack,
        name: str,
        *,
        database: str,
        where: str,
        users: Mapping[str, str],
        databases: Path | None = None,
        pool_mode: str = "transaction",
    ) -> PgBouncer:
        """One that is no part of the stack's own servers: it ends with this process, or by `stop`. `where` is what stands in the file
        (`host=127.0.0.1 port=5432 dbname=shop`), `users` the passwords of the roles that may come in."""
        user = place.server_user()
        data = place.server_data(stack.root, user)
        others = {port for component in stack.components for port in component.kept.ports.values()}
        around = Surroundings(stack.root, data, user, False, lambda: others, lambda: None, lambda: True)
        return cls(name, around, database=database, where=where, users=users, databases=databases, pool_mode=pool_mode)

    @property
    def folder(self) -> Path:
        return self._around.data / self.name

    @property
    def program(self) -> Path:
        found = installed()
        if found is None:
            raise StackError("pgbouncer is not installed", hint="apt-get install pgbouncer, or your system's like of it")
        return found

    @property
    def runs_as(self) -> User | None:
        return self._around.user

    @property
    def databases(self) -> Path:
        return self._databases or self.folder / "databases.ini"

    @property
    def password_file(self) -> Path:
        return self._around.root / "passwords" / self.name

    @property
    def password(self) -> str:
        """That of `admin`, for the console."""
        return self.password_file.read_text(encoding="utf-8")

    @property
    def console_url(self) -> str:
        return f"postgresql://{self.admin}@127.0.0.1:{self.port}/pgbouncer"

    def url(self, user: str, *, with_password: bool = False) -> str:
        """What an application connects to."""
        secret = f":{self._users[user]}" if with_password else ""
        return f"postgresql://{user}{secret}@127.0.0.1:{self.port}/{self.database}"

    def prepare(self) -> None:
        place.own_dir(self.folder, 0o700, self.runs_as)
        if not self.password_file.exists():
            place.write_private(self.password_file, secrets.token_hex(16))
        if not self.databases.exists():
            place.write_private(self.databases, f"[databases]\n{self.database} = {self._where}\n", self.runs_as)
        users = {**self._users, self.admin: self.password}
        place.write_private(self._users_file, "".join(f"{_quoted(name)} {_quoted(word)}\n" for name, word in users.items()), self.runs_as)
        text = _SETTINGS.format(
            port=self.port, users=self._users_file, admin=self.admin, pool_mode=self.pool_mode, databases=self.databases
        )
        place.write_private(self._settings_file, text, self.runs_as)

    def arguments(self) -> Sequence[str]:
        return ["-q", str(self._settings_file)]

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self.console_url, password=self.password, autocommit=True, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    @property
    def _users_file(self) -> Path:
        return self.folder / "users.txt"

    @property
    def _settings_file(self) -> Path:
        return self.folder / "pgbouncer.ini"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
