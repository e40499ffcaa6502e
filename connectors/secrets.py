"""Passwords for Kafka Connect: a 0600 properties file that its file config provider reads, so no configuration ever holds one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from connectors.streams import connector_name

_ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f", "=": "\\=", ":": "\\:", "#": "\\#", "!": "\\!", " ": "\\ "}


def escape(text: str) -> str:
    """One key or value of a Java properties file; what is not ASCII goes in as UTF-16 escapes, since the file is read as Latin-1."""
    out = []
    for c in text:
        if c in _ESCAPES:
            out.append(_ESCAPES[c])
        elif " " < c <= "~":
            out.append(c)
        else:
            units = c.encode("utf-16-be", "surrogatepass")
            out.extend(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
    return "".join(out)


def secrets_file(directory: str | Path, migration: str) -> Path:
    """Where a migration's passwords are written."""
    return Path(directory) / f"{connector_name(migration, 'secrets')}.properties"


def reference(directory: str | Path, migration: str, name: str) -> str:
    """What stands for the secret in a connector's settings."""
    return f"${{file:{secrets_file(directory, migration)}:{name}}}"


def write_secrets(directory: str | Path, migration: str, secrets: Mapping[str, str]) -> dict[str, str]:
    """Writes `{name: secret}` and answers `{name: reference}`, the references being what goes into connector settings.

    The file appears whole and with its final permissions, or not at all. Kafka Connect needs `config.providers=file` and must be
    able to read the directory; where it runs on another machine, give references of its own provider instead.
    """
    path = secrets_file(directory, migration)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    half = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="ascii") as out:
        out.writelines(f"{escape(name)}={escape(secret)}\n" for name, secret in sorted(secrets.items()))
    half.replace(path)
    return {name: reference(directory, migration, name) for name in secrets}


def remove_secrets(directory: str | Path, migration: str) -> None:
    """Takes the file away again."""
    secrets_file(directory, migration).unlink(missing_ok=True)
