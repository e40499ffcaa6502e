"""A target in memory and a writer that keeps the rules of the backfill, each of which can be switched off.

What a real writer does in one transaction is one call here, but for a chunk merge, which is two steps with the gate held between them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from connectors.base import NO_NOTES, ApplyNotes, ApplyOutcome, MergeOutcome, TableBatch, TargetTable
from pipeline import copytext
from pipeline.errors import DataRejected, Fenced, Transient
from pipeline.model import UNCHANGED, Applied, Key, Row, Text
from pipeline.stages import Stages

TextRow = tuple[Text, ...]
U = 3  # where the secondary unique value is in a row


@dataclasses.dataclass(frozen=True, slots=True)
class Rules:
    """Each of them is needed: `test_convergence_model.py` switches one off at a time."""

    insert_if_absent: bool = True  # a chunk row never overwrites a row that is there
    record_deletes: bool = True  # chunks skip keys that the stream deleted while copying
    re_read_partial: bool = True  # a partial event on an absent row lists its key; chunks skip listed keys
    re_read_unchanged: bool = True  # a re-read row is merged only under the list entry that it was read for
    truncate_ends_copy: bool = True  # a truncate throws remaining chunks, those in flight included, and the list away
    evict_unique: bool = True  # a stream row evicts a row it does not touch that holds its unique value, and lists that row's key
    delete_unlists: bool = True  # a delete takes its key off the list
    no_carry: bool = True  # while copying, a key change carries nothing over from the row at the old key
    gate: bool = True  # chunk merges and apply batches exclude each other
    fence: bool = True  # an apply compares epoch and position before it writes
    renew: bool = True  # a partial event of a listed row that is there renews its entry
    keyless_lists: bool = True  # what the stream writes to a table that has no key yet goes on the list
    key_takes_out: bool = True  # with its key a table loses what stands under recorded and listed keys
    marker_last: bool = True  # a table is copied when a marker written after the last read, re-reads included, is applied


ALL = Rules()


@dataclasses.dataclass(slots=True)
class ModelTable:
    """A table, its side table, its state row and its chunks."""

    target: TargetTable
    rows: dict[Key, TextRow] = dataclasses.field(default_factory=dict)
    deleted: set[Key] = dataclasses.field(default_factory=set)
    listed: dict[Key, int] = dataclasses.field(default_factory=dict)
    sequence: int = 0
    copying: bool = True
    tracked: bool = True
    keyless: bool = False  # it has no key yet: chunks and the stream can look nothing up
    chunks: dict[int, str] = dataclasses.field(default_factory=dict)  # id → taken, merging, done, void

    def draft(self) -> ModelTable:
        """A copy to be thrown away or to take its place."""
        copies = {"rows": dict(self.rows), "deleted": set(self.deleted), "listed": dict(self.listed), "chunks": dict(self.chunks)}
        return dataclasses.replace(self, **copies)  # type: ignore[arg-type]

    def list(self, key: Key) -> None:
        self.sequence += 1
        self.listed[key] = self.sequence
        self.tracked = True

    def owner(self, row: Row, apart_from: Iterable[Key] = ()) -> Key | None:
        """Who else holds this row's unique value."""
        value = row[U]
        return None if value is None else next((k for k, r in self.rows.items() if r[U] == value and k not in apart_from), None)


@dataclasses.dataclass(slots=True)
class ModelTarget:
    """What is durable on the target."""

    tables: dict[int, ModelTable]
    rules: Rules = ALL
    applied: Applied = dataclasses.field(default_factory=lambda: Applied("main", 0, ""))
    markers: set[str] = dataclasses.field(default_factory=set)
    gates: dict[int, int] = dataclasses.field(default_factory=dict)  # table number → merges that hold it shared

    def opened(self) -> Applied:
        """The position for who opens the stream now: everybody before is deposed."""
        self.applied = structs.replace(self.applied, epoch=self.applied.epoch + 1)
        return self.applied


@dataclasses.dataclass(frozen=True, slots=True)
class Merging:
    """A chunk merge that has decided what to write and holds the gate."""

    table: ModelTable
    chunk: int
    rows: tuple[TextRow, ...]
    read: int


class ModelWriter:
    """See `connectors.base.Writer`."""

    def __init__(self, target: ModelTarget) -> None:
        self.target = target
        self.rules = target.rules
        self.stages = Stages()

    def end_holder(self, migration: str, stream: str) -> bool:
        return False

    def prepare(self, tables: Sequence[TargetTable]) -> None:
        pass

    def close(self) -> None:
        pass

    def applied(self, migration: str, stream: str) -> Applied:
        return self.target.applied

    # -- apply -----------------------------------------------------------------------------------------------------------------------

    def apply(
        self,
        migration: str,
        batches: Sequence[TableBatch],
        before: Applied,
        after: Applied,
        notes: ApplyNotes = NO_NOTES,
        *,
        probe: bool = False,
    ) -> ApplyOutcome:
        target = self.target
        now = target.applied
        mine = (before.epoch, before.position, before.partial_id, before.partial_place)
        if self.rules.fence and mine != (now.epoch, now.position, now.partial_id, now.partial_place):
            raise Fenced("stream main: another worker has the position now")
        drafts: dict[int, ModelTable] = {}
        for batch in batches:
            number = batch.target.number
            table = target.tables[number]
            if self.rules.gate and table.tracked and target.gates.get(number):
                raise Transient(f"table {number}: a chunk holds the gate")
            drafts[number] = table.draft()
            self._table(drafts[number], batch)
        if not probe:
            target.tables |= drafts
            target.applied = structs.replace(after, epoch=now.epoch)
            target.markers |= set(notes.markers)
        return ApplyOutcome()

    def _table(self, table: ModelTable, batch: TableBatch) -> None:
        rules, rows = self.rules, table.rows
        if batch.truncate:
            rows.clear()
            if rules.truncate_ends_copy:
                table.listed.clear()
                table.deleted.clear()
                table.chunks = {id_: state if state == "done" else "void" for id_, state in table.chunks.items()}
        if table.keyless:
            for key in batch.deletes:
                if rules.record_deletes:
                    table.deleted.add(key)
                table.listed.pop(key, None)
            if rules.keyless_lists:
                for row in (*batch.rows, *batch.partials, *(row for _, row in batch.moves)):
                    table.list(row[:1])  # type: ignore[arg-type]
            return
        new: dict[Key, TextRow] = {row[:1]: row for row in batch.rows}  # type: ignore[misc]
        absent: list[Key] = []
        carried: list[Key] = []
        for old, row in batch.moves:
            key: Key = row[:1]  # type: ignore[assignment]
            base = rows.get(old)
            if base is None or (table.copying and rules.no_carry):
                absent.append(key)
            else:
                new[key] = _over(base, row)
                carried.append(key)
        for key in batch.deletes:
            rows.pop(key, None)
            if table.copying:
                table.deleted.add(key)
            if rules.delete_unlists:
                table.listed.pop(key, None)
        whole = new.keys() - set(carried)
        for row in batch.partials:
            key = row[:1]  # type: ignore[assignment]
            base = rows.get(key)
            if base is None:
                absent.append(key)
            else:
                new[key] = _over(base, row)
        self._write(table, new)
        for key in new:
            if key in whole:
                table.listed.pop(key, None)
            elif (key in carried and not table.copying and table.tracked) or (key in table.listed and rules.renew):
                table.list(key)
        if rules.re_read_partial:
            for key in absent:
                rows.pop(key, None)
                table.list(key)

    def _write(self, table: ModelTable, new: Mapping[Key, TextRow]) -> None:
        """The end state of the touched rows; who is in their way and not touched came from a later read."""
        for row in new.values():
            while (other := table.owner(row, new)) is not None:
                if not (self.rules.evict_unique and table.tracked):
                    raise DataRejected(f"key {row[0]}: its unique value {row[U]} belongs to key {other[0]}")
                del table.rows[other]
                table.list(other)
        values = [row[U] for row in new.values() if row[U] is not None]
        if len(values) != len(set(values)):
            raise DataRejected(f"a unique value twice in {sorted(new.values())}")
        table.rows |= new

    # -- backfill --------------------------------------------------------------------------------------------------------------------

    def begin_merge(self, target: TargetTable, chunk_id: int, blocks: Iterable[bytes]) -> Merging | None:
        """Takes the gate and decides what to write. None: the chunk is no longer to be done, or somebody is at it."""
        table = self.target.tables[target.number]
        if table.chunks[chunk_id] != "taken":
            return None
        rules = self.rules
        read = [tuple(row) for block in blocks for row in copytext.decode(block)]
        rows = []
        for row in read:
            key: Key = row[:1]  # type: ignore[assignment]
            if table.keyless:
                rows.append(row)
                continue
            if rules.record_deletes and key in table.deleted:
                continue
            if rules.re_read_partial and key in table.listed:
                continue
            if rules.insert_if_absent and key in table.rows:
                continue
            rows.append(row)
        table.chunks[chunk_id] = "merging"
        self.target.gates[target.number] = self.target.gates.get(target.number, 0) + 1
        return Merging(table, chunk_id, tuple(rows), len(read))

    def finish_merge(self, merging: Merging) -> MergeOutcome | None:
        """Writes and releases the gate. The key's own index still refuses a second row of a key."""
        number = merging.table.target.number
        table = self.target.tables[number]
        self.target.gates[number] -= 1
        if table.chunks[merging.chunk] == "void":
            return None
        written = 0
        for row in merging.rows:
            key: Key = row[:1]  # type: ignore[assignment]
            if table.keyless:
                if key in table.rows:
                    raise DataRejected(f"key {key} twice: it cannot be built")
                table.rows[key] = row
                written += 1
                continue
            if key in table.rows and self.rules.insert_if_absent:
                continue
            if table.owner(row, (key,)) is not None:
                table.list(key)
                continue
            table.rows[key] = row
            written += 1
        table.chunks[merging.chunk] = "done"
        return MergeOutcome(written, merging.read - written, False, 0.0)

    def merge(self, target: TargetTable, chunk_id: int, blocks: Iterable[bytes]) -> MergeOutcome | None:
        merging = self.begin_merge(target, chunk_id, blocks)
        return None if merging is None else self.finish_merge(merging)

    def build_key(self, target: TargetTable) -> None:
        table = self.target.tables[target.number]
        if self.rules.gate and self.target.gates.get(target.number):
            raise Transient(f"table {target.number}: a chunk holds the gate")
        table.keyless = False
        if self.rules.key_takes_out:
            for key in table.deleted | table.listed.keys():
                table.rows.pop(key, None)

    def touched(self, target: TargetTable, limit: int) -> int:
        table = self.target.tables[target.number]
        return min(limit, len(table.deleted | table.listed.keys()))

    def relist(self, target: TargetTable, keys: Sequence[Key]) -> None:
        for key in keys:
            self.target.tables[target.number].list(key)

    def untrack(self, target: TargetTable) -> bool:
        table = self.target.tables[target.number]
        table.tracked = bool(table.listed)
        return not table.tracked

    def listed(self, target: TargetTable, limit: int) -> list[tuple[Key, int]]:
        return sorted(self.target.tables[target.number].listed.items(), key=lambda entry: entry[1])[:limit]

    def merge_listed(self, target: TargetTable, read: Mapping[Key, tuple[int, TextRow | None]], *, overwrite: bool = False) -> int:
        table = self.target.tables[target.number]
        if self.rules.gate and self.target.gates.get(target.number):
            raise Transient(f"table {target.number}: a chunk holds the gate")
        off = 0
        for key, (sequence, row) in read.items():
            if key not in table.listed or (self.rules.re_read_unchanged and table.listed[key] != sequence):
                continue
            if overwrite:
                table.rows.pop(key, None)
            if row is not None and key not in table.rows:
                if table.owner(row, (key,)) is not None:
                    continue  # later: the stream will have moved the other row
                table.rows[key] = row
            del table.listed[key]
            off += 1
        return off


def _over(base: TextRow, row: Row) -> TextRow:
    return tuple(b if v is UNCHANGED else v for b, v in zip(base, row, strict=True))
