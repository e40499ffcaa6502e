"""Several streams, several workers: each stream is applied by one of them, evenly, whoever comes and goes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import psycopg

from tests.conftest import MakeDatabase, TestDatabase
from tests.system.background import Background
from tests.system.harness import Move

STREAMS = ("a", "b", "c", "d")


class Writer(Background):
    """Changes rows of every stream's table, a transaction each."""

    def __init__(self, database: TestDatabase) -> None:
        super().__init__()
        self.database = database

    def work(self) -> None:
        with psycopg.connect(self.database.url, password=self.database.password) as db:
            turn = 0
            while not self.halt.wait(0.005):
                turn += 1
                for name in STREAMS:
                    db.execute(f"UPDATE part_{name} SET n = n + 1 WHERE id = %s".encode(), (turn % 500 + 1,))
                    db.execute(f"INSERT INTO part_{name} VALUES (%s, 0)".encode(), (1000 + turn,))
                    db.commit()


def opened(one: Move) -> dict[str, str]:
    """Which worker opened each stream last."""
    newest: dict[str, tuple[int, str]] = {}
    for log in one.folder.glob("worker*.log"):
        for line in log.read_text().splitlines():
            if '"stream opened"' in line:
                said = json.loads(line)
                newest[said["stream"]] = max(newest.get(said["stream"], (0, "")), (said["epoch"], log.stem))
    return {stream: worker for stream, (_, worker) in newest.items()}


def until_shared(one: Move, wanted: dict[str, int]) -> None:
    """Waits until each worker has so many streams, and every stream goes on."""
    deadline = time.monotonic() + 120
    while True:
        had = list(opened(one).values())
        if {worker: had.count(worker) for worker in set(had)} == wanted:
            break
        assert time.monotonic() < deadline, (opened(one), one.logs())
        time.sleep(0.1)
    before = {stream["name"]: stream["transactions"] for stream in one.status()["streams"]}
    while True:
        now = {stream["name"]: stream["transactions"] for stream in one.status()["streams"]}
        if all(now[name] >= before[name] + 50 for name in STREAMS):
            return
        assert time.monotonic() < deadline, (before, now, one.logs())
        time.sleep(0.1)


def test_s27_streams_are_shared_out_among_workers_that_come_and_go(pg_database: MakeDatabase, move: Callable[..., Move]) -> None:
    source, target = pg_database("source"), pg_database("target")
    with psycopg.connect(source.url, password=source.password, autocommit=True) as db:
        for name in STREAMS:
            db.execute(f"CREATE TABLE part_{name} (id int PRIMARY KEY, n int NOT NULL)".encode())
            db.execute(f"INSERT INTO part_{name} SELECT g, 0 FROM generate_series(1, 500) g".encode())
    streams = [{"name": name, "tables": [f"part_{name}"]} for name in STREAMS]
    one = move("streams", source, target, tables=[{"from": "public.*"}], streams=streams)
    writer = Writer(source)
    writer.start()
    one.begin()
    one.wait("following")
    until_shared(one, {"worker": 4})
    one.worker("worker-2")
    until_shared(one, {"worker": 2, "worker-2": 2})
    one.kill("worker")
    until_shared(one, {"worker-2": 4})
    one.worker("worker-3")
    one.worker("worker-4")
    until_shared(one, {"worker-2": 2, "worker-3": 1, "worker-4": 1})
    writer.stop()
    report = one.verify()
    assert report["differences"] == 0 and report["complete"], report["found"][:5]
