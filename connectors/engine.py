"""Which product a URL means, and the product's own modules by name."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from connectors.base import Address
from pipeline.errors import BadInput
from pipeline.model import Engine

_SCHEMES: dict[str, Engine] = {
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "mysql": "mysql",
    "mariadb": "mysql",
}
_PACKAGES: dict[Engine, str] = {"postgresql": "connectors.postgres", "mysql": "connectors.mysql"}


def product(url: str) -> Engine:
    """The family a URL names. Raises BadInput; the message has the scheme only, never the URL."""
    scheme = urlsplit(url).scheme.partition("+")[0].lower()
    try:
        return _SCHEMES[scheme]
    except KeyError:
        raise BadInput(f"unknown database scheme {scheme!r}", hint="use postgresql://, mysql:// or mariadb://") from None


def module(engine: Engine | str, name: str) -> Any:
    """`module("mysql", "types")` is `connectors.mysql.types`; see `connectors.base` for what each has."""
    package = _PACKAGES["mysql" if engine == "mariadb" else engine]  # type: ignore[index]
    found: ModuleType = importlib.import_module(f"{package}.{name}")
    return found


def connect(address: Address, **options: Any) -> Any:
    """A connection of the product's own driver, with the session settings that canonical text relies on."""
    return module(product(address.url), "connection").connect(address, **options)


def mapped(error: Exception, what: str, address: Address) -> Exception:
    """A driver's error in crossfade's terms."""
    result: Exception = module(product(address.url), "connection").mapped(error, what)
    return result


def sqlalchemy_url(address: Address) -> sa.URL:
    """The address for SQLAlchemy. `str()` of it hides the password."""
    parts = urlsplit(address.url)
    driver = {"postgresql": "postgresql+psycopg", "mysql": "mysql+pymysql"}[product(address.url)]
    url = sa.make_url(parts._replace(scheme=driver).geturl())
    return url.set(password=address.password) if address.password is not None else url


def sqlalchemy_engine(address: Address, *, durable: bool = True, **options: Any) -> sa.Engine:
    """A SQLAlchemy engine whose connections are `connect`'s own, so they have the same session settings and TLS. Not `durable`: COMMIT does
    not wait for the disk, where that is a session's to say (PostgreSQL)."""
    engine = sa.create_engine(sqlalchemy_url(address).set(query={}), creator=lambda: connect(address), **options)
    if not durable and engine.dialect.name == "postgresql":
        sa.event.listen(engine, "connect", _without_waiting)
    return engine


def _without_waiting(connection: Any, _record: object) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.commit()
