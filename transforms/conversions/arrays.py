"""PostgreSQL's text of arrays, read and written."""

from __future__ import annotations

import re
from collections.abc import Sequence

_QUOTED = re.compile(r'[{}",\\\s]|^$|^null$', re.IGNORECASE)


def parse_array(text: str) -> list[object]:
    """`{1,"a b",NULL,{2}}` as nested lists of str and None. A lower bound (`[0:1]={…}`) is passed over. Raises ValueError."""
    start = text.find("{")
    if start < 0:
        raise ValueError("not an array")
    items, end = _items(text, start + 1)
    if end != len(text):
        raise ValueError("text behind an array")
    return items


def _items(text: str, at: int) -> tuple[list[object], int]:
    out: list[object] = []
    if text[at : at + 1] == "}":
        return out, at + 1
    while True:
        letter = text[at : at + 1]
        item: object
        if letter == "{":
            item, at = _items(text, at + 1)
        elif letter == '"':
            item, at = _quoted(text, at + 1)
        else:
            item, at = _bare(text, at)
        out.append(item)
        letter = text[at : at + 1]
        at += 1
        if letter == "}":
            return out, at
        if letter != ",":
            raise ValueError("an array is not closed")


def _quoted(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    while True:
        letter = text[at : at + 1]
        if letter == "\\":
            out.append(text[at + 1 : at + 2])
            at += 2
        elif letter == '"':
            return "".join(out), at + 1
        elif not letter:
            raise ValueError("a quoted element is not closed")
        else:
            out.append(letter)
            at += 1


def _bare(text: str, at: int) -> tuple[str | None, int]:
    out: list[str] = []
    while (letter := text[at : at + 1]) not in {",", "}", ""}:
        if letter == "\\":
            at += 1
            letter = text[at : at + 1]
        out.append(letter)
        at += 1
    word = "".join(out)
    return (None if word.upper() == "NULL" else word), at


def array_text(items: Sequence[str | None]) -> str:
    """A flat array as PostgreSQL prints it."""
    return "{" + ",".join("NULL" if item is None else _element(item) for item in items) + "}"


def _element(item: str) -> str:
    if not _QUOTED.search(item):
        return item
    return '"' + item.replace("\\", "\\\\").replace('"', '\\"') + '"'
