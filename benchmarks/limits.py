"""What a target's server takes by itself: rows that are ready, copied into a staging table and merged into the target's, a commit a batch,
by one session and without crossfade. What the form of COPY, the size of batches and the durability of commits rest on
(docs/decisions/apply-speed.md), and how much of it is reached."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.harness import Case, Failed, Sample
from benchmarks.stage import SHORT, Database, Stage
from benchmarks.workloads import Sizes, fill
from connectors.engine import connect
from connectors.mysql.connection import connect as mysql_connect
from connectors.mysql.infile import LocalData

_COLUMNS = ("id", "account", "amount", "name", "note")
_AGAIN = "id, account, amount + 1, name, note"
_TOGETHER = 10  # rows that are neighbours, as a transaction of `workloads.UPDATES` writes them


@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """How rows get there."""

    batch: int
    form: str = "text"  # text | binary, of COPY
    durable: bool = False  # whether a commit waits for the disk, where the session may choose

    @property
    def named(self) -> str:
        return f"{self.form}, {self.batch:,} rows a commit" + (", each waits for the disk" if self.durable else "")


WAYS: dict[str, tuple[Way, ...]] = {
    "postgresql": (
        *(Way(batch) for batch in (50, 500, 5000, 20_000)),
        Way(50, durable=True),
        Way(5000, durable=True),
        Way(5000, form="binary"),
    ),
    "mariadb": tuple(Way(batch, durable=True) for batch in (50, 500, 5000, 20_000)),
}


def case(on: Stage, engine: str, *, rows: int, events: int, at_most: int) -> Case:
    """So many of the rows of `item` are written once a way: those of a batch lie in tens all over the table."""
    what = f"{SHORT[engine]} by itself"

    def run(_number: int) -> Iterator[Sample]:
        target = on.database(engine, "target")
        fill(target, Sizes(rows))
        measured = _postgres if engine == "postgresql" else _mariadb
        for way in WAYS[engine]:
            yield Sample("limits", f"{what}, narrow rows, {way.named}", "rows/s", measured(target, rows, events, way))
        on.drop(target)

    return Case(f"limits, {what}", run, at_most=at_most)


def _postgres(target: Database, rows: int, events: int, way: Way) -> float:
    """Rows a second."""
    listed = ", ".join(_COLUMNS)
    sets = ", ".join(f"{one} = excluded.{one}" for one in _COLUMNS[1:])
    merge = f"INSERT INTO item AS t ({listed}) SELECT {listed} FROM stage ON CONFLICT (id) DO UPDATE SET {sets}"
    form = f"(FORMAT {way.form})"
    apart, batches = rows // way.batch, events // way.batch
    connection: Any = connect(target.address, autocommit=False)
    try:
        with connection.cursor() as cursor:
            blocks = []
            for first in range(batches):
                tens = f"generate_series({first}::bigint, {rows // _TOGETHER - 1}, {apart}) g, generate_series(1, {_TOGETHER}) i"
                of_batch = f"id = ANY (ARRAY(SELECT g * {_TOGETHER} + i FROM {tens}))"
                with cursor.copy(f"COPY (SELECT {_AGAIN} FROM item WHERE {of_batch}) TO STDOUT {form}") as copy:
                    blocks.append(b"".join(map(bytes, copy)))
            cursor.execute(f"CREATE TEMPORARY TABLE stage ON COMMIT DELETE ROWS AS SELECT {listed} FROM item WITH NO DATA")
            cursor.execute("SET session_replication_role = replica")
            if not way.durable:
                cursor.execute("SET synchronous_commit = off")
            connection.commit()
            begun = time.perf_counter()
            for block in blocks:
                with cursor.copy(f"COPY stage FROM STDIN {form}") as copy:
                    copy.write(block)
                cursor.execute(merge)
                _must_be(cursor.rowcount, rows // apart)
                connection.commit()
            return batches * (rows // apart) / (time.perf_counter() - begun)
    finally:
        connection.close()


def _mariadb(target: Database, rows: int, events: int, way: Way) -> float:
    """Rows a second. What a commit waits for is the server's to say there."""
    update = f"UPDATE stage s STRAIGHT_JOIN item t ON t.id = s.id SET {', '.join(f't.{one} = s.{one}' for one in _COLUMNS[1:])}"
    connection: Any = mysql_connect(target.address, autocommit=False, local_infile=True)
    try:
        with connection.cursor() as cursor:
            blocks = _mariadb_blocks(cursor, rows // way.batch, events // way.batch)
            cursor.execute("CREATE TEMPORARY TABLE stage ENGINE = InnoDB AS SELECT * FROM item LIMIT 0")
            cursor.execute("SET foreign_key_checks = 0")
            connection.commit()
            data = LocalData(connection)
            begun = time.perf_counter()
            for block in blocks:
                cursor.execute("TRUNCATE TABLE stage")
                data.load("LOAD DATA LOCAL INFILE 'memory' INTO TABLE stage CHARACTER SET utf8mb4", [block])
                _must_be(cursor.execute(update), block.count(b"\n"))
                connection.commit()
            return sum(block.count(b"\n") for block in blocks) / (time.perf_counter() - begun)
    finally:
        connection.close()


def _mariadb_blocks(cursor: Any, apart: int, batches: int) -> Sequence[bytes]:
    blocks: list[list[str]] = [[] for _ in range(batches)]
    of = f"(id - 1) DIV {_TOGETHER} % {apart}"
    cursor.execute(f"SELECT {of}, CONCAT_WS('\\t', {_AGAIN}) FROM item WHERE {of} < {batches} ORDER BY id")
    for at, line in cursor:
        blocks[at].append(line)
    return ["".join(f"{line}\n" for line in lines).encode() for lines in blocks]


def _must_be(written: int, asked: int) -> None:
    if written != asked:
        raise Failed(f"{written} rows were written where {asked} were asked for")
