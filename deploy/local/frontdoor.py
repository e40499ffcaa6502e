"""How the application comes in when its database is to be crossed: a role of its own on both servers, and a PgBouncer before them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from psycopg import sql

from connectors.base import Address
from deploy.local import pgbouncer
from deploy.local.stack import Stack

ROLE: Final = "flight_desk"
DATABASE: Final = "desk"
_ROLE_PASSWORD, _POOLER_PASSWORD = "FLIGHT_DESK_PASSWORD", "POOLER_PASSWORD"


class FrontDoor:
    """The application's way in to two PostgreSQL databases. `admit` both sides, `open`, then `address` is where it connects."""

    def __init__(self, stack: Stack, source: Address, target: Address) -> None:
        self._sides = {"source": source, "target": target}
        self._password = secrets.token_hex(16)
        self._pooler: pgbouncer.PgBouncer | None = None
        if pgbouncer.installed() is not None:
            self._pooler = pgbouncer.PgBouncer.beside(
                stack, "front-door", database=DATABASE, where=_where(source), users={ROLE: self._password}
            )

    @property
    def pooler(self) -> str | None:
        """What stands before the databases; None: the application tries either side itself."""
        return None if self._pooler is None else "PgBouncer"

    def admit(self) -> None:
        """Gives the role its rights, on tables that are there by now."""
        for address in self._sides.values():
            name = sql.Identifier(ROLE)
            with psycopg.connect(address.url, password=address.password, autocommit=True) as db:
                db.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(name, sql.Literal(self._password)))
                db.execute(sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}").format(name))
                db.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(name))

    def open(self) -> None:
        """Starts the pooler."""
        if self._pooler is not None:
            self._pooler.start()

    def close(self) -> None:
        """Stops it."""
        if self._pooler is not None:
            self._pooler.stop()

    def addresses(self) -> list[Address]:
        """Where the application connects: the pooler, or both sides."""
        if self._pooler is not None:
            return [Address(self._pooler.url(ROLE), self._password)]
        urls = [sa.make_url(address.url).set(username=ROLE, password=None) for address in self._sides.values()]
        return [Address(url.render_as_string(hide_password=False), self._password) for url in urls]

    def cutover(self) -> dict[str, Any]:
        """What the migration's file says about it."""
        found: dict[str, Any] = {"cutover": {"fence": {"roles": [ROLE]}}}
        if self._pooler is not None:
            found["cutover"]["driver"] = "pgbouncer"
            settings = {
                "admin": [self._pooler.console_url],
                "password": {"env": _POOLER_PASSWORD},
                "database": DATABASE,
                "file": str(self._pooler.databases),
                "probe": {"user": ROLE, "password": {"env": _ROLE_PASSWORD}},
                "source": _where(self._sides["source"]),
                "target": _where(self._sides["target"]),
            }
            found["drivers"] = {"pgbouncer": settings}
        return found

    def environment(self) -> Mapping[str, str]:
        """The secrets that the file names."""
        if self._pooler is None:
            return {}
        return {_ROLE_PASSWORD: self._password, _POOLER_PASSWORD: self._pooler.password}


def _where(address: Address) -> str:
    url = sa.make_url(address.url)
    return f"host={url.host} port={url.port} dbname={url.database}"
