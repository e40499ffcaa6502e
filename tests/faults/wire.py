"""A wire between crossfade and one database, which a test can cut: sessions are reset and new ones refused until it is mended."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import Self


class Wire:
    """Listens on a port of its own on loopback and passes everything on. A context manager."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="wire", daemon=True)
        self._open: set[asyncio.StreamWriter] = set()
        self._whole = True
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        server = self._run(asyncio.start_server(self._pass, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def cut(self) -> None:
        """When it returns every session through it is reset."""
        self._run(self._reset())

    def mend(self) -> None:
        """New sessions get through."""
        self._whole = True

    def _run(self, what):  # type: ignore[no-untyped-def]
        return asyncio.run_coroutine_threadsafe(what, self._loop).result(30)

    async def _reset(self) -> None:
        self._whole = False
        for writer in self._open:
            writer.transport.abort()
        self._open.clear()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        self._open.add(writer)
        try:
            beyond, onward = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        self._open.add(onward)
        if not self._whole:
            await self._reset()
        await asyncio.gather(_copy(reader, onward), _copy(beyond, writer))
        self._open -= {writer, onward}


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while block := await reader.read(65536):
            writer.write(block)
            await writer.drain()
    writer.close()
