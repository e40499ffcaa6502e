"""How a table is cut into chunks that mean the same rows on both sides.

A chunk is a range of keys as the source's index orders them, provided that the target orders them the same way. Whether it does depends
on types and collations: `10 < 9` as text, `a < B` by one collation and not by the other, MariaDB's uuid has an order of its own, and a
libc locale sorts differently from one version to the next. So each product names the order of a key column (`checksum.order`) and

- **ranges** go over the longest head of the key whose columns go through the mapping as they are and have orders of one name on both
  sides: numbers, times, bytes, uuid (PostgreSQL), text by code point, text under the very same collation and version;
- **buckets** are taken when not even the first column has: rows sorted by the first hex digits of a hash of the key's canonical text.
  That needs no order, and no index can help: a pass over the table does all buckets at once. Up to `SLICE_ROWS` rows that pass is one
  chunk; a larger table is done in 16 (256 …) of them, so that a verify that was killed does not begin anew.

A wrong guess about order could never call equal rows different (candidates are looked at again by key), but it could leave an extra row
unseen between two ranges: when in doubt, buckets.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

from connectors.base import Projection, Range
from connectors.ranges import Walk
from pipeline.errors import CrossfadeError
from pipeline.verify.side import WHOLE, Shape, Side
from transforms.pair import Pair

SLICE_ROWS = 20_000_000
_SLICE_ROWS_IN_PYTHON = 500_000  # they are held in memory


@dataclasses.dataclass(frozen=True, slots=True)
class Chunk:
    """Rows looked at together. `cursor` is what verify goes on after when it was stopped behind this chunk."""

    within: Range = WHOLE
    prefix: str = ""  # of the key's hash; "": every row
    cursor: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Cut:
    """`columns` > 0: ranges over that many key columns. 0: buckets, in 16**depth slices."""

    columns: int
    depth: int = 0

    def __str__(self) -> str:
        return f"{self.columns}/{self.depth}"

    @classmethod
    def read(cls, text: str) -> Cut:
        """`str()` back: a verify that goes on keeps the cut that its cursor belongs to."""
        columns, _, depth = text.partition("/")
        return cls(int(columns), int(depth))


def shapes(pair: Pair) -> tuple[Shape, Shape]:
    """Both sides of a pair."""
    if pair.target is None:
        raise CrossfadeError(f"table {pair.target_id} is not there yet")
    if not pair.key:
        raise CrossfadeError(f"table {pair.source.id} has no key: its rows cannot be compared", hint="name one with `key:`")
    width = len(pair.columns)
    key_fields = [pair.fields[at] for at in pair.key_at]
    as_it_is = all(field.untouched for field in key_fields) and tuple(f.chain.columns[0] for f in key_fields) == pair.source_key
    shaped = pair.source_projection(bulk=True)
    keys = _keys_in_sql(pair)
    source = Shape(
        pair.source, pair.source_key, width, pair.key_at, shaped, keys,
        shaped or pair.raw_projection(bulk=True), None if shaped else pair.shape_text(), as_it_is,
    )  # fmt: skip
    there = pair.target_projection(bulk=True)
    target = Shape(
        pair.target, pair.key, width, pair.key_at, there,
        dataclasses.replace(there, expressions=tuple(there.expressions[at] for at in pair.key_at)), there, None, True,
    )  # fmt: skip
    return source, target


def _keys_in_sql(pair: Pair) -> Projection | None:
    """The key's columns alone, which may have SQL where the whole row has none."""
    raw = pair.raw_projection(bulk=True)
    by_name = dict(zip(pair.source_columns, raw.expressions, strict=True))
    found = [pair.fields[at].sql(pair.engine, [by_name[name] for name in pair.fields[at].chain.columns]) for at in pair.key_at]
    if any(one is None for one in found):
        return None
    return dataclasses.replace(raw, expressions=tuple(one for one in found if one is not None))


def cut(pair: Pair, source: Side, target: Side, rows: int) -> Cut:
    """Ranges or buckets; `rows` is about how many there are."""
    columns = 0
    for ours, theirs in zip(source.shape.key, target.shape.key, strict=True):
        field = pair.fields[pair.columns.index(theirs)]
        if not field.untouched or field.chain.columns != (ours,):
            break
        order = source.order(ours)
        if order is None or order != target.order(theirs):
            break
        columns += 1
    depth = 0
    most = SLICE_ROWS if source.shape.checksum else _SLICE_ROWS_IN_PYTHON
    while not columns and rows > most * 16**depth:
        depth += 1
    return Cut(columns, depth)


def chunks(how: Cut, source: Side, rows: int, after: str) -> Iterator[Chunk]:
    """All chunks behind the cursor `after` ("": from the start). Reads boundaries with the source's reader as it goes."""
    if how.columns:
        key = source.shape.key[: how.columns]
        lower = tuple(json.loads(after)) if after else None
        walk = Walk(source.reader, source.shape.table, key, lower)
        while (upper := walk.upper(rows)) is not None:
            yield Chunk(Range(lower, upper), cursor=json.dumps(upper))
            lower = upper
        yield Chunk(Range(lower, None), cursor="end")
        return
    last = 16**how.depth - 1
    for number in range(int(after, 16) + 1 if after else 0, last + 1):
        prefix = f"{number:0{how.depth}x}" if how.depth else ""
        yield Chunk(prefix=prefix, cursor="end" if number == last else prefix)
