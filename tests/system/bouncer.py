"""A real PgBouncer in front of one of the stack's servers, in transaction pooling, on free ports of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path

import psycopg

ADMIN_PASSWORD = "bouncer-of-the-door"


class Bouncer:
    """`processes` PgBouncers with one included file; `crossfade` may rewrite it."""

    def __init__(self, folder: Path, where: str, user: str, password: str, *, processes: int = 1) -> None:
        self.program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self.folder, self.where = folder, where
        self.file = folder / "databases.ini"
        self.file.write_text(f"[databases]\nshop = {where}\n")
        (folder / "users.txt").write_text(f'"{user}" "{password}"\n"keeper" "{ADMIN_PASSWORD}"\n')
        self.ports = [_free_port() for _ in range(processes)]
        for port in self.ports:
            (folder / f"{port}.ini").write_text(
                f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = scram-sha-256\n"
                f"auth_file = {folder}/users.txt\nadmin_users = keeper\npool_mode = transaction\nmax_client_conn = 200\ndefault_pool_size = 20\n"
                f"logfile = {folder}/{port}.log\npidfile = {folder}/{port}.pid\nserver_fast_close = 1\n%include {self.file}\n"
            )
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        nobody = pwd.getpwnam("nobody")
        for path in (self.folder, *self.folder.iterdir()):
            if os.geteuid() == 0:
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        for port in self.ports:
            command = [self.program, "-q", str(self.folder / f"{port}.ini")]
            if os.geteuid() == 0:
                command[1:1] = ["-u", "nobody"]
            self._processes.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 30
        for port in self.ports:
            while True:
                try:
                    psycopg.connect(self.admin(port), password=ADMIN_PASSWORD, autocommit=True).close()
                    break
                except psycopg.OperationalError:
                    assert time.monotonic() < deadline, (self.folder / f"{port}.log").read_text()
                    time.sleep(0.05)

    def admin(self, port: int) -> str:
        return f"postgresql://keeper@127.0.0.1:{port}/pgbouncer"

    def url(self, user: str, password: str, process: int = 0) -> str:
        return f"postgresql://{user}:{password}@127.0.0.1:{self.ports[process]}/shop"

    def settings(self, source: str, target: str) -> dict[str, object]:
        """`drivers.pgbouncer` of a migration."""
        return {
            "admin": [self.admin(port) for port in self.ports],
            "password": {"env": "BOUNCER_PW"},
            "database": "shop",
            "file": str(self.file),
            "source": source,
            "target": target,
        }

    def stop(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(30)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
