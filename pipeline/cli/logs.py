"""Logs: structlog to stderr, with every secret taken out before anything is written."""

from __future__ import annotations

import errno
import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from pipeline.errors import BadInput
from pipeline.spec.secret import seen

_KEY = re.compile(r"(?i)(passw|secret|token|credential|authorization|jaas)")
_URL = re.compile(r"(://[^/\s:@]*):[^/\s@]+@")
_PAIR = re.compile(
    r"(?i)\b((?:[\w.]*passw(?:or)?d|passwd|pwd|secret|(?:bearer|access)[ _-]?token|authorization)[\"']?\s*[=:]\s*[\"']?(?:bearer\s+)?)"
    r"[^\s\"',;&}]+"
)
# `cannot read /run/secrets/password: No such file or directory`: a path, and what the system says of it
_SYSTEM = "|".join(sorted(re.escape(os.strerror(number)) for number in errno.errorcode))
_OF_FILE = re.compile(rf"(?:^|(?<=[\s'\"]))[\w.~-]*/[\w./~-]*['\"]?: (?:{_SYSTEM})")
_known: set[str] = set()
HIDDEN = "***"


def hide(secret: str | None) -> None:
    """From now on this text is taken out of every log line and error line. Very short ones are not: they would blot out half of it."""
    if secret and len(secret) >= 6:
        _known.add(secret)


def redact(text: str) -> str:
    """The text without secrets: those made known, passwords in URLs, and what stands after `password=` and the like."""
    for secret in sorted(_known | seen(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _URL.sub(rf"\1:{HIDDEN}@", text)
    spared = [match.span() for match in _OF_FILE.finditer(text)]

    def hidden(match: re.Match[str]) -> str:
        inside = any(start <= match.start() and match.end() <= end for start, end in spared)
        return match[0] if inside else f"{match[1]}{HIDDEN}"

    return _PAIR.sub(hidden, text)


def _clean(value: Any, depth: int = 0) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, bytes):
        return redact(value.decode(errors="replace"))
    if isinstance(value, dict) and depth < 5:
        return {key: HIDDEN if _KEY.search(str(key)) and inner is not None else _clean(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth < 5:
        return [_clean(inner, depth + 1) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return redact(str(value))


def redacted(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The structlog processor."""
    for key, value in list(event.items()):
        event[key] = HIDDEN if _KEY.search(key) and value is not None else _clean(value)
    return event


class _Redacting(logging.Filter):
    """The same for libraries that log by the standard module."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and record.exc_text is None:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


def to_stderr(level: str = "info", *, as_json: bool | None = None) -> None:
    """Sets logging up. JSON lines where stderr is not a terminal, unless told otherwise."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise BadInput(f"CROSSFADE_LOG_LEVEL: {level!r} is not one of debug, info, warning, error")
    plain = not sys.stderr.isatty() if as_json is None else as_json
    last: Any = structlog.processors.JSONRenderer() if plain else structlog.dev.ConsoleRenderer(colors=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.StackInfoRenderer(),
            structlog.processors.format_exc_info,
            redacted,
            last,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # stderr as it is when something is logged
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(_Redacting())
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(handlers=[handler], level=max(number, logging.WARNING), force=True)
