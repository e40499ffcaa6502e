"""Everything `plan`, DDL and the data path need to know of a PostgreSQL database, in one snapshot."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from connectors.base import Address
from connectors.engine import sqlalchemy_engine
from connectors.postgres import catalog_sql
from connectors.postgres.connection import mapped, where
from connectors.postgres.types import logical
from pipeline.model import Catalog, Column, ForeignKey, Index, LogicalType, Table, TableId

_ACTIONS = {"a": None, "r": "RESTRICT", "c": "CASCADE", "n": "SET NULL", "d": "SET DEFAULT"}


def reflect(address: Address, schemas: Sequence[str] | None = None) -> Catalog:
    """The database as one snapshot sees it. `schemas` None: all but the system's and crossfade's own.

    Names and expressions come out fully qualified: only `pg_catalog` is on the search path while they are asked for.
    """
    engine = sqlalchemy_engine(address, poolclass=NullPool)
    try:
        with engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True) as connection:
            return _reflect(connection, schemas)
    except sa.exc.DBAPIError as error:
        raise mapped(error.orig or error, f"the catalog of {where(address)}") from None


def _reflect(connection: sa.Connection, schemas: Sequence[str] | None) -> Catalog:
    def ask(statement: str) -> list[Any]:
        return list(connection.execute(sa.text(statement), {"schemas": wanted}))

    database, version, default = connection.execute(
        sa.text("SELECT current_database(), current_setting('server_version'), current_schema()")
    ).one()
    connection.execute(sa.text("SELECT set_config('search_path', 'pg_catalog', true)"))
    wanted = list(schemas) if schemas is not None else [row[0] for row in connection.execute(sa.text(catalog_sql.SCHEMAS))]
    types = _Types(connection.execute(sa.text(catalog_sql.TYPES)).all())
    tables = ask(catalog_sql.TABLES)
    ids = {row[0]: TableId(row[1], row[2]) for row in tables}
    parts = _Parts(
        columns=_grouped(ask(catalog_sql.COLUMNS)),
        indexes=_grouped(ask(catalog_sql.INDEXES)),
        foreign_keys=_grouped(ask(catalog_sql.FOREIGN_KEYS)),
        checks=_grouped(ask(catalog_sql.CHECKS)),
        triggers=_grouped(ask(catalog_sql.TRIGGERS)),
        leaves=_grouped(ask(catalog_sql.LEAVES)),
    )
    sizes = {row[0]: (_rows(row[4], row[6]), int(row[5])) for row in tables}
    found = (_table(row, ids, sizes, parts, types) for row in tables)
    return Catalog(
        engine="postgresql",
        flavour="postgresql",
        version=version,
        database=database,
        default_schema=default or "public",
        tables={table.id: table for table in found},
        views=tuple(TableId(row[0], row[1]) for row in ask(catalog_sql.VIEWS)),
        enums=types.enums,
        domains=types.domains,
        sequences=tuple(row[0] for row in ask(catalog_sql.SEQUENCES)),
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _Parts:
    columns: Mapping[int, list[Any]]
    indexes: Mapping[int, list[Any]]
    foreign_keys: Mapping[int, list[Any]]
    checks: Mapping[int, list[Any]]
    triggers: Mapping[int, list[Any]]
    leaves: Mapping[int, list[Any]]


def _grouped(rows: list[Any]) -> Mapping[int, list[Any]]:
    groups: defaultdict[int, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row[0]].append(row)
    return groups


def _rows(estimate: float, heap_bytes: int) -> int:
    """The estimate, or for a table never analysed what its size suggests."""
    return int(estimate) if estimate >= 0 else heap_bytes // 96


class _Types:
    """Types of users and extensions by oid; the built-in ones their spelling tells."""

    def __init__(self, rows: Sequence[Any]) -> None:
        self._rows = {row[0]: row for row in rows}
        self.enums: dict[str, tuple[str, ...]] = {row[1]: tuple(row[10]) for row in rows if row[3] == "e"}
        # composite types ride along: they too are made by one statement, in the order of their oids
        self.domains: dict[str, str] = {row[1]: _domain(row) for row in rows if row[3] in {"d", "c"} and not row[9]}

    def of(self, oid: int, spelling: str, collation: str | None = None, ci: bool = False) -> LogicalType:
        row = self._rows.get(oid)
        if row is None:
            return logical(spelling, collation=collation, case_insensitive=ci)
        _, _, name, typtype, element, base, base_spelling, *_ = row
        extension = row[9]
        if typtype == "e":
            return logical(spelling, labels=tuple(row[10]))
        if typtype == "d":
            return logical(spelling, base=self.of(base, base_spelling), collation=collation, case_insensitive=ci)
        if element:
            return logical(spelling, element=self.of(element, spelling.removesuffix("[]")))
        return logical(spelling, extension_type=name if extension else None, collation=collation, case_insensitive=ci)


def _domain(row: Any) -> str:
    if row[3] == "c":
        return f"CREATE TYPE {row[1]} AS ({', '.join(row[13])})"
    words = [f"CREATE DOMAIN {row[1]} AS {row[6]}", f"COLLATE {row[12]}" if row[12] else "", f"DEFAULT {row[8]}" if row[8] else ""]
    words += ["NOT NULL" if row[7] else "", *(row[11] or ())]
    return " ".join(word for word in words if word)


def _column(row: Any, types: _Types) -> Column:
    _, name, oid, spelling, not_null, expression, generated, identity, comment, collation, ci, owns = row
    serial = owns and expression is not None and expression.startswith("nextval(")
    return Column(
        name=name,
        type=types.of(oid, spelling, collation, ci),
        nullable=not not_null,
        default=expression if not generated else None,
        generated=expression if generated else None,
        identity={"a": "always", "d": "by default"}.get(identity, "serial" if serial else None),  # type: ignore[arg-type]
        comment=comment,
    )


def _index(row: Any) -> Index:
    _, name, unique, _, _, _, nulls_not_distinct, predicate, definition, method, contype, _, columns = row
    return Index(
        name=name,
        columns=tuple(columns) if None not in columns else (),
        unique=unique,
        constraint=contype in ("u", "x"),
        nulls_not_distinct=nulls_not_distinct,
        predicate=predicate,
        definition=definition,
        method=method,
    )


def _key(indexes: list[Any], columns: Sequence[Column]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The primary key, and what rows are matched by."""
    never_null = {column.name for column in columns if not column.nullable}
    primary: tuple[str, ...] = next((tuple(row[12]) for row in indexes if row[3]), ())
    if primary:
        return primary, primary
    fit = [
        row
        for row in indexes
        # unique, valid, not deferrable, not partial, over plain columns that are never NULL
        if row[2] and row[4] and row[5] and row[7] is None and None not in row[12] and never_null.issuperset(row[12])
    ]
    best = min(fit, key=lambda row: (not row[11], len(row[12]), row[1]), default=None)
    return (), tuple(best[12]) if best is not None else ()


def _table(row: Any, ids: Mapping[int, TableId], sizes: Mapping[int, tuple[int, int]], parts: _Parts, types: _Types) -> Table:
    oid, _, _, kind, _, _, _, identity, parent, partition_by, comment, _ = row
    columns = tuple(_column(column, types) for column in parts.columns[oid])
    indexes = parts.indexes[oid]
    primary, key = _key(indexes, columns)
    leaves = [leaf for _, leaf in parts.leaves[oid]] if kind == "p" else []
    counted = [sizes[leaf] for leaf in leaves if leaf in sizes] if kind == "p" else [sizes[oid]]
    return Table(
        id=ids[oid],
        columns=columns,
        primary_key=primary,
        key=key,
        indexes=tuple(_index(index) for index in indexes if not index[3]),
        foreign_keys=tuple(
            ForeignKey(
                name=fk[1],
                columns=tuple(fk[7]),
                references=TableId(fk[2], fk[3]),
                referred_columns=tuple(fk[8]),
                on_delete=_ACTIONS[fk[4]],
                on_update=_ACTIONS[fk[5]],
                deferrable=fk[6],
            )
            for fk in parts.foreign_keys[oid]
        ),
        checks=tuple((check[1], check[2]) for check in parts.checks[oid]),
        triggers=tuple(trigger[1] for trigger in parts.triggers[oid]),
        comment=comment,
        rows=sum(n for n, _ in counted),
        bytes=sum(n for _, n in counted),
        replica_identity=identity,
        partitions=tuple(ids[leaf] for leaf in leaves if leaf in ids),
        partition_of=ids.get(parent) if parent is not None else None,
        partition_by=partition_by,
    )
