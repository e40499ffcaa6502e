"""A small PostgreSQL in memory: tables of {id, v, big, u}, and the records that Debezium makes of their transactions.

`v` changes with every update, `big` stands for a TOASTed column that an event may leave out, `u` for a secondary unique key. The record
shapes are those of `connectors/postgres/debezium.py`.
"""

from __future__ import annotations

import base64
import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence

import orjson

from connectors.base import Projection, Range, TargetTable
from connectors.postgres.decode import decoder
from connectors.postgres.reader import MARKER_PREFIX
from pipeline import copytext
from pipeline.apply.collapse import Route
from pipeline.model import Catalog, Column, Key, Kind, LogicalType, Table, TableId, Text
from pipeline.spec import parse
from transforms.pairing import resolve
from transforms.shapecode import UNAVAILABLE

SCHEMA = "public"
COLUMNS = ("id", "v", "big", "u")
SourceRow = tuple[int, str, str, str | None]
Tables = Mapping[str, Mapping[int, SourceRow]]
KEYS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class Mix:
    """What the application does, as weights, and how it packs it into transactions."""

    insert: float = 30
    update: float = 20
    update_big: float = 10
    delete: float = 15
    move: float = 12
    swap_keys: float = 1
    hand_over: float = 7
    swap_unique: float = 2
    truncate: float = 1
    partial: float = 0.5  # of the events whose `big` did not change
    statements: tuple[int, ...] = (1, 1, 1, 2, 4)  # of a transaction
    rows: tuple[int, ...] = (1, 1, 1, 3)  # of an insert


@dataclasses.dataclass(frozen=True, slots=True)
class Committed:
    """One transaction of the source: its records as Kafka gets them, and what the tables are after it."""

    position: str
    records: tuple[bytes, ...]
    after: Tables


class SourceDatabase:
    """`wal` is what was committed since the slot was made. `copy`, `by_keys` and `marker` are a `connectors.base.Reader`'s."""

    def __init__(self, names: Sequence[str], rng: random.Random, mix: Mix = Mix(), before: int = 12, keys: int = KEYS) -> None:
        self.names, self.keys = names, keys
        self.tables: dict[str, dict[int, SourceRow]] = {name: {} for name in names}
        self.wal: list[Committed] = []
        self._clock = self._txid = 0
        self._lsn = self._last_end = 1000
        for _ in range(before):
            self.transaction(rng, mix)
        self.wal.clear()
        self.base: Tables = self._snapshot()

    def state(self, position: str) -> Tables:
        """What the tables were at a stream position."""
        if not position:
            return self.base
        return next(c.after for c in reversed(self.wal) if c.position == position)

    # -- the application -------------------------------------------------------------------------------------------------------------

    def transaction(self, rng: random.Random, mix: Mix) -> None:
        """Commits one random transaction."""
        changes: list[dict[str, object]] = []
        for _ in range(rng.choice(mix.statements)):
            self._statement(rng, mix, rng.choice(self.names), changes)
        if changes:
            self._commit(changes, rng)

    def marker(self, token: str) -> None:
        content = base64.b64encode(token.encode()).decode()
        self._commit([{"op": "m", "message": {"prefix": MARKER_PREFIX, "content": content}}], random.Random(len(self.wal)))

    def _statement(self, rng: random.Random, mix: Mix, name: str, out: list[dict[str, object]]) -> None:
        rows = self.tables[name]
        kinds = ("update", "update_big", "delete", "move", "swap_keys", "hand_over", "swap_unique", "truncate")
        kind = rng.choices(("insert", *kinds), (mix.insert, *(getattr(mix, k) for k in kinds)))[0] if rows else "insert"
        there = sorted(rows)
        match kind:
            case "insert":
                first = len(out)
                for _ in range(rng.choice(mix.rows)):
                    key = rng.randrange(self.keys)
                    if key not in rows:
                        self._put(name, (key, self._tick(), self._tick(), self._free(rng, name)), "c", out)
                for change in out[first + 1 :]:
                    change["same"] = True
            case "update" | "update_big":
                row = rows[rng.choice(there)]
                big = self._tick() if kind == "update_big" else None
                self._update(rng, mix, name, row, out, v=self._tick(), big=big)
            case "delete":
                self._delete(name, rng.choice(there), out)
            case "move":
                old, new = rng.choice(there), rng.randrange(self.keys)
                if new not in rows:
                    self._move(rng, mix, name, old, new, out)
            case "swap_keys" if len(rows) > 1:
                a, b = rng.sample(there, 2)
                aside = self.keys  # beyond every key that an application takes
                for old, new in ((a, aside), (b, a), (aside, b)):
                    self._move(rng, mix, name, old, new, out)
            case "hand_over" if len(rows) > 1:
                giver, taker = rng.sample(there, 2)
                value = rows[giver][3]
                self._update(rng, mix, name, rows[giver], out, u=(self._free(rng, name),))
                self._update(rng, mix, name, rows[taker], out, u=(value,))
            case "swap_unique" if len(rows) > 1:
                a, b = rng.sample(there, 2)
                first, second = rows[a][3], rows[b][3]
                for key, value in ((a, None), (b, first), (a, second)):
                    self._update(rng, mix, name, rows[key], out, u=(value,))
            case "truncate":
                rows.clear()
                out.append({"op": "t", "table": name, "before": None, "after": None})

    def _tick(self) -> str:
        self._clock += 1
        return str(self._clock)

    def _free(self, rng: random.Random, name: str) -> str:
        used = {row[3] for row in self.tables[name].values()}
        return rng.choice([u for n in range(self.keys + 4) if (u := f"u{n}") not in used][:3])

    def _put(self, name: str, row: SourceRow, op: str, out: list[dict[str, object]], *, left_out: bool = False) -> None:
        self.tables[name][row[0]] = row
        after: dict[str, object] = dict(zip(COLUMNS, row, strict=True))
        if left_out:
            after["big"] = UNAVAILABLE
        out.append({"op": op, "table": name, "before": None, "after": after})

    def _update(
        self,
        rng: random.Random,
        mix: Mix,
        name: str,
        row: SourceRow,
        out: list[dict[str, object]],
        *,
        v: str | None = None,
        big: str | None = None,
        u: tuple[str | None] | None = None,
    ) -> None:
        changed = (row[0], v or row[1], big or row[2], row[3] if u is None else u[0])
        self._put(name, changed, "u", out, left_out=big is None and rng.random() < mix.partial)

    def _delete(self, name: str, key: int, out: list[dict[str, object]]) -> None:
        del self.tables[name][key]
        out.append({"op": "d", "table": name, "before": {"id": key, "v": None, "big": None, "u": None}, "after": None})

    def _move(self, rng: random.Random, mix: Mix, name: str, old: int, new: int, out: list[dict[str, object]]) -> None:
        row = self.tables[name][old]
        self._delete(name, old, out)
        self._put(name, (new, self._tick(), row[2], row[3]), "c", out, left_out=rng.random() < mix.partial)
        out[-1]["same"] = True

    # -- Debezium --------------------------------------------------------------------------------------------------------------------

    def _commit(self, changes: list[dict[str, object]], rng: random.Random) -> None:
        """Rows of transactions side by side have LSNs that interleave (materialize#5262): only the ends grow in the order of commits."""
        self._txid += 1
        before = self._last_end
        self._lsn += 8 * (len(changes) + 2)
        end = self._last_end = self._lsn
        lsns = sorted(rng.sample(range(max(1, before - 200), end), len(changes)))
        for at, change in enumerate(changes):
            if change.pop("same", False):  # both halves of a key change, the rows of one insert: one record of the log
                lsns[at] = lsns[at - 1]
        ids = [f"{self._txid}:{lsn}" for lsn in (*lsns, end)]
        records = [{"status": "BEGIN", "id": ids[0], "event_count": None, "data_collections": None, "ts_ms": 1}]
        for order, (change, lsn) in enumerate(zip(changes, lsns, strict=True), 1):
            table = change.pop("table", "")
            source = {"connector": "postgresql", "schema": SCHEMA if table else "", "table": table, "txId": self._txid, "lsn": lsn}
            source |= {"snapshot": "false", "sequence": f'["{before}","{lsn}"]', "ts_ms": 1}
            place = {"id": f"{self._txid}:{lsn}", "total_order": order, "data_collection_order": order}
            records.append({**change, "source": source, "transaction": place})
        records.append({"status": "END", "id": ids[-1], "event_count": len(changes), "data_collections": [], "ts_ms": 1})
        self.wal.append(Committed(str(end), tuple(orjson.dumps(r) for r in records), self._snapshot()))

    def _snapshot(self) -> Tables:
        return {name: dict(rows) for name, rows in self.tables.items()}

    # -- a reader --------------------------------------------------------------------------------------------------------------------

    def copy(self, table: Table, key: Sequence[str], what: Projection, within: Range) -> Iterator[bytes]:
        lower, upper = (None if bound is None else int(bound[0]) for bound in (within.lower, within.upper))
        for row in self.tables[table.id.name].values():
            if (lower is None or row[0] > lower) and (upper is None or row[0] <= upper):
                yield copytext.encode([text_row(row)])

    def by_keys(self, table: Table, key: Sequence[str], what: Projection, keys: Sequence[Key]) -> Iterator[bytes]:
        rows = self.tables[table.id.name]
        found = [rows[int(k)] for (k,) in keys if int(k) in rows]
        if found:
            yield copytext.encode([text_row(row) for row in found])

    def boundaries(self, table: Table, key: Sequence[str], rows: int, after: Key | None = None) -> Iterator[Key]:
        raise NotImplementedError("chunks are planned by hand here")

    def position(self) -> str:
        return str(self._last_end)

    def close(self) -> None:
        pass


def text_row(row: SourceRow) -> tuple[Text, ...]:
    """A source row as canonical text."""
    return (str(row[0]), *row[1:])


_INT, _TEXT = LogicalType(Kind.INT, "bigint", bits=64), LogicalType(Kind.TEXT, "text")


def source_table(name: str) -> Table:
    """The table as its catalog tells it."""
    columns = (Column("id", _INT, nullable=False), Column("v", _TEXT), Column("big", _TEXT), Column("u", _TEXT))
    return Table(TableId(SCHEMA, name), columns, ("id",), ("id",), replica_identity="default")


def routes(names: Sequence[str], targets: Mapping[str, TargetTable] | None = None) -> dict[TableId, list[Route]]:
    """The compiled shapes of a migration of these tables as they are; `targets` where they are tables of a real database."""
    catalog = Catalog("postgresql", "postgresql", "18", "shop", SCHEMA, {(t := source_table(name)).id: t for name in names})
    spec = {
        "name": "m",
        "source": {"url": "postgresql://a@old/shop"},
        "target": {"url": "postgresql://a@new/shop"},
        "kafka": {"bootstrap": "k:9092"},
        "connect": {"url": "http://c:8083"},
        "tables": [{"from": name} for name in names],
    }
    pairs, _ = resolve(parse(orjson.dumps(spec).decode()), catalog, None)
    out: dict[TableId, list[Route]] = {}
    for pair in pairs:
        decoders = {c.name: decoder(c.type) for c in pair.source.columns}
        target = targets[pair.source.id.name] if targets else pair.with_target(pair.source).target_table()
        out[pair.source.id] = [Route(target, pair.shape_events(decoders), pair.filtered)]
    return out
