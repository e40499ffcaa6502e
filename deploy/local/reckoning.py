"""The ledger held against a target: every acknowledged write is there (I1), nothing failed or rolled back is (I2)."""

from __future__ import annotations

import dataclasses
import types
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Literal, Protocol, Self, TypeAlias

from connectors.base import Address
from connectors.engine import module, product
from deploy.local.database import Record, connect, plain, same
from deploy.local.ledger import Account, RowKey
from pipeline.errors import CrossfadeError
from pipeline.model import TableId

_KEYS_AT_ONCE = 500
_DETAILS = 50


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What a target must hold under one key. `row` None: nothing."""

    table: str
    key_columns: tuple[str, ...]
    key: RowKey
    row: Record | None


Mapping: TypeAlias = Callable[[str, RowKey, Record | None], Iterable[Expected]]
"""A source row (table, key, row) as the target must have it, written independently of what does the mapping under test."""


class Rows(Protocol):
    """A target as the check sees it."""

    def fetch(self, table: str, key_columns: Sequence[str], keys: Sequence[RowKey] | None) -> Iterator[Record]:
        """Rows with these keys; all rows for None."""


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    """One broken promise."""

    kind: Literal["missing", "stale", "unexpected"]
    table: str
    key: tuple[str, ...]
    columns: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind}: {self.table} {'/'.join(self.key)}" + (f" ({', '.join(self.columns)})" if self.columns else "")


@dataclasses.dataclass(frozen=True, slots=True)
class Reckoning:
    """The outcome. `lost`: rows missing or stale; `unexpected`: rows that a rollback or a delete should have left out."""

    acknowledged: int
    rolled_back: int
    keys: int
    lost: int
    unexpected: int
    details: tuple[Fault, ...]

    @property
    def clean(self) -> bool:
        return not self.lost and not self.unexpected


def reckon(account: Account, target: Rows, mapping: Mapping, closed: Iterable[tuple[str, tuple[str, ...]]] = ()) -> Reckoning:
    """Compares. `closed`: target tables (with their key columns) that nobody but the ledger's application ever wrote.

    Raises CrossfadeError while an outcome is unknown: guessing would hide what the ledger is for.
    """
    if account.undecided:
        raise CrossfadeError(
            f"{len(account.undecided)} transactions of unknown outcome", hint="ask the source before the ledger is checked"
        )
    wanted: dict[tuple[str, tuple[str, ...]], dict[tuple[str, ...], Expected]] = defaultdict(dict)
    for (table, key), row in account.state.items():
        for expected in mapping(table, key, row):
            wanted[expected.table, expected.key_columns][_plain_key(expected.key)] = expected
    faults: list[Fault] = []
    for (table, columns), by_key in wanted.items():
        faults += _compare(table, columns, by_key, target)
    for table, columns in closed:
        known = wanted.get((table, columns), {})
        for record in target.fetch(table, columns, None):
            present = tuple(record[column] or "" for column in columns)
            if present not in known:
                faults.append(Fault("unexpected", table, present))
    return Reckoning(
        acknowledged=account.acknowledged,
        rolled_back=account.rolled_back,
        keys=sum(map(len, wanted.values())),
        lost=sum(fault.kind != "unexpected" for fault in faults),
        unexpected=sum(fault.kind == "unexpected" for fault in faults),
        details=tuple(faults[:_DETAILS]),
    )


def _compare(table: str, columns: tuple[str, ...], by_key: dict[tuple[str, ...], Expected], target: Rows) -> Iterator[Fault]:
    keys = list(by_key)
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        some = keys[start : start + _KEYS_AT_ONCE]
        found = {
            tuple(record[column] or "" for column in columns): record
            for record in target.fetch(table, columns, [by_key[key].key for key in some])
        }
        for key in some:
            row, record = by_key[key].row, found.get(key)
            if row is None:
                if record is not None:
                    yield Fault("unexpected", table, key)
            elif record is None:
                yield Fault("missing", table, key)
            elif wrong := tuple(column for column, value in row.items() if not same(value, record[column])):
                yield Fault("stale", table, key, wrong)


def _plain_key(key: RowKey) -> tuple[str, ...]:
    return tuple(plain(part) or "" for part in key)


def identity(keys: dict[str, tuple[str, ...]]) -> Mapping:
    """The mapping that changes nothing: tables and columns keep their names."""

    def same_row(table: str, key: RowKey, row: Record | None) -> Iterator[Expected]:
        yield Expected(table, keys[table], key, row)

    return same_row


class SqlRows:
    """A target database, over one connection. `schema`: PostgreSQL's schema or MySQL's database."""

    def __init__(self, address: Address, schema: str) -> None:
        self._ddl = module(product(address.url), "ddl")
        self._schema = schema
        self._database = connect(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None) -> None:
        self._database.close()

    def fetch(self, table: str, key_columns: Sequence[str], keys: Sequence[RowKey] | None) -> Iterator[Record]:
        sql = f"SELECT * FROM {self._ddl.qualified(TableId(self._schema, table))}"
        params: list[int | str] = []
        if keys is not None:
            if len(key_columns) == 1:
                sql += f" WHERE {self._ddl.quote(key_columns[0])} IN ({', '.join(['%s'] * len(keys))})"
            else:  # spelled out rather than (a, b) IN (…), which MariaDB answers without the key's index
                one = " AND ".join(f"{self._ddl.quote(column)} = %s" for column in key_columns)
                sql += f" WHERE {' OR '.join([one] * len(keys))}"
            params = [part for key in keys for part in key]
        yield from self._database.records(sql, params)
        self._database.rollback()
