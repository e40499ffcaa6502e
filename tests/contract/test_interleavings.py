"""Source, stream, chunks and re-reads in random order against the real writers: at rest the target is the source.

A few hundred short histories of eight keys. The argument that the rules are enough, with hundreds of thousands of them and each rule
switched off in turn, is a model's; this is the proof that the writers keep the model's rules.
"""

from __future__ import annotations

import dataclasses
import os
import random
from collections.abc import Mapping

import orjson
import pytest
from contract.conftest import Lab

from connectors.base import TargetTable
from pipeline import copytext
from pipeline.apply.collapse import Route, TableCollapse
from pipeline.model import UNCHANGED, Change, Key, Row, TableId, Text
from pipeline.records import RowText
from tests.rowtext import rowtext

pytestmark = pytest.mark.system

HISTORIES = int(os.environ.get("CROSSFADE_HISTORIES", "60"))
KEYS, WIDTH = 8, 2
SOURCE = TableId("source", "people")


class Shape:
    """Events here are {id, name, big, email}, `big` left out when it did not change."""

    partial = True

    def row(self, raw: RowText) -> Row:
        found = orjson.loads(bytes(raw))
        return tuple(found.get(c, UNCHANGED) for c in ("id", "name", "big", "email"))

    def whole(self, raw: RowText) -> Row | None:
        row = self.row(raw)
        return None if UNCHANGED in row else row

    def key(self, raw: RowText) -> Key:
        return (str(orjson.loads(bytes(raw))["id"]),)

    def passes(self, raw: RowText) -> bool | None:
        return True


@dataclasses.dataclass(slots=True)
class _Chunk:
    low: int
    id: int
    rows: list[tuple[Text, ...]] | None = None
    done: bool = False


class History:
    """One random run. Transactions are lists of changes; a batch takes one to three of them."""

    def __init__(self, lab: Lab, target: TargetTable, seed: int, *, keyless: bool = False) -> None:
        self.lab, self.target, self.rng, self.keyless = lab, target, random.Random(seed), keyless
        self.source: dict[int, dict[str, str]] = {}
        self.log: list[list[Change]] = []
        self.clock = 0
        self.read: dict[Key, tuple[int, tuple[Text, ...] | None]] = {}
        for _ in range(self.rng.randrange(12)):
            self.write()
        self.at = len(self.log)
        self.chunks = [_Chunk(low, lab.chunk(target)) for low in range(0, KEYS, WIDTH)]

    def tick(self) -> str:
        self.clock += 1
        return str(self.clock)

    def free(self) -> str:
        used = {row["email"] for row in self.source.values()}
        return str(self.rng.choice([u for u in range(5 * KEYS) if str(u) not in used][:3]))

    def change(self, op: str, before: Mapping[str, str] | None, after: Mapping[str, str] | None, partial: float = 0.0) -> Change:
        if after is not None and self.rng.random() < partial:
            after = {column: value for column, value in after.items() if column != "big"}
        return Change(op, SOURCE, rowtext(before), rowtext(after), 1, 1)

    def write(self) -> None:
        rng, source, dice, changes = self.rng, self.source, self.rng.random(), []
        if dice < 0.30 or not source:
            key = rng.randrange(KEYS)
            if key not in source:
                source[key] = {"id": str(key), "name": self.tick(), "big": self.tick(), "email": self.free()}
                changes.append(self.change("c", None, source[key]))
        elif dice < 0.42:
            row = source[rng.choice(list(source))]
            row["name"] = self.tick()
            changes.append(self.change("u", None, row, 0.5))
        elif dice < 0.50:
            row = source[rng.choice(list(source))]
            row["big"] = self.tick()
            changes.append(self.change("u", None, row))
        elif dice < 0.62:
            changes.append(self.change("d", {"id": source.pop(rng.choice(list(source)))["id"]}, None))
        elif dice < 0.76:
            key, new = rng.choice(list(source)), rng.randrange(KEYS)
            if new not in source:
                source[new] = source.pop(key) | {"id": str(new), "name": self.tick()}
                changes += [self.change("d", {"id": str(key)}, None), self.change("c", None, source[new], 0.6)]
        elif dice < 0.97 and len(source) > 1:
            giver, taker = rng.sample(list(source), 2)
            value = source[giver]["email"]
            source[giver]["email"] = self.free()
            changes.append(self.change("u", None, source[giver], 0.3))
            source[taker]["email"] = value
            changes.append(self.change("u", None, source[taker], 0.3))
        elif dice >= 0.99:
            source.clear()
            changes.append(self.change("t", None, None))
        if changes:
            self.log.append(changes)

    def apply(self) -> None:
        taken = self.log[self.at : self.at + self.rng.choice([1, 1, 2, 3])]
        if not taken:
            return
        self.at += len(taken)
        table = TableCollapse(Route(self.target, Shape(), False))
        for change in [change for transaction in taken for change in transaction]:
            table.add(change)
        self.lab.apply(table.batch())

    def work_chunk(self) -> None:
        chunk = self.rng.choice(self.chunks)
        if chunk.done:
            return
        if chunk.rows is None:
            within = range(chunk.low, chunk.low + WIDTH)
            chunk.rows = [tuple(self.source[key].values()) for key in within if key in self.source]
        else:
            self.lab.writer.merge(self.target, chunk.id, [copytext.encode(chunk.rows)])
            chunk.done = True

    def reread(self) -> None:
        if self.keyless:
            return
        if self.read:
            self.lab.writer.merge_listed(self.target, self.read)
            self.read = {}
            return
        for key, sequence in self.lab.writer.listed(self.target, 3):
            row = self.source.get(int(key[0]))
            self.read[key] = (sequence, tuple(row.values()) if row else None)

    def key(self) -> None:
        """A table that is keyless gets its key: when it is filled, or sooner."""
        if self.keyless and (all(chunk.done for chunk in self.chunks) or self.rng.random() < 0.3):
            self.lab.writer.build_key(self.target)
            self.keyless = False

    def run(self) -> None:
        stream = self.rng.choice([0.3, 1, 3])  # a stream that lags far behind, or keeps up
        for _ in range(self.rng.randrange(15, 70)):
            self.rng.choices([self.write, self.apply, self.work_chunk, self.reread, self.key], [4, stream, 2, 1, 0.5])[0]()
        for _ in range(2000):
            over = self.at == len(self.log) and all(chunk.done for chunk in self.chunks) and not self.read and not self.keyless
            if over and not self.lab.listed(self.target):
                break
            self.rng.choice([self.apply, self.work_chunk, self.reread, self.key])()
        else:
            raise AssertionError("never came to rest")
        assert self.lab.rows(self.target) == [tuple(self.source[key].values()) for key in sorted(self.source)]


@pytest.mark.parametrize("part", range(4))
def test_i3_at_rest_the_target_is_the_source_in_every_order_of_things(lab: Lab, part: int) -> None:
    target = lab.copying()
    for seed in range(part, HISTORIES, 4):
        lab.sql(f"DELETE FROM {lab.name_of(target)}")
        lab.sql(f"DELETE FROM crossfade.{lab.quote(lab.side_of(target))}")
        try:
            History(lab, target, seed).run()
        except Exception as error:
            raise AssertionError(f"history {seed}") from error


@pytest.mark.parametrize("part", range(2))
def test_i3_at_rest_a_table_that_was_filled_before_it_had_its_key_is_the_source(lab: Lab, part: int) -> None:
    if lab.product.engine != "postgresql":
        pytest.skip("tables of this product always have their key")
    for seed in range(part, HISTORIES, 2):
        target = lab.people(phase="copying", tracked=True, keyless=True)
        try:
            History(lab, target, seed, keyless=True).run()
        except Exception as error:
            raise AssertionError(f"history {seed}") from error
        assert lab.sql(f"SELECT indisprimary FROM pg_index WHERE indrelid = '{lab.name_of(target)}'::regclass") == [(True,)]
