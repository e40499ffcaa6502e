"""Rows of events in tests: written as dicts, given as the JSON text that Debezium's records have them in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, overload

import orjson


@overload
def rowtext(row: None) -> None: ...
@overload
def rowtext(row: Mapping[str, Any]) -> bytes: ...
@overload
def rowtext(row: Mapping[str, Any] | None) -> bytes | None: ...
def rowtext(row: Mapping[str, Any] | None) -> bytes | None:
    """A row as a JSON object's text."""
    return None if row is None else orjson.dumps(dict(row))
