"""The ground every model of the file stands on: frozen, no unknown keys, durations and sizes as people write them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, model_validator
from pydantic_core import PydanticCustomError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kmgt])i?b?|b)?", re.IGNORECASE)
_BYTES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


def fault(message: str, key: str = "") -> PydanticCustomError:
    """An error whose text goes to the user as it stands. `key` is the key inside the model that it is about."""
    return PydanticCustomError("crossfade", "{message}", {"message": message, "key": key})


def suggestion(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` or what there is to choose from."""
    words = sorted(known)
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.6)
    if close:
        return f" (did you mean {close[0]!r}?)"
    if not words:
        return ""
    shown = ", ".join(words[:12]) + (", …" if len(words) > 12 else "")
    return f" (known: {shown})"


class Strict(BaseModel):
    """Frozen; an unknown key is an error that names the nearest known one."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _no_unknown_keys(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        accepted = known | set(cls.model_fields)
        for key in data:
            if not isinstance(key, str):
                raise fault(f"keys are words, not {type(key).__name__} {key!r}")
            if key not in accepted:
                raise fault(f"unknown key{suggestion(key, known)}", key)
        return data


_SECRET_WORD = re.compile(r"(?i)(password|passwd|passphrase|secret|token|credentials?)$")


def no_secrets(settings: Mapping[str, Any], fix: str) -> None:
    """Refuses a setting that is called like a secret and holds one in the clear. `fix` says where it goes instead."""
    for name, value in settings.items():
        # a reference such as ${file:…:…} is resolved elsewhere
        if _SECRET_WORD.search(name) and isinstance(value, str | int | float) and not re.fullmatch(r"\$\{.+\}", str(value)):
            raise fault(f"a secret does not go into this file: {fix}", name)


def seconds(value: Any) -> Any:
    """`250ms`, `5s`, `1.5m`, `2h`, `7d`, or a number of seconds."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if match is None:
            raise fault("is not a duration: write 250ms, 5s, 10m, 2h or a number of seconds")
        return float(match[1]) * _SECONDS[match[2] or "s"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fault("is not a duration: write 250ms, 5s, 10m, 2h or a number of seconds")
    if not 0 <= value < 1e10:
        raise fault("is not a duration: it must be between 0 and some centuries")
    return float(value)


def size(value: Any) -> Any:
    """`64MB`, `512k`, or a number of bytes. Units are powers of 1024."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        if match is None:
            raise fault("is not a size: write 64MB, 1GB or a number of bytes")
        return int(float(match[1]) * (_BYTES[match[2].lower()] if match[2] else 1))
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise fault("is not a size: write 64MB, 1GB or a number of bytes")
    return value


Duration = Annotated[float, BeforeValidator(seconds)]
"""Seconds."""
Size = Annotated[int, BeforeValidator(size)]
"""Bytes."""
