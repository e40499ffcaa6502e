"""The `tables:` of the file against what the databases really have: one Pair for each table that moves, and what was noticed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from pipeline.errors import BadInput
from pipeline.model import Catalog, Column, Engine, Finding, Kind, Severity, Table, TableId
from pipeline.spec.migration import Migration
from pipeline.spec.strict import suggestion
from transforms.chain import Chain, read_chain
from transforms.choosing import Choice, choose
from transforms.convert import conversion
from transforms.findings import Findings
from transforms.pair import Field, Pair
from transforms.rowfilter import Filter
from transforms.shapecode import EventShape
from transforms.toast import may_be_left_out

__all__ = ["EventShape", "Field", "Pair", "resolve"]


def resolve(migration: Migration, source: Catalog, target: Catalog | None) -> tuple[list[Pair], list[Finding]]:
    """Pairs, numbered in the order of their source tables, and findings. Raises BadInput for names that are not there.

    `target` None, or without the table: the pair's target is still to be made (`schema: create`).
    """
    found = Findings()
    pairs: list[Pair] = []
    for choice in choose(migration, source):
        pair = _PairMaker(migration, source, target, choice, found).make()
        if pair is not None:
            pairs.append(pair)
    pairs.sort(key=lambda pair: (pair.source.id, pair.target_id))
    pairs = [dataclasses.replace(pair, number=number) for number, pair in enumerate(pairs, 1)]
    _collisions(pairs, found)
    return pairs, found.list


class _PairMaker:
    """Resolves one source table against one target."""

    def __init__(self, migration: Migration, source: Catalog, target: Catalog | None, choice: Choice, found: Findings) -> None:
        self.migration = migration
        self.engine: Engine = source.engine
        self.target_engine: Engine = target.engine if target is not None else migration.target.engine
        self.table = choice.table
        self.entry = choice.entry
        self.path = choice.path
        self.found = found
        self.columns = {column.name: column for column in choice.table.columns}
        default = migration.target.default_schema or (target.default_schema if target is not None else migration.target.schema_name)
        self.target_id = TableId(*choice.entry.target(choice.table.id.name, default))
        self.target = None if target is None else target.tables.get(self.target_id)
        self.target_catalog = target

    def make(self) -> Pair | None:
        """The pair, or None when the table is left out or a finding says why it cannot move."""
        if self.target is None and self.target_catalog is not None and self.migration.schema_ == "existing":
            if self.target_id in self.target_catalog.views:
                raise BadInput(f"{self.path}.to: {self.target_id} is a view on the target")
            what = f"the target has no table {self.target_id}{suggestion(str(self.target_id), map(str, self.target_catalog.tables))}"
            raise BadInput(f"{self.path}{'.to' if self.entry.to else '.from'}: {what}: make it, or set schema: create")
        if self.same_table():
            raise BadInput(f"{self.path}.to: {self.table.id} would be copied onto itself: name another table or schema")
        where = None
        if self.entry.where is not None:
            from transforms.where import read_filter  # brings a parser of SQL

            where = read_filter(self.entry.where, self.engine, self.columns, f"{self.path}.where")
        fields = self.fields()
        key = self.key(fields)
        if key is None:
            return None
        source_key = tuple(fields[name].chain.columns[0] for name in key)
        needed = {name for field in fields.values() for name in field.chain.columns} | set(where.columns if where else ())
        source_columns = tuple(name for name in self.columns if name in needed)
        self.check_left_out(fields.values(), where)
        self.check_reverse()
        return Pair(
            number=0,
            engine=self.engine,
            target_engine=self.target_engine,
            source=self.table,
            target_id=self.target_id,
            target=self.target,
            fields=tuple(fields.values()),
            key=key,
            source_key=source_key,
            source_columns=source_columns,
            where=where,
            carried=self.carried(fields),
            entry=self.entry,
        )

    def same_table(self) -> bool:
        return self.migration.source.same_server(self.migration.target) and self.table.id == self.target_id

    def note(self, id: str, severity: Severity, message: str, fix: str = "", column: str = "") -> None:
        self.found.add(id, severity, f"{self.table.id}.{column}" if column else str(self.table.id), message, fix)

    def source_column(self, name: str, path: str) -> Column:
        """A source column by name; MySQL's names have no letter case."""
        column = _by_name(self.columns, name, self.engine)
        if column is None:
            raise BadInput(f"{path}: {self.table.id} has no column {name!r}{suggestion(name, self.columns)}")
        return column

    def chains(self) -> dict[str, Chain]:
        """Chain by target column, in row order: what the file says at the place of its first source column, then what keeps its name."""
        dropped = {self.source_column(name, f"{self.path}.drop").name for name in self.entry.drop}
        said: dict[str, Chain] = {}
        for name, raw in self.entry.columns.items():
            path = f"{self.path}.columns.{name}"
            chain = read_chain(raw, path)
            said[name] = dataclasses.replace(chain, columns=tuple(self.source_column(column, path).name for column in chain.columns))
        named = {column for chain in said.values() for column in chain.columns}
        out: dict[str, Chain] = {}
        for column in self.table.columns:
            out |= {name: chain for name, chain in said.items() if chain.columns[:1] == (column.name,)}
            if column.name in named or column.name in dropped or column.name in said:
                continue
            if column.generated is not None:
                continue
            out[column.name] = Chain((column.name,))
        out.update({name: chain for name, chain in said.items() if not chain.columns})
        return out

    def fields(self) -> dict[str, Field]:
        """Field by target column."""
        out: dict[str, Field] = {}
        for name, chain in self.chains().items():
            path = f"{self.path}.columns.{name}"
            try:
                bound = chain.bound(tuple(self.columns[column].type for column in chain.columns))
            except ValueError as error:
                raise BadInput(f"{path}: {error}") from None
            if self.engine == "postgresql":
                for column in chain.columns:
                    if self.columns[column].generated is not None:
                        raise BadInput(f"{path}: {column} is a generated column, which PostgreSQL does not put into its stream")
            if self.target is None:
                made = self.columns[chain.columns[0]] if chain.renames_only else Column(name, bound.result)
                field = Field(dataclasses.replace(made, name=name, generated=None), bound, conversion(bound.result, bound.result))
            else:
                there = self.target_column(name, chain)
                if there is None:
                    continue
                field = Field(there, bound, conversion(bound.result, there.type))
                self.check_types(field)
            if field.column.name in out:
                raise BadInput(f"{path}: target column {field.column.name!r} is filled twice")
            out[field.column.name] = field
        if self.target is not None:
            self.check_unfed(self.target, out)
        return out

    def target_column(self, name: str, chain: Chain) -> Column | None:
        """The existing target's column, or None after a finding."""
        assert self.target is not None
        there = {column.name: column for column in self.target.columns}
        column = _by_name(there, name, self.target_engine)
        explicit = name in self.entry.columns
        if column is None:
            if explicit:
                raise BadInput(f"{self.path}.columns.{name}: {self.target_id} has no column {name!r}{suggestion(name, there)}")
            self.note(
                "column.unmatched",
                "error",
                f"has no column {name!r} to go to in {self.target_id}{suggestion(name, there)}",
                f"add the column, map it under `columns`, or `drop: [{name}]`",
                name,
            )
            return None
        if column.generated is not None:
            if explicit:
                raise BadInput(f"{self.path}.columns.{name}: {self.target_id}.{column.name} is generated: nothing can be written to it")
            return None
        return column

    def check_types(self, field: Field) -> None:
        said = field.conversion
        if field.column.type.case_insensitive and field.column.name not in self.unique_columns():
            # letter case is refused where values must be unique, nowhere else
            said = conversion(field.chain.result, dataclasses.replace(field.column.type, case_insensitive=False))
        object_column = field.chain.columns[0] if field.chain.columns else field.column.name
        what = f"{field.chain.result} becomes {field.column.type} in {self.target_id}.{field.column.name}"
        if not said.possible:
            self.note("type.impossible", "error", f"{what}: {said.why}", "change the type, map the column, or drop it", object_column)
        elif said.why.startswith("refuses"):
            self.note("type.narrower", "info", f"{what}: {said.why}", "widen the target's type if such values are there", object_column)
        elif not said.exact:
            self.note("type.lossy", "warning", f"{what}: {said.why}", "widen the target's type if this matters", object_column)

        if field.chain.result.kind is field.column.type.kind is Kind.UUID and self.target_engine == "mysql" and self.engine != "mysql":
            message = f"{what}: refuses UUIDs of versions and variants that MariaDB does not know"
            self.note("type.narrower", "info", message, "char(36) CHARACTER SET ascii takes them all", object_column)

    def unique_columns(self) -> set[str]:
        """Target columns in a key or a unique index."""
        assert self.target is not None
        return {*self.target.primary_key, *self.target.key, *(c for index in self.target.indexes if index.unique for c in index.columns)}

    def check_unfed(self, target: Table, fields: Iterable[str]) -> None:
        fed = set(fields)
        for column in target.columns:
            if column.name in fed or column.generated is not None:
                continue
            if column.nullable or column.default is not None or column.identity is not None:
                self.note("column.unfed", "info", f"nothing fills {self.target_id}.{column.name}: it keeps its default", "", "")
            else:
                self.note(
                    "column.required",
                    "error",
                    f"nothing fills {self.target_id}.{column.name}, which is NOT NULL and has no default",
                    f"map it: columns: {{{column.name}: …}}, or give it a default",
                )

    def key(self, fields: dict[str, Field]) -> tuple[str, ...] | None:
        """The target's key columns, or None after a finding."""
        severity: Severity = "warning" if self.entry.wild else "error"
        if self.entry.key:
            source_key = tuple(self.source_column(name, f"{self.path}.key").name for name in self.entry.key)
            if self.table.key and set(source_key) != set(self.table.key):
                self.note(
                    "key.declared", "warning", f"rows are matched by {', '.join(source_key)} as the file says", "the columns must be unique"
                )
        else:
            source_key = self.table.key
        if not source_key:
            what = "has no primary key and no unique index over NOT NULL columns"
            self.note(
                "key.missing",
                severity,
                what + (": it is left out" if self.entry.wild else ""),
                "add a key, or name unique columns with `key:`",
            )
            return None
        if self.table.replica_identity == "nothing" or (not self.table.key and self.table.replica_identity == "default"):
            self.note(
                "key.replica_identity",
                "error",
                "its deletes carry no key to the stream",
                f"ALTER TABLE {self.table.id} REPLICA IDENTITY FULL",
            )
        out = []
        for name in source_key:
            made = [field for field in fields.values() if field.chain.columns == (name,) and not field.chain.steps]
            if not made:
                uses = [field.column.name for field in fields.values() if name in field.chain.columns]
                what = f"is part of the key and is {'changed by the mapping of ' + uses[0] if uses else 'dropped'}"
                self.note("key.transformed", "error", what, "key columns may only be renamed", name)
                return None
            if not _keeps_apart(made[0]):
                self.note(
                    "key.transformed", "error", f"is part of the key: {made[0].conversion.why}", "give the target's key the same type", name
                )
                return None
            out.append(made[0].column.name)
        if self.target is not None:
            self.check_target_key(self.target, tuple(out))
        return tuple(out)

    def check_target_key(self, target: Table, key: Sequence[str]) -> None:
        unique = [target.primary_key, target.key, *(i.columns for i in target.indexes if i.unique and i.predicate is None)]
        if not any(columns and set(columns) == set(key) for columns in unique):
            self.note(
                "key.not_unique",
                "error",
                f"{self.target_id} has no unique key over exactly {', '.join(key)}",
                f"add a primary key or a unique index on ({', '.join(key)}) to the target",
            )

    def check_left_out(self, fields: Iterable[Field], where: Filter | None) -> None:
        """What needs a column that an event may leave out (PostgreSQL's unchanged TOAST)."""
        if self.engine != "postgresql" or self.table.replica_identity == "full":
            return
        fix = f"ALTER TABLE {self.table.id} REPLICA IDENTITY FULL"
        for field in fields:
            loose = [name for name in field.chain.columns if may_be_left_out(self.table, name)]
            if len(field.chain.columns) > 1 and loose:
                what = f"goes into {field.column.name} with other columns, and an update may leave it out when it is stored out of line"
                self.note("replica_identity.needed", "warning", what, fix, loose[0])
        loose = [name for name in (where.columns if where else ()) if may_be_left_out(self.table, name)]
        if loose:
            what = "is looked at by `where`, and an update may leave it out when it is stored out of line"
            self.note("replica_identity.needed", "warning", what, fix, loose[0])

    def check_reverse(self) -> None:
        for name in self.entry.reverse:
            self.source_column(name, f"{self.path}.reverse")

    def carried(self, fields: dict[str, Field]) -> tuple[Column, ...]:
        """Generated columns of the source that a made target keeps as such: same product, and nothing they may refer to was touched."""
        generated = [column for column in self.table.columns if column.generated is not None and column.name not in self.entry.drop]
        if not generated or self.target is not None:
            return ()
        whole = all(field.untouched and field.chain.columns == (field.column.name,) for field in fields.values())
        if whole and not self.entry.drop and self.engine == self.target_engine:
            return tuple(generated)
        for column in generated:
            self.note(
                "column.generated", "warning", "is generated; the target is made without it", "add it to the target by hand", column.name
            )
        return ()


def _keeps_apart(field: Field) -> bool:
    """Whether two keys that differ still do in the target (or the target refuses one of them)."""
    said = field.conversion
    if said.exact:
        return True
    return said.why.startswith("refuses") and (said.python is None or field.column.type.kind in {Kind.UUID, Kind.DECIMAL})


def _by_name(columns: dict[str, Column], name: str, engine: Engine) -> Column | None:
    if name in columns:
        return columns[name]
    if engine == "mysql":
        alike = [column for there, column in columns.items() if there.casefold() == name.casefold()]
        return alike[0] if len(alike) == 1 else None
    return None


def _collisions(pairs: Sequence[Pair], found: Findings) -> None:
    """Two sources of one target, or two target names that the product cannot tell apart."""
    seen: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        name = (pair.target_id.schema, pair.target_id.name)
        # a MySQL server may or may not tell letter case apart (lower_case_table_names): never rely on it
        folded = (name[0].casefold(), name[1].casefold()) if pair.target_engine == "mysql" else name
        other = seen.setdefault(folded, pair)
        if other is not pair:
            what = f"goes into {pair.target_id}, and so does {other.source.id}"
            found.add("target.collision", "error", str(pair.source.id), what, "give one of them another name with `to`")
        columns: dict[str, str] = {}
        for column in pair.columns:
            twin = columns.setdefault(column.casefold() if pair.target_engine == "mysql" else column, column)
            if twin != column:
                what = f"columns {twin!r} and {column!r} of {pair.target_id} are one name to the target"
                found.add("target.collision", "error", str(pair.source.id), what, "rename one of them under `columns`")
