"""The re-read list: rows that the stream could not finish by itself are read from the source by key and merged if still wanted."""

from __future__ import annotations

from connectors.base import Reader, Writer
from pipeline import copytext
from pipeline.backfill.worker import CopyTable
from pipeline.model import Key, Text


def reread(table: CopyTable, reader: Reader, writer: Writer, *, limit: int = 1000) -> int:
    """One round over one table; answers how many entries came off the list.

    An entry that changed between the read and the merge stays: a later event has seen to that key, or will.
    """
    listed = writer.listed(table.target, limit)
    if not listed:
        return 0
    key_at = [table.target.columns.index(c) for c in table.target.key]
    rows: dict[Key, tuple[Text, ...]] = {}
    blocks = reader.by_keys(table.source, table.source_key, table.projection, [key for key, _ in listed])
    for block in blocks if table.shape is None else copytext.reshape(blocks, table.shape):
        for row in copytext.decode(block):
            rows[tuple(row[at] for at in key_at)] = tuple(row)  # type: ignore[misc]
    return writer.merge_listed(table.target, {key: (sequence, rows.get(key)) for key, sequence in listed})
