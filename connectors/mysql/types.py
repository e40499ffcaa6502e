"""MySQL's and MariaDB's types: their meaning, their spelling for foreign types, and canonical text in SQL, both ways."""

from __future__ import annotations

import dataclasses
import re

from connectors.mysql.floats import double_text, float_text
from pipeline.model import Kind, LogicalType

_INTS = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "integer": 32, "bigint": 64}
_TEXTS = {"tinytext": 255, "text": None, "mediumtext": None, "longtext": None}
_BLOBS = {"tinyblob", "blob", "mediumblob", "longblob"}
_GEOMETRY = {
    "geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection", "geomcollection",
}  # fmt: skip
_COLUMN_TYPE = re.compile(
    r"(?P<name>[a-z0-9_]+)\s*(?:\((?P<in>.*)\))?(?P<rest>(?:\s+(?:unsigned|signed|zerofill|/\*.*\*/))*)", re.IGNORECASE | re.DOTALL
)
_LABEL = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_ESCAPED = re.compile(r"''|\\.", re.DOTALL)

# A key of text must have a length: what of 3072 bytes (InnoDB's limit) in utf8mb4 one column gets.
KEY_CHARACTERS = 255
_VARCHAR_MOST = 16383  # 65535 bytes, the longest row


def logical(native: str, *, collation: str | None = None, json: bool = False) -> LogicalType:
    """A type as information_schema's COLUMN_TYPE spells it. `json`: a MariaDB column under CHECK (json_valid(…))."""
    match = _COLUMN_TYPE.fullmatch(native.strip())
    if match is None:
        return LogicalType(Kind.OTHER, native=native)
    name, inside, unsigned = match["name"].lower(), match["in"], "unsigned" in match["rest"].lower()
    if name in {"enum", "set"}:
        labels = tuple(_ESCAPED.sub(_unescaped, label) for label in _LABEL.findall(inside or ""))
        return LogicalType(Kind.ENUM if name == "enum" else Kind.SET, native=native, labels=labels, collation=collation)
    sizes = [int(x) for x in inside.split(",")] if inside and re.fullmatch(r"[\d, ]+", inside) else []
    found = _meaning(name, sizes, json)
    if found.kind is Kind.TEXT:
        ci = collation is not None and "_ci" in collation  # utf8mb4_0900_ai_ci, utf8mb4_uca1400_as_ci too
        return dataclasses.replace(found, native=native, collation=collation, case_insensitive=ci)
    return dataclasses.replace(found, native=native, unsigned=unsigned or "zerofill" in match["rest"].lower())


def _unescaped(match: re.Match[str]) -> str:
    letter = match[0][1]
    return {"n": "\n", "r": "\r", "0": "\0"}.get(letter, letter)


def _meaning(name: str, sizes: list[int], json: bool) -> LogicalType:
    a = sizes[0] if sizes else None
    if json and name in _TEXTS:
        return LogicalType(Kind.JSON)
    if name in _INTS:
        return LogicalType(Kind.INT, bits=_INTS[name])
    if name in _TEXTS:
        return LogicalType(Kind.TEXT, length=_TEXTS[name])
    if name in _BLOBS:
        return LogicalType(Kind.BYTES)
    if name in _GEOMETRY:
        return LogicalType(Kind.GEOMETRY)
    match name:
        case "decimal" | "numeric":
            return LogicalType(Kind.DECIMAL, precision=a or 10, scale=sizes[1] if len(sizes) > 1 else 0)
        case "float":
            return LogicalType(Kind.FLOAT, bits=32)
        case "double" | "real":
            return LogicalType(Kind.FLOAT, bits=64)
        case "char" | "varchar":
            return LogicalType(Kind.TEXT, length=a or 1, fixed=name == "char")
        case "binary" | "varbinary":
            return LogicalType(Kind.BYTES, length=a or 1, fixed=name == "binary")
        case "date":
            return LogicalType(Kind.DATE, precision=0)
        case "time" | "datetime" | "timestamp":
            kind = {"time": Kind.TIME, "datetime": Kind.TIMESTAMP, "timestamp": Kind.TIMESTAMPTZ}[name]
            return LogicalType(kind, precision=a or 0)
        case "year":
            return LogicalType(Kind.YEAR)
        case "bit":
            return LogicalType(Kind.BITS, length=a or 1, fixed=True)
        case "json":
            return LogicalType(Kind.JSON, binary=True)
        case "uuid":
            return LogicalType(Kind.UUID)
    return LogicalType(Kind.OTHER)


def own(type: LogicalType) -> bool:
    """Whether `type.native` is MySQL's spelling of it (and not, say, PostgreSQL's `bigint[]`)."""
    native = type.native
    if not native or re.match(r"(integer|numeric|real)\b", native):  # words that MySQL takes but never says
        return False
    parsed = logical(native, json=type.kind is Kind.JSON)
    if parsed.kind is not type.kind or (type.kind is Kind.BITS and (type.length or 1) > 64):
        return False
    if type.kind is Kind.OTHER:
        return native.split("(")[0].lower() in {"inet4", "inet6", "vector"}
    if type.kind is Kind.TEXT and parsed.length is None:
        return type.collation is not None and re.fullmatch(r"\w+_\w+", type.collation) is not None  # `text` is both products' word
    facets = ("bits", "unsigned", "precision", "scale", "length", "fixed", "binary", "labels")
    return all(getattr(parsed, facet) == getattr(type, facet) for facet in facets)


def binary_collation(flavour: str) -> str:
    """Text compares as PostgreSQL compares it: by code point, trailing spaces counting."""
    return "utf8mb4_nopad_bin" if flavour == "mariadb" else "utf8mb4_0900_bin"


def native(type: LogicalType, *, key: bool = False, flavour: str = "mariadb", enum: str | None = None) -> tuple[str, str | None]:
    """The spelling for CREATE TABLE, and why it is not exact (None: every value goes in and comes out as it was).

    A reason that begins with `refuses` means that some values are rejected loudly; any other one, that values change their form.
    `key`: the column is in a key or an index, which bounds its length.
    """
    del enum  # PostgreSQL's
    if type.kind is Kind.JSON:  # MariaDB spells it longtext, and keeps the text as it came
        same = flavour == "mariadb" or (own(type) and type.binary)
        return "json", None if same else "numbers and spacing may be normalised"
    if own(type):
        spelling = type.native
        if flavour == "mysql" and type.kind is Kind.UUID:
            return "char(36) CHARACTER SET ascii COLLATE ascii_bin", None
        if flavour == "mysql" and type.kind is Kind.OTHER and not spelling.lower().startswith("vector"):
            return "varchar(45) CHARACTER SET ascii COLLATE ascii_bin", f"{spelling} becomes text"
        return spelling, None
    p = min(6, type.precision) if type.precision is not None else 6
    fraction = f"({p})" if p else ""
    match type.kind:
        case Kind.BOOL:
            return "tinyint(1)", None
        case Kind.INT:
            word = {8: "tinyint", 16: "smallint", 24: "mediumint", 32: "int", 64: "bigint"}[type.bits or 32]
            return f"{word} unsigned" if type.unsigned else word, None
        case Kind.DECIMAL:
            return _decimal(type)
        case Kind.FLOAT:
            return ("float" if type.bits == 32 else "double"), "refuses NaN and infinity"
        case Kind.TEXT:
            return _text(type, key, flavour)
        case Kind.BYTES:
            return _bytes(type, key)
        case Kind.DATE:
            return "date", "refuses infinity, years BC and beyond 9999"
        case Kind.TIME:
            return f"time{fraction}", None
        case Kind.TIMESTAMP:
            return f"datetime{fraction}", "refuses infinity, years BC and beyond 9999"
        case Kind.TIMESTAMPTZ:
            return f"datetime{fraction}", "a zoned time becomes the same moment in UTC without zone (timestamp would end in 2038)"
        case Kind.UUID:
            # MariaDB's own uuid takes only some versions and variants, PostgreSQL's takes any sixteen bytes
            return "char(36) CHARACTER SET ascii COLLATE ascii_bin", None
        case Kind.BITS if type.fixed and (type.length or 1) <= 64:
            return f"bit({type.length or 1})", None
        case Kind.ENUM if all(len(label) <= 255 and not label.endswith(" ") for label in type.labels):
            return f"enum({','.join(_string(label) for label in type.labels)}) {_collated(flavour)}", None
        case Kind.GEOMETRY:
            return "geometry", "the kind of geometry is no longer checked"
    small = {Kind.TIMETZ: 32, Kind.INTERVAL: 128}.get(type.kind)
    reason = f"{type} has no counterpart and becomes its text"
    if small or key:
        return f"varchar({small or KEY_CHARACTERS}) {_collated(flavour)}", reason
    return f"longtext {_collated(flavour)}", reason


def _collated(flavour: str) -> str:
    return f"CHARACTER SET utf8mb4 COLLATE {binary_collation(flavour)}"


def _string(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def _decimal(type: LogicalType) -> tuple[str, str | None]:
    if type.precision is None:
        return "decimal(65,30)", "numeric without a scale gets 30 decimals, refuses more digits, NaN and infinity"
    precision, scale = type.precision, type.scale or 0
    if scale < 0:
        precision, scale = precision - scale, 0
    scale = max(scale, 0)
    precision = max(precision, scale)
    if precision > 65 or scale > 30:
        return "decimal(65,30)", f"{type} is cut to 30 decimals and 65 digits"
    return f"decimal({precision},{scale})", "refuses NaN"


def _text(type: LogicalType, key: bool, flavour: str) -> tuple[str, str | None]:
    # case-insensitive columns stay so, under the nearest general collation
    words = "CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_ci" if type.case_insensitive else _collated(flavour)
    length = type.length if type.length and type.length <= _VARCHAR_MOST else None
    if length is not None and type.fixed and length <= 255:
        return f"char({length}) {words}", None
    if key and (length is None or length > KEY_CHARACTERS):
        longest = min(length, 768) if length else KEY_CHARACTERS
        return f"varchar({longest}) {words}", None if longest == length else f"refuses key text longer than {longest} characters"
    return (f"varchar({length})" if length else "longtext") + f" {words}", None


def _bytes(type: LogicalType, key: bool) -> tuple[str, str | None]:
    length = type.length if type.length and type.length <= 65000 else None
    if length is not None and type.fixed and length <= 255:
        return f"binary({length})", None
    if key and (length is None or length > 3072):
        return f"varbinary({KEY_CHARACTERS * 4})", f"refuses key bytes longer than {KEY_CHARACTERS * 4}"
    return (f"varbinary({length})" if length else "longblob"), None


_UTF8 = "(CONVERT({} USING utf8mb4) COLLATE utf8mb4_bin)"
_COLUMN_IN_UTF8 = re.compile(re.escape(_UTF8).replace(r"\{\}", "`(?:[^`]|``)+`"))
_COLUMN_CAST = re.compile(r"CAST\((`(?:[^`]|``)+`) AS CHAR\)")


def in_utf8(canonical: str) -> bool:
    """Whether what `canonical_sql` made of a column is surely text in UTF-8."""
    return _COLUMN_IN_UTF8.fullmatch(canonical) is not None


def printed(canonical: str) -> str:
    """The column itself where what `canonical_sql` made of it is its CAST and no more: what is joined to a text is printed like that."""
    found = _COLUMN_CAST.fullmatch(canonical)
    return found[1] if found else canonical


def canonical_sql(expr: str, type: LogicalType) -> str:
    """A text expression: the canonical text of `expr`. Relies on the session settings of `connection`."""
    match type.kind:
        case Kind.INT | Kind.DECIMAL if "zerofill" in type.native.lower():
            return f"CAST({expr} + 0 AS CHAR)"
        case Kind.YEAR:
            return f"CAST({expr} + 0 AS CHAR)"
        case Kind.FLOAT:
            return float_text(expr) if type.bits == 32 else double_text(expr)
        case Kind.BYTES:
            return f"CONCAT('\\\\x', LOWER(HEX({expr})))"
        case Kind.TIME | Kind.TIMESTAMP:
            return _trimmed(expr, type)
        case Kind.TIMESTAMPTZ:
            return f"CONCAT({_trimmed(expr, type)}, '+00')"
        case Kind.BITS:
            return f"LPAD(BIN({expr} + 0), {type.length or 1}, '0')"
        case Kind.TEXT | Kind.ENUM | Kind.SET:
            # one explicit collation, so that texts of differently collated columns can be joined and compared
            return _UTF8.format(expr)
        case Kind.JSON if not type.binary:
            return _UTF8.format(expr)
        case Kind.GEOMETRY:
            return f"CONCAT(IF(ST_SRID({expr}) = 0, '', CONCAT('SRID=', ST_SRID({expr}), ';')), ST_AsText({expr}))"
    return f"CAST({expr} AS CHAR)"


def _trimmed(expr: str, type: LogicalType) -> str:
    text = f"CAST({expr} AS CHAR)"
    return f"TRIM(TRAILING '.' FROM TRIM(TRAILING '0' FROM {text}))" if type.precision else text


def literal_sql(text_expr: str, type: LogicalType) -> str:
    """The value of this type whose canonical text is `text_expr`, for INSERT … SELECT in a strict session.

    Not for LOAD DATA LOCAL … SET into the table itself: with LOCAL the server makes errors warnings. There is no percent sign in it, so
    drivers that format with one may carry it.
    """
    match type.kind:
        case Kind.INT | Kind.BOOL if type.bits in {None, 8}:
            # a boolean's text goes into tinyint(1)
            return f"(CASE {text_expr} WHEN 't' THEN '1' WHEN 'f' THEN '0' ELSE {text_expr} END)"
        case Kind.YEAR:
            return f"({text_expr} + 0)"  # the text '0' would be 2000
        case Kind.FLOAT if type.bits == 32:
            # the text of the largest number is rounded up, beyond what a FLOAT takes
            ends = " ".join(f"WHEN '{sign}3.4028235e+38' THEN '{sign}3.4028234663852886e38'" for sign in ("", "-"))
            return f"(CASE {text_expr} {ends} ELSE {text_expr} END)"
        case Kind.BYTES:
            return f"UNHEX(SUBSTRING({text_expr}, 3))"
        case Kind.TIMESTAMPTZ | Kind.TIMESTAMP:
            return f"(CASE WHEN RIGHT({text_expr}, 3) = '+00' THEN LEFT({text_expr}, CHAR_LENGTH({text_expr}) - 3) ELSE {text_expr} END)"
        case Kind.BITS:
            return f"CAST(CONV({text_expr}, 2, 10) AS UNSIGNED)"
        case Kind.GEOMETRY:
            srid = f"IF(LEFT({text_expr}, 5) = 'SRID=', CAST(SUBSTRING_INDEX(SUBSTRING({text_expr}, 6), ';', 1) AS UNSIGNED), 0)"
            return f"ST_GeomFromText(SUBSTRING_INDEX({text_expr}, ';', -1), {srid})"
    return text_expr


def sql_exact(type: LogicalType) -> bool:
    """Whether `canonical_sql` is byte for byte what the decoders and the other product's canonical text are."""
    return type.kind is not Kind.GEOMETRY


def debezium_loses(type: LogicalType) -> str | None:
    """Which values of the type Debezium cannot carry (they are found by verify and repaired by re-reading), or None."""
    if type.kind in {Kind.DATE, Kind.TIMESTAMP}:
        return "zero dates, and days or months of 0, arrive as NULL, or as the default of a column that is NOT NULL"
    return None


def debezium_refuses(type: LogicalType) -> str | None:
    """Why a table with a column of this type cannot be streamed at all, or None."""
    if type.kind is Kind.OTHER and type.native.lower() in {"inet4", "inet6"}:
        return f"Debezium cannot read the definition of a table that has a column of type {type}"
    return None


def unchanged_lost(type: LogicalType) -> bool:
    """Nothing is left out of a row event here (binlog_row_image=FULL)."""
    del type
    return False
