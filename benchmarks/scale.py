"""Scale out: the same backlog over four tables as one, two and four streams, each with a connector, a topic and a worker of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from benchmarks.harness import Case, Failed, Sample
from benchmarks.move import Applied, Move
from benchmarks.stage import Database, Stage

TABLES = 4
_COLUMNS = "id bigint NOT NULL PRIMARY KEY, account bigint NOT NULL, amount numeric(12,2) NOT NULL, note varchar(200)"


def case(on: Stage, streams: int, *, rows: int, events: int) -> Case:
    """One fresh pair of databases a round; `events` over all tables."""
    what = f"PG to PG, narrow updates over four tables, {streams} streams, {streams} workers"
    mine = [[f"part_{at}" for at in range(TABLES) if at % streams == stream] for stream in range(streams)]

    def run(_number: int) -> Iterator[Sample]:
        origin = on.database("postgresql", "source")
        for at in range(TABLES):
            origin.run(
                f"CREATE TABLE part_{at} ({_COLUMNS})",
                f"INSERT INTO part_{at} SELECT g, g % 1000, 1, repeat(md5(g::text), 3) FROM generate_series(1, {rows}) g",
            )
        given = [{"name": f"s{stream}", "tables": tables} for stream, tables in enumerate(mine)]
        with Move(on, origin, on.database("postgresql", "target"), streams=given) as move, move.target.session() as cursor:
            move.begin()
            move.stop("worker")
            ends = {one["name"]: move.end_of_topic(str(one["name"])) for one in given}
            before = move.applied(cursor)
            _write(origin, rows, events)
            token = f"bench:{uuid.uuid4().hex}"
            with origin.session() as writing:
                move.mark(writing, token)
            behind = sum(move.wait_in_kafka(token, end, str(name)) for name, end in ends.items())
            for worker in range(streams):
                move.spawn(f"worker-{worker}")

            def begun() -> Applied | None:
                now = move.applied(cursor)
                return now if now.events > before.events else None

            first = move.until(begun, "the first batch")
            ended = move.until(lambda: move.marked(cursor, token, streams), "the markers behind the backlog")
            applied = move.applied(cursor).events - before.events
            if applied != behind:
                raise Failed(f"{behind:,} row events are in Kafka, {applied:,} were applied: a rate would mean nothing")
            left = applied - (first.events - before.events)
            if left * 2 < applied:
                raise Failed(f"{left:,} of {applied:,} events were left when first looked at: too small a backlog to measure")
            yield Sample("scale", what, "events/s", left / (ended - first.at))

    return Case(f"scale, {streams} streams", run)


def _write(origin: Database, rows: int, events: int) -> None:
    body = "".join(
        f"UPDATE part_{at} SET amount = amount + 1 WHERE id BETWEEN (n::bigint * 7919) % ({rows} - 10) + 1 "
        f"AND (n::bigint * 7919) % ({rows} - 10) + 10; COMMIT; "
        for at in range(TABLES)
    )
    origin.run(
        f"CREATE PROCEDURE work(last bigint) LANGUAGE plpgsql AS $$ BEGIN FOR n IN 1..last LOOP {body} END LOOP; END $$",
        "SET synchronous_commit = off",
        f"CALL work({events // (10 * TABLES)})",
    )
