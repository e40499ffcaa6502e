"""Reads `migration.yaml`. Every fault becomes one line that names the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.errors import BadInput
from pipeline.spec.migration import Migration
from pipeline.spec.yamltext import MAX_BYTES, YamlFault, plain_data


def load(path: str | Path) -> Migration:
    """The file at `path`. Raises BadInput. Secrets are not read yet: `migration.check_secrets()` does."""
    path = Path(path)
    name = str(path)
    try:
        if path.is_dir():
            raise BadInput(f"{name}: is a directory, not a file")
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{name}: there is no such file") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"{name}: is larger than {MAX_BYTES >> 20} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{name}: is not UTF-8 text (byte {error.start})") from None
    return parse(text, path.name)


def parse(text: str, name: str = "migration.yaml") -> Migration:
    """The same for text (YAML or JSON) that is at hand already: `parse(migration.model_dump_json(by_alias=True))` gives it back."""
    try:
        data = plain_data(text)
    except YamlFault as fault:
        raise BadInput(f"{name}: {fault}") from None
    if data is None:
        raise BadInput(f"{name}: is empty")
    if not isinstance(data, dict):
        raise BadInput(f"{name}: must be a mapping of keys to values, not a {_kind(data)}")
    return validate(data, name)


def validate(data: dict[str, Any], name: str = "migration.yaml") -> Migration:
    """Plain data as a Migration. Raises BadInput."""
    try:
        return Migration.model_validate(data).named(name)
    except ValidationError as error:
        raise BadInput(f"{name}: {describe(error)}") from None


def describe(error: ValidationError, prefix: str = "") -> str:
    """The first fault as `path.to.key: what`, with how many more there are. Never shows a value of the file."""
    # an unknown key first: it is usually why another one is missing
    faults = sorted(error.errors(include_url=False, include_input=False), key=lambda fault: fault["type"] == "missing")
    first = faults[0]
    key = str(first.get("ctx", {}).get("key", "")) if first["type"] == "crossfade" else ""
    path = join(prefix, *first["loc"], *([key] if key else []))
    message = "is missing" if first["type"] == "missing" else _plain(first["msg"])
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{path}: {message}{more}" if path else f"{message}{more}"


def join(prefix: str, *parts: str | int) -> str:
    """`tables[2].columns.state`."""
    path = prefix
    for part in parts:
        if isinstance(part, int):
            path += f"[{part}]"
        elif part.startswith("[") or not path:
            path += part
        else:
            path += f".{part}"
    return path


def _plain(message: str) -> str:
    for long, short in (
        ("List should have at least 1 item", "must have at least one entry"),
        ("Tuple should have at least 1 item", "must have at least one entry"),
        ("Input should be a valid tuple", "must be a list"),
        ("Input should be a valid dictionary", "must be a mapping"),
        ("String should have at least 1 character", "is empty"),
        ("Input should be", "must be"),
    ):
        if message.startswith(long):
            return short + message[len(long) :].replace(" after validation, not 0", "")
    return message


def _kind(data: object) -> str:
    return {list: "list", str: "text", int: "number", float: "number", bool: "truth value"}.get(type(data), type(data).__name__)
