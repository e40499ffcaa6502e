"""The nodes of a row filter: each answers True, False or None (unknown) over a row's texts, and writes itself as SQL."""

from __future__ import annotations

import dataclasses
import operator
import re
from collections.abc import Callable, Sequence

from pipeline.model import Engine, Text
from transforms import dialect
from transforms._comparable import Comparable, Literal

Row = Sequence[Text]
Test = Callable[[Row], bool | None]

OPERATORS: dict[str, Callable[[object, object], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,  # type: ignore[dict-item]
    "<=": operator.le,  # type: ignore[dict-item]
    ">": operator.gt,  # type: ignore[dict-item]
    ">=": operator.ge,  # type: ignore[dict-item]
}
MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


class Node:
    """One condition."""

    def test(self, at: dict[str, int]) -> Test:
        """The condition over rows whose column `name` is at `at[name]`."""
        raise NotImplementedError

    def sql(self, engine: Engine) -> str:
        """The condition in SQL, in parentheses where it needs them."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Constant(Node):
    """TRUE, FALSE."""

    value: bool

    def test(self, at: dict[str, int]) -> Test:
        return lambda row: self.value

    def sql(self, engine: Engine) -> str:
        return "TRUE" if self.value else "FALSE"


@dataclasses.dataclass(frozen=True)
class Not(Node):
    """Unknown stays unknown."""

    inner: Node

    def test(self, at: dict[str, int]) -> Test:
        inner = self.inner.test(at)
        return lambda row: None if (found := inner(row)) is None else not found

    def sql(self, engine: Engine) -> str:
        return f"(NOT {self.inner.sql(engine)})"


@dataclasses.dataclass(frozen=True)
class Both(Node):
    """AND (`decisive` False) or OR (`decisive` True): the decisive answer wins, then unknown."""

    left: Node
    right: Node
    decisive: bool

    def test(self, at: dict[str, int]) -> Test:
        left, right, decisive = self.left.test(at), self.right.test(at), self.decisive

        def test(row: Row) -> bool | None:
            first = left(row)
            if first is decisive:
                return decisive
            second = right(row)
            if second is decisive:
                return decisive
            return None if first is None or second is None else not decisive

        return test

    def sql(self, engine: Engine) -> str:
        return f"({self.left.sql(engine)} {'OR' if self.decisive else 'AND'} {self.right.sql(engine)})"


@dataclasses.dataclass(frozen=True)
class IsNull(Node):
    """Never unknown."""

    column: str

    def test(self, at: dict[str, int]) -> Test:
        place = at[self.column]
        return lambda row: row[place] is None

    def sql(self, engine: Engine) -> str:
        return f"({dialect.quote(engine, self.column)} IS NULL)"


@dataclasses.dataclass(frozen=True)
class Compare(Node):
    """A column with a value, or with another column of its family."""

    left: Comparable
    sign: str
    right: Comparable | Literal

    def test(self, at: dict[str, int]) -> Test:
        compare, key, place = OPERATORS[self.sign], self.left.key, at[self.left.column.name]
        if isinstance(self.right, Literal):
            value = self.right.key
            return lambda row: None if (text := row[place]) is None else compare(key(text), value)
        other_key, other = self.right.key, at[self.right.column.name]

        def test(row: Row) -> bool | None:
            one, two = row[place], row[other]
            return None if one is None or two is None else compare(key(one), other_key(two))

        return test

    def sql(self, engine: Engine) -> str:
        return f"({self.left.sql(engine)} {self.sign} {self.right.sql(engine)})"


@dataclasses.dataclass(frozen=True)
class OneOf(Node):
    """IN over values; a NULL among them makes every miss unknown."""

    left: Comparable
    values: tuple[Literal, ...]
    null: bool = False

    def test(self, at: dict[str, int]) -> Test:
        key, place, miss = self.left.key, at[self.left.column.name], None if self.null else False
        values = [value.key for value in self.values]

        def test(row: Row) -> bool | None:
            text = row[place]
            return None if text is None else True if key(text) in values else miss

        return test

    def sql(self, engine: Engine) -> str:
        values = [value.sql(engine) for value in self.values] + (["NULL"] if self.null else [])
        return f"({self.left.sql(engine)} IN ({', '.join(values)}))"


@dataclasses.dataclass(frozen=True)
class Like(Node):
    """LIKE by code point, letter case counting; `%`, `_`, and `escape` before either."""

    left: Comparable
    pattern: tuple[tuple[str, str], ...]  # ("%", ""), ("_", ""), ("=", literal character)

    def test(self, at: dict[str, int]) -> Test:
        words = {"%": ".*", "_": "."}
        expression = re.compile("".join(words.get(kind) or re.escape(letter) for kind, letter in self.pattern), re.DOTALL)
        place = at[self.left.column.name]
        return lambda row: None if (text := row[place]) is None else expression.fullmatch(text) is not None

    def sql(self, engine: Engine) -> str:
        # ! as escape: a backslash would mean different things in different modes
        text = "".join(kind if kind != "=" else f"!{letter}" if letter in "%_!" else letter for kind, letter in self.pattern)
        expr = dialect.canonical(engine, self.left.column.name, self.left.column.type)
        collation = '"C"' if engine == "postgresql" else "utf8mb4_bin"
        return f"(({expr}) COLLATE {collation} LIKE {dialect.literal(engine, text)} ESCAPE '!')"


@dataclasses.dataclass(frozen=True)
class Truth(Node):
    """A boolean column by itself, or a number that is not 0."""

    left: Comparable

    def test(self, at: dict[str, int]) -> Test:
        key, place, number = self.left.key, at[self.left.column.name], self.left.family != "bool"
        return lambda row: None if (text := row[place]) is None else key(text) != (0, 0) if number else bool(key(text))

    def sql(self, engine: Engine) -> str:
        name = self.left.sql(engine)
        return f"({name} <> 0)" if self.left.family != "bool" else name


def like_pattern(text: str, escape: str) -> tuple[tuple[str, str], ...]:
    """Raises ValueError for an escape at the end."""
    out: list[tuple[str, str]] = []
    letters = iter(text)
    for letter in letters:
        if letter == escape:
            following = next(letters, None)
            if following is None:
                raise ValueError("the pattern ends with its escape character")
            out.append(("=", following))
        elif letter in "%_":
            out.append((letter, ""))
        else:
            out.append(("=", letter))
    return tuple(out)
