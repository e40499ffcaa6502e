"""SQL expressions of one product in another's words: defaults, and the conditions of CHECK. What is not surely the same is None."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Literal

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from pipeline.model import Engine

_DIALECTS: dict[Engine, str] = {"postgresql": "postgres", "mysql": "mysql"}


@dataclasses.dataclass(frozen=True, slots=True)
class Default:
    """What a column's DEFAULT means. `text` is the value's text, or a precision of `now`."""

    kind: Literal["text", "number", "bool", "bits", "null", "now", "today", "uuid"]
    text: str = ""


_CAST = re.compile(r"(.*)::[\w \"\.\(\),\[\]]+", re.DOTALL)
_STRING = re.compile(r"'((?:[^'\\]|''|\\.)*)'", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_BITS = re.compile(r"[bB]'([01]*)'")
_NOW = re.compile(
    r"(?:now|current_timestamp|localtimestamp|transaction_timestamp|statement_timestamp|clock_timestamp)(?:\((\d?)\))?", re.IGNORECASE
)
_TODAY = re.compile(r"(?:current_date|curdate)(?:\(\))?", re.IGNORECASE)
_UUID = re.compile(r"(?:[\w\"]+\.)?(?:gen_random_uuid|uuid_generate_v4|uuid)\(\)", re.IGNORECASE)


def default(expression: str, engine: Engine) -> Default | None:
    """A DEFAULT clause's expression, where it is one of the plain ones."""
    text = _bare(expression.strip(), engine)
    if match := _STRING.fullmatch(text):
        return Default("text", _unquoted(match[1], backslashes=engine == "mysql"))
    if _NUMBER.fullmatch(text):
        return Default("number", text)
    if match := _BITS.fullmatch(text):
        return Default("bits", match[1])
    if text.lower() in {"true", "false"}:
        return Default("bool", text.lower())
    if text.lower() == "null":
        return Default("null")
    if match := _NOW.fullmatch(text):
        return Default("now", match[1] or "")
    if _TODAY.fullmatch(text):
        return Default("today")
    if _UUID.fullmatch(text):
        return Default("uuid")
    return None


def _bare(text: str, engine: Engine) -> str:
    """Without PostgreSQL's casts and brackets around a literal."""
    while True:
        inner = text
        if engine == "postgresql" and (match := _CAST.fullmatch(inner)) and _whole(match[1]):
            inner = match[1]
        if inner.startswith("(") and inner.endswith(")") and inner.count("(") == inner.count(")") == 1:
            inner = inner[1:-1].strip()
        if inner == text:
            return text
        text = inner


def _whole(text: str) -> bool:
    return text.count("'") % 2 == 0 and text.count("(") == text.count(")")


def _unquoted(text: str, *, backslashes: bool) -> str:
    if not backslashes:
        return text.replace("''", "'")
    letters = {"n": "\n", "r": "\r", "t": "\t", "0": "\0", "Z": "\x1a", "b": "\b"}
    return re.sub(r"''|\\(.)", lambda m: "'" if m[1] is None else letters.get(m[1], m[1]), text, flags=re.DOTALL)


# Operators that mean the same everywhere. Functions do not: LENGTH counts bytes in one and characters in the other.
_SAME = (
    exp.And, exp.Or, exp.Not, exp.Paren, exp.EQ, exp.NEQ, exp.GT, exp.GTE, exp.LT, exp.LTE, exp.In, exp.Between, exp.Is, exp.Null,
    exp.Column, exp.Identifier, exp.Literal, exp.Boolean, exp.Neg, exp.Add, exp.Sub, exp.Mul,
)  # fmt: skip


def condition(expression: str, source: Engine, target: Engine, renames: Mapping[str, str], quote: Callable[[str], str]) -> str | None:
    """A CHECK's condition over renamed columns, or None when it cannot be said, or one of its columns is gone."""
    try:
        tree = sqlglot.parse_one(expression, read=_DIALECTS[source])
    except SqlglotError:
        return None
    if source == "postgresql":
        tree = tree.transform(_plain)
    if not all(isinstance(node, _SAME) for node in tree.walk()):
        return None
    names: dict[str, str] = {}
    for number, node in enumerate(tree.find_all(exp.Column)):
        if node.table or node.name not in renames:
            return None
        # a placeholder first, so that a swap of two names comes out right
        names[f"column_{number}_"] = quote(renames[node.name])
        node.this.set("this", f"column_{number}_")
        node.this.set("quoted", False)
    if any(literal.is_string and "\\" in literal.this for literal in tree.find_all(exp.Literal)):
        return None  # escapes are not the same
    text = tree.sql(dialect=_DIALECTS[target])
    return re.sub(r"column_\d+_", lambda match: names[match[0]], text)


def _plain(node: exp.Expression) -> exp.Expression:
    """PostgreSQL's deparsed `(x)::text = ANY (ARRAY['a'::text])` as `x IN ('a')`, literals without casts."""
    if isinstance(node, exp.Cast) and node.to.is_type("text", "varchar", "char", "decimal", "int", "bigint", "smallint", "double"):
        inner = node.this.unnest()
        if isinstance(inner, (exp.Column, exp.Literal, exp.Array)):
            return _plain(inner) if not isinstance(inner, exp.Array) else inner
    if isinstance(node, exp.EQ) and isinstance(node.expression, exp.Any):
        array = node.expression.this
        while isinstance(array, (exp.Paren, exp.Cast)):
            array = array.this
        if isinstance(array, exp.Array):
            return exp.In(this=node.this.transform(_plain), expressions=[item.transform(_plain) for item in array.expressions])
    return node
