"""A value made unreadable: all of it (`fixed`), its middle (`partial`), or by a keyed hash that keeps equal values equal (`hash`).

The hash is HMAC-SHA-256 with a secret from the environment or a file, in Python only, so the secret never goes into SQL.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import ClassVar, Literal, Self

from pydantic import Field, PrivateAttr, SecretBytes, model_validator

from pipeline.errors import BadInput
from pipeline.model import Engine, Kind, LogicalType, Text
from pipeline.spec.secret import Secret
from pipeline.spec.strict import fault
from transforms import dialect
from transforms.base import TEXT, RowStep


class Step(RowStep):
    """`{mask: card, method: partial, keep_last: 4}`, `{mask: email, method: hash, salt: {env: MASK_SALT}}`."""

    argument: ClassVar[str | None] = "method"
    examples = (
        {"mask": "a"},
        {"mask": "a", "value": "it's \\"},
        {"mask": "a", "method": "partial", "keep_first": 1, "keep_last": 2},
        {"mask": "a", "method": "partial", "character": "é"},
        {"mask": "a", "method": "hash", "salt": {"env": "PATH"}, "length": 16},
    )
    masks: ClassVar[bool] = True
    method: Literal["fixed", "partial", "hash"] = "fixed"
    value: str = "***"
    keep_first: int = Field(default=0, ge=0, le=1000)
    keep_last: int = Field(default=0, ge=0, le=1000)
    character: str = Field(default="*", min_length=1, max_length=1)
    salt: Secret | None = None
    length: int = Field(default=64, ge=8, le=64)  # hexadecimal digits of the hash

    _key: SecretBytes = PrivateAttr(default=SecretBytes(b""))

    @model_validator(mode="after")
    def _whole(self) -> Step:
        if self.method == "hash" and self.salt is None:
            raise fault("needs salt: {env: NAME} or {file: PATH}: an unsalted hash can be guessed")
        if "\0" in self.value or self.character == "\0":
            raise fault("cannot hold U+0000")
        return self

    def bound(self, types: tuple[LogicalType, ...]) -> Self:
        made = self.model_copy()
        if self.salt is not None and self.method == "hash":
            try:
                made._key = SecretBytes(self.salt.read("salt").get_secret_value().encode())
            except BadInput as error:
                raise ValueError(str(error)) from None
            if not made._key.get_secret_value():
                raise ValueError("salt: is empty")
        return made

    def result(self, types: tuple[LogicalType, ...]) -> LogicalType:
        return LogicalType(Kind.TEXT, length=self.length) if self.method == "hash" else TEXT

    def function(self) -> Callable[..., Text]:
        if self.method == "fixed":
            whole = self.value
            return lambda value: None if value is None else whole
        if self.method == "hash":
            key, length = self._key.get_secret_value(), self.length
            return lambda value: None if value is None else hmac.digest(key, value.encode(), "sha256").hex()[:length]
        first, last, letter = self.keep_first, self.keep_last, self.character

        def partial(value: Text) -> Text:
            if value is None:
                return None
            size = len(value)
            if size <= first + last:
                return letter * size
            return value[:first] + letter * (size - first - last) + value[size - last :]

        return partial

    def sql(self, engine: Engine, inputs: Sequence[str]) -> str | None:
        expr = inputs[0]
        if self.method == "hash":
            return None
        if self.method == "fixed":
            return f"(CASE WHEN {expr} IS NOT NULL THEN {dialect.literal(engine, self.value)} END)"
        size = f"length({expr})" if engine == "postgresql" else f"CHAR_LENGTH({expr})"
        letter, kept = dialect.literal(engine, self.character), self.keep_first + self.keep_last
        whole = f"repeat({letter}, {size})"
        parts = [f"left({expr}, {self.keep_first})", f"repeat({letter}, {size} - {kept})", f"right({expr}, {self.keep_last})"]
        joined = " || ".join(parts) if engine == "postgresql" else f"CONCAT({', '.join(parts)})"
        return f"(CASE WHEN {size} <= {kept} THEN {whole} ELSE {joined} END)"

    def inverse(self, at: int) -> str:
        return "masking is meant not to be undone"
