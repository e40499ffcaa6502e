"""Rows of one text column read off the wire a block at a time: the driver's own loop, packet by packet, is several times slower.

A row packet is three bytes of length, one of sequence, then the column: its length (one byte up to 250, else a prefix) and its bytes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from pymysql import err

_READ = 1 << 18
_LONG = 0xFFFFFF
"""A packet of this length goes on in the next."""


def raw_rows(connection: Any, cursor: Any) -> Generator[bytes, None, int]:
    """Blocks of lines, a row of `cursor`'s (unbuffered, just executed) one column each; answers the server's count of warnings.
    Raises pymysql's errors. The session is of no use when it is left before its end."""
    stream, result = connection._rfile, cursor._result
    buffer = b""
    lines: list[bytes] = []
    long: list[bytes] = []
    while True:
        block = stream.read1(_READ)
        if not block:
            raise err.OperationalError(2013, "Lost connection to MySQL server during query")
        buffer = buffer + block if buffer else block
        at, end = 0, len(buffer)
        append = lines.append
        while end - at >= 4:
            length = buffer[at] | buffer[at + 1] << 8 | buffer[at + 2] << 16
            start, stop = at + 4, at + 4 + length
            if stop > end:
                break
            at = stop
            if length == _LONG or long:
                long.append(buffer[start:stop])
                if length < _LONG:
                    append(_column(b"".join(long)))
                    long.clear()
                continue
            first = buffer[start]
            if first < 251:
                append(buffer[start + 1 : stop])
            elif first == 0xFE and length < 9:
                if lines:
                    yield b"\n".join(lines) + b"\n"
                result.unbuffered_active = False
                result.connection = None
                connection._next_seq_id = (buffer[start - 1] + 1) % 256
                return buffer[start + 1] | buffer[start + 2] << 8
            elif first == 0xFF:
                result.unbuffered_active = False
                code = buffer[start + 1] | buffer[start + 2] << 8
                raise err.OperationalError(code, buffer[start + 9 : stop].decode(errors="replace"))
            else:
                append(_column(buffer[start:stop]))
        buffer = buffer[at:]
        if lines:
            yield b"\n".join(lines) + b"\n"
            lines.clear()


def _column(packet: bytes) -> bytes:
    """The one column of a row packet."""
    first = packet[0]
    if first < 251:
        return packet[1:]
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(first)
    if width is None:
        raise err.InternalError("a row without text: it is longer than the server's max_allowed_packet")
    return packet[1 + width :]
