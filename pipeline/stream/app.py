"""The Faust app of a migration: one agent over the streams' topics; Kafka's group decides which worker applies which stream."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import faust
import structlog

from pipeline.errors import CrossfadeError
from pipeline.stream.assignor import StreamAssignor
from pipeline.stream.session import StreamSession
from pipeline.stream.transport import STOP_SECONDS, Fetched, Opened, Positions, StreamApp

log = structlog.get_logger("stream")


class Opener(Protocol):
    """Opens a stream for this worker: claims a new epoch and answers a session and the Kafka offset to read from."""

    async def __call__(self, topic: str, opening: int) -> tuple[StreamSession, int]: ...


class Sessions:
    """The sessions of this worker, by topic. A failed one is opened again when it may run again."""

    def __init__(self, opener: Opener) -> None:
        self._opener = opener
        self._serial = 0
        self.open: dict[str, StreamSession] = {}

    async def opened(self, topic: str) -> Opened:
        """Opens (again) a topic that was assigned to this worker."""
        await self.close(topic)
        self._serial += 1
        serial = self._serial
        session, offset = await self._opener(topic, serial)
        other = self.open.get(topic)
        if other is not None and other.opening > serial:
            await session.close()  # it was opened once more meanwhile
            return offset, serial
        self.open[topic] = session
        if other is not None:
            await other.close()
        return offset, serial

    def opening(self, topic: str) -> int | None:
        """The serial number of the opening that holds; None while it is not open."""
        session = self.open.get(topic)
        return None if session is None else session.opening

    def applied(self, topic: str) -> int | None:
        """The Kafka offset that is applied, as the hint to commit."""
        session = self.open.get(topic)
        return session.applier.applied.offset if session is not None else None

    async def close(self, topic: str) -> None:
        """Closes a topic's session, if there is one."""
        session = self.open.pop(topic, None)
        if session is not None:
            await session.close()

    async def close_all(self) -> None:
        """Closes every session."""
        for topic in list(self.open):
            await self.close(topic)


def credentials(
    protocol: str, *, mechanism: str | None, username: str | None, password: str | None, ca: str | None, cert: str | None, key: str | None
) -> Any:
    """What Faust's client shows Kafka, in Faust's own terms; None where nothing is asked for."""
    if protocol == "PLAINTEXT":
        return None
    context = None
    if protocol.endswith("SSL"):
        context = ssl.create_default_context(cafile=ca)
        if cert is not None:
            context.load_cert_chain(cert, key)
    if protocol.startswith("SASL"):
        return faust.SASLCredentials(username=username, password=password, ssl_context=context, mechanism=mechanism)
    return faust.SSLCredentials(context)


def make_app(
    migration: str,
    topics: Sequence[str],
    sessions: Sessions,
    *,
    bootstrap: str,
    credentials: Any = None,
    kafka: Mapping[str, str] | None = None,
    workdir: str | None = None,
) -> StreamApp:
    """The app. `credentials` are Faust's, `kafka` the same in librdkafka's options. Its web server stays off."""
    own = tempfile.TemporaryDirectory(prefix="crossfade-faust-", ignore_cleanup_errors=True) if workdir is None else None
    app = StreamApp(
        f"crossfade.{migration}",
        broker=";".join(f"kafka://{server.strip()}" for server in bootstrap.split(",")),
        broker_credentials=credentials,
        broker_client_id=f"crossfade-{socket.gethostname()}-{os.getpid()}",
        broker_session_timeout=15.0,
        broker_heartbeat_interval=3.0,
        broker_request_timeout=40.0,
        broker_commit_interval=2.0,
        broker_commit_livelock_soft_timeout=3600.0,  # a quiet stream has nothing to commit
        broker_max_poll_records=5000,
        broker_max_poll_interval=3600.0,  # an applier that retries for ever is not a dead one
        stream_processing_timeout=3600.0,
        consumer_max_fetch_size=64 << 10,  # thrown away: records come by `Fetcher`
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=2,
        stream_wait_empty=False,
        stream_ack_cancelled_tasks=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=1,
        web_enabled=False,
        store="memory://",
        datadir=workdir if own is None else own.name,
        loghandlers=[],
        producer_acks=0,
        PartitionAssignor=StreamAssignor,
    )
    app.own_folder = own  # goes with the app
    app.positions = Positions(sessions, (bootstrap, f"crossfade.{migration}", kafka or {}))
    topic = app.topic(*topics, value_serializer="raw", key_serializer="raw", value_type=None, key_type=None)

    @app.agent(topic, name=f"apply.{migration}")
    async def apply(stream: Any) -> None:
        async for event in stream.events():
            fetched = event.message.value
            session = sessions.open.get(event.message.topic)
            if session is not None and isinstance(fetched, Fetched):
                await session.feed(fetched)

    @app.on_partitions_revoked.connect
    async def revoked(*args: Any, **_: Any) -> None:
        for tp in args[1]:
            await sessions.close(tp.topic)

    return app


async def run_app(app: StreamApp, stop: asyncio.Event, tick: Callable[[], Awaitable[None]]) -> None:
    """Runs the app until `stop` is set; `tick` is called about every half second beside it."""
    await app.start()
    try:
        while not stop.is_set():
            if app.should_stop or app.crashed:
                reason = getattr(app, "crash_reason", None)
                raise CrossfadeError(f"the stream worker stopped: {reason!r}" if reason else "the stream worker stopped")
            await tick()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(stop.wait(), 0.5)
    finally:
        stopping = asyncio.ensure_future(app.stop())
        done, _ = await asyncio.wait({stopping}, timeout=STOP_SECONDS)
        if done:
            stopping.result()
        else:
            # Faust waits for a broker that is away for ever. What is applied is in the target.
            log.warning("Kafka does not answer: its group is left without a word", seconds=STOP_SECONDS)
            stopping.cancel()
