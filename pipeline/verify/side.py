"""One side of a table pair as verify sees it: checksums of its rows, its rows by range, bucket or key."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from connectors import engine
from connectors.base import Address, Projection, Range, Reader
from connectors.digest import MODULUS, Digest, bucket, is_free
from pipeline import copytext
from pipeline.errors import CrossfadeError, Transient
from pipeline.model import Key, Table, Text
from transforms.pair import Pair

Texts = tuple[Text, ...]
Rows = dict[Key, list[Texts]]
"""Rows by the canonical text of the target's key. A mapping may make one key of two source rows, hence the list."""

WHOLE = Range(None, None)
_DIGESTS_AT_ONCE = 500


@dataclasses.dataclass(frozen=True, slots=True)
class Sum:
    """Rows and their checksum."""

    rows: int
    checksum: int


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """How to get at a database: where it is, and how to make a reader of it."""

    address: Address
    reader: Callable[[], Reader]


@dataclasses.dataclass(frozen=True, slots=True)
class Databases:
    """Both of them."""

    source: Access
    target: Access


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How one side's table yields rows of the target's columns."""

    table: Table
    key: tuple[str, ...]  # columns of this table, in the order of the target's key
    width: int  # columns of a row
    key_at: tuple[int, ...]
    checksum: Projection | None  # of every column, for SQL; None: Python makes the rows
    keys: Projection | None  # of the key's columns alone, for SQL; None: Python makes the key
    bulk: Projection  # for the reader
    python: Callable[[Sequence[Text]], Texts | None] | None  # makes rows of what `bulk` yields
    key_as_it_is: bool  # the key's texts are those of this table's own key columns, so rows can be asked for by key


class Side:
    """A session for checksums and a reader for rows, both opened when they are first needed. Belongs to one thread at a time."""

    def __init__(self, access: Access, shape: Shape) -> None:
        self.shape = shape
        self.product: Any = engine.module(engine.product(access.address.url), "checksum")
        self._access = access
        self._connection: Any = None
        self._reader: Reader | None = None

    @property
    def reader(self) -> Reader:
        """The reader; opened on first use."""
        if self._reader is None:
            self._reader = self._access.reader()
        return self._reader

    def close(self) -> None:
        """Lets go of both sessions; the next call opens new ones."""
        connection, reader, self._connection, self._reader = self._connection, self._reader, None, None
        if connection is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                connection.close()
        if reader is not None:
            reader.close()

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a statement on the checksum session."""
        try:
            if self._connection is None:
                self._connection = engine.connect(self._access.address, autocommit=True, application_name="crossfade verify")
                with self._connection.cursor() as cursor:
                    cursor.execute(self.product.SESSION)
            with self._connection.cursor() as cursor:
                cursor.execute(sql)
                return list(cursor.fetchall())
        except CrossfadeError:
            raise
        except Exception as error:
            found = engine.mapped(error, f"checksum of table {self.shape.table.id}", self._access.address)
            if isinstance(found, Transient):
                self.close()
            raise found from None

    def order(self, column: str) -> str | None:
        """The name of the order in which this side's key column sorts."""
        self.query("SELECT 1")
        found: str | None = self.product.order(self._connection, self.shape.table, column)
        return found

    def condition(self, columns: int, within: Range) -> str | None:
        """Rows whose first `columns` key columns lie in a range."""
        found: str | None = self.product.in_range(self.shape.table, self.shape.key[:columns], within)
        return found

    def in_buckets(self, digest: Digest, prefixes: Sequence[str]) -> str:
        """Rows whose key's hash begins with one of `prefixes`."""
        assert self.shape.keys is not None
        keys = dataclasses.replace(digest, free=digest.key_free(self.shape.key_at))
        found: str = self.product.in_buckets(self.shape.keys, range(len(self.shape.key)), keys, prefixes)
        return found

    def checksum(self, digest: Digest, condition: str | None) -> Sum:
        """Of all rows that `condition` names."""
        assert self.shape.checksum is not None
        ((rows, total),) = self.query(self.product.checksum_sql(self.shape.checksum, digest, condition))
        return Sum(int(rows), int(total or 0) % MODULUS)

    def buckets(self, digest: Digest, depth: int, condition: str | None) -> dict[str, Sum]:
        """The same for each bucket of keys."""
        assert self.shape.checksum is not None
        found = self.query(self.product.buckets_sql(self.shape.checksum, self.shape.key_at, digest, depth, condition))
        return {str(prefix): Sum(int(rows), int(total or 0) % MODULUS) for prefix, rows, total in found}

    def rows(self, digest: Digest, condition: str | None, prefixes: Sequence[str] = ()) -> Rows:
        """Rows that `condition` names, of the buckets `prefixes` only if there are any."""
        conditions = [condition] if condition else []
        in_python = bool(prefixes) and self.shape.keys is None
        if prefixes and not in_python:
            conditions.append(self.in_buckets(digest, prefixes))
        found = self._by_key(self.reader.copy(self.shape.table, self.shape.key, self._where(conditions), WHOLE))
        return found if not in_python else self._of_buckets(found, digest, prefixes)

    def by_keys(self, digest: Digest, keys: Sequence[Key]) -> Rows:
        """Rows with exactly these keys, letter by letter, whatever the columns' own equality."""
        if self.shape.key_as_it_is:
            try:
                found = self._by_key(self.reader.by_keys(self.shape.table, self.shape.key, self.shape.bulk, keys))
            except Transient:
                raise
            except CrossfadeError:
                # a stray key of one side can be no value at all of the other side's type
                found = self._by_digest(digest, keys)
        else:
            found = self._by_digest(digest, keys)
        return {key: found[key] for key in keys if key in found}

    # -- pieces ----------------------------------------------------------------------------------------------------------------------

    def _by_digest(self, digest: Digest, keys: Sequence[Key]) -> Rows:
        """By scanning the table for hashes of keys: where the key's columns are not the key's texts."""
        free = digest.key_free(self.shape.key_at)
        found: Rows = {}
        for start in range(0, len(keys), _DIGESTS_AT_ONCE):
            found |= self.rows(digest, None, [bucket(key, free, digest.keys) for key in keys[start : start + _DIGESTS_AT_ONCE]])
        return found

    def _of_buckets(self, found: Rows, digest: Digest, prefixes: Sequence[str]) -> Rows:
        free, wanted, depth = digest.key_free(self.shape.key_at), set(prefixes), len(prefixes[0])
        return {key: rows for key, rows in found.items() if bucket(key, free, digest.keys)[:depth] in wanted}

    def _where(self, conditions: Sequence[str]) -> Projection:
        bulk = self.shape.bulk
        every = ([bulk.where] if bulk.where else []) + list(conditions)
        return dataclasses.replace(bulk, where=" AND ".join(f"({one})" for one in every) or None)

    def _by_key(self, blocks: Iterable[bytes]) -> Rows:
        found: Rows = {}
        key_at = self.shape.key_at
        for row in self._shaped(blocks):
            found.setdefault(tuple(row[at] for at in key_at), []).append(row)  # type: ignore[misc]
        return found

    def _shaped(self, blocks: Iterable[bytes]) -> Iterator[Texts]:
        python = self.shape.python
        for block in blocks:
            for row in copytext.decode(block):
                shaped = tuple(row) if python is None else python(row)
                if shaped is not None:
                    yield shaped


def of_columns(pair: Pair, digest: Digest) -> Digest:
    """The digest for the columns of a pair."""
    return dataclasses.replace(digest, free=tuple(is_free(field.column.type) for field in pair.fields), same=pair.same_in_binary)


def agree(source: Side, target: Side, pair: Pair) -> Digest:
    """The quickest way of hashing that both sides have and that means the same on both."""
    ways: Mapping[str, str] = {"binary": "md5", "quick": "md5", "md5": "md5", "sha256": "sha256"}
    for rows, keys in ways.items():
        if rows == "binary" and not any(pair.same_in_binary):
            continue
        answers = []
        for side in (source, target):
            try:
                answers.append(
                    [
                        value if isinstance(value, str) else int(value) % MODULUS
                        for value in side.query(side.product.probe_sql(rows, keys))[0]
                    ]
                )
            except Transient:
                raise
            except CrossfadeError:
                break
        if len(answers) == 2 and answers[0] == answers[1]:
            return of_columns(pair, Digest(rows, keys, ()))  # type: ignore[arg-type]
    raise CrossfadeError(
        f"tables {source.shape.table.id} and {target.shape.table.id}: no hash means the same on both databases",
        hint="MD5 and SHA-256 over UTF-8 must be available in SQL",
    )
