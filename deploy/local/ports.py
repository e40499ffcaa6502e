"""Free ports on loopback, kept for as long as nobody else takes them.

They come from below the kernel's ephemeral range: a client that keeps trying a port inside it while the server is down can be
given that very port as its own source port, connect to itself, and keep the server from coming back.
"""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import StackError

LOOPBACK = "127.0.0.1"
_FLOOR = 10_240
_ROOM = 1_000


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with contextlib.closing(socket.socket(socket.AF_INET, socket.SOCK_STREAM)) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind((LOOPBACK, port))
            s.listen(1)
        except OSError:
            return False
    return True


def becomes_free(port: int, within: float) -> bool:
    """Like `is_free`, but gives the kernel time to close what a process that just ended had open."""
    deadline = time.monotonic() + within
    while not (free := is_free(port)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return free


def choose(taken: Iterable[int] = ()) -> int:
    """A port nobody listens on and that is not among `taken`."""
    avoid = set(taken)
    try:
        ceiling = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    except (OSError, ValueError):
        ceiling = 32_768
    if ceiling - _FLOOR < _ROOM:  # nearly every port is ephemeral here: the kernel's own choice is as good as any
        for _ in range(_ROOM):
            with contextlib.closing(socket.create_server((LOOPBACK, 0))) as s:
                port: int = s.getsockname()[1]
            if port not in avoid:
                return port
    for _ in range(_ROOM):
        port = random.SystemRandom().randrange(_FLOOR, ceiling)
        if port not in avoid and is_free(port):
            return port
    raise StackError(f"no free port between {_FLOOR} and {ceiling} on {LOOPBACK}")
