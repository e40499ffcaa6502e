"""What is in the cache is whole and what the lock says, whatever the network brings."""

from __future__ import annotations

import hashlib
import multiprocessing
import re
import time
import tomllib
from pathlib import Path

import pytest

from deploy.local import artifacts
from deploy.local.artifacts import Jar, Lock, bring
from deploy.local.progress import Advance
from pipeline.errors import StackError

CONTENT = b"the jar" * 1000
JAR = Jar("org.example:thing:1.0", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
LOCK = Lock("an example", (JAR,))


def whole(jar: Jar, scratch: Path, advance: Advance) -> Path:
    path = scratch / jar.filename
    path.write_bytes(CONTENT)
    advance(len(CONTENT))
    return path


def changed(jar: Jar, scratch: Path, advance: Advance) -> Path:
    path = scratch / jar.filename
    path.write_bytes(CONTENT.replace(b"j", b"J"))
    return path


def cut_short(jar: Jar, scratch: Path, advance: Advance) -> Path:
    path = scratch / jar.filename
    path.write_bytes(CONTENT[:100])
    return path


def broken_off(jar: Jar, scratch: Path, advance: Advance) -> Path:
    cut_short(jar, scratch, advance)
    raise ConnectionResetError


def never(jar: Jar, scratch: Path, advance: Advance) -> Path:
    raise AssertionError("downloaded again")


def slowly(jar: Jar, scratch: Path, advance: Advance) -> Path:
    with (scratch.parents[1] / "downloads").open("a", encoding="ascii") as file:
        file.write("x")
    time.sleep(0.3)
    return whole(jar, scratch, advance)


def test_a_jar_is_downloaded_once(tmp_path: Path) -> None:
    (first,) = bring(LOCK, tmp_path, whole)
    assert first.read_bytes() == CONTENT
    assert bring(LOCK, tmp_path, never) == [first]


@pytest.mark.parametrize("fetch", [changed, cut_short])
def test_a_wrong_sha256_is_refused_and_leaves_nothing_behind(tmp_path: Path, fetch: artifacts.Fetch) -> None:
    with pytest.raises(StackError, match=r"org\.example:thing:1\.0 came with sha256"):
        bring(LOCK, tmp_path, fetch)
    assert not list(tmp_path.rglob("*.jar"))
    (path,) = bring(LOCK, tmp_path, whole)
    assert path.read_bytes() == CONTENT


def test_a_partial_download_is_never_taken_for_a_whole_one(tmp_path: Path) -> None:
    with pytest.raises(ConnectionResetError):
        bring(LOCK, tmp_path, broken_off)
    half = tmp_path / "half-of-a-killed-process"
    half.mkdir()
    (half / JAR.filename).write_bytes(CONTENT[:10])
    (path,) = bring(LOCK, tmp_path, whole)
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in tmp_path.glob("half-*")] == []


def test_one_wrong_jar_fails_the_set_and_the_good_one_stays(tmp_path: Path) -> None:
    other = Jar("org.example:other:2.0", hashlib.sha256(b"something else").hexdigest(), 14)
    with pytest.raises(StackError, match=r"org\.example:other"):
        bring(Lock("two", (JAR, other)), tmp_path, whole)
    assert bring(LOCK, tmp_path, never)[0].read_bytes() == CONTENT


def test_two_processes_at_once_download_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=bring, args=(LOCK, tmp_path, slowly)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "downloads").read_text() == "x"


def test_a_folder_made_from_jars_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    def fill_half(folder: Path) -> None:
        (folder / "one").touch()
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        artifacts._made_once(tmp_path / "made", fill_half)
    assert not (tmp_path / "made").exists()
    made = artifacts._made_once(tmp_path / "made", lambda folder: (folder / "two").touch())
    assert [entry.name for entry in made.iterdir()] == ["two"]


@pytest.mark.parametrize("path", sorted(artifacts.LOCKS.glob("*.toml")), ids=lambda path: path.stem)
def test_lock_files_have_a_digest_for_every_jar_and_name_no_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "://" not in text
    jars = artifacts.read_lock(path).jars
    assert jars
    assert len({jar.coordinate for jar in jars}) == len(jars) == len(tomllib.loads(text)["jars"])
    for jar in jars:
        assert re.fullmatch(r"[0-9a-f]{64}", jar.sha256)
        assert jar.size > 0


@pytest.mark.parametrize("name", ["debezium", "debezium-jdbc"])
def test_plugin_folders_have_nothing_that_connect_brings_itself(name: str) -> None:
    groups = {jar.group for jar in artifacts.read_lock(artifacts.LOCKS / f"{name}.lock.toml").jars}
    assert not [group for group in groups if group.startswith(("com.fasterxml.jackson", "org.apache.kafka", "org.slf4j"))]
