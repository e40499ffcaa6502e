"""LOAD DATA LOCAL from memory: the server's request for a "file" is answered with bytes of ours and never with a file.

A server may ask for any file in answer to any statement once a session allows LOCAL INFILE; a session taken over here has nothing to give
outside `load`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from typing import Any, cast

from pymysql import err
from pymysql.connections import MySQLResult

_PACKET = 1 << 18
_REFUSED = {1148, 3948, 4166}
"""The server does not allow LOCAL INFILE."""


@dataclasses.dataclass(frozen=True, slots=True)
class Loaded:
    """What LOAD DATA tells: lines read, lines not stored, warnings (those of lines not stored included)."""

    rows: int
    skipped: int
    warnings: int


class NotAllowed(Exception):
    """The server refuses LOCAL INFILE altogether."""


def numbers(message: bytes | None) -> list[int]:
    """The numbers in the server's message on LOAD DATA or UPDATE; its words are in the server's own language."""
    return [int(n) for n in re.findall(rb"\d+", (message or b"")[1:])]


class _Result(MySQLResult):
    """A result whose file requests are answered by the session's `LocalData`."""

    def __init__(self, connection: Any, source: LocalData) -> None:
        super().__init__(connection)
        self._source = source

    def _read_load_local_packet(self, first_packet: Any) -> None:
        this = cast(Any, self)
        connection = this.connection
        try:
            for block in self._source.take():
                view = memoryview(block)
                for at in range(0, len(view), _PACKET):
                    connection.write_packet(bytes(view[at : at + _PACKET]))
        finally:
            connection.write_packet(b"")  # the end of the "file"; without it the session hangs
            packet = connection._read_packet()
        if not packet.is_ok_packet():
            raise err.OperationalError(2014, "Commands Out of Sync")
        this._read_ok_packet(packet)


class LocalData:
    """Takes over the session's reading of results."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._blocks: Iterable[bytes] = ()
        connection._read_query_result = self._read

    def take(self) -> Iterable[bytes]:
        """What there is to send, once."""
        blocks, self._blocks = self._blocks, ()
        return blocks

    def load(self, statement: str, blocks: Iterable[bytes]) -> Loaded:
        """Runs a LOAD DATA LOCAL INFILE statement over these blocks. Raises `NotAllowed`, pymysql's errors."""
        self._blocks = blocks
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement)
        except err.MySQLError as error:
            if error.args and error.args[0] in _REFUSED:
                raise NotAllowed from None
            raise
        finally:
            self._blocks = ()
        found = numbers(self._connection._result.message)
        if len(found) < 4:
            raise err.OperationalError(2014, "LOAD DATA did not say how many rows it stored")
        rows, _, skipped, warnings = found[-4:]
        return Loaded(rows, skipped, warnings)

    def _read(self, unbuffered: bool = False) -> int:
        connection = self._connection
        connection._result = None
        result: Any = _Result(connection, self)
        if unbuffered:
            result.init_unbuffered_query()
        else:
            result.read()
        connection._result = result
        if result.server_status is not None:
            connection.server_status = result.server_status
        affected: int = result.affected_rows
        return affected
