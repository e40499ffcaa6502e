"""The admin consoles of several PgBouncers: one command to all of them at once, answers until a deadline.

The console speaks the simple protocol only, and some commands (PAUSE, WAIT_CLOSE) answer when they are through, however long that takes. So
commands are sent to all first and answers are waited for together, without threads and without cancelling: a cancelled PAUSE stays paused.
"""

from __future__ import annotations

import dataclasses
import math
import select
import time
from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.pq import ExecStatus

from pipeline.errors import BadInput, CrossfadeError


@dataclasses.dataclass(slots=True)
class Answer:
    """What one process said. Not `done`: nothing yet."""

    done: bool = False
    rows: list[dict[str, str]] = dataclasses.field(default_factory=list)
    error: str | None = None


class Consoles:
    """Open sessions on the admin consoles of all processes. `names` are fit for messages: no password, no user."""

    def __init__(self, admins: Sequence[str], password: str | None, deadline: float) -> None:
        self.names = [label(admin) for admin in admins]
        self._open: list[psycopg.Connection[Any]] = []
        try:
            for admin, name in zip(admins, self.names, strict=True):
                self._open.append(_connect(admin, name, password, deadline))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes them all. One that was waiting for PAUSE leaves it paused."""
        for connection in self._open:
            connection.close()
        self._open = []

    def ask(self, command: str, deadline: float) -> list[Answer]:
        """One answer for each process, in their order. A console that has not answered cannot be asked again: close them."""
        answers = [Answer() for _ in self._open]
        poll, waiting = select.poll(), {}
        for at, connection in enumerate(self._open):
            try:
                connection.pgconn.send_query(command.encode())
                while connection.pgconn.flush():
                    select.select([], [connection.pgconn.socket], [], max(0.0, deadline - time.monotonic()))
                poll.register(connection.pgconn.socket, select.POLLIN)
                waiting[connection.pgconn.socket] = at
            except psycopg.Error as error:
                answers[at] = Answer(True, error=_line(str(error)))
        while waiting and (left := deadline - time.monotonic()) > 0:
            for descriptor, _ in poll.poll(math.ceil(left * 1000)):
                at = waiting[descriptor]
                if _receive(self._open[at], answers[at]):
                    poll.unregister(descriptor)
                    del waiting[descriptor]
        return answers

    def every(self, command: str, deadline: float) -> list[list[dict[str, str]]]:
        """The rows that each process answers to a command that does not wait. Raises CrossfadeError naming the process."""
        answers = self.ask(command, deadline)
        for name, answer in zip(self.names, answers, strict=True):
            if not answer.done or answer.error:
                raise CrossfadeError(f"pgbouncer at {name}, {command}: {answer.error or 'no answer in time'}")
        return [answer.rows for answer in answers]


def _receive(connection: psycopg.Connection[Any], answer: Answer) -> bool:
    """Takes in what has come; whether that was all."""
    try:
        connection.pgconn.consume_input()
        while not connection.pgconn.is_busy():
            result = connection.pgconn.get_result()
            if result is None:
                answer.done = True
                return True
            if result.status == ExecStatus.TUPLES_OK:
                names = [(result.fname(column) or b"").decode() for column in range(result.nfields)]
                answer.rows += [
                    {name: (result.get_value(row, column) or b"").decode() for column, name in enumerate(names)}
                    for row in range(result.ntuples)
                ]
            elif result.status == ExecStatus.FATAL_ERROR:
                answer.error = _line((result.error_message or b"").decode(errors="replace"))
    except psycopg.Error as error:
        answer.done, answer.error = True, _line(str(error))
        return True
    return False


def label(admin: str) -> str:
    """host:port of a console's URL."""
    given = settings(admin)
    return f"{given.get('host', 'localhost')}:{given.get('port', 6432)}"


def settings(admin: str) -> dict[str, Any]:
    """libpq's parameters of a console's URL. Raises BadInput; a URL that cannot be read is not shown, it may hold a password."""
    try:
        return conninfo.conninfo_to_dict(admin)
    except psycopg.Error:
        raise BadInput("the address of a PgBouncer console cannot be read", hint="postgresql://crossfade@10.0.0.7:6432/pgbouncer") from None


def _connect(admin: str, name: str, password: str | None, deadline: float) -> psycopg.Connection[Any]:
    seconds = max(2, math.ceil(deadline - time.monotonic()))  # libpq takes no less
    given = {"dbname": "pgbouncer", **settings(admin), "connect_timeout": min(seconds, 10)}
    if password is not None:
        given["password"] = password
    try:
        return psycopg.connect(**given, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise CrossfadeError(f"pgbouncer at {name}: {_line(str(error))}") from None


def _line(text: str) -> str:
    return " ".join(text.split()).removeprefix("ERROR: ") or "the connection was lost"
