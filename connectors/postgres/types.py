"""PostgreSQL's types: their meaning, their spelling for foreign types, and their canonical text in SQL."""

from __future__ import annotations

import dataclasses
import re

from pipeline.model import Kind, LogicalType

_INTS = {"smallint": 16, "integer": 32, "bigint": 64}
_PLAIN: dict[str, LogicalType] = {
    "boolean": LogicalType(Kind.BOOL),
    "oid": LogicalType(Kind.INT, bits=32, unsigned=True),
    "real": LogicalType(Kind.FLOAT, bits=32),
    "double precision": LogicalType(Kind.FLOAT, bits=64),
    "text": LogicalType(Kind.TEXT),
    "name": LogicalType(Kind.TEXT, length=63),
    '"char"': LogicalType(Kind.TEXT, length=1),
    "bytea": LogicalType(Kind.BYTES),
    "date": LogicalType(Kind.DATE),
    "uuid": LogicalType(Kind.UUID),
    "json": LogicalType(Kind.JSON),
    "jsonb": LogicalType(Kind.JSON, binary=True),
}
_BUILTIN = re.compile(
    r"money|xml|inet|cidr|macaddr8?|point|line|lseg|box|path|polygon|circle|tsvector|tsquery|jsonpath|pg_lsn|txid_snapshot|pg_snapshot|"
    r"xid8?|cid|tid|refcursor|reg\w+|(int[48]|num|ts|tstz|date)(multi)?range"
)
_PARSED = re.compile(r"(?P<name>[a-z ]+?)(?:\((?P<a>-?\d+)(?:,(?P<b>-?\d+))?\))?(?P<rest> with(?:out)? time zone)?")


def logical(
    native: str,
    *,
    labels: tuple[str, ...] = (),
    base: LogicalType | None = None,
    element: LogicalType | None = None,
    extension_type: str | None = None,
    collation: str | None = None,
    case_insensitive: bool = False,
) -> LogicalType:
    """A type as `format_type` spells it. `labels`: it is an enum; `base`: a domain over that; `element`: an array of that;
    `extension_type`: the bare name of an extension's type, whatever schema it lives in.
    """
    found = _meaning(native, labels, base, element, extension_type)
    if found.kind is Kind.TEXT:
        ci = case_insensitive or found.case_insensitive
        return dataclasses.replace(found, native=native, collation=collation, case_insensitive=ci)
    return dataclasses.replace(found, native=native)


def _meaning(
    native: str, labels: tuple[str, ...], base: LogicalType | None, element: LogicalType | None, extension_type: str | None
) -> LogicalType:
    if base is not None:
        # what the product's own text of a domain is made by, its base type knows
        return dataclasses.replace(base, element=base) if base.kind is Kind.OTHER and base.element is None else base
    if labels:
        return LogicalType(Kind.ENUM, labels=labels)
    if native.endswith("[]"):
        return LogicalType(Kind.ARRAY, element=element or logical(native[:-2]))
    if element is not None:
        return LogicalType(Kind.ARRAY, element=element)
    if extension_type == "citext" or native == "citext":
        return LogicalType(Kind.TEXT, case_insensitive=True)
    if extension_type in {"geometry", "geography"}:
        return LogicalType(Kind.GEOMETRY)
    if extension_type is not None:
        return LogicalType(Kind.OTHER, element=LogicalType(Kind.OTHER, native=extension_type))
    if native in _PLAIN:
        return _PLAIN[native]
    if native in _INTS:
        return LogicalType(Kind.INT, bits=_INTS[native])
    match = _PARSED.fullmatch(native)
    if match is None:
        return LogicalType(Kind.OTHER)
    a, b = (int(x) if x is not None else None for x in match.group("a", "b"))
    match match["name"], match["rest"]:
        case "numeric", None:
            return LogicalType(Kind.DECIMAL, precision=a, scale=(b or 0) if a is not None else None)
        case "character varying", None:
            return LogicalType(Kind.TEXT, length=a)
        case "character", None:
            return LogicalType(Kind.TEXT, length=a or 1, fixed=True)
        case "bpchar", None:
            return LogicalType(Kind.TEXT, length=a, fixed=True)
        case "bit", None:
            return LogicalType(Kind.BITS, length=a or 1, fixed=True)
        case "bit varying", None:
            return LogicalType(Kind.BITS, length=a)
        case "time", " without time zone":
            return LogicalType(Kind.TIME, precision=6 if a is None else a)
        case "time", " with time zone":
            return LogicalType(Kind.TIMETZ, precision=6 if a is None else a)
        case "timestamp", " without time zone":
            return LogicalType(Kind.TIMESTAMP, precision=6 if a is None else a)
        case "timestamp", " with time zone":
            return LogicalType(Kind.TIMESTAMPTZ, precision=6 if a is None else a)
        case name, None if name.split(" ")[0] == "interval":
            return LogicalType(Kind.INTERVAL, precision=6 if a is None else a)
    return LogicalType(Kind.OTHER)


_BINARY = frozenset({
    Kind.BOOL, Kind.INT, Kind.DECIMAL, Kind.FLOAT, Kind.TEXT, Kind.BYTES, Kind.DATE, Kind.TIME, Kind.TIMETZ, Kind.TIMESTAMP,
    Kind.TIMESTAMPTZ, Kind.INTERVAL, Kind.UUID, Kind.JSON,
})  # fmt: skip


def same_in_binary(type: LogicalType) -> bool:
    """Whether its binary form within a record is the same on any server: it has the number of the type in it, and only the numbers of
    built-in types (no domain, enum, type of an extension) are the same everywhere."""
    return type.kind in _BINARY and _meaning(type.native, (), None, None, None).kind is type.kind and type.native != "citext"


def own(type: LogicalType) -> bool:
    """Whether `type.native` is PostgreSQL's spelling of it (and not, say, MySQL's `timestamp`)."""
    native = type.native
    if not native:
        return False
    match type.kind:
        case Kind.ENUM:
            return not native.lower().startswith("enum(")
        case Kind.ARRAY | Kind.TIMETZ | Kind.INTERVAL:
            return True
        case Kind.SET | Kind.YEAR:
            return False
        case Kind.OTHER:
            return "." in native or type.element is not None or _BUILTIN.fullmatch(native) is not None
    if "." in native or native.startswith('"'):  # a domain or an extension's type: MySQL has no qualified types
        return True
    parsed = _meaning(native, (), None, None, None)
    facets = ("kind", "bits", "unsigned", "precision", "binary")
    return all(getattr(parsed, facet) == getattr(type, facet) for facet in facets)


def native(type: LogicalType, *, key: bool = False, flavour: str = "postgresql", enum: str | None = None) -> tuple[str, str | None]:
    """The spelling for CREATE TABLE, and why it is not exact (None: every value goes in and comes out as it was).

    A reason that begins with `refuses` means that some values are rejected loudly; any other one, that values change their form.
    `enum` is the name of an enum type that was made for a foreign ENUM. `key` and `flavour` matter to MySQL only.
    """
    if own(type):
        return type.native, None
    p = f"({type.precision})" if type.precision is not None and type.precision < 6 else ""
    n = f"({type.length})" if type.length else ""
    match type.kind:
        case Kind.BOOL:
            return "boolean", None
        case Kind.INT:
            return _integer(type), None
        case Kind.DECIMAL:
            return ("numeric" if type.precision is None else f"numeric({type.precision},{type.scale or 0})"), None
        case Kind.FLOAT:
            return ("real" if type.bits == 32 else "double precision"), None
        case Kind.TEXT if type.length and type.length <= 10485760:
            return (f"character{n}" if type.fixed else f"character varying{n}"), "refuses U+0000"
        case Kind.TEXT:
            return "text", "refuses U+0000"
        case Kind.BYTES:
            return "bytea", None
        case Kind.DATE:
            return "date", "refuses zero dates, days and months of 0"
        case Kind.TIME:
            return f"time{p} without time zone", "refuses times below 00:00:00 and beyond 24:00:00"
        case Kind.TIMESTAMP:
            return f"timestamp{p} without time zone", "refuses zero dates, days and months of 0"
        case Kind.TIMESTAMPTZ:
            return f"timestamp{p} with time zone", "refuses zero dates"
        case Kind.TIMETZ:
            return f"time{p} with time zone", None
        case Kind.INTERVAL:
            return "interval", None
        case Kind.UUID:
            return "uuid", None
        case Kind.JSON:
            return ("jsonb" if type.binary else "json"), ("numbers and spacing may be normalised" if type.binary else None)
        case Kind.BITS:
            return (f"bit{n}" if type.fixed else f"bit varying{n}"), None
        case Kind.ENUM:
            if enum is not None:
                return enum, "refuses the empty error value of ENUM"
            return "text", "labels are no longer checked"
        case Kind.SET:
            return "text", "a SET becomes its labels joined by commas, no longer checked"
        case Kind.YEAR:
            return "smallint", None
        case Kind.GEOMETRY:
            return "text", "geometry becomes EWKT text"
        case Kind.OTHER if type.native in {"inet4", "inet6"}:
            return "inet", None
    return "text", f"{type} has no counterpart and becomes text"


def _integer(type: LogicalType) -> str:
    bits = (type.bits or 32) + (1 if type.unsigned else 0)
    return "smallint" if bits <= 16 else "integer" if bits <= 32 else "bigint" if bits <= 64 else "numeric(20,0)"


def base_name(type: LogicalType) -> str:
    """The name that an OTHER type's form is known by: of a domain its base's, of an extension's type the one without the schema."""
    return type.element.native if type.kind is Kind.OTHER and type.element is not None else type.native


def is_domain(type: LogicalType) -> bool:
    """Whether a type with a name of its own is a domain, as far as its form matters (a domain over an enum passes for an enum)."""
    if "." not in type.native or type.kind in {Kind.ENUM, Kind.GEOMETRY, Kind.ARRAY}:
        return False
    if type.kind is Kind.OTHER:
        return type.element is not None and _BUILTIN.fullmatch(type.element.native) is not None
    return not (type.kind is Kind.TEXT and type.case_insensitive)


def canonical_sql(expr: str, type: LogicalType) -> str:
    """A text expression: the canonical text of `expr`. Relies on the session settings of `connection`."""
    match type.kind:
        case Kind.TEXT if type.native in {"text", "character varying"} or type.native.startswith("character varying("):
            return f"{expr}::text"
        case Kind.BOOL:
            return f"(CASE WHEN {expr} THEN 't' WHEN NOT {expr} THEN 'f' END)"
        case Kind.OTHER if base_name(type) == "inet":
            # ::text would add the /32 that the type's own output leaves out
            return f"pg_catalog.textin(pg_catalog.inet_out({expr}))"
        case Kind.GEOMETRY:
            return f"ST_AsEWKT({expr})"
    return f"({expr})::text"


def copy_sql(expr: str, type: LogicalType) -> str:
    """What to select in COPY … TO so that the field is canonical text: the bare column where its output function does it."""
    if type.kind is Kind.GEOMETRY or (type.kind is Kind.TEXT and type.fixed):
        return canonical_sql(expr, type)
    return expr


def literal_sql(text_expr: str, type: LogicalType) -> str:
    """The value of this type whose canonical text is `text_expr`."""
    if type.kind is Kind.GEOMETRY:
        return f"ST_GeomFromEWKT({text_expr})"
    return f"({text_expr})::{native(type)[0]}"


def sql_exact(type: LogicalType) -> bool:
    """Whether `canonical_sql` is byte for byte what the decoders and the other product's canonical text are."""
    return type.kind is not Kind.GEOMETRY


def debezium_loses(type: LogicalType) -> str | None:
    """Which values of the type Debezium cannot carry (they are found by verify and repaired by re-reading), or None."""
    match type.kind:
        case Kind.TIMETZ:
            return "a time with a zone arrives in UTC without its offset, 24:00:00 as 00:00:00"
        case Kind.TIMESTAMP:
            return "timestamps after 294247-01-10 04:00:25 stop the stream"
        case Kind.INTERVAL:
            return "an interval of more than 2147483647 hours stops the connector"
        case Kind.BITS if not type.fixed:
            return "leading zeros of a bit varying are lost"
        case Kind.ARRAY if type.element is not None:
            return _array_loses(type.element)
    return None


def _array_loses(element: LogicalType) -> str:
    dimensions = "arrays of more than one dimension arrive with NULLs for their rows, or stop the stream"
    match element.kind:
        case Kind.BITS if element.fixed:
            return "the whole array arrives as NULL"
        case Kind.DECIMAL:
            return f"an array with NaN or infinity in it arrives as NULL; {dimensions}"
        case Kind.DATE | Kind.TIMESTAMP | Kind.TIMESTAMPTZ:
            return f"dates BC in an array arrive as AD; {dimensions}"
        case Kind.TIME | Kind.TIMETZ:
            return f"24:00:00 in an array arrives as 00:00:00; {dimensions}"
    return dimensions


def debezium_refuses(type: LogicalType) -> str | None:
    """Why a column of this type cannot be streamed at all, or None: it must be dropped from the mapping."""
    element = type.element if type.kind is Kind.ARRAY else None
    if element is None:
        return None
    missing = (
        element.kind is Kind.INTERVAL or element.native in {"name", "money", "point"} or (element.kind is Kind.BITS and not element.fixed)
    )
    return f"Debezium leaves columns of type {type} out of its events" if missing else None


_UNCHANGED_KNOWN = {Kind.JSON, Kind.BYTES, Kind.UUID, Kind.DATE}


def unchanged_lost(type: LogicalType) -> bool:
    """Whether an unchanged large value of this type arrives as NULL instead of Debezium's placeholder, unless the table has
    REPLICA IDENTITY FULL. (A value is large when its row is beyond 2 kB.)"""
    if type.kind is Kind.BITS:
        return type.length is None or type.length > 8 * 1024
    if type.kind is not Kind.ARRAY or type.element is None:
        return False
    element = type.element
    if is_domain(element):
        return True
    if element.kind is Kind.INT:
        return (element.bits or 0) < 32 or element.unsigned
    if element.kind is Kind.TEXT:
        return element.case_insensitive
    return element.kind not in _UNCHANGED_KNOWN
