"""A stream that changes hands, or is muted, in the middle of being opened."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from contextlib import closing

import psycopg
import pytest

from pipeline.control import registry
from pipeline.control.markers import settle
from pipeline.control.runtime import Runtime
from tests.conftest import MakeDatabase
from tests.system.harness import Move

pytestmark = pytest.mark.system

MUTED = "m:until-this-comes"


def test_s26_a_stream_that_is_muted_while_it_is_opened_is_muted(
    pg_database: MakeDatabase, move: Callable[..., Move], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crossing mutes the direction that applied. A worker that had just claimed the stream knows nothing of it: what it goes on from must
    be of the moment of its claim, or it would apply what comes back from the other side."""
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        db.execute("CREATE TABLE account (id int PRIMARY KEY, balance int NOT NULL)")
        db.execute("INSERT INTO account VALUES (1, 0)")
    one = move("openings", source, target, tables=[{"from": "public.*"}])
    one.begin()
    one.wait("following")
    one.kill("worker")
    for name in ("SOURCE_PW", "TARGET_PW"):
        monkeypatch.setenv(name, one.env[name])
    runtime = Runtime(registry.find(str(one.file)))
    one.env["CROSSFADE_FAILPOINTS"] = "stream.claimed=stop"
    worker = one.worker()
    deadline = time.monotonic() + 60
    while not worker.stopped():
        assert time.monotonic() < deadline and worker.poll() is None, one.logs()
        time.sleep(0.02)
    assert runtime.store.mute(MUTED, instead_of={""})
    worker.send_signal(signal.SIGCONT)
    with (
        closing(runtime.reader()) as reader,
        psycopg.connect(source.url, password=source.password, autocommit=True) as old,
        psycopg.connect(target.url, password=target.password, autocommit=True) as new,
    ):

        def balance() -> int:
            row = new.execute("SELECT balance FROM account").fetchone()
            assert row is not None
            return int(row[0])

        old.execute("UPDATE account SET balance = 1")
        settle(runtime.store, reader, 1, timeout=60)
        assert balance() == 0
        reader.marker(MUTED)
        old.execute("UPDATE account SET balance = 2")
        settle(runtime.store, reader, 1, timeout=60)
        assert balance() == 2
    runtime.store.close()
