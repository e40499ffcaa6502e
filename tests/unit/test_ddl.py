"""Expressions carried from one product to the other, and names that fit."""

from __future__ import annotations

import pytest

from connectors.expressions import Default, condition, default
from connectors.mysql.names import quote as mysql_quote
from connectors.postgres.names import literal
from connectors.postgres.names import quote as postgres_quote
from connectors.shapes import fitted
from pipeline.model import Engine


@pytest.mark.parametrize(
    ("engine", "text", "meaning"),
    [
        ("postgresql", "'it''s \\ so'::character varying(40)", Default("text", "it's \\ so")),
        ("postgresql", "('-1'::integer)", Default("text", "-1")),
        ("postgresql", "(-1)", Default("number", "-1")),
        ("postgresql", "true", Default("bool", "true")),
        ("postgresql", "now()", Default("now")),
        ("postgresql", "CURRENT_TIMESTAMP(3)", Default("now", "3")),
        ("postgresql", "gen_random_uuid()", Default("uuid")),
        ("postgresql", "'x'::text || 'y'::text", None),
        ("postgresql", "public.f(1)", None),
        ("mysql", "'a\\'b\\\\'", Default("text", "a'b\\")),
        ("mysql", "b'101'", Default("bits", "101")),
        ("mysql", "current_timestamp(6)", Default("now", "6")),
        ("mysql", "(1 + 2)", None),
    ],
)
def test_default(engine: Engine, text: str, meaning: Default | None) -> None:
    assert default(text, engine) == meaning


NAMES = {"a": "b", "b": "a", "State": "state"}


@pytest.mark.parametrize(
    ("source", "target", "text", "found"),
    [
        ("mysql", "postgresql", "`a` > 0 and `b` in ('x','it''s')", "\"b\" > 0 AND \"a\" IN ('x', 'it''s')"),
        ("postgresql", "mysql", "((\"State\")::text = ANY ((ARRAY['n'::character varying, 'o'::character varying])::text[]))", None),
        ("postgresql", "postgresql", "(a >= (0)::numeric)", '("b" >= 0)'),
        ("mysql", "postgresql", "char_length(`a`) > 3", None),
        ("mysql", "postgresql", "`gone` > 3", None),
        ("mysql", "postgresql", "`a` <> 'x\\\\y'", None),
    ],
)
def test_condition_swaps_names_or_gives_up(source: Engine, target: Engine, text: str, found: str | None) -> None:
    quote = postgres_quote if target == "postgresql" else mysql_quote
    made = condition(text, source, target, NAMES, quote)
    if found is None and "ANY" in text:
        assert made is not None and "`state` IN ('n', 'o')" in made.replace("(`state`)", "`state`")
    else:
        assert made == found


def test_s23_names_fit_and_stay_apart() -> None:
    long = ["é" * 40 + tail for tail in ("a", "b")]
    made = {fitted(name, 63) for name in long}
    assert len(made) == 2 and all(len(name.encode()) <= 63 for name in made)
    assert fitted("short", 63) == "short"


def test_quoting_leaves_no_way_out() -> None:
    assert postgres_quote('a"; drop') == '"a""; drop"'
    assert mysql_quote("a`; drop") == "`a``; drop`"
    assert literal("a'b\\") == " E'a''b\\\\'"
    for quote in (postgres_quote, mysql_quote):
        with pytest.raises(ValueError, match="NUL"):
            quote("a\0b")
