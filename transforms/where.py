"""Row filters: the `where:` of an entry, as a Python predicate over canonical text and as SQL of the source.

What both sides answer alike: columns against values or columns with = <> < <= > >=, IN, BETWEEN, LIKE, IS [NOT] NULL, AND, OR, NOT.
Text compares by code point: letter case and trailing spaces count, whatever the column's collation.
"""

from __future__ import annotations

import decimal
import re
from collections.abc import Mapping

import sqlglot
from sqlglot import exp

from pipeline.errors import BadInput
from pipeline.model import Column, Engine
from pipeline.spec.strict import suggestion
from transforms._comparable import Comparable, Literal, Unfit, comparable
from transforms._predicate import MIRRORED, Both, Compare, Constant, IsNull, Like, Node, Not, OneOf, Truth, like_pattern
from transforms.rowfilter import Filter

_SIGNS: dict[type[exp.Expression], str] = {exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">="}
_PARTS = frozenset({"this", "expression", "expressions", "low", "high", "query", "negate"})
_LONGEST = 10_000
_ALLOWED = "use columns and values with = <> < <= > >=, in, between, like, is null, and, or, not"


def read_filter(text: str, engine: Engine, columns: Mapping[str, Column], path: str) -> Filter:
    """The condition in the source's own dialect. Raises BadInput naming `path`."""
    try:
        reading = _Reading(engine, columns)
        node = reading.condition(_parse(text, engine))
    except (Unfit, ValueError) as error:
        raise BadInput(f"{path}: {error}") from None
    except RecursionError:
        raise BadInput(f"{path}: is nested too deep") from None
    at = {name: place for place, name in enumerate(reading.used)}
    test = node.test(at)
    return Filter(text, tuple(reading.used), lambda *row: test(row), node.sql)


def _parse(text: str, engine: Engine) -> exp.Expression:
    if len(text) > _LONGEST:
        raise Unfit(f"is longer than {_LONGEST} characters")
    try:
        found = sqlglot.parse(f"SELECT 1 FROM t WHERE (\n{text}\n)", dialect="postgres" if engine == "postgresql" else "mysql")
    except sqlglot.errors.SqlglotError as error:
        reason = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split(". Line", 1)[0].splitlines()[0]
        raise Unfit(f"is no condition: {reason}") from None
    if len(found) != 1 or not isinstance(found[0], exp.Select):
        raise Unfit("must be one condition")
    select = found[0]
    extra = [name for name, value in select.args.items() if value and name not in {"expressions", "from", "from_", "where", "kind", "hint"}]
    condition = select.args["where"].this
    if extra or not isinstance(condition, exp.Paren):
        raise Unfit("must be one condition")
    inner: exp.Expression = condition.this
    return inner


class _Reading:
    """Turns sqlglot's tree into nodes, remembering which columns are looked at."""

    def __init__(self, engine: Engine, columns: Mapping[str, Column]) -> None:
        self.engine = engine
        self.columns = columns
        self.used: list[str] = []

    def condition(self, node: exp.Expression) -> Node:
        # a part of the tree that is passed over would change what the filter means, and silently
        strange = sorted(name for name, value in node.args.items() if value and name not in _PARTS)
        if strange and not isinstance(node, exp.Column):
            raise Unfit(f"{_shown(node)} is not known here: {_ALLOWED}")
        found = self.affirmed(node)
        return Not(found) if node.args.get("negate") else found

    def affirmed(self, node: exp.Expression) -> Node:
        """The node without its own `negate`, which stands for IS NOT and NOT LIKE in some dialects."""
        match node:
            case exp.Paren():
                return self.condition(node.this)
            case exp.And() | exp.Or():
                return Both(self.condition(node.this), self.condition(node.expression), decisive=isinstance(node, exp.Or))
            case exp.Not():
                return Not(self.condition(node.this))
            case exp.Boolean():
                return Constant(bool(node.this))
            case exp.Is():
                return self.is_test(node)
            case exp.In():
                return self.one_of(node)
            case exp.Between():
                column, low, high = self.column(node.this), node.args["low"], node.args["high"]
                return Both(self.compare(column, ">=", low), self.compare(column, "<=", high), decisive=False)
            case exp.Escape() if isinstance(node.this, exp.Like):
                like = self.like(node.this, node.expression.this)
                return Not(like) if node.this.args.get("negate") else like
            case exp.Like():
                return self.like(node, "\\")
            case exp.Column():
                alone = self.comparable(node)
                if alone.family not in {"bool", "number"}:
                    raise Unfit(f"{alone.column.name} alone is no condition")
                return Truth(alone)
        for kind, sign in _SIGNS.items():
            if type(node) is kind:
                return self.comparison(node, sign)
        raise Unfit(f"{_shown(node)} is not known here: {_ALLOWED}")

    def comparison(self, node: exp.Expression, sign: str) -> Node:
        left, right = _bare(node.this), _bare(node.expression)
        if not isinstance(left, exp.Column):
            if not isinstance(right, exp.Column):
                raise Unfit(f"{_shown(node)} looks at no column")
            left, right, sign = right, left, MIRRORED[sign]
        return self.compare(self.column(left), sign, right)

    def compare(self, column: Column, sign: str, other: exp.Expression) -> Node:
        left = comparable(column)
        if sign not in {"=", "<>"} and not left.ordered:
            raise Unfit(f"{column.name} is {column.type.kind.value}, which has no order: use = or <>")
        other = _bare(other)
        if isinstance(other, exp.Column):
            right = self.comparable(other)
            alike = left.family == right.family and (left.family in {"number", "text", "clock"} or column.type == right.column.type)
            if not alike:
                raise Unfit(f"{column.name} and {right.column.name} are of different types")
            return Compare(left, sign, right)
        if isinstance(other, exp.Null):
            raise Unfit(f"nothing equals NULL: write {column.name} is null")
        return Compare(left, sign, self.literal(left, other))

    def is_test(self, node: exp.Expression) -> Node:
        column = self.column(node.this)
        if isinstance(node.expression, exp.Null):
            return IsNull(column.name)
        if isinstance(node.expression, exp.Boolean):
            truth = Truth(comparable(column))
            if truth.left.family not in {"bool", "number"}:
                raise Unfit(f"{column.name} is no truth value")
            known = truth if node.expression.this else Not(truth)
            # IS TRUE is never unknown
            return Both(Not(IsNull(column.name)), known, decisive=False)
        raise Unfit(f"{_shown(node)} is not known here: {_ALLOWED}")

    def one_of(self, node: exp.Expression) -> Node:
        if node.args.get("query") is not None or not node.expressions:
            raise Unfit("in takes values, not a query")
        left = self.comparable(node.this)
        values = [_bare(value) for value in node.expressions]
        literals = tuple(self.literal(left, value) for value in values if not isinstance(value, exp.Null))
        if not literals:
            raise Unfit(f"nothing equals NULL: write {left.column.name} is null")
        return OneOf(left, literals, null=len(literals) < len(values))

    def like(self, node: exp.Expression, escape: str) -> Node:
        left = self.comparable(node.this)
        pattern = _bare(node.expression)
        if left.family != "text" or left.column.type.fixed:
            raise Unfit(f"like needs text of any length, and {left.column.name} is {left.column.type}")
        if not isinstance(pattern, exp.Literal) or not pattern.is_string or len(escape) != 1 or "\0" in pattern.this:
            raise Unfit(f"{_shown(node)}: like needs a pattern in quotes")
        return Like(left, like_pattern(pattern.this, escape))

    def comparable(self, node: exp.Expression) -> Comparable:
        return comparable(self.column(node))

    def column(self, node: exp.Expression) -> Column:
        node = _bare(node)
        if not isinstance(node, exp.Column):
            raise Unfit(f"{_shown(node)} is no column: {_ALLOWED}")
        if node.table:
            raise Unfit(f"{_shown(node)}: name the column alone")
        name = node.name
        found = name if name in self.columns else None
        if found is None and not (self.engine == "postgresql" and node.this.quoted):
            folded = [there for there in self.columns if there.casefold() == name.casefold()]
            found = folded[0] if len(folded) == 1 and (self.engine == "mysql" or folded[0] == name.lower()) else None
        if found is None:
            raise Unfit(f"there is no column {name!r}{suggestion(name, self.columns)}")
        if found not in self.used:
            self.used.append(found)
        return self.columns[found]

    def literal(self, left: Comparable, node: exp.Expression) -> Literal:
        node = _bare(node)
        negative = False
        while isinstance(node, exp.Neg):
            negative, node = not negative, _bare(node.this)
        if isinstance(node, exp.Boolean) and not negative:
            return left.literal(bool(node.this))
        if isinstance(node, exp.Cast) and isinstance(node.this, exp.Literal) and node.this.is_string and not negative:
            node = node.this  # DATE '2024-01-31'
        if isinstance(node, exp.Literal):
            if node.is_string and not negative:
                return left.literal(str(node.this))
            try:
                number = decimal.Decimal(node.this)
            except decimal.InvalidOperation:
                raise Unfit(f"{_shown(node)} is no number") from None
            return left.literal(-number if negative else number)
        raise Unfit(f"{_shown(node)} is no value: {_ALLOWED}")


def _bare(node: exp.Expression) -> exp.Expression:
    while isinstance(node, exp.Paren):
        node = node.this
    return node


def _shown(node: exp.Expression) -> str:
    text = node.sql()
    return f"`{text if len(text) <= 60 else text[:57] + '…'}`"
