"""Checksums of row ranges inside MySQL and MariaDB, and which rows a range or a bucket of keys means. See `connectors.digest`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from connectors.base import Projection, Range
from connectors.digest import PROBES, Digest, Hash
from connectors.mysql.ddl import qualified, quote
from connectors.mysql.types import in_utf8, printed
from pipeline.errors import CrossfadeError, DataRejected
from pipeline.model import Key, Kind, LogicalType, Table

SESSION = "SET @cf_none = 0 /*M! , max_statement_time = 0 */ /*!50708 , max_execution_time = 0 */"
"""For a session that computes checksums: it takes as long as it takes. Each product reads its own comment."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_BY_CODE_POINT = {"utf8mb4_nopad_bin", "utf8mb4_0900_bin", "binary"}


def checksum_sql(projection: Projection, digest: Digest, condition: str | None = None) -> str:
    """One row: how many rows there are, and the sum of their hashes (any number; modulo 2^64 it is the checksum)."""
    return f"SELECT COUNT(*), SUM({_row_hash(projection.expressions, digest)}) {_rows(projection, condition)}"


def buckets_sql(projection: Projection, key_at: Sequence[int], digest: Digest, depth: int, condition: str | None = None) -> str:
    """For each bucket of keys (the first `depth` hex digits of the key's hash): the digits, rows, sum of hashes."""
    prefix = f"LEFT({_key_hash(projection, key_at, digest)}, {int(depth)})"
    hashed = _row_hash(projection.expressions, digest)
    return f"SELECT {prefix} AS cf_bucket, COUNT(*), SUM({hashed}) {_rows(projection, condition)} GROUP BY cf_bucket"


def in_buckets(projection: Projection, key_at: Sequence[int], digest: Digest, prefixes: Sequence[str]) -> str:
    """A condition: the key's hash begins with one of `prefixes`, all of one length."""
    wanted = ", ".join(f"'{int(prefix, 16):0{len(prefix)}x}'" for prefix in prefixes)
    return f"LEFT({_key_hash(projection, key_at, digest)}, {len(prefixes[0])}) IN ({wanted})"


def in_range(table: Table, key: Sequence[str], within: Range) -> str | None:
    """A condition: the row's key lies in the range, by the order of the key's own columns. None: every row does."""
    conditions = []
    for bound, strict, last in ((within.lower, ">", ">"), (within.upper, "<", "<=")):
        if bound is not None:
            conditions.append(_beside(table, key, bound, strict, last))
    return " AND ".join(conditions) or None


def _beside(table: Table, key: Sequence[str], bound: Key, strict: str, last: str) -> str:
    """`(k1, k2) > (b1, b2)` spelled out: the server makes no index range of a comparison of rows. What stands before the AND is implied by
    the rest and gives it one."""
    names = [quote(column) for column in key]
    values = [_literal(value, table.column(column).type) for column, value in zip(key, bound, strict=True)]
    ways = []
    for at, (name, value) in enumerate(zip(names, values, strict=True)):
        same = [f"{n} = {v}" for n, v in zip(names[:at], values[:at], strict=True)]
        ways.append(" AND ".join([*same, f"{name} {last if at == len(names) - 1 else strict} {value}"]))
    if len(ways) == 1:
        return ways[0]
    return f"{names[0]} {strict}= {values[0]} AND ({' OR '.join(f'({way})' for way in ways)})"


def probe_sql(rows: str, keys: Hash) -> str:
    """One row that is the same wherever hashing by `rows` and `keys` means the same. An error: it is not to be had there."""
    if rows in {"binary", "quick"}:
        raise CrossfadeError(f"MySQL has no {rows} hash")
    sums = [_hash64(_text_literal(text), rows) for text in PROBES]
    buckets = [_hex(_text_literal(text), keys) for text in PROBES]
    return f"SELECT {', '.join(sums + buckets)}"


def order(connection: Any, table: Table, column: str) -> str | None:
    """The name of the order in which `>` and ORDER BY put this column; equal names are equal orders, on any product. None: cannot say.

    A FLOAT is not equal to its own text; MariaDB's UUID has an order of its own.
    """
    type = table.column(column).type
    match type.kind:
        case Kind.INT | Kind.DECIMAL | Kind.YEAR:
            return "number"
        case Kind.DATE | Kind.TIME | Kind.TIMESTAMP | Kind.TIMESTAMPTZ | Kind.BYTES:
            return str(type.kind)
        case Kind.BITS if type.fixed:
            return f"bits {type.length}"
        case Kind.ENUM:
            return f"enum {'|'.join(type.labels)}"
        case Kind.UUID:
            return "MariaDB's uuid"
        case Kind.TEXT if type.collation is not None:
            if type.collation in _BY_CODE_POINT:
                return "text by code point UTF8"
            with connection.cursor() as cursor:
                cursor.execute("SELECT VERSION()")
                version = str(cursor.fetchone()[0])
            return f"text {'MariaDB' if 'MariaDB' in version else 'MySQL'} {type.collation}"
    return None


# -- pieces --------------------------------------------------------------------------------------------------------------------------


def _rows(projection: Projection, condition: str | None) -> str:
    both = " AND ".join(f"({c})" for c in (projection.where, condition) if c)
    return f"FROM {qualified(projection.table)}" + (f" WHERE {both}" if both else "")


def _row_hash(expressions: Sequence[str], digest: Digest) -> str:
    return _hash64(_joined(expressions, digest.free), digest.rows)


def _key_hash(projection: Projection, key_at: Sequence[int], digest: Digest) -> str:
    return _hex(_joined([projection.expressions[at] for at in key_at], digest.key_free(key_at)), digest.keys)


def _joined(expressions: Sequence[str], free: Sequence[bool]) -> str:
    """CONCAT_WS passes over NULL and prints a bare column as CAST does, at less than its cost. An expression in Latin-1 would drag the
    text, or its length, into Latin-1: CONVERT, but for what is in UTF-8 already."""
    parts: list[str] = []
    converted = False
    for expression, any_text in zip(expressions, free, strict=True):
        if any_text:
            text = expression
            if in_utf8(expression):
                converted = True
            else:
                text = f"CONVERT({expression} USING utf8mb4)"
            parts.append(f"IFNULL(CONCAT(CHAR_LENGTH({text}), ':', {text}), 'N0:')")
        else:
            parts += [printed(expression), "'|'"]
    joined = f"CONCAT_WS('', {', '.join(parts)})"
    return joined if converted else f"CONVERT({joined} USING utf8mb4)"  # UTF-8 takes in whatever else is in it


def _hash64(text: str, way: str) -> str:
    # A text beyond max_allowed_packet is NULL, and SUM would pass over it: a number that never comes twice makes checksums differ.
    return f"IFNULL(CAST(CONV(LEFT({_hex(text, 'sha256' if way == 'sha256' else 'md5')}, 16), 16, 10) AS UNSIGNED), UUID_SHORT())"


def _hex(text: str, hash: Hash) -> str:
    return f"MD5({text})" if hash == "md5" else f"SHA2({text}, 256)"


def _literal(text: str, type: LogicalType) -> str:
    """A value as what the column compares with in its own order and its index can be searched by."""
    match type.kind:
        case Kind.INT | Kind.DECIMAL | Kind.YEAR:
            if not _NUMBER.fullmatch(text):
                raise DataRejected(f"key value {text[:60]!r} is no number")
            return text
        case Kind.BYTES:
            return f"X'{bytes.fromhex(text[2:]).hex()}'"
        case Kind.BITS:
            return str(int(text, 2))
        case Kind.ENUM:  # sorted by number; compared with a text it would be compared as text
            return str(type.labels.index(text) + 1 if text in type.labels else 0)
        case Kind.TIMESTAMPTZ:
            return _text_literal(text.removesuffix("+00"))
    return _text_literal(text)


def _text_literal(text: str) -> str:
    """A literal that means the same under every sql_mode and character set."""
    if text.isascii() and text.isprintable() and "\\" not in text and "'" not in text:
        return f"_utf8mb4'{text}'"
    return f"_utf8mb4 X'{text.encode().hex()}'"
