"""A table pair: one source table, where it goes, and how each value of a row gets there."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence, Set
from types import MappingProxyType

from connectors.base import Projection, ShapedTable, TargetTable
from pipeline.model import Column, Engine, Finding, Kind, LogicalType, Table, TableId, Text
from pipeline.spec.tables import TableEntry
from transforms import dialect, equality
from transforms.chain import BoundChain
from transforms.convert import Conversion, conversion
from transforms.rowfilter import Filter
from transforms.shapecode import UNAVAILABLE, Cell, Decoders, EventCode, EventShape, Source, text_shape, toastable


@dataclasses.dataclass(frozen=True)
class Field:
    """One target column: the chain that makes its value, and what the target's own type then makes of it."""

    column: Column  # as the target has it, or is to have it
    chain: BoundChain
    conversion: Conversion

    def call(self) -> Callable[..., Text] | None:
        """The value in Python over the chain's inputs; None: as it is."""
        convert = self.conversion.python
        if not self.chain.steps:
            return convert
        forward = self.chain.function()
        if convert is None:
            return forward
        return lambda *values: None if (value := forward(*values)) is None else convert(value)

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        """The value in SQL over text expressions of the chain's inputs, or None."""
        expr = self.chain.sql(engine, inputs)
        return None if expr is None else self.conversion.sql(engine, expr)

    @property
    def untransformed(self) -> bool:
        """The target's type takes the chain's text as it is."""
        return self.conversion.python is None

    @property
    def untouched(self) -> bool:
        """The source column's text is the target column's."""
        return not self.chain.steps and self.conversion.python is None


@dataclasses.dataclass(frozen=True)
class Pair:
    """One source table and one target of it. `number` is stable while the same tables are mapped. Rows hold `columns`, in that order."""

    number: int
    engine: Engine  # the source's
    target_engine: Engine
    source: Table
    target_id: TableId
    target: Table | None  # None until it is made
    fields: tuple[Field, ...]
    key: tuple[str, ...]  # target columns
    source_key: tuple[str, ...]  # source columns, in the order of `key`
    source_columns: tuple[str, ...]  # every source column that is needed, in the source's order
    where: Filter | None = None
    carried: tuple[Column, ...] = ()  # generated columns that the target is to make by itself
    entry: TableEntry | None = dataclasses.field(default=None, compare=False)

    @functools.cached_property
    def columns(self) -> tuple[str, ...]:
        """Target columns that are written, in row order."""
        return tuple(field.column.name for field in self.fields)

    @functools.cached_property
    def key_at(self) -> tuple[int, ...]:
        """Where the key is in a row."""
        return tuple(self.columns.index(name) for name in self.key)

    @property
    def filtered(self) -> bool:
        """Whether a `where` keeps rows out."""
        return self.where is not None

    @functools.cached_property
    def masked(self) -> tuple[str, ...]:
        """Target columns whose source value is not to be shown."""
        return tuple(field.column.name for field in self.fields if any(step.masks for step in field.chain.steps))

    @functools.cached_property
    def in_python(self) -> bool:
        """Whether rows must be shaped in Python, as some value or the `where` has no SQL."""
        return self.source_projection(self.engine) is None

    def with_target(self, table: Table) -> Pair:
        """The pair once the target is there: its own types decide what becomes of the values."""
        there = {column.name: column for column in table.columns}
        fields = tuple(
            dataclasses.replace(
                field, column=there[field.column.name], conversion=conversion(field.chain.result, there[field.column.name].type)
            )
            for field in self.fields
        )
        return dataclasses.replace(self, target=table, target_id=table.id, fields=fields)

    def shaped(self) -> ShapedTable:
        """What the target is to be made like."""
        renames = {field.chain.columns[0]: field.column.name for field in self.fields if not field.chain.steps}
        columns = (*(field.column for field in self.fields), *self.carried)
        return ShapedTable(self.source, self.target_id, columns, self.key, renames | {column.name: column.name for column in self.carried})

    def target_table(self) -> TargetTable:
        """What a writer needs to know. The target must be there."""
        if self.target is None:
            raise ValueError(f"{self.target_id} is not there yet")
        return TargetTable(self.number, self.target, self.columns, self.key)

    def inverse(self) -> tuple[TableEntry | None, list[Finding]]:
        """The entry for the way back, or None and a finding for each column that has none."""
        from transforms.inverse import inverse

        return inverse(self)

    def shape_events(
        self,
        decoders: Decoders,
        placeholder: str = UNAVAILABLE,
        added: Mapping[str, Text] = MappingProxyType({}),
        known: Set[str] | None = None,
    ) -> EventShape:
        """Functions over raw rows of events, compiled now: keep them. `decoders` by source column; None: the JSON value is the text.
        `added`: columns that older events do not have yet, with what their rows have there. `known`: see `EventCode`.
        """
        sources = [self._event_source(name, decoders) for name in self.source_columns]
        sources = [dataclasses.replace(s, added=True, before_added=added[s.name]) if s.name in added else s for s in sources]
        code = EventCode(str(self.source.id), sources, placeholder, known)
        return code.shape(self._cells(), self._key_cells(), self._where_cell())

    def shape_text(self) -> Callable[[Sequence[Text]], tuple[Text, ...] | None]:
        """A function over rows of canonical text of `source_columns`; None: the `where` keeps the row out. Compiled now: keep it."""
        return text_shape(self._cells(), self._where_cell())

    def source_projection(self, engine: Engine | None = None, *, bulk: bool = False) -> Projection | None:
        """Rows shaped by the source itself, or None where Python is needed. `bulk`: for a reader's COPY, not for SQL expressions."""
        engine = engine or self.engine
        expressions = []
        for field in self.fields:
            inputs = [self._source_expression(engine, name, bulk and field.untouched) for name in field.chain.columns]
            expr = field.sql(engine, inputs)
            if expr is None:
                return None
            expressions.append(expr)
        where = self._where_sql(engine)
        if self.where is not None and where is None:
            return None
        return Projection(self.source.id, tuple(expressions), where)

    def raw_projection(self, engine: Engine | None = None, *, bulk: bool = False) -> Projection:
        """Canonical text of `source_columns` as they are, with the `where` as far as SQL can say it (`shape_text` says it again)."""
        engine = engine or self.engine
        expressions = tuple(self._source_expression(engine, name, bulk) for name in self.source_columns)
        return Projection(self.source.id, expressions, self._where_sql(engine))

    def target_projection(self, engine: Engine | None = None, *, bulk: bool = False) -> Projection:
        """Canonical text of the target's columns, as the target has them."""
        engine = engine or self.target_engine
        form = dialect.bulk if bulk else dialect.canonical
        return Projection(self.target_id, tuple(form(engine, field.column.name, field.column.type) for field in self.fields))

    @functools.cached_property
    def compare_in_python(self) -> tuple[str, ...]:
        """Target columns whose texts may differ in form though the values are equal: checksums must leave them to `same`."""
        return tuple(field.column.name for field in self.fields if self._differs_in_form(field))

    @functools.cached_property
    def same_in_binary(self) -> tuple[bool, ...]:
        """For each column of a row, whether both sides have the same binary form of the same value: they are PostgreSQL's, of one
        built-in type, and the value goes through as it is."""
        if not self.engine == self.target_engine == "postgresql":
            return ()
        return tuple(
            field.untouched
            and self.source.column(field.chain.columns[0]).type.native == field.column.type.native
            and dialect.same_in_binary(self.engine, field.column.type)
            for field in self.fields
        )

    def same(self, column: str) -> Callable[[Text, Text], bool]:
        """How the two texts of a target column are compared."""
        field = self.fields[self.columns.index(column)]
        kind = Kind.JSON if field.chain.result.kind is Kind.JSON else field.column.type.kind
        return equality.by_kind(kind, field.column.type) if self._differs_in_form(field) else equality.text

    def _differs_in_form(self, field: Field) -> bool:
        made, kept = field.chain.result, field.column.type
        if made.kind is Kind.JSON or kept.kind is Kind.JSON:
            return not (made == kept and self.engine == self.target_engine and not field.chain.steps)
        if field.chain.steps and kept.kind is not Kind.FLOAT:
            return False
        return not (dialect.sql_exact(self.engine, made) and dialect.sql_exact(self.target_engine, kept))

    def _event_source(self, name: str, decoders: Decoders) -> Source:
        type = self.source.column(name).type
        left_out = self.engine == "postgresql" and self.source.replica_identity != "full" and toastable(type)
        return Source(name, decoders.get(name), left_out, type.kind)

    def _cells(self) -> list[Cell]:
        at = {name: number for number, name in enumerate(self.source_columns)}
        return [
            Cell(tuple(at[name] for name in field.chain.columns), field.call(), takes_null=bool(field.chain.steps)) for field in self.fields
        ]

    def _key_cells(self) -> list[Cell]:
        cells = self._cells()
        return [cells[at] for at in self.key_at]

    def _where_cell(self) -> Cell | None:
        if self.where is None:
            return None
        return Cell(tuple(self.source_columns.index(name) for name in self.where.columns), self.where.passes)

    def _source_expression(self, engine: Engine, name: str, bulk: bool) -> str:
        type: LogicalType = self.source.column(name).type
        return (dialect.bulk if bulk else dialect.canonical)(engine, name, type)

    def _where_sql(self, engine: Engine) -> str | None:
        return None if self.where is None else self.where.sql(engine)
