"""How rows are hashed so that two databases come to the same number: agreed once for a pair of tables, used by each `checksum.py`.

A row's canonical texts are joined into one text that says where each begins and ends, that text is hashed to 64 bits, and the hashes of
all rows are summed modulo 2^64: the order of rows does not matter, and two errors do not cancel each other as they do under XOR.
(Hashes of single columns must not be added up to a row's hash: values swapped between two rows would go unnoticed.)

The text of a row, the same on every product:

- a column whose texts never hold `|` and are never empty (numbers, times, bytes in hex, uuid …): `text|`, NULL is `|`
- any other: `length:text` with the length in characters, NULL is `N0:`

Two ways are PostgreSQL's alone, both as unambiguous and many times quicker (docs/decisions/checksums.md): `quick` hashes its text of a
record, `binary` (from version 14 on) its binary form, where the columns are of one type on both sides; for the others the record's text
stands in it.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Literal

from pipeline.model import Key, Kind, LogicalType

Hash = Literal["md5", "sha256"]
Rows = Literal["binary", "quick", "md5", "sha256"]

MODULUS = 1 << 64

PROBES: tuple[str, ...] = ("", "crossfade", "é ß 中 😀")
"""Texts hashed on both sides to see that a way of hashing means the same there: versions, encodings, byte order, disabled MD5."""

_DELIMITED = frozenset({
    Kind.BOOL, Kind.INT, Kind.DECIMAL, Kind.FLOAT, Kind.BYTES, Kind.DATE, Kind.TIME, Kind.TIMETZ, Kind.TIMESTAMP, Kind.TIMESTAMPTZ,
    Kind.INTERVAL, Kind.UUID, Kind.YEAR,
})  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Digest:
    """`rows`: hash of a whole row; `keys`: hash that sorts keys into buckets; `free`: for each column of the row, whether its texts can
    hold anything, so that their length must be said. `free` follows the target's types on both sides. `same`: whether the column is of the
    very same built-in type on both sides and goes through as it is; () when none is known to be."""

    rows: Rows
    keys: Hash
    free: tuple[bool, ...]
    same: tuple[bool, ...] = ()

    def key_free(self, key_at: Sequence[int]) -> tuple[bool, ...]:
        """`free` for the key's columns."""
        return tuple(self.free[at] for at in key_at)


def is_free(type: LogicalType) -> bool:
    """Whether the texts of such a column can hold anything at all."""
    return type.kind not in _DELIMITED


def bucket(key: Key, free: Sequence[bool], hash: Hash) -> str:
    """The hash of a key in hex, as the databases compute it; buckets are its first digits."""
    text = "".join(f"{len(value)}:{value}" if any_text else f"{value}|" for value, any_text in zip(key, free, strict=True))
    return hashlib.new(hash, text.encode(), usedforsecurity=False).hexdigest()
