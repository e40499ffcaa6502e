"""Where the demo plays: two servers with a database each, Kafka and Connect, the application's account on both sides, and a pooler where
there is one.
"""

from __future__ import annotations

import os
import secrets
import string
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Final

import psycopg
import pymysql

from connectors.base import Address
from deploy.local import flights, pgbouncer
from deploy.local.database import Dialect, connect
from deploy.local.mariadb import MariaDB
from deploy.local.pgbouncer import PgBouncer
from deploy.local.postgres import Postgres
from deploy.local.stack import Stack

SCENARIOS: Final[Mapping[str, tuple[Dialect, Dialect]]] = {
    "pg-to-pg": ("postgresql", "postgresql"),
    "mariadb-to-pg": ("mariadb", "postgresql"),
    "pg-to-mariadb": ("postgresql", "mariadb"),
    "mariadb-to-mariadb": ("mariadb", "mariadb"),
}
NAME: Final = "flight-desk"
ROLE: Final = "flight_desk"
"""The application's account: an ordinary one, which a fence binds."""
_CUTOVER: Final = """\
cutover:
  pause_budget: 10s
  max_lag: 5s
  fence: {roles: [$role]}      # who may not write to the side that is left
"""
_POOLER: Final = """\
  driver: pgbouncer
drivers:
  pgbouncer:
    admin: ["$console"]
    password: {env: POOLER_PASSWORD}
    database: $database
    file: $file                # included by pgbouncer.ini; crossfade replaces it
    source: "$source"
    target: "$target"
    probe: {user: $role, password: {env: APPLICATION_PASSWORD}}
"""


class Scene:
    """All of it, for one run. `up`, then everything else, `down` at the end."""

    def __init__(self, scenario: str, root: Path, *, durable: bool) -> None:
        self.dialects: Final = dict(zip(("source", "target"), SCENARIOS[scenario], strict=True))
        self.stack = Stack(root, postgres=self._sides("postgresql"), mariadb=self._sides("mariadb"), durable=durable)
        self._databases = {"source": "air", "target": "travel"}
        self._password = secrets.token_hex(16)
        self.pooler: PgBouncer | None = None

    @property
    def source(self) -> Address:
        """As its administrator, who moves it."""
        return self._address("source")

    @property
    def target(self) -> Address:
        return self._address("target")

    def up(self) -> None:
        """Servers, and two empty databases."""
        self.stack.up()
        for side, database in self._databases.items():
            server = self._server(side)
            if isinstance(server, Postgres):
                with psycopg.connect(server.url(), password=server.password, autocommit=True) as connection:
                    connection.execute(f"CREATE DATABASE {database}")
            else:
                with pymysql.connect(host="127.0.0.1", port=server.port, user=server.superuser, password=server.password) as root:
                    root.cursor().execute(f"CREATE DATABASE {database} CHARACTER SET utf8mb4")

    def furnish(self, rows: int) -> int:
        """The source's rows, the target's empty tables, the application's account and its pooler; answers how many rows."""
        loaded = flights.load(self.source, rows)
        with connect(self.target) as database:
            database.script(flights.schema("target", self.target))
        for side in self._databases:
            self._hire(side)
        if set(self.dialects.values()) == {"postgresql"} and pgbouncer.installed() is not None:
            users = {ROLE: self._password}
            self.pooler = PgBouncer.beside(self.stack, "pooler", database=NAME, where=self._where("source"), users=users)
            self.pooler.start()
        return loaded.total

    def down(self) -> None:
        """Stops and removes everything."""
        try:
            if self.pooler is not None:
                self.pooler.stop()
        finally:
            self.stack.down(wipe=True)

    def check(self) -> None:
        """Raises StackError when a server has died."""
        self.stack.check()

    @property
    def driver(self) -> str:
        """Who leads the application from one side to the other."""
        return "none" if self.pooler is None else "pgbouncer"

    def application(self) -> list[str]:
        """How the load is told where its database is; the password goes by LOAD_PASSWORD."""
        if self.pooler is not None:
            return ["--url", self.pooler.url(ROLE), "--pooled"]
        return [word for side in self._databases for word in ("--url", self._application_url(side))]

    def environment(self) -> dict[str, str]:
        """The passwords that crossfade and the load ask for."""
        found = {"SOURCE_PASSWORD": self.source.password or "", "TARGET_PASSWORD": self.target.password or ""}
        found |= {"APPLICATION_PASSWORD": self._password, "LOAD_PASSWORD": self._password}
        return found | ({} if self.pooler is None else {"POOLER_PASSWORD": self.pooler.password})

    def migration(self) -> str:
        """The demo's migration.yaml for these servers."""
        template = (resources.files("deploy.local") / "schema" / "migration.yaml").read_text(encoding="utf-8")
        cutover = string.Template(_CUTOVER).substitute(role=ROLE)
        if self.pooler is not None:
            cutover += string.Template(_POOLER).substitute(
                console=self.pooler.console_url,
                database=NAME,
                file=self.pooler.databases,
                source=self._where("source"),
                target=self._where("target"),
                role=ROLE,
            )
        return string.Template(template).substitute(
            name=NAME,
            source_url=self.source.url,
            target_url=self.target.url,
            source=schema_of(self.source),
            target=schema_of(self.target),
            kafka=self.stack.kafka_bootstrap,
            connect=self.stack.connect_url,
            secrets_dir=self.stack.secrets_dir,
            cutover=cutover,
        )

    def _sides(self, dialect: Dialect) -> tuple[str, ...]:
        """The servers of that product which the scenario needs."""
        return tuple(side for side, its in self.dialects.items() if its == dialect)

    def _server(self, side: str) -> Postgres | MariaDB:
        return self.stack.postgres[side] if self.dialects[side] == "postgresql" else self.stack.mariadb[side]

    def _address(self, side: str) -> Address:
        server = self._server(side)
        return Address(server.url(self._databases[side]), server.password)

    def _application_url(self, side: str) -> str:
        server = self._server(side)
        return f"{'postgresql' if isinstance(server, Postgres) else 'mariadb'}://{ROLE}@127.0.0.1:{server.port}/{self._databases[side]}"

    def _where(self, side: str) -> str:
        return f"host=127.0.0.1 port={self._server(side).port} dbname={self._databases[side]}"

    def _hire(self, side: str) -> None:
        """The application's account, with its rights on the tables that are there."""
        with connect(self._address(side)) as database:
            if self.dialects[side] == "postgresql":
                database.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self._password}'")
                database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {ROLE}")
            else:
                database.execute(f"CREATE USER {ROLE}@'%' IDENTIFIED BY '{self._password}'")
                database.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {self._databases[side]}.* TO {ROLE}@'%'")
            database.commit()


def schema_of(address: Address) -> str:
    """Where the application's tables are: PostgreSQL's schema, MariaDB's database."""
    return "public" if address.url.startswith("postgresql") else address.url.rpartition("/")[2]


def clean_environment() -> dict[str, str]:
    """This process's, without what would change how crossfade's commands behave."""
    return {name: value for name, value in os.environ.items() if not name.startswith("CROSSFADE_")}
