"""Decode: records as Debezium writes them → transactions → net effect, in memory. One core, no server, no Kafka."""

from __future__ import annotations

import time
from collections.abc import Iterator

import orjson

from benchmarks.harness import Case, Failed, Sample
from connectors.postgres.decode import decoder
from connectors.postgres.events import PostgresEvents
from pipeline.apply.batch import Intake
from pipeline.apply.collapse import Route
from pipeline.model import Applied, Catalog, Column, Kind, LogicalType, Table, TableId
from pipeline.spec import parse
from pipeline.stream.assembler import Assembler
from transforms.pairing import resolve

_INT, _TEXT = LogicalType(Kind.INT, "bigint", bits=64), LogicalType(Kind.TEXT, "text")


def _routes() -> dict[TableId, list[Route]]:
    columns = (Column("id", _INT, nullable=False), Column("account", _INT), Column("name", _TEXT), Column("note", _TEXT))
    table = Table(TableId("public", "item"), columns, ("id",), ("id",), replica_identity="default")
    catalog = Catalog("postgresql", "postgresql", "18", "shop", "public", {table.id: table})
    spec = {
        "name": "bench",
        "source": {"url": "postgresql://a@old/shop"},
        "target": {"url": "postgresql://a@new/shop"},
        "kafka": {"bootstrap": "k:9092"},
        "connect": {"url": "http://c:8083"},
        "tables": [{"from": "item"}],
    }
    (pair,), _ = resolve(parse(orjson.dumps(spec).decode()), catalog, None)
    shape = pair.shape_events({column.name: decoder(column.type) for column in columns})
    return {table.id: [Route(pair.with_target(table).target_table(), shape, pair.filtered)]}


def _records(transactions: int, rows: int) -> list[tuple[int, bytes]]:
    out: list[bytes] = []
    lsn = 1000
    for t in range(1, transactions + 1):
        before, lsn = lsn, lsn + 1
        out.append(orjson.dumps({"status": "BEGIN", "id": f"{t}:{lsn}", "event_count": None, "ts_ms": 1}))
        for order in range(1, rows + 1):
            key = (t * 7919 + order) % 200_000
            source = {"version": "3", "connector": "postgresql", "name": "c", "ts_ms": 1, "snapshot": "false", "db": "shop"}
            source |= {"sequence": f'["{before}","{lsn}"]', "schema": "public", "table": "item", "txId": t, "lsn": lsn, "xmin": None}
            after = {"id": key, "account": t, "name": f"name {key}", "note": "x" * 90}
            place = {"id": f"{t}:{lsn}", "total_order": order, "data_collection_order": order}
            out.append(orjson.dumps({"before": None, "after": after, "source": source, "transaction": place, "op": "u", "ts_ms": 1}))
            lsn += 100
        out.append(orjson.dumps({"status": "END", "id": f"{t}:{lsn}", "event_count": rows, "ts_ms": 1}))
    return list(enumerate(out))


def measure(*, events: int, rows: int = 10) -> tuple[float, float]:
    """Row events a second, and a second of processor time: the same on a quiet machine, the steadier one on a busy machine."""
    records, routes, kinds = _records(events // rows, rows), _routes(), PostgresEvents()
    assembler, intake = Assembler(kinds, "1000"), Intake(kinds, routes, Applied("main", 1, "1000"))
    started, used, done = time.perf_counter(), time.process_time(), 0
    for at in range(0, len(records), 5000):  # as many as one fetch brings
        for transaction in assembler.feed(records[at : at + 5000]):
            intake.add(transaction, lambda _t: None)
        if intake.batch.events >= 5000:
            batch = intake.take()
            done += batch.events
            batch.collapse.batches()
    batch = intake.take()
    done += batch.events
    batch.collapse.batches()
    seconds, used = time.perf_counter() - started, time.process_time() - used
    if done != len(records) // (rows + 2) * rows:
        raise Failed(f"{done:,} of {events:,} events came through")
    return done / seconds, done / used


def case(*, events: int) -> Case:
    """Updates of 200,000 rows of one table."""

    def run(_number: int) -> Iterator[Sample]:
        rate, by_processor = measure(events=events)
        what = f"PG updates, 10 a transaction, {events:,} events"
        yield Sample("decode", what, "events/s", rate)
        yield Sample("decode", f"{what}, by processor time", "events/s of CPU", by_processor)

    return Case("decode", run)
