"""Secrets are references in the file, `{env: NAME}` or `{file: PATH}`, read when they are needed and never kept in a model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, model_validator

from pipeline.errors import BadInput
from pipeline.spec.strict import Strict, fault

_MAX_BYTES = 64 * 1024
_read: set[str] = set()


def seen() -> frozenset[str]:
    """Every secret that this process has read: what must never reach a log line or an error."""
    return frozenset(_read)


def _note(secret: str) -> SecretStr:
    if len(secret) >= 6:  # very short ones would blot out half of a log
        _read.add(secret)
    return SecretStr(secret)


class Secret(Strict):
    """Where a secret is. Its repr and dump hold the reference only."""

    env: str | None = Field(default=None, min_length=1)
    file: str | None = Field(default=None, min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _reference_only(cls, data: Any) -> Any:
        if isinstance(data, str | int | float):
            raise fault("a secret does not go into this file: write {env: NAME} or {file: PATH}")
        return data

    @model_validator(mode="after")
    def _one_of_two(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise fault("needs exactly one of env and file")
        return self

    def __str__(self) -> str:
        return f"{{env: {self.env}}}" if self.env is not None else f"{{file: {self.file}}}"

    def read(self, where: str = "secret") -> SecretStr:
        """The secret itself. Raises BadInput, which names `where` and the reference."""
        if self.env is not None:
            value = os.environ.get(self.env)
            if value is None:
                raise BadInput(f"{where}.env: environment variable {self.env} is not set")
            return _note(value)
        path = Path(self.file or "")
        try:
            if path.is_dir():
                raise BadInput(f"{where}.file: {path} is a directory")
            with path.open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise BadInput(f"{where}.file: cannot read {path}: {error.strerror}") from None
        if len(data) > _MAX_BYTES:
            raise BadInput(f"{where}.file: {path} is larger than a secret can be")
        try:
            return _note(data.decode().removesuffix("\n").removesuffix("\r"))
        except UnicodeDecodeError:
            raise BadInput(f"{where}.file: {path} is not UTF-8 text") from None
