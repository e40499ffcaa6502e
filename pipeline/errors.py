"""Every fault crossfade names: the message says what and where, the hint says what to do."""

from __future__ import annotations


class CrossfadeError(Exception):
    """The root. `str(error)` is one line fit for a terminal; it never carries a secret."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(" ".join(message.split()))
        self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}: {self.hint}" if self.hint else message


class BadInput(CrossfadeError):
    """The file, an option or an argument is wrong; nothing was done."""

    exit_code = 2


class TimedOut(CrossfadeError):
    """The condition waited for did not come true in time."""

    exit_code = 3


class AtGate(CrossfadeError):
    """A gate is not satisfied; the message gives value, operator and limit."""

    exit_code = 4


class StackError(CrossfadeError):
    """A server of the embedded stack did not start, died or cannot be reached."""


class ConnectError(CrossfadeError):
    """Kafka Connect refused a configuration or a connector failed."""


class GapInStream(CrossfadeError):
    """Changes are missing between the applied position and what the stream still holds: never to be skipped over."""


class Fenced(CrossfadeError):
    """Somebody with a newer epoch owns this stream now: change nothing, stop."""


class SchemaChanged(CrossfadeError):
    """The source's schema changed in a way the policy does not let through."""


class DataRejected(CrossfadeError):
    """The target refuses a row for what it holds (not for a passing reason)."""


class Transient(CrossfadeError):
    """A passing fault: connection lost, deadlock, lock timeout, serialization. Try again."""


class CommitUnknown(Transient):
    """The connection broke inside COMMIT: read the position back, never assume."""
