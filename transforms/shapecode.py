"""The Python that shapes rows, written once for each table: what an interpreter would look up for every value is in the code already.

Rows of events come as the JSON that they are in (`pipeline.records`): each function has a reader (msgspec's) of just the columns that it is
about.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import types
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

import msgspec

from pipeline.errors import DataRejected, SchemaChanged
from pipeline.model import UNCHANGED, Key, Kind, LogicalType, Row, Text
from pipeline.records import RowText

UNAVAILABLE = "__debezium_unavailable_value"
"""Debezium's stand-in for a column that an event leaves out (an unchanged TOAST value); arrays and bytes have forms of their own."""

_INLINE = frozenset(
    {
        Kind.BOOL,
        Kind.INT,
        Kind.FLOAT,
        Kind.DATE,
        Kind.TIME,
        Kind.TIMETZ,
        Kind.TIMESTAMP,
        Kind.TIMESTAMPTZ,
        Kind.INTERVAL,
        Kind.UUID,
        Kind.ENUM,
    }
)

_ABSENT = object()
_NOTHING = msgspec.Raw()
_ODD_NAME = re.compile(r'[\\"\x00-\x1f]')
_FAULTS = (msgspec.DecodeError, KeyError, ValueError, TypeError, ArithmeticError, AttributeError, DataRejected)

Decoders = Mapping[str, Callable[[object], Text] | None]


class ColumnMissing(SchemaChanged):
    """A column that is carried over is not in an event: dropped or renamed, or the event is from before it was added."""

    def __init__(self, table: str, column: str) -> None:
        what = "make the same change on the target and in the mapping, then crossfade resume"
        super().__init__(f"an event of {table} has no column {column!r}", hint=what)
        self.table, self.column = table, column


class ColumnsUnknown(SchemaChanged):
    """An event carries columns that the source did not have when it was last looked at: added since. Where that stands in the stream, what
    comes of it is the migration's to say."""

    def __init__(self, table: str, columns: Sequence[str]) -> None:
        super().__init__(f"table {table}: the source has new columns: {', '.join(columns)}")
        self.table, self.columns = table, tuple(columns)


def toastable(type: LogicalType) -> bool:
    """Whether PostgreSQL may keep a value of this type out of line, so that an event may leave it out."""
    return type.kind not in _INLINE


@dataclasses.dataclass(frozen=True)
class Cell:
    """One value of a row: its inputs (positions in the source columns) and what is done to them. `call` None: as it is."""

    inputs: tuple[int, ...]
    call: Callable[..., Any] | None = None
    takes_null: bool = True  # False: NULL stays NULL without a call


@dataclasses.dataclass(frozen=True)
class Source:
    """A source column as events carry it."""

    name: str
    decode: Callable[[object], Text] | None = None
    unavailable: bool = False  # the event may leave it out
    kind: Kind = Kind.TEXT
    added: bool = False  # it came while the stream ran: older events have no such column, and their rows `before_added`
    before_added: Text = None


@dataclasses.dataclass(frozen=True)
class EventShape:
    """Functions over a row as Debezium's JSON. `row`: the target row; `whole`: the same, or None when the event leaves columns out; `key`:
    the target key out of the source's key columns (an `after`, a `before` or the event's key will do); `passes`: the `where`, answering
    None when the event does not carry what it needs. All raise ColumnMissing when a column is not in the event, `row` and `whole`
    ColumnsUnknown when there are some that the table is not known to have.
    """

    row: Callable[[RowText], Row]
    whole: Callable[[RowText], Row | None]
    key: Callable[[RowText], Key]
    passes: Callable[[RowText], bool | None]
    partial: bool  # events may leave columns out: rows may hold UNCHANGED
    code: str  # the generated Python

    def __call__(self, raw: RowText) -> Row:
        return self.row(raw)


def stand_in(placeholder: str = UNAVAILABLE) -> Callable[[object], bool]:
    """Tells Debezium's stand-in from a value, in every form that it has: text, base64, UUID, byte by byte, in an array or in a mapping."""
    data = placeholder.encode()
    named = uuid.UUID(bytes=hashlib.md5(data, usedforsecurity=False).digest(), version=3)  # Java's UUID.nameUUIDFromBytes
    texts = frozenset({placeholder, base64.b64encode(data).decode(), str(named), f'{{"{placeholder}":"{placeholder}"}}'})
    numbers = list(data)

    def stands_in(value: object) -> bool:
        if isinstance(value, str):
            return value in texts
        if isinstance(value, list):
            return (len(value) == 1 and stands_in(value[0])) or value == numbers
        return isinstance(value, dict) and any(isinstance(part, str) and part in texts for part in value.values())

    return stands_in


class _Writer:
    """Collects lines and the objects they refer to."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"U": UNCHANGED, "FAULTS": _FAULTS, "ABSENT": _ABSENT}
        self.lines: list[str] = []

    def bind(self, prefix: str, value: object) -> str:
        for name, there in self.names.items():
            if there is value:
                return name
        name = f"{prefix}{len(self.names)}"
        self.names[name] = value
        return name

    def function(self, name: str, file: str) -> Any:
        code = compile("\n".join(self.lines) + "\n", file, "exec")
        exec(code, self.names)  # noqa: S102  our own text: every name and literal in it is repr()'d or bound
        return self.names[name]


class EventCode:
    """Writes the functions of one table's EventShape."""

    def __init__(self, table: str, sources: Sequence[Source], placeholder: str = UNAVAILABLE, known: Set[str] | None = None) -> None:
        """`known`: all columns that events of the table may have, where one more is to be told; None: whatever they have."""
        self.table = table
        self.sources = sources
        self.known = known
        self.out = _Writer()
        self._stands_in = stand_in(placeholder)
        self.out.names |= {"S": self._stands_in, "T": placeholder, "B": base64.b64encode(placeholder.encode()).decode()}

    def _any_reader(self, columns: Sequence[int], *, strict: bool) -> Callable[[RowText], object]:
        """The same, slower, where columns have names that msgspec takes for no names."""

        def read(row: RowText) -> object:
            there = msgspec.json.decode(row, type=dict[str, Any])
            if strict and self.known is not None and not there.keys() <= self.known:
                raise ValueError
            found: dict[str, object] = {}
            for at in columns:
                source = self.sources[at]
                value = there.get(source.name, _ABSENT) if source.added else there[source.name]
                if source.decode is None and not isinstance(value, str | None) and value is not _ABSENT:
                    raise TypeError
                found[f"c{at}"] = value
            return types.SimpleNamespace(**found)

        return read

    def shape(
        self,
        cells: Sequence[Cell],
        key: Sequence[Cell],
        where: Cell | None,
    ) -> EventShape:
        """Compiles them. `where.call` answers True, False or None over its inputs."""
        self._function("row", cells)
        partial = any(self.sources[at].unavailable for cell in cells for at in cell.inputs)
        if partial:
            self._function("whole", cells, plain=True)
        self._function("key", key, plain=True)
        if where is not None:
            self._where(where)
        self.out.function("row", f"<shape of {self.table}>")
        names = self.out.names
        return EventShape(
            names["row"],
            names["whole" if partial else "row"],
            names["key"],
            names["passes"] if where else _always,
            partial,
            "\n".join(self.out.lines),
        )

    def _raw(self, at: int, plain: bool) -> tuple[str, bool, bool]:
        """Expression of a decoded source value, whether it may be NULL-checked away, whether it may be UNCHANGED."""
        source = self.sources[at]
        if not source.added:
            return self._value_of(at, f"raw.c{at}", plain)
        expr, null, left_out = self._value_of(at, f"raw.c{at}", plain)
        return f"({source.before_added!r} if raw.c{at} is ABSENT else {expr})", null, left_out

    def _reader(self, columns: Iterable[int], *, strict: bool = False) -> Callable[[RowText], object]:
        """Reads these columns of a row, and the other ones not; `strict`: there are none but the known ones."""
        if any(_ODD_NAME.search(name) for name in (*(source.name for source in self.sources), *(self.known or ()))):
            return self._any_reader(list(columns), strict=strict)
        fields: list[tuple[str, Any, Any]] = []
        for at in columns:
            source = self.sources[at]
            default = msgspec.field(name=source.name, default=_ABSENT) if source.added else msgspec.field(name=source.name)
            fields.append((f"c{at}", str | None if source.decode is None else Any, default))
        strict = strict and self.known is not None
        if strict:
            read = {self.sources[at].name for at in columns}
            more = sorted((self.known or set()) - read)
            fields += [(f"x{n}", msgspec.Raw, msgspec.field(name=name, default=_NOTHING)) for n, name in enumerate(more)]
        row = msgspec.defstruct("Row", fields, gc=False, kw_only=True, forbid_unknown_fields=strict)
        return msgspec.json.Decoder(row).decode

    def _value_of(self, at: int, raw: str, plain: bool) -> tuple[str, bool, bool]:
        source = self.sources[at]
        left_out = source.unavailable and not plain
        if source.decode is None:
            if not left_out:
                return raw, True, False
            test = _left_out(source.kind, f"v{at}")
            return f"(U if {test.replace(f'v{at}', f'(v{at} := {raw})', 1)} else v{at})", True, True
        decode = self.out.bind("d", source.decode)
        if not left_out:
            return f"(None if (v{at} := {raw}) is None else {decode}(v{at}))", True, False
        test = _left_out(source.kind, f"v{at}")
        return f"(None if (v{at} := {raw}) is None else U if {test} else {decode}(v{at}))", True, True

    def _function(self, name: str, cells: Sequence[Cell], *, plain: bool = False) -> None:
        out = self.out
        uses: dict[int, int] = {}
        for cell in cells:
            for at in set(cell.inputs):
                uses[at] = uses.get(at, 0) + 1
        body: list[str] = []
        loaded: dict[int, tuple[str, bool]] = {}
        for at in sorted(uses):
            expr, _, left_out = self._raw(at, plain)
            if uses[at] > 1 or any(cell.call is not None and at in cell.inputs for cell in cells):
                body.append(f"        c{at} = {expr}")
                expr = f"c{at}"
            loaded[at] = (expr, left_out)
        values = [self._value(cell, loaded) for cell in cells]
        if name == "whole":
            body.insert(0, f"        if {self._left_out(sorted(uses))}: return None")
        out.lines += [
            f"def {name}(row):",
            "    try:",
            f"        raw = {out.bind('r', self._reader(sorted(uses), strict=name != 'key'))}(row)",
            *body,
            f"        return ({', '.join(values)}{',' if len(values) == 1 else ''})",
            "    except FAULTS as fault:",
            f"        raise {out.bind('e', self._explained)}(row, fault, {sorted(uses)!r}, {name != 'key'!r}) from None",
        ]

    def _left_out(self, columns: Sequence[int]) -> str:
        """The test whether an event leaves any of these columns out."""
        tests: dict[str, list[str]] = {}
        for at in columns:
            if self.sources[at].unavailable:
                tests.setdefault(_stand_in_of(self.sources[at].kind), []).append(f"raw.c{at}")
        some = [f"S({value})" for value in tests.pop("", ())]
        return " or ".join([f"{form} in ({', '.join(values)},)" for form, values in tests.items()] + some)

    def _value(self, cell: Cell, loaded: Mapping[int, tuple[str, bool]]) -> str:
        inputs = [loaded[at][0] for at in cell.inputs]
        if cell.call is None:
            return inputs[0]
        call = f"{self.out.bind('f', cell.call)}({', '.join(inputs)})"
        maybe = [name for at, name in zip(cell.inputs, inputs, strict=True) if loaded[at][1]]
        if len(inputs) == 1:
            tests = ([f"{inputs[0]} is U"] if maybe else []) + ([] if cell.takes_null else [f"{inputs[0]} is None"])
            return f"({inputs[0]} if {' or '.join(tests)} else {call})" if tests else call
        if not maybe:
            return call
        some = " or ".join(f"{name} is U" for name in maybe)
        every = " and ".join(f"{name} is U" for name in inputs) if len(maybe) == len(inputs) else "False"
        return f"(U if {every} else {self.out.bind('g', self._partly)}() if {some} else {call})"

    def _explained(self, row: RowText, fault: Exception, columns: Sequence[int], strict: bool) -> Exception:
        """Which column it was, without the value: it may be one that must not be shown."""
        if isinstance(fault, DataRejected):
            return DataRejected(f"{self.table}: {fault}")
        try:
            raw = msgspec.json.decode(row, type=dict[str, Any])
        except (msgspec.DecodeError, ValueError):
            return DataRejected(f"{self.table}: the event's row cannot be read ({type(fault).__name__})")
        sources = [self.sources[at] for at in columns]
        for source in sources:
            if source.name not in raw and not source.added:
                return ColumnMissing(self.table, source.name)
        if strict and self.known is not None and (more := [name for name in raw if name not in self.known]):
            return ColumnsUnknown(self.table, more)
        for source in sources:
            value = raw.get(source.name)
            if value is None:
                continue
            try:
                left_out = source.unavailable and self._stands_in(value)
                text = None if left_out else source.decode(value) if source.decode is not None else value
            except Exception as error:
                return DataRejected(f"{self.table}.{source.name}: cannot read the event's value ({type(error).__name__})")
            if not isinstance(text, str | None):
                return DataRejected(f"{self.table}.{source.name}: the event holds a {type(value).__name__}")
        return DataRejected(f"{self.table}: a transform raised {type(fault).__name__}")

    def _partly(self) -> Text:
        raise DataRejected(
            "an event leaves out a column that a transform over several columns needs",
            hint="set REPLICA IDENTITY FULL on the table",
        )

    def _where(self, where: Cell) -> None:
        loaded: dict[int, tuple[str, bool]] = {}
        body = []
        used = sorted(set(where.inputs))
        for at in used:
            expr, _, left_out = self._raw(at, plain=False)
            body.append(f"        c{at} = {expr}")
            loaded[at] = (f"c{at}", left_out)
            if left_out:
                body.append(f"        if c{at} is U: return None")
        call = f"{self.out.bind('f', where.call)}({', '.join(f'c{at}' for at in where.inputs)})"
        self.out.lines += [
            "def passes(row):",
            "    try:",
            f"        raw = {self.out.bind('r', self._reader(used))}(row)",
            *body,
            f"        return {call} is True",
            "    except FAULTS as fault:",
            f"        raise {self.out.bind('e', self._explained)}(row, fault, {used!r}, False) from None",
        ]


def _left_out(kind: Kind, name: str) -> str:
    """The test for a left-out value: one comparison where the type has one form of it (fresh strings have no hash yet)."""
    form = _stand_in_of(kind)
    return f"{name} == {form}" if form else f"S({name})"


def _stand_in_of(kind: Kind) -> str:
    """The generated code's name of the one form that a left-out value of this type has; "": there are several."""
    match kind:
        case Kind.TEXT | Kind.JSON | Kind.DECIMAL:
            return "T"
        case Kind.BYTES | Kind.BITS:
            return "B"
    return ""


def _always(row: RowText) -> bool | None:
    return True


def text_shape(cells: Sequence[Cell], where: Cell | None) -> Callable[[Sequence[Text]], tuple[Text, ...] | None]:
    """The same over canonical text of the source columns. Answers None for a row that the `where` keeps out."""
    out = _Writer()
    values = []
    for cell in cells:
        inputs = [f"v[{at}]" for at in cell.inputs]
        if cell.call is None:
            values.append(inputs[0])
            continue
        call = f"{out.bind('f', cell.call)}({', '.join(inputs)})"
        values.append(call if cell.takes_null or not inputs else f"(None if {inputs[0]} is None else {call})")
    out.lines.append("def shape(v):")
    if where is not None:
        out.lines.append(f"    if {out.bind('f', where.call)}({', '.join(f'v[{at}]' for at in where.inputs)}) is not True: return None")
    out.lines.append(f"    return ({', '.join(values)}{',' if len(values) == 1 else ''})")
    shape: Callable[[Sequence[Text]], tuple[Text, ...] | None] = out.function("shape", "<shape of a table>")
    return shape
