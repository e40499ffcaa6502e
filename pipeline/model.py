"""The frozen values that walk through the house: tables, types, rows, events, transactions, positions, differences.

One rule holds everywhere between the rooms: **a value is canonical text**. `None` is NULL, `str` is the text PostgreSQL itself
would print for that value under `DateStyle=ISO`, `IntervalStyle=iso_8601`, `TimeZone=UTC`, `extra_float_digits=1`,
`bytea_output=hex`; `UNCHANGED` is "this event does not say" (an unchanged TOAST column). So: booleans are `t`/`f`, integers and
decimals plain digits, bytes `\\x6869`, timestamps `2024-01-31 23:59:59.5`, zoned ones `2024-01-31 23:59:59.5+00`, bit strings `0101`.
Every source decodes into that form, every transform works on it, every target writes from it, both sides' checksums are
computed over it.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

import msgspec

from pipeline.records import RowText

Engine: TypeAlias = Literal["postgresql", "mysql"]
"""The two families. MariaDB is of the `mysql` family; `Catalog.flavour` tells them apart."""


class Unchanged(enum.Enum):
    """The type of `UNCHANGED`."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = Unchanged.UNCHANGED

Text: TypeAlias = str | None
"""Canonical text, or None for NULL."""
Value: TypeAlias = str | Unchanged | None
Row: TypeAlias = tuple[Value, ...]
Key: TypeAlias = tuple[str, ...]


class Kind(enum.StrEnum):
    """What a type means, whichever product spells it. The comment gives the canonical text."""

    BOOL = "bool"  # t, f
    INT = "int"  # -12; `bits` 8, 16, 24, 32, 64; `unsigned`
    DECIMAL = "decimal"  # 12.50 (scale kept), NaN, Infinity; `precision`, `scale` (None: any)
    FLOAT = "float"  # shortest round trip as PostgreSQL prints it: 1e+20, NaN, -Infinity; `bits` 32 or 64
    TEXT = "text"  # as it is; `length` in characters (None: any); `fixed` for CHAR(n), whose trailing spaces do not count
    BYTES = "bytes"  # \x6869; `length`; `fixed` for BINARY(n)
    DATE = "date"  # 2024-01-31, 0044-03-15 BC, infinity
    TIME = "time"  # 23:59:59.5, 24:00:00; MySQL's also -838:59:59.000001; `precision` of the fraction
    TIMETZ = "timetz"  # 23:59:59.5+02
    TIMESTAMP = "timestamp"  # 2024-01-31 23:59:59.5, infinity
    TIMESTAMPTZ = "timestamptz"  # 2024-01-31 23:59:59.5+00, always UTC
    INTERVAL = "interval"  # P1Y2M-3DT4H5M6.7S
    UUID = "uuid"  # lower case, with hyphens
    JSON = "json"  # the text as the product keeps it; `binary` for jsonb, whose text is normalised
    BITS = "bits"  # 0101; `length`; `fixed` for bit(n)
    ENUM = "enum"  # the label; `labels`, in order
    SET = "set"  # MySQL SET: labels joined by comma, in declaration order; `labels`
    YEAR = "year"  # 2024
    ARRAY = "array"  # {1,2,NULL}; `element`
    GEOMETRY = "geometry"  # PostGIS/MySQL spatial: EWKT
    OTHER = "other"  # the product's own text; only a like-named type of the same product takes it back; `native`


@dataclasses.dataclass(frozen=True, slots=True)
class LogicalType:
    """A column's type without its product. `native` keeps the product's own spelling (for DDL within one product and messages)."""

    kind: Kind
    native: str = ""
    bits: int | None = None
    unsigned: bool = False
    precision: int | None = None
    scale: int | None = None
    length: int | None = None
    fixed: bool = False
    binary: bool = False
    labels: tuple[str, ...] = ()
    element: LogicalType | None = None
    collation: str | None = None
    case_insensitive: bool = False  # citext, *_ci collations: keys that differ only in case are one key to the product

    def __str__(self) -> str:
        return self.native or self.kind.value


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class TableId:
    """`schema.name`: a PostgreSQL schema, or a MySQL database, and the table in it. Names are as the catalog has them, unquoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One column as its catalog tells it."""

    name: str
    type: LogicalType
    nullable: bool = True
    default: str | None = None  # the product's own SQL expression
    generated: str | None = None  # expression of a stored or virtual generated column: never written
    identity: Literal["always", "by default", "auto_increment", "serial"] | None = None
    on_update: str | None = None  # MySQL ON UPDATE CURRENT_TIMESTAMP
    comment: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Index:
    """A secondary index or unique constraint."""

    name: str
    columns: tuple[str, ...]  # empty when it is over expressions
    unique: bool = False
    constraint: bool = False  # made by UNIQUE (…), not by CREATE INDEX
    nulls_not_distinct: bool = False
    predicate: str | None = None
    definition: str | None = None  # the product's own CREATE INDEX, where it tells
    method: str | None = None
    prefix_lengths: tuple[int | None, ...] = ()  # MySQL: index on the first n characters


@dataclasses.dataclass(frozen=True, slots=True)
class ForeignKey:
    """A foreign key of this table."""

    name: str
    columns: tuple[str, ...]
    references: TableId
    referred_columns: tuple[str, ...]
    on_delete: str | None = None
    on_update: str | None = None
    deferrable: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Table:
    """One table as its catalog tells it. `key` is what rows are matched by: the primary key, else a unique not-null index, else empty."""

    id: TableId
    columns: tuple[Column, ...]
    primary_key: tuple[str, ...] = ()
    key: tuple[str, ...] = ()
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()  # name, expression
    triggers: tuple[str, ...] = ()
    comment: str | None = None
    rows: int = 0  # the product's estimate
    bytes: int = 0
    replica_identity: Literal["default", "full", "nothing", "index"] | None = None
    partitions: tuple[TableId, ...] = ()  # leaf partitions, when this is a partitioned table
    partition_of: TableId | None = None
    partition_by: str | None = None  # PostgreSQL: pg_get_partkeydef
    engine: str | None = None  # MySQL storage engine

    def column(self, name: str) -> Column:
        """The column of that name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def writable(self) -> tuple[Column, ...]:
        """Columns that a writer may set: all but the generated ones."""
        return tuple(column for column in self.columns if column.generated is None)


@dataclasses.dataclass(frozen=True, slots=True)
class Catalog:
    """What one database told about itself."""

    engine: Engine
    flavour: Literal["postgresql", "mariadb", "mysql"]
    version: str
    database: str
    default_schema: str
    tables: Mapping[TableId, Table]
    views: tuple[TableId, ...] = ()
    enums: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # PostgreSQL: quoted name → labels
    domains: Mapping[str, str] = dataclasses.field(default_factory=dict)  # PostgreSQL: name → CREATE DOMAIN
    sequences: tuple[str, ...] = ()


Severity: TypeAlias = Literal["error", "warning", "info"]


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing `plan` noticed. `id` is stable (`grant.replication`, `type.lossy`); an `error` refuses `start`."""

    id: str
    severity: Severity
    object: str
    message: str
    fix: str = ""


class Op(enum.StrEnum):
    """Debezium's op letters, where rows are concerned."""

    CREATE = "c"
    READ = "r"
    UPDATE = "u"
    DELETE = "d"
    TRUNCATE = "t"


class Change(msgspec.Struct, gc=False):
    """One row event of the stream. `before`/`after` are Debezium's JSON objects as they came, not read yet: {column: JSON value}.

    A struct of msgspec's, as there is one for every event: it is made several times as fast as a dataclass, and the cyclic collector does
    not look at it.
    """

    op: str
    table: TableId
    before: RowText | None
    after: RowText | None
    place: int  # where it stands in the source's log: the same each time it is sent, and growing inside a transaction
    offset: int  # Kafka offset


@dataclasses.dataclass(slots=True)
class Marker:
    """An in-band message that crossfade wrote to the source: everything before it in the stream is before it in commit order."""

    token: str
    offset: int


@dataclasses.dataclass(slots=True)
class SchemaChange:
    """A DDL event in line (MySQL family), or a relation change noticed from a row (PostgreSQL)."""

    ddl: str
    tables: tuple[TableId, ...]
    offset: int


class Transaction(msgspec.Struct, gc=False):
    """A whole source transaction, or a piece of one too large for memory (`last` False, then True)."""

    id: str
    position: str  # END's position, the product's own text; "" while the END has not come (a piece)
    changes: list[Change]
    markers: list[Marker]
    schema_changes: list[SchemaChange]
    begins: bool  # whether its first event is in it
    place: int  # of its last event; 0 without events
    last: bool
    next_offset: int  # Kafka offset to read from after this
    full_id: str = ""  # the id as its first record spelled it
    last_event: bytes | None = None  # its last row event, as it came
    bytes: int = 0  # of JSON that its changes came as


class Applied(msgspec.Struct, frozen=True, gc=False):
    """How far a stream is durably applied. Written in the target transaction of the rows themselves."""

    stream: str
    epoch: int
    position: str  # "" before the first transaction
    partial_id: str = ""  # a transaction applied in part
    partial_place: int = 0  # up to which place
    offset: int = 0  # Kafka offset to read from


@dataclasses.dataclass(frozen=True, slots=True)
class Difference:
    """A row that is not the same on both sides. Values are canonical text, masked where the mapping masks."""

    table: TableId  # target
    key: Key
    kind: Literal["missing", "extra", "different"]
    columns: tuple[str, ...] = ()
    source: tuple[Text, ...] = ()
    target: tuple[Text, ...] = ()
