"""The tables of the documentation, made of a results file."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from benchmarks.aims import aims
from benchmarks.markdown import table
from benchmarks.records import COPIED, MEMORY, PROCESSOR, PRODUCTS, TO_POSTGRES, WAYS, Missing, Records
from benchmarks.result import spread


def tables(found: Records) -> Mapping[str, Callable[[], str]]:
    """Every table by its name, made when it is asked for. They raise `Missing`."""
    made: dict[str, Callable[[Records], str]] = {
        "run": _run,
        "aims": _aims,
        "backfill": _backfill,
        "lag": _lag,
        "catch-up": _catchup,
        "limits": _limits,
        "cutover": _cutover,
        "idle": _idle,
        "streams": _streams,
        "codec": _codec,
    }
    by_way = {f"apply {way}": partial(_apply, found, way) for way in WAYS}
    return {name: partial(make, found) for name, make in made.items()} | by_way


def _number(value: float) -> str:
    return f"{value:,.0f}"


def _spread(runs: Sequence[float]) -> str:
    return f"{_number(statistics.median(runs))} ±{spread(runs):.0%}"


def _rounds(record: dict[str, Any]) -> str:
    return " ".join(map(_number, record["runs"]))


def _range(record: dict[str, Any]) -> str:
    least, most = _number(min(record["runs"])), _number(max(record["runs"]))
    return least if least == most else f"{least} to {most}"


def _long(way: str, between: str) -> str:
    source, target = way.split(" to ")
    return f"{PRODUCTS[source]} {between} {PRODUCTS[target]}"


def _run(found: Records) -> str:
    """Which benchmarks are of which day: a results file can be put together from several runs."""
    days: dict[tuple[str, str], list[str]] = {}
    for one in found.every:
        named = days.setdefault((one["date"], one["machine"]), [])
        if one["benchmark"] not in named:
            named.append(one["benchmark"])
    return table(
        ("begun", "machine", "measured"),
        "lll",
        ((date, machine, ", ".join(named)) for (date, machine), named in sorted(days.items())),
    )


def _apply(found: Records, way: str) -> str:
    rows = []
    for one in found.some("apply", f"{way}, "):
        workload = one["workload"]
        if not one["peer_name"]:
            continue
        by_processor, memory = found.one("apply", workload + PROCESSOR), found.one("apply", workload + MEMORY)
        sink = _spread(one["peer_runs"]) if one["peer_runs"] else f"cannot: {one['peer_cannot']}"
        ratio = "" if one["ratio"] is None else f"{one['ratio']:.2f}"
        rows.append(
            (
                workload.removeprefix(f"{way}, "),
                _spread(one["runs"]),
                sink,
                ratio,
                _number(by_processor["ours"]),
                _number(max(memory["runs"])),
            )
        )
    return table(("", "crossfade", "JDBC sink", "ratio", "a second of the worker's processor", "its memory, MiB"), "lrrrrr", rows)


def _backfill(found: Records) -> str:
    rows = []
    for way in WAYS:
        beside = found.some("backfill", f"{way}, ", COPIED)
        first = f"copied, {_long(way, 'to')}", f"{_spread(found.one('backfill', f'{way}, ', COPIED)['runs'])}"
        measured = [one for one in beside if one["peer_runs"]]
        for one in measured:
            rows.append((*first, f"{_spread(one['peer_runs'])}, {one['peer_name']}", f"{one['ratio']:.2f}"))
            first = "…", ""
        if not measured:
            rows.append((*first, "; ".join(f"{one['peer_name']} {one['peer_cannot']}" for one in beside), ""))
        rows.append(("… memory of the worker, MiB", _range(found.one("backfill", f"{way}, ", MEMORY)), "", ""))
    for way in WAYS:
        one = found.one("verify", f"{way}, ")
        rows.append(
            (
                f"verified, {_long(way, 'beside')}",
                _spread(one["runs"]),
                f"{_spread(one['peer_runs'])}, {one['peer_name']}",
                f"{one['ratio']:.2f}",
            )
        )
    return table(("rows/s", "crossfade", "beside", "ratio"), "lrrr", rows)


def _lag(found: Records) -> str:
    rows = [
        (PRODUCTS[way.split(" to ")[0]], *(_rounds(found.one("lag", f"{way}, ", what)) for what in (", p50", ", p99", ", written")))
        for way in TO_POSTGRES
    ]
    return table(("from", "p50, ms", "p99, ms", "written, transactions/s"), "llll", rows)


def _catchup(found: Records) -> str:
    rows = []
    for label, end in (
        ("a million narrow updates, 10 a transaction", "a backlog of 1,000,000 narrow updates"),
        ("one transaction of a million updates", "one transaction of 1,000,000 narrow updates"),
        ("500,000 narrow updates", ", 500,000 narrow updates"),
        ("… beside a controller and its background verify", "while the background verify runs"),
    ):
        rates = [found.one("catch-up", f"{way}, ", end) for way in TO_POSTGRES]
        rows.append((label, *(f"{_number(one['ours'])} ({_rounds(one)})" for one in rates)))
        if found.some("catch-up", rates[0]["workload"] + PROCESSOR):
            of_cpu = [found.one("catch-up", one["workload"] + PROCESSOR) for one in rates]
            memory = [found.one("catch-up", one["workload"] + MEMORY) for one in rates]
            rows.append(("… a second of the worker's processor", *(_number(one["ours"]) for one in of_cpu)))
            rows.append(("… its memory, the largest, MiB", *(_number(max(one["runs"])) for one in memory)))
    return table(("events/s", "PostgreSQL", "MariaDB"), "lll", rows)


def _limits(found: Records) -> str:
    waits = ", each waits for the disk"
    if not found.some("limits"):
        raise Missing("limits")

    def of(engine: str, form: str, batch: str, end: str) -> str:
        some = found.some("limits", f"{engine} by itself, narrow rows, {form}, {batch} rows a commit", f"a commit{end}")
        return _number(some[0]["ours"]) if some else ""  # not every batch was measured in every form

    rows = (
        (
            batch,
            of("PG", "text", batch, ""),
            of("PG", "text", batch, waits),
            of("PG", "binary", batch, ""),
            of("MariaDB", "text", batch, waits),
        )
        for batch in ("50", "500", "5,000", "20,000")
    )
    head = ("rows a commit", "PostgreSQL, text", "… each commit waits for the disk", "… binary", "MariaDB, each commit waits")
    return table(head, "rrrrr", rows)


def _cutover(found: Records) -> str:
    waited = found.one("cutover", end=", writes waited")
    rows = [
        ("writes waited, ms, median", _number(waited["ours"])),
        ("… shortest, longest", f"{_number(min(waited['runs']))}, {_number(max(waited['runs']))}"),
        ("… all in order", _rounds(waited)),
        ("of it drain (a marker through Debezium and Kafka), ms, median", _number(found.median("cutover", end=", of it drain"))),
        ("of it repoint, ms, median", _number(found.median("cutover", end=", of it repoint"))),
        (
            "slowest transaction of any client, all the time, ms, worst round",
            _number(max(found.one("cutover", end=", slowest transaction")["runs"])),
        ),
        ("transactions a second meanwhile, median", _number(found.median("cutover", end=", written"))),
    ]
    return table(("", ""), "lr", rows)


def _idle(found: Records) -> str:
    rows = []
    for streams in (1, 4, 8):
        begin = f"PG to PG, nobody writes, {streams} streams, 1 worker, "

        def of(what: str, begin: str = begin) -> str:
            return _number(found.median("scale", begin, what))

        busy = [f"{of(f'processor time of {part}')} %" for part in ("worker", "controller", "Connect", "Kafka", "source", "target")]
        memory = f"{of('memory of worker')}, {of('memory of controller')} MiB"
        rows.append((str(streams), *busy, memory, f"{of('connections to source')}, {of('connections to target')}"))
    head = ("streams", "worker", "controller", "Connect", "Kafka", "source", "target")
    return table((*head, "worker's, controller's memory", "connections to source, target"), "r" * 9, rows)


def _streams(found: Records) -> str:
    rows = []
    for streams in (1, 2, 4):
        one = found.one("scale", f"PG to PG, narrow updates over four tables, {streams} streams")
        rows.append((str(streams), _number(one["ours"]), _rounds(one)))
    return table(("streams, workers", "median", "round by round"), "rrl", rows)


def _codec(found: Records) -> str:
    rows = []
    for codec in ("lz4", "none", "snappy", "zstd", "gzip"):
        begin = f"PG to PG, 200,000 narrow updates, {codec}, "
        into = found.one("codec", begin, "into Kafka")
        rows.append(
            (
                codec,
                f"{_number(found.median('codec', begin, 'processor time of Connect'))} µs an event",
                f"{_number(into['ours'])} ({_rounds(into)})",
                _number(found.median("codec", begin, "in Kafka")),
                f"{_number(found.median('codec', begin, 'processor time of Kafka, read'))} µs",
                _number(found.median("codec", begin, ", applied")),
                _number(found.median("codec", begin, "by the worker's processor time")),
            )
        )
    head = ("", "Connect", "into Kafka, events/s", "Kafka's disk, bytes an event", "Kafka, when read", "applied, events/s")
    return table((*head, "a second of the worker's processor"), "lrrrrrr", rows)


def _aims(found: Records) -> str:
    rows = ((aim.what, aim.was, "yes" if aim.reached else "**no**") for aim in aims(found))
    return table(("what is to be reached", "what was", "reached"), "lll", rows)
