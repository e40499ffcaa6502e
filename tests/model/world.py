"""Everything at once, one step at a time: application, Connect, worker, chunks, re-reads, crashes. Who chooses the steps comes from outside.

The promises are looked at where they are made: at every apply commit and at every change of phase once all is copied (the target is
the source at that position), and at rest (the target is the source).
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import random
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from connectors.base import Projection, Range
from pipeline.apply.collapse import Route
from pipeline.backfill.queue import Chunk
from pipeline.backfill.reread import Mending, Read, read_listed
from pipeline.backfill.worker import CopyTable
from pipeline.errors import CrossfadeError, Fenced, Transient
from pipeline.model import Key, TableId
from tests.model.source import Mix, SourceDatabase, routes, source_table, text_row
from tests.model.stream import Connect, Worker
from tests.model.target import ALL, Merging, ModelTable, ModelTarget, ModelWriter, Rules

T = TypeVar("T")


class Broken(AssertionError):
    """A promise is broken."""


@dataclasses.dataclass(frozen=True, slots=True)
class Profile:
    """How likely each step is, and what else shapes a run. Rare failures are looked for where they live."""

    mix: Mix = dataclasses.field(default_factory=Mix)
    tables: tuple[str, ...] = ("item",)
    keys: int = 8
    width: int = 2
    steps: tuple[int, int] = (20, 120)
    write: float = 3
    send: float = 4
    feed: float = 4
    apply: float = 4
    chunk: float = 3
    reread: float = 1.5
    finish: float = 0.5
    crash: float = 0.3
    connect_crash: float = 0.3
    zombie: float = 0.2
    rogue: float = 0.2
    records: tuple[int, ...] = (1, 3, 20, 200)  # of one fetch
    piece_rows: tuple[int, ...] = (1, 2, 1000)
    keyless: bool = False  # tables are filled before they have their key
    early_key: float = 0.1  # how likely a step gives one its key while it is being filled
    mid_transaction: bool = True  # Connect stores its offsets in the middle of transactions too

    def weights(self) -> dict[str, float]:
        names = ("write", "send", "feed", "apply", "chunk", "reread", "finish", "crash", "connect_crash", "zombie", "rogue")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(slots=True)
class _Copy:
    """The copying of one table, as the controller sees it."""

    table: CopyTable
    chunks: dict[int, Chunk]
    reads: list[tuple[Chunk, list[bytes]]] = dataclasses.field(default_factory=list)
    merging: list[Merging] = dataclasses.field(default_factory=list)
    rereads: list[Read] = dataclasses.field(default_factory=list)
    marker: str = ""
    mending: Mending | None = None


_routes: Callable[[tuple[str, ...]], dict[TableId, list[Route]]] = cache(routes)


class World:
    """One run. Every public method but the last four is a step, and may be called at any time."""

    def __init__(self, rng: random.Random, rules: Rules = ALL, profile: Profile = Profile()) -> None:
        self.profile, self.rules = profile, rules
        self.source = SourceDatabase(profile.tables, rng, profile.mix, rng.randrange(12), profile.keys)
        self.connect = Connect(self.source, mid_transaction=profile.mid_transaction)
        self.routes = _routes(profile.tables)
        self.copies: dict[int, _Copy] = {}
        target = ModelTarget({}, rules)
        for (route,) in self.routes.values():
            number = route.target.number
            chunks = self._chunks(number)
            target.tables[number] = ModelTable(route.target, keyless=profile.keyless, chunks=dict.fromkeys(chunks, "taken"))
            source = source_table(route.target.table.id.name)
            self.copies[number] = _Copy(CopyTable(source, ("id",), route.target, Projection(source.id, ())), chunks)
        self.target = target
        self.writer = ModelWriter(target)
        self.zombies: list[Worker] = []
        self.rogue_keys = 0
        self.commits_checked = 0
        self._tokens = 0
        self._open(rng)

    def _chunks(self, number: int) -> dict[int, Chunk]:
        bounds = [None, *(str(n) for n in range(self.profile.width - 1, self.profile.keys - 1, self.profile.width)), None]
        ranges = [Range(a and (a,), b and (b,)) for a, b in itertools.pairwise(bounds)]
        return {100 * number + at: Chunk(100 * number + at, number, within, None, 0) for at, within in enumerate(ranges)}

    def _open(self, rng: random.Random) -> None:
        self.worker = Worker(self.writer, self.target.opened(), self.routes, rng.choice(self.profile.piece_rows))

    # -- application and stream ------------------------------------------------------------------------------------------------------

    def write(self, rng: random.Random) -> None:
        self.source.transaction(rng, self.profile.mix)

    def send(self, rng: random.Random) -> None:
        self.connect.send(rng.choice([1, 2, 5]), rng)

    def connect_crash(self, rng: random.Random) -> None:
        self.connect.crash(rng)

    def feed(self, rng: random.Random) -> None:
        self._loudly(lambda: self.worker.feed(self.connect.topic, rng.choice(self.profile.records)))

    def apply(self, rng: random.Random) -> None:
        try:
            done = self._loudly(self.worker.write)
        except Transient:
            return  # a chunk holds the gate
        if done is not None and not done.partial_id:
            self._check()

    def crash(self, rng: random.Random) -> None:
        """The worker's session is lost, or another worker has the stream now and the old one is frozen with a batch in its hands."""
        if rng.random() < 0.5:
            self.worker.freeze()
        if self.worker.batch is not None:
            self.zombies.append(self.worker)
        for copy in self.copies.values():
            if rng.random() < 0.3:
                copy.reads.clear()
                copy.rereads.clear()
        self._open(rng)

    def zombie(self, rng: random.Random) -> None:
        """One that was frozen thaws."""
        if self.zombies:
            try:
                self.zombies.pop().write()
            except (Fenced, Transient):
                return
            except CrossfadeError as error:
                raise Broken(f"a deposed worker stopped: {error}") from error
            self._check()

    @staticmethod
    def _loudly(what: Callable[[], T]) -> T:
        try:
            return what()
        except Transient:
            raise
        except CrossfadeError as error:
            raise Broken(f"the stream stopped: {type(error).__name__}: {error}") from error

    # -- chunks and re-reads ---------------------------------------------------------------------------------------------------------

    def chunk(self, rng: random.Random) -> None:
        """A chunk is read; or one that was read takes the gate; or one that has the gate writes. A chunk may be read by several
        workers, when one was silent for so long that another took it.
        """
        copy = rng.choice(list(self.copies.values()))
        table = self._table(copy)
        if copy.merging and rng.random() < 0.7:
            self.writer.finish_merge(copy.merging.pop(rng.randrange(len(copy.merging))))
        elif copy.reads and rng.random() < 0.6:
            chunk, blocks = copy.reads.pop(rng.randrange(len(copy.reads)))
            merging = self.writer.begin_merge(copy.table.target, chunk.id, blocks)
            if merging is not None:
                copy.merging.append(merging)
        else:
            there = {chunk.id for chunk, _ in copy.reads}
            todo = [id_ for id_, state in table.chunks.items() if state == "taken" and (id_ not in there or rng.random() < 0.1)]
            if todo:
                chunk = copy.chunks[rng.choice(todo)]
                copy.reads.append((chunk, list(copy.table.blocks(self.source, chunk))))

    def reread(self, rng: random.Random) -> None:
        """While copying: rows of the list are read; or those that were read are merged. Afterwards: a turn of the real `Mending`."""
        copy = rng.choice(list(self.copies.values()))
        if self._table(copy).keyless:
            return
        if not self._table(copy).copying:
            self._mend(copy)
        elif copy.rereads and rng.random() < 0.7:
            try:
                off = self.writer.merge_listed(copy.table.target, copy.rereads[0])
            except Transient:
                return
            del copy.rereads[0]
            if off and self.rules.marker_last:
                copy.marker = ""  # what was read may be later than the marker
        else:
            read = read_listed(copy.table, self.source, self.writer, limit=rng.choice([1, 1000]))
            if read:
                copy.rereads.append(read)

    def _mend(self, copy: _Copy) -> None:
        if self._table(copy).tracked:
            if copy.mending is None:
                copy.mending = Mending(self.source, self.writer, self._marker, lambda token: token in self.target.markers)
            copy.mending.turn([copy.table])
            self._check()

    def finish(self, rng: random.Random) -> None:
        """The controller's step from copying to copied, a table at a time."""
        copy = rng.choice(list(self.copies.values()))
        table = self._table(copy)
        if table.keyless:
            filled = not any(state in {"taken", "merging"} for state in table.chunks.values())
            if filled or rng.random() < self.profile.early_key:
                with contextlib.suppress(Transient):  # a chunk holds the gate
                    self.writer.build_key(copy.table.target)
            return
        if not table.copying or copy.merging or copy.rereads or any(s in {"taken", "merging"} for s in table.chunks.values()):
            return
        if not copy.marker:
            copy.marker = self._marker()
        elif copy.marker in self.target.markers and not table.listed:
            table.copying = False
            self.writer.untrack(copy.table.target)
            self._check()

    def rogue(self, rng: random.Random) -> None:
        """Somebody spoils a row of a copied target; verify finds it and lists its key for repair."""
        copy = rng.choice(list(self.copies.values()))
        table = self._table(copy)
        if not table.copying and table.rows:
            key = rng.choice(sorted(table.rows))
            if rng.random() < 0.3:
                del table.rows[key]
            else:
                table.rows[key] = (*table.rows[key][:2], "spoiled", table.rows[key][3])
            self.writer.relist(copy.table.target, [key])

    def _marker(self) -> str:
        self._tokens += 1
        token = f"token {self._tokens}"
        self.source.marker(token)
        return token

    def _table(self, copy: _Copy) -> ModelTable:
        return self.target.tables[copy.table.target.number]

    # -- the promises ----------------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        """Once all is copied the target at rest is the source at the applied position, but for rows that wait for their repair."""
        applied = self.target.applied
        if applied.partial_id or any(table.copying for table in self.target.tables.values()):
            return
        self.commits_checked += 1
        self._compare(self.source.state(applied.position), f"at position {applied.position}")

    def _compare(self, source: Any, when: str) -> None:
        for table in self.target.tables.values():
            name = table.target.table.id.name
            want = {(str(key),): text_row(row) for key, row in source[name].items() if (str(key),) not in table.listed}
            have = {key: row for key, row in table.rows.items() if key not in table.listed}
            if want != have:
                raise Broken(f"{when}: table {name}: source {_rows(want, have)}, target {_rows(have, want)}")

    @property
    def at_rest(self) -> bool:
        quiet = self.connect.idle and self.worker.offset == len(self.connect.topic) and self.worker.idle
        return quiet and not any(table.copying or table.listed for table in self.target.tables.values())

    def settle(self, rng: random.Random) -> None:
        """Nobody writes any more, and everything goes on until there is nothing left to do. Then the target is the source."""
        for copy in self.copies.values():
            while copy.merging:
                self.writer.finish_merge(copy.merging.pop())
        for _ in range(3000):
            if self.at_rest:
                break
            self.connect.send(1000, rng)
            self.feed(rng)
            self.apply(rng)
            for step in (self.chunk, self.reread, self.finish):
                step(rng)
        else:
            raise Broken("never came to rest")
        self._compare(self.source.tables, "at rest")


def run(seed: int, rules: Rules = ALL, profile: Profile = Profile()) -> World:
    """One random run of steps, and then to rest. Raises Broken."""
    rng = random.Random(seed)
    profile = dataclasses.replace(profile, apply=profile.apply * rng.choice([0.1, 0.4, 1]))  # a stream that lags, or keeps up
    world = World(rng, rules, profile)
    weights = profile.weights()
    names = rng.choices(list(weights), list(weights.values()), k=rng.randrange(*profile.steps))
    for name in names:
        getattr(world, name)(rng)
    world.settle(rng)
    return world


def first_failure(rules: Rules, profile: Profile, runs: int, start: int = 0) -> tuple[int, Broken] | None:
    """The first seed that breaks a promise."""
    for seed in range(start, start + runs):
        try:
            run(seed, rules, profile)
        except Broken as broken:
            return seed, broken
    return None


def _rows(rows: dict[Key, object], other: dict[Key, object]) -> list[object]:
    return [row for key, row in sorted(rows.items()) if other.get(key) != row]
