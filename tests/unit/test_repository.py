"""The repository itself: what the pages say is there is there, and nothing of anybody's machine is in it."""

from __future__ import annotations

import ast
import importlib
import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from pipeline.cli import build
from pipeline.spec.migration import Migration
from transforms.check import load

ROOT = Path(__file__).parents[2]
PACKAGES = ("pipeline", "connectors", "transforms", "deploy")
PAGES = ("README.md", "CHANGELOG.md", "docs/tour.md", "docs/cli.md", "docs/production.md", "docs/grants.md", "docs/decisions/README.md")


def tracked() -> list[str]:
    """Files under version control; in an unpacked archive, all that are no cache."""
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout.split("\0")
        return [name for name in listed if name and (ROOT / name).is_file()]
    except (OSError, subprocess.CalledProcessError):
        return [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.parts)]


def texts() -> list[tuple[str, str]]:
    """Tracked text files with their text, but for the lock files, whose hashes look like anything."""
    found = []
    for name in tracked():
        data = (ROOT / name).read_bytes()
        if b"\0" not in data and not name.endswith((".lock", ".lock.toml")):
            found.append((name, data.decode()))
    assert len(found) > 100
    return found


def modules() -> list[Path]:
    return [ROOT / name for name in tracked() if name.endswith(".py")]


# Written in two parts, or this file would find itself.
MACHINE = (
    r"/ho" r"me/(?!crossfade\b)[a-z]",
    r"/Us" r"ers/[A-Za-z]",
    r"/ro" r"ot/",
    r"/wo" r"rk/(main|shared)",
    r"/tm" r"p/(brief|uvenv)",
    r"C:\\\\Us" r"ers",
)
REGISTRIES = (
    r"pypi\." r"org",
    r"python" r"hosted\.org",
    r"repo1?\.mav" r"en",
    r"mav" r"en\.apache\.org",
    r"proxy\.go" r"lang\.org",
    r"--extra-index" r"-url",
    r"--index" r"-url[ =]",
)
SECRETS = (
    r"-----BEGIN [A-Z ]*PRIV" r"ATE KEY-----",
    r"\bAKI" r"A[0-9A-Z]{16}\b",
    r"\bgh[pousr]" r"_[A-Za-z0-9]{36}\b",
    r"\bxox[abp]" r"-[0-9A-Za-z-]{20,}",
    r"\beyJ" r"[A-Za-z0-9_-]{20,}\.[A-Za-z0-9_-]{20,}\.",
)


@pytest.mark.parametrize(
    ("patterns", "what"), [(MACHINE, "a path of somebody's machine"), (REGISTRIES, "a registry's host"), (SECRETS, "a secret")]
)
def test_no_tracked_file_holds(patterns: tuple[str, ...], what: str) -> None:
    forbidden = re.compile("|".join(patterns))
    found = [f"{name}: {match.group()}" for name, text in texts() for match in forbidden.finditer(text)]
    assert not found, f"{what}: {found}"


def test_lock_files_name_no_host_and_hash_everything() -> None:
    for name in tracked():
        if name.endswith((".lock", ".lock.toml")):
            assert not re.search(r"https?://", (ROOT / name).read_text(encoding="utf-8")), name
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    blocks = re.split(r"(?m)^(?=[a-zA-Z0-9][\w.-]*==)", lock)[1:]
    assert len(blocks) > 50
    assert [block.split(" ")[0] for block in blocks if "--hash=sha256:" not in block] == []


def test_every_dependency_is_locked() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(entry for extra in project["optional-dependencies"].values() for entry in extra)]
    names = {re.split(r"[\[<>=! ;]", entry)[0].lower().replace("_", "-") for entry in wanted}
    locked = set(re.findall(r"(?m)^([\w.-]+)(?:\[[\w,]+\])?==", (ROOT / "requirements.lock").read_text(encoding="utf-8")))
    assert names <= locked, names - locked


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    silent = []
    for path in modules():
        said = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
        if not said or not said.splitlines()[0].strip():
            silent.append(str(path.relative_to(ROOT)))
    assert not silent


def test_readme_migration_file_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)
    assert len(blocks) == 1
    file = tmp_path / "migration.yaml"
    file.write_text(blocks[0])
    migration = load(file)  # the steps too
    assert migration.name == "shop-to-crm"
    person = next(entry for entry in migration.tables if entry.to == "crm.person")
    assert set(person.columns) == {"full_name", "email", "state", "card"}
    # what the store keeps of it is the same file again
    again = Migration.model_validate(json.loads(migration.model_dump_json(by_alias=True, exclude_defaults=True)))
    assert again == migration


def test_compose_migration_file_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    migration = load(ROOT / "deploy/compose/migration.yaml")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert migration.source.host in services and migration.target.host in services
    assert {migration.kafka.bootstrap.split(":")[0], migration.connect.url.split("//")[1].split(":")[0]} <= set(services)


def test_compose_publishes_on_loopback_only_and_holds_no_password() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    for name, service in compose["services"].items():
        for port in service.get("ports", ()):
            assert str(port).startswith("127.0.0.1:"), f"{name}: {port}"
        assert not service.get("privileged"), name
        environment = service.get("environment", {})
        pairs = environment.items() if isinstance(environment, dict) else (entry.split("=", 1) for entry in environment)
        for key, value in pairs:
            if "PASSWORD" in key.upper():
                assert key.upper().endswith("_FILE") and str(value).startswith("/run/secrets/"), f"{name}: {key}"
        for secret in service.get("secrets", ()):
            assert (secret if isinstance(secret, str) else secret["source"]) in compose["secrets"], name
    assert all(set(secret) == {"file"} for secret in compose["secrets"].values())


def test_pages_link_to_what_is_there() -> None:
    pages = [*PAGES, *(str(p.relative_to(ROOT)) for p in (ROOT / "docs/decisions").glob("*.md"))]
    broken = [
        f"{page}: {link}"
        for page in pages
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", (ROOT / page).read_text(encoding="utf-8"))
        if not (ROOT / page).parent.joinpath(link).exists()
    ]
    assert not broken


def test_tour_names_files_and_functions_that_exist() -> None:
    text = (ROOT / "docs/tour.md").read_text(encoding="utf-8")
    # `file.py` (`name`) and `file.py` (`Class.name`)
    files = set(re.findall(r"`((?:pipeline|connectors|transforms|deploy)/[\w/.]+)`", text))
    assert len(files) > 25
    assert not [name for name in files if not (ROOT / name).exists()]
    named = re.findall(r"`((?:pipeline|connectors|transforms)/[\w/]+)\.py`\s+\(`([\w.]+)`\)", text)
    assert len(named) > 15
    for file, dotted in named:
        found: object = importlib.import_module(file.replace("/", "."))
        for part in dotted.split("."):
            assert hasattr(found, part), f"{file}.py has no {dotted}"
            found = getattr(found, part)


def _commands(command: object, prefix: str = "") -> list[str]:
    children = getattr(command, "commands", {})
    return [
        path for name, child in children.items() if not child.hidden for path in (f"{prefix}{name}", *_commands(child, f"{prefix}{name} "))
    ]


def test_pages_know_every_command_and_no_other() -> None:
    there = _commands(build())
    page = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    told = set(re.findall(r"(?m)^\| `crossfade ((?:[a-z-]+)(?: [a-z-]+(?=[ `]))?)", page))
    leaves = {name for name in there if not any(other.startswith(f"{name} ") for other in there)}
    assert told == leaves
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not [name for name in there if " " not in name and f"`{name}`" not in readme]


def test_changelog_speaks_of_this_version() -> None:
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_packages_are_all_walled() -> None:
    """A new folder beside the others must be named in the import rules and in the wheel."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    walled = set(project["importlinter"]["root_packages"]) - {"benchmarks"}  # beside them, and not installed
    assert walled == set(PACKAGES) == set(project["hatch"]["build"]["targets"]["wheel"]["packages"])
    layered = " ".join(project["importlinter"]["contracts"][0]["layers"])
    rooms = {path.parent.name for path in (ROOT / "pipeline").glob("*/__init__.py")} | {
        p.stem for p in (ROOT / "pipeline").glob("[a-z]*.py")
    }
    assert not [room for room in rooms if f"pipeline.{room}" not in layered]
