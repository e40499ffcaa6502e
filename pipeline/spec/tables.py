"""The `tables:` list: which source table goes where and how its rows are shaped."""

from __future__ import annotations

import fnmatch
import glob
import re
from typing import Any

from pydantic import Field, field_validator, model_validator

from pipeline.spec.strict import Strict, fault

_WILD = frozenset("*?[")
_CLOSING = {'"': '"', "`": "`"}


def split_name(text: str) -> tuple[str, ...]:
    """`a.b` as its parts; a part in double quotes or backticks may hold anything, its quote doubled. Raises ValueError."""
    parts: list[str] = []
    at = 0
    while True:
        if at < len(text) and text[at] in _CLOSING:
            quote = text[at]
            end = at + 1
            part = ""
            while True:
                close = text.find(quote, end)
                if close < 0:
                    raise ValueError(f"{quote} is not closed")
                part += text[end:close]
                if text[close + 1 : close + 2] != quote:
                    break
                part += quote
                end = close + 2
            at = close + 1
            if at < len(text) and text[at] != ".":
                raise ValueError("a quoted name is followed by more than a dot")
        else:
            dot = text.find(".", at)
            end = len(text) if dot < 0 else dot
            part = text[at:end]
            at = end
        if not part:
            raise ValueError("a part of the name is empty")
        parts.append(part)
        if at >= len(text):
            return tuple(parts)
        at += 1


def _text_keys(value: Any) -> Any:
    """Keys that YAML reads as numbers or truth values as the words they were, so that JSON gives back the same."""
    if isinstance(value, list):
        return [_text_keys(item) for item in value]
    if not isinstance(value, dict):
        return value
    if None in value:
        raise fault("has an empty key")
    return {str(key).lower() if isinstance(key, bool) else str(key): _text_keys(item) for key, item in value.items()}


_ONE = re.compile(r"\[([*?\[])\]")  # a wildcard character that stands for itself: `[*]`, as glob writes it


def written(schema: str, name: str) -> str:
    """A table's name as the file takes it, whatever stands in it: quoted, wildcard characters escaped."""
    return ".".join('"' + part.replace('"', '""') + '"' for part in (schema, glob.escape(name)))


def _exactness(pattern: str) -> int:
    if pattern == "*":
        return 0
    return 1 if _wild(pattern) else 2


def _wild(pattern: str) -> bool:
    return not _WILD.isdisjoint(_ONE.sub("", pattern))


def _plain(pattern: str) -> str:
    """The one name that a pattern without wildcards stands for."""
    return _ONE.sub(r"\1", pattern)


class TableEntry(Strict):
    """One entry. `from` may hold wildcards in the table's name (`shop.*`, `shop.order_*`); the most exact entry wins, then the later one.
    A wildcard character that belongs to a name stands in brackets: `shop.what[?]`.

    Several exact entries with one `from` and different `to` split a table: each gets its own target.
    """

    from_: str = Field(alias="from", min_length=1)
    to: str | None = Field(default=None, min_length=1)
    columns: dict[str, Any] = Field(default_factory=dict)
    drop: tuple[str, ...] = ()
    where: str | None = Field(default=None, min_length=1)
    key: tuple[str, ...] = ()
    skip: bool = False  # leave this table out although a wider entry names it
    reverse: dict[str, Any] = Field(default_factory=dict)  # source column: steps over target columns, for the way back

    @field_validator("columns", "reverse", mode="before")
    @classmethod
    def _keys_are_text(cls, value: Any) -> Any:
        return _text_keys(value) if isinstance(value, dict) else value

    @field_validator("drop", "key", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @field_validator("from_", "to")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = split_name(value)
            except ValueError as error:
                raise fault(f"is not a table name: {error}") from None
            if len(parts) > 2:
                raise fault("is not a table name: write schema.table, and a name that holds a dot in double quotes")
        return value

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> TableEntry:
        if self.wild and (self.columns or self.drop or self.where or self.key or self.reverse):
            key = next(name for name in ("columns", "drop", "where", "key", "reverse") if getattr(self, name))
            raise fault("needs an entry for one table: `from` here has a wildcard", key)
        if self.to is not None and _wild(split_name(self.to)[-1]) and split_name(self.to)[-1] != "*":
            raise fault("takes no wildcard but schema.*", "to")
        if not self.wild and self.to is not None and split_name(self.to)[-1] == "*" and len(split_name(self.to)) == 1:
            raise fault("names no schema", "to")
        if self.wild and self.to is not None and split_name(self.to)[-1] != "*":
            raise fault("many tables cannot go into one: write schema.*", "to")
        return self

    @property
    def wild(self) -> bool:
        """`from` is a pattern."""
        return _exactness(split_name(self.from_)[-1]) < 2

    def exactness(self) -> int:
        """2: one table by name, 1: a pattern, 0: `*`."""
        return _exactness(split_name(self.from_)[-1])

    def source(self, default_schema: str) -> tuple[str, str]:
        """Schema and name (or pattern) of `from`."""
        parts = split_name(self.from_)
        schema, name = (default_schema, parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        return schema, name if self.wild else _plain(name)

    def matches(self, schema: str, name: str, default_schema: str) -> bool:
        """Whether this entry names that source table."""
        of_schema, pattern = self.source(default_schema)
        if of_schema != schema:
            return False
        return fnmatch.fnmatchcase(name, pattern) if self.wild else name == pattern

    def target(self, name: str, default_schema: str) -> tuple[str, str]:
        """Schema and name of the target of the source table `name`."""
        if self.to is None:
            return default_schema, name
        parts = split_name(self.to)
        schema, table = (default_schema, parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        return schema, name if table == "*" else _plain(table)
