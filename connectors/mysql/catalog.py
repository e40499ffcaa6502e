"""Everything `plan`, DDL and the data path need to know of a MySQL or MariaDB server's databases."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.pool import NullPool

from connectors.base import Address
from connectors.engine import sqlalchemy_engine
from connectors.mysql.connection import mapped, where
from connectors.mysql.types import logical
from pipeline.errors import BadInput
from pipeline.model import Catalog, Column, ForeignKey, Index, Table, TableId

_SYSTEM = {"mysql", "information_schema", "performance_schema", "sys", "crossfade"}
_JSON_CHECK = re.compile(r"json_valid\(`((?:[^`]|``)+)`\)", re.IGNORECASE)
_ON_UPDATE = re.compile(r"on update (current_timestamp(?:\(\d*\))?)", re.IGNORECASE)

# information_schema is asked rather than SHOW CREATE TABLE (which SQLAlchemy's inspector parses), since that text is ambiguous for names
# with backticks, brackets and newlines, and one statement for all tables is quicker than one for each.
_TABLES = """SELECT TABLE_SCHEMA, TABLE_NAME, ENGINE, TABLE_ROWS, DATA_LENGTH + INDEX_LENGTH, TABLE_COMMENT FROM information_schema.TABLES
WHERE TABLE_SCHEMA IN :schemas AND TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') ORDER BY TABLE_SCHEMA, TABLE_NAME"""
_COLUMNS = """SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, COLUMN_DEFAULT, EXTRA, GENERATION_EXPRESSION,
COLUMN_COMMENT, COLLATION_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA IN :schemas
ORDER BY TABLE_SCHEMA, TABLE_NAME, ORDINAL_POSITION"""
_INDEXES = """SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, NON_UNIQUE, COLUMN_NAME, SUB_PART, INDEX_TYPE{expression}
FROM information_schema.STATISTICS WHERE TABLE_SCHEMA IN :schemas ORDER BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, SEQ_IN_INDEX"""
_FOREIGN_KEYS = """SELECT k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA,
k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, r.DELETE_RULE, r.UPDATE_RULE
FROM information_schema.KEY_COLUMN_USAGE k JOIN information_schema.REFERENTIAL_CONSTRAINTS r
ON r.CONSTRAINT_SCHEMA = k.CONSTRAINT_SCHEMA AND r.CONSTRAINT_NAME = k.CONSTRAINT_NAME AND r.TABLE_NAME = k.TABLE_NAME
WHERE k.TABLE_SCHEMA IN :schemas AND k.REFERENCED_TABLE_NAME IS NOT NULL
ORDER BY k.TABLE_SCHEMA, k.TABLE_NAME, k.CONSTRAINT_NAME, k.ORDINAL_POSITION"""
_CHECKS = {
    "mariadb": """SELECT CONSTRAINT_SCHEMA, TABLE_NAME, CONSTRAINT_NAME, CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS
WHERE CONSTRAINT_SCHEMA IN :schemas""",
    "mysql": """SELECT t.TABLE_SCHEMA, t.TABLE_NAME, c.CONSTRAINT_NAME, c.CHECK_CLAUSE FROM information_schema.CHECK_CONSTRAINTS c
JOIN information_schema.TABLE_CONSTRAINTS t ON t.CONSTRAINT_SCHEMA = c.CONSTRAINT_SCHEMA AND t.CONSTRAINT_NAME = c.CONSTRAINT_NAME
WHERE c.CONSTRAINT_SCHEMA IN :schemas AND t.CONSTRAINT_TYPE = 'CHECK'""",
}
_TRIGGERS = """SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS
WHERE EVENT_OBJECT_SCHEMA IN :schemas ORDER BY 1, 2, 3"""
_PARTITIONS = """SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME, PARTITION_METHOD, PARTITION_EXPRESSION FROM information_schema.PARTITIONS
WHERE TABLE_SCHEMA IN :schemas AND PARTITION_NAME IS NOT NULL"""
_VIEWS = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.VIEWS WHERE TABLE_SCHEMA IN :schemas ORDER BY 1, 2"

_Flavour = Literal["mariadb", "mysql"]


def reflect(address: Address, schemas: Sequence[str] | None = None) -> Catalog:
    """The named databases; None: the one in the URL, or all but the system's where it names none."""
    engine = sqlalchemy_engine(address, poolclass=NullPool)
    try:
        with engine.connect() as connection:
            return _reflect(connection, schemas)
    except sa.exc.DBAPIError as error:
        raise mapped(error.orig or error, f"the catalog of {where(address)}") from None


def _reflect(connection: sa.Connection, schemas: Sequence[str] | None) -> Catalog:
    version, database = connection.execute(sa.text("SELECT VERSION(), DATABASE()")).one()
    flavour: _Flavour = "mariadb" if "mariadb" in version.lower() else "mysql"
    if flavour == "mysql":
        connection.execute(sa.text("SET SESSION information_schema_stats_expiry = 0"))
    if schemas is not None:
        wanted = list(schemas)
    elif database:
        wanted = [database]
    else:
        names = connection.execute(sa.text("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")).scalars()
        wanted = [name for name in names if name.lower() not in _SYSTEM]
    if not wanted:
        raise BadInput("no database to look at", hint="name one in the URL")

    def ask(statement: str) -> list[Any]:
        # compared exactly here: information_schema compares names without regard to case
        found = connection.execute(sa.text(statement).bindparams(sa.bindparam("schemas", wanted, expanding=True)))
        return [row for row in found if row[0] in wanted]

    expression = ", EXPRESSION" if flavour == "mysql" else ", NULL"
    columns = _grouped(ask(_COLUMNS))
    indexes = _grouped(ask(_INDEXES.format(expression=expression)))
    foreign_keys, checks, triggers = _grouped(ask(_FOREIGN_KEYS)), _grouped(ask(_CHECKS[flavour])), _grouped(ask(_TRIGGERS))
    partitions = {(row[0], row[1]): f"{row[2]} ({row[3]})" for row in ask(_PARTITIONS)}
    tables: dict[TableId, Table] = {}
    for schema, name, engine, rows, size, comment in ask(_TABLES):
        at = (schema, name)
        json_columns, plain_checks = _checks(checks[at])
        found = tuple(_column(row, flavour, json_columns) for row in columns[at])
        primary, key, secondary = _indexes(indexes[at], found)
        tables[TableId(schema, name)] = Table(
            id=TableId(schema, name),
            columns=found,
            primary_key=primary,
            key=key,
            indexes=secondary,
            foreign_keys=_foreign_keys(foreign_keys[at]),
            checks=plain_checks,
            triggers=tuple(row[2] for row in triggers[at]),
            comment=comment or None,
            rows=int(rows or 0),
            bytes=int(size or 0),
            partition_by=partitions.get(at),
            engine=engine,
        )
    return Catalog(
        engine="mysql",
        flavour=flavour,
        version=version,
        database=database or "",
        default_schema=database or wanted[0],
        tables=tables,
        views=tuple(TableId(row[0], row[1]) for row in ask(_VIEWS)),
    )


def _grouped(rows: list[Any]) -> Mapping[tuple[str, str], list[Any]]:
    groups: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in rows:
        groups[(row[0], row[1])].append(row)
    return groups


def _checks(rows: list[Any]) -> tuple[frozenset[str], tuple[tuple[str, str], ...]]:
    """MariaDB's JSON is text under a check of its own: columns that have it, and the checks that are left."""
    json_columns = set()
    plain = []
    for _, _, name, clause in rows:
        match = _JSON_CHECK.fullmatch(clause.strip())
        if match:
            json_columns.add(match[1].replace("``", "`"))
        else:
            plain.append((name, clause))
    return frozenset(json_columns), tuple(sorted(plain))


def _column(row: Any, flavour: _Flavour, json_columns: frozenset[str]) -> Column:
    _, _, name, spelling, nullable, default, extra, generated, comment, collation = row
    on_update = _ON_UPDATE.search(extra or "")
    return Column(
        name=name,
        type=logical(spelling, collation=collation, json=name in json_columns),
        nullable=nullable == "YES",
        default=None if generated else _default(default, extra or "", flavour),
        generated=(generated.replace("\\'", "'") if flavour == "mysql" else generated) or None if generated else None,
        identity="auto_increment" if "auto_increment" in (extra or "").lower() else None,
        on_update=on_update[1] if on_update else None,
        comment=comment or None,
    )


def _default(default: str | None, extra: str, flavour: _Flavour) -> str | None:
    """The default as an SQL expression. MariaDB tells one; MySQL tells the bare value, unless it is an expression."""
    if default is None or (flavour == "mariadb" and default.upper() == "NULL"):
        return None
    if flavour == "mariadb" or "DEFAULT_GENERATED" in extra.upper() or re.match(r"(?i)current_timestamp|b'", default):
        return default
    return "'" + default.replace("\\", "\\\\").replace("'", "''") + "'"


def _indexes(rows: list[Any], columns: Sequence[Column]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[Index, ...]]:
    """The primary key, what rows are matched by, and the other indexes."""
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row[2]].append(row)
    primary = tuple(row[4] for row in groups.pop("PRIMARY", []))
    found = [_index(name, parts) for name, parts in groups.items()]
    never_null = {column.name for column in columns if not column.nullable}
    fit = [i for i in found if i.unique and i.columns and never_null.issuperset(i.columns) and not any(i.prefix_lengths)]
    best = min(fit, key=lambda index: (len(index.columns), index.name), default=None)
    return primary, primary or (best.columns if best else ()), tuple(found)


def _index(name: str, parts: list[Any]) -> Index:
    names = [part[4] for part in parts]
    definition = None
    if None in names:
        definition = ", ".join(f"({part[7]})" if part[4] is None else "`" + part[4].replace("`", "``") + "`" for part in parts)
    return Index(
        name=name,
        columns=() if None in names else tuple(names),
        unique=not int(parts[0][3]),
        constraint=not int(parts[0][3]),
        definition=definition,
        method=parts[0][6].lower(),
        prefix_lengths=tuple(int(part[5]) if part[5] is not None else None for part in parts) if any(part[5] for part in parts) else (),
    )


def _foreign_keys(rows: list[Any]) -> tuple[ForeignKey, ...]:
    groups: defaultdict[str, list[Any]] = defaultdict(list)
    for row in rows:
        groups[row[2]].append(row)
    return tuple(
        ForeignKey(
            name=name,
            columns=tuple(part[3] for part in parts),
            references=TableId(parts[0][4], parts[0][5]),
            referred_columns=tuple(part[6] for part in parts),
            on_delete=_rule(parts[0][7]),
            on_update=_rule(parts[0][8]),
        )
        for name, parts in groups.items()
    )


def _rule(rule: str) -> str | None:
    return None if rule in {"NO ACTION", "RESTRICT"} else rule
