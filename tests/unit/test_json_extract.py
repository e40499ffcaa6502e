"""json_extract looks along its path only; what it answers is what the whole document, read, has there."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataRejected
from pipeline.model import Text
from transforms._document import document_text, read_document
from transforms.json_extract import Step

KEYS = st.sampled_from(["a", "b", "é", 'q"', "0", ""])
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)


def searched(text: str, path: list[str]) -> Text:
    """The whole document read, and the path followed in it."""
    part = read_document(text)
    for step in path:
        if isinstance(part, dict):
            part = part.get(step)
        elif isinstance(part, list) and step.isdecimal() and int(step) < len(part):
            part = part[int(step)]
        else:
            return None
    return document_text(part)


@given(DOCUMENTS, st.lists(KEYS, min_size=1, max_size=3), st.booleans(), st.sampled_from([None, 1]))
def test_what_is_found_is_what_is_there(document: object, path: list[str], ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent)
    assert Step(path=path).function()(text) == searched(text, path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1.10}', "1.10"),
        ('{"a": 1e400}', "1e400"),
        ('{"a": 123456789012345678901234567890}', "123456789012345678901234567890"),
        ('{"a": 1, "a": 2}', "2"),
        (' { "a" : "x\\u00e9\\"" } ', 'xé"'),
        ('{"a": [1, {"b": 2.0}]}', '[1,{"b":2.0}]'),
        ('{"a": ""}', ""),
        ('{"b": 1}', None),
        ('{"a": null}', None),
        ("[1]", None),
        ("5", None),
    ],
)
def test_numbers_and_texts_keep_their_spelling(text: str, found: Text) -> None:
    assert Step(path=["a"]).function()(text) == found


def test_what_is_not_json_is_refused() -> None:
    for text in "", "{", '{"a" 1}', '{"a": tru}':
        with pytest.raises(DataRejected, match="not JSON"):
            Step(path=["a"]).function()(text)
