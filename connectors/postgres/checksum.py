"""Checksums of row ranges inside PostgreSQL, and which rows a range or a bucket of keys means. See `connectors.digest`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from connectors.base import Projection, Range
from connectors.digest import PROBES, Digest, Hash
from connectors.postgres.ddl import qualified, quote
from connectors.postgres.types import literal_sql
from pipeline.model import Key, Kind, Table

SESSION = "SET statement_timeout = 0; SET max_parallel_workers_per_gather = 0; SET jit = off"
"""For a session that computes checksums: it takes as long as it takes, and one core of a server that has an application to serve."""

_ARGUMENTS = 90  # a function takes at most 100
_BY_OPERATORS = 6


def checksum_sql(projection: Projection, digest: Digest, condition: str | None = None) -> str:
    """One row: how many rows there are, and the sum of their hashes (any number; modulo 2^64 it is the checksum)."""
    return f"SELECT pg_catalog.count(*), pg_catalog.sum({_row_hash(projection.expressions, digest)}) {_rows(projection, condition)}"


def buckets_sql(projection: Projection, key_at: Sequence[int], digest: Digest, depth: int, condition: str | None = None) -> str:
    """For each bucket of keys (the first `depth` hex digits of the key's hash): the digits, rows, sum of hashes."""
    prefix = f"pg_catalog.left({_key_hash(projection, key_at, digest)}, {int(depth)})"
    hashed = _row_hash(projection.expressions, digest)
    return f"SELECT {prefix}, pg_catalog.count(*), pg_catalog.sum({hashed}) {_rows(projection, condition)} GROUP BY 1"


def in_buckets(projection: Projection, key_at: Sequence[int], digest: Digest, prefixes: Sequence[str]) -> str:
    """A condition: the key's hash begins with one of `prefixes`, all of one length."""
    wanted = ", ".join(f"'{int(prefix, 16):0{len(prefix)}x}'" for prefix in prefixes)
    return f"pg_catalog.left({_key_hash(projection, key_at, digest)}, {len(prefixes[0])}) IN ({wanted})"


def in_range(table: Table, key: Sequence[str], within: Range) -> str | None:
    """A condition: the row's key lies in the range, by the order of the key's own columns. None: every row does."""
    names = ", ".join(quote(column) for column in key)
    conditions = []
    for bound, sign in ((within.lower, ">"), (within.upper, "<=")):
        if bound is not None:
            conditions.append(f"({names}) {sign} ({_literals(table, key, bound)})")
    return " AND ".join(conditions) or None


def probe_sql(rows: str, keys: Hash) -> str:
    """One row that is the same wherever hashing by `rows` and `keys` means the same. An error: it is not to be had there."""
    sums = [_hash64(_text_literal(text), rows) for text in PROBES]
    buckets = [_hex(_text_literal(text), keys) for text in PROBES]
    return f"SELECT {', '.join(sums + buckets)}"


def order(connection: Any, table: Table, column: str) -> str | None:
    """The name of the order in which `>` and ORDER BY put this column; equal names are equal orders, on any product. None: cannot say.

    Collations count with provider, locale, version and encoding: the same libc locale sorts differently from version to version.
    """
    type = table.column(column).type
    match type.kind:
        case Kind.INT | Kind.DECIMAL | Kind.YEAR:
            return "number"
        case Kind.BOOL | Kind.DATE | Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMPTZ | Kind.UUID | Kind.BYTES:
            return str(type.kind)
        case Kind.BITS if type.fixed:
            return f"bits {type.length}"
        case Kind.ENUM:
            return f"enum {'|'.join(type.labels)}"
        case Kind.TEXT if not type.native.endswith("citext"):
            collation = _collation(connection, table, column)
            return collation and f"{'fixed ' if type.fixed else ''}text {collation}"
    return None


# Whole catalog rows as JSON: which columns they have differs from version to version.
_COLLATION = """
SELECT to_jsonb(c), to_jsonb(d), pg_catalog.getdatabaseencoding()
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation
JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database()
WHERE a.attrelid = %s::pg_catalog.regclass AND a.attname = %s
"""


def _collation(connection: Any, table: Table, column: str) -> str | None:
    row = connection.execute(_COLLATION, (qualified(table.id), column)).fetchone()
    if row is None or not row[0].get("collisdeterministic", True):
        return None
    collation, database, encoding = row
    if collation["collprovider"] == "d":
        provider, of, prefix = database.get("datlocprovider") or "c", database, "dat"
    else:
        provider, of, prefix = collation["collprovider"], collation, "coll"
    names = ("collate",) if provider == "c" else ("locale", "iculocale", "collate")
    locale = next((found for name in names if (found := of.get(f"{prefix}{name}"))), "?")
    version = of.get(f"{prefix}version")
    if provider in "cb" and (locale in {"C", "POSIX"} or locale.upper().startswith("C.UTF")):
        return f"by code point {encoding}" if encoding == "UTF8" else f"by byte {encoding}"
    if not version:
        return None
    return f"{provider} {locale} {of.get(f'{prefix}icurules') or of.get(f'{prefix}rules') or ''} {version} {encoding}"


# -- pieces --------------------------------------------------------------------------------------------------------------------------


def _rows(projection: Projection, condition: str | None) -> str:
    both = " AND ".join(f"({c})" for c in (projection.where, condition) if c)
    return f"FROM {qualified(projection.table)}" + (f" WHERE {both}" if both else "")


def _row_hash(expressions: Sequence[str], digest: Digest) -> str:
    if digest.rows == "binary":
        same = [one for one, is_same in zip(expressions, digest.same, strict=True) if is_same]
        others = [one for one, is_same in zip(expressions, digest.same, strict=True) if not is_same]
        texts = [f"ROW({', '.join(others)})::pg_catalog.text"] if others else []
        return _hash64(", ".join([*texts, *same]), "binary")
    if digest.rows == "quick":
        # A record's text prints every column by its own output function, quotes what needs it and tells NULL from ''.
        return _hash64(f"ROW({', '.join(expressions)})::pg_catalog.text", "quick")
    return _hash64(_joined(expressions, digest.free), digest.rows)


def _key_hash(projection: Projection, key_at: Sequence[int], digest: Digest) -> str:
    return _hex(_joined([projection.expressions[at] for at in key_at], digest.key_free(key_at)), digest.keys)


def _joined(expressions: Sequence[str], free: Sequence[bool]) -> str:
    """Operators are quicker than `concat`, which looks up each argument's output function for each row, but each copies all that stands
    before it: so a few columns by operators, and those by `concat`."""
    parts = [_free(one) if any_text else _delimited(one) for one, any_text in zip(expressions, free, strict=True)]
    joined = [" || ".join(parts[at : at + _BY_OPERATORS]) for at in range(0, len(parts), _BY_OPERATORS)]
    if len(joined) == 1:
        return f"({joined[0]})"
    calls = [f"pg_catalog.concat({', '.join(joined[at : at + _ARGUMENTS])})" for at in range(0, len(joined), _ARGUMENTS)]
    return f"({' || '.join(calls)})"


def _delimited(expression: str) -> str:
    text = f"coalesce({expression}, '')" if _is_text(expression) else f"pg_catalog.concat({expression})"
    return f"{text} || '|'"


def _free(expression: str) -> str:
    if _is_text(expression):
        return f"coalesce(pg_catalog.length({expression})::pg_catalog.text || ':' || ({expression}), 'N0:')"
    text = f"pg_catalog.concat({expression})"
    # IS NULL would also be true of a composite value whose fields are all NULL
    counted = f"pg_catalog.length({text})::pg_catalog.text || ':' || {text}"
    return f"CASE WHEN {expression} IS NOT DISTINCT FROM NULL THEN 'N0:' ELSE {counted} END"


def _is_text(expression: str) -> bool:
    """Whether it is surely of type text. What is not goes through `concat`, which prints by the output functions as COPY does."""
    return expression.endswith("::text")


def _hash64(text: str, way: str) -> str:
    if way == "binary":
        # A record of the one column that is the binary record has the hash of its bytes. Hashes of a record's own columns would not do:
        # those of numbers pass over the sign and fold 64 bits into 32.
        return f"pg_catalog.hash_record_extended(ROW(pg_catalog.record_send(ROW({text}))), 0)"
    if way == "quick":
        return f'pg_catalog.hashtextextended({text} COLLATE "C", 0)'
    return f"('x' || pg_catalog.left({_hex(text, 'sha256' if way == 'sha256' else 'md5')}, 16))::bit(64)::bigint"


def _hex(text: str, hash: Hash) -> str:
    encoded = f"pg_catalog.convert_to({text}, 'UTF8')"
    return f"pg_catalog.md5({encoded})" if hash == "md5" else f"pg_catalog.encode(pg_catalog.sha256({encoded}), 'hex')"


def _literals(table: Table, key: Sequence[str], values: Key) -> str:
    return ", ".join(literal_sql(_text_literal(value), table.column(name).type) for name, value in zip(key, values, strict=True))


def _text_literal(text: str) -> str:
    if "\0" in text:
        raise ValueError("PostgreSQL text cannot hold U+0000")
    return "'" + text.replace("'", "''") + "'"  # standard_conforming_strings is on in every session of ours
