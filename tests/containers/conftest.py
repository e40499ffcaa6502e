"""What needs a container engine: a real MySQL server, which no package registry has, and the images and compose file themselves.

Without an engine every test here is skipped, and says why. `pytest -m containers` runs them alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract.conftest import Lab, Product

from connectors.base import Address

ROOT = Path(__file__).parents[2]
MYSQL_IMAGE = "mysql:8.4"


def skip_without_engine() -> None:
    """For the top of a module: skips it whole, in one line, unless a container engine answers."""
    import docker

    try:
        docker.from_env(timeout=10).ping()
    except docker.errors.DockerException as error:
        pytest.skip(f"no container engine answers ({' '.join(str(error).split())[:120]})", allow_module_level=True)


@pytest.fixture(scope="session")
def mysql() -> Iterator[Address]:
    """A MySQL server with GTIDs and row images, as root; its address names no database."""
    from testcontainers.community.mysql import MySqlContainer

    password = secrets.token_hex(12)
    server = MySqlContainer(MYSQL_IMAGE, username="root", root_password=password, password=password, dbname="test").with_command(
        "--gtid-mode=ON --enforce-gtid-consistency=ON --server-id=1 --local-infile=ON --binlog-row-metadata=FULL"
    )
    with server:
        yield Address(f"mysql://root@{server.get_container_host_ip()}:{server.get_exposed_port(3306)}/", password)


@pytest.fixture(scope="session")
def product(mysql: Address) -> Product:
    """The product that the contract's suites run over here."""
    from connectors import engine

    name = f"contract_{secrets.token_hex(4)}"
    connection = engine.connect(mysql, autocommit=True)
    try:
        connection.cursor().execute(f"CREATE DATABASE {name}")
    finally:
        connection.close()
    return Product("mysql", Address(f"{mysql.url}{name}", mysql.password), name)


@pytest.fixture
def lab(product: Product) -> Iterator[Lab]:
    """As in the contract's own folder."""
    made = Lab(product)
    yield made
    made.close()
