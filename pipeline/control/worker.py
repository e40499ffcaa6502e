"""The worker service: applies streams (Faust), copies chunks (threads), says that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy.engine import Row

from pipeline.apply.applier import Applier, Limits
from pipeline.apply.collapse import Route
from pipeline.backfill.queue import Queue
from pipeline.backfill.worker import BackfillWorker
from pipeline.control import columns, failpoints
from pipeline.control.rate import Rate
from pipeline.control.reverse import asked_for, prepared, reverse_runtime
from pipeline.control.runtime import Runtime
from pipeline.control.schemachange import ColumnsAdded, SchemaPolicy
from pipeline.control.streamplans import kafka_options, stream_plans
from pipeline.control.topicwatch import TopicWatch
from pipeline.errors import ConnectError, CrossfadeError, Fenced, GapInStream, SchemaChanged, Transient
from pipeline.model import Applied, TableId, Transaction
from pipeline.stream.app import Sessions, credentials, make_app, run_app
from pipeline.stream.assembler import Pieces
from pipeline.stream.session import LagSamples, StreamSession
from transforms.shapecode import ColumnMissing, ColumnsUnknown

log = structlog.get_logger("worker")

ROLES = ("apply", "backfill")
_M_ARENA_MAX = -8  # malloc.h
STAGES_EVERY = 2.0
"""Seconds between two notes of where the time goes, and two looks whether topics are what they were."""


def _tune_process() -> None:
    """The collector, the interpreter's turns and the allocator, for a process in which rows come and go by the hundred thousand.

    None of them refers to itself: counting references frees them. A collector that looks through all that is alive after every few
    hundred took 40 % of the time in which events are decoded.
    """
    sys.setswitchinterval(0.0001)  # so long the writer, back from the target, waits for the decoder to let the interpreter go
    with contextlib.suppress(OSError, AttributeError):
        # What librdkafka's threads let go of would stay in a pool of each thread's own (glibc).
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)


class Worker:
    """One worker process of one migration."""

    def __init__(self, runtime: Runtime, roles: Iterable[str] = ROLES) -> None:
        self.runtime = runtime
        self.roles = tuple(roles)
        self.id = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:6]}"
        self._lag: dict[str, LagSamples] = {}
        self._reopen_at: float | None = None
        self._counted_at = 0.0
        self._seen_at = 0.0
        self._stopping = asyncio.Event()
        plans = stream_plans(runtime)
        self._streams = {plan.topic: plan.name for plan in plans}
        self._tables = {plan.name: plan.tables for plan in plans}
        self._policies: dict[str, SchemaPolicy] = {}
        self._added: dict[str, ColumnsAdded | ColumnMissing] = {}  # what an opening stopped at, for the next one to see to
        self._refused: dict[str, CrossfadeError] = {}  # what could not be seen to
        self._left_out: dict[TableId, set[str]] = {}
        self._seen_to: dict[str, set[int]] = {}
        self._states: dict[str, str] = {}
        self._sessions: dict[str, StreamSession] = {}
        self._held_up: set[str] = set()  # streams whose next start may find other tables than are known here

    # -- running ---------------------------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop` is set. Raises what made it impossible to go on."""
        _tune_process()
        self._stopping = stop
        self.runtime.store.seen(self.id, ",".join(self.roles))
        threads_stop = threading.Event()
        threads = self._start_backfill(threads_stop) if "backfill" in self.roles else []
        try:
            if "apply" in self.roles:
                await self._run_apply(stop)
            else:
                while not stop.is_set():
                    await self._sign_of_life()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(stop.wait(), 1.0)
        finally:
            threads_stop.set()
            for thread in threads:
                await asyncio.to_thread(thread.join, 60)

    def _start_backfill(self, stop: threading.Event) -> list[BackfillWorker]:
        runtime = self.runtime
        queue, tables = Queue(runtime.store), runtime.copies()
        count = runtime.migration.backfill.workers
        rate, look = Rate(runtime, count), threading.Lock()
        threads = [
            BackfillWorker(
                f"backfill-{n}",
                worker=self.id,
                queue=queue,
                tables=tables,
                reader=runtime.reader("crossfade backfill"),
                writer=runtime.writer("crossfade backfill"),
                rate=rate,
                stop=stop,
                look=look,
            )
            for n in range(count)
        ]
        for thread in threads:
            thread.start()
        return threads

    async def _run_apply(self, stop: asyncio.Event) -> None:
        sessions = Sessions(self._open)
        self._topics = TopicWatch(self.runtime)
        kafka = self.runtime.migration.kafka
        secret = kafka.secret()
        shown = credentials(
            kafka.protocol,
            mechanism=kafka.mechanism,
            username=kafka.username,
            password=secret.get_secret_value() if secret else None,
            ca=kafka.ca,
            cert=kafka.cert,
            key=kafka.key,
        )
        app = make_app(
            self.runtime.name,
            list(self._streams),
            sessions,
            bootstrap=kafka.bootstrap,
            credentials=shown,
            kafka=kafka_options(self.runtime),
        )

        async def tick() -> None:
            await self._sign_of_life()
            await self._report(sessions)
            if self._reopen_at is not None and time.monotonic() >= self._reopen_at:
                self._reopen_at = None
                await app.consumer.perform_seek()

        try:
            await run_app(app, stop, tick)
        except (Transient, ConnectError) as error:
            if not stop.is_set():
                raise
            log.info("stopped while the target or Kafka was away", error=str(error))
        finally:
            await sessions.close_all()
            del self._topics  # with its connections: this worker may be alive for long as part of a cycle

    async def _sign_of_life(self) -> None:
        if time.monotonic() - self._seen_at > 2.0:
            self._seen_at = time.monotonic()
            with contextlib.suppress(Transient):
                await asyncio.to_thread(self.runtime.store.seen, self.id, ",".join(self.roles))

    async def _report(self, sessions: Sessions) -> None:
        """Lag samples out; streams that somebody resumed or paused opened again."""
        with contextlib.suppress(Transient, ConnectError):
            for stream, lag in self._lag.items():
                samples = lag.drain()
                if samples:
                    await asyncio.to_thread(self.runtime.store.add_lag, stream, samples)
            if time.monotonic() - self._counted_at > STAGES_EVERY:
                self._counted_at = time.monotonic()
                for session in list(sessions.open.values()):
                    await asyncio.to_thread(self.runtime.store.set_stages, session.stream, session.applier.stages)
                await self._topics.look(sessions.open)
            rows = await asyncio.to_thread(self.runtime.store.streams)
            for row in rows:
                if row.topic not in sessions.open:
                    continue  # it may be being opened as it was a moment ago: looked at again once it is
                before, self._states[row.name] = self._states.get(row.name), row.state
                if before is not None and before != row.state:
                    self._reopen_at = time.monotonic()

    # -- opening a stream ------------------------------------------------------------------------------------------------------------

    async def _open(self, topic: str, opening: int) -> tuple[StreamSession, int]:
        wait = 0.1
        while True:
            try:
                return await asyncio.to_thread(self._open_now, topic, opening)
            except (Transient, ConnectError) as error:
                if self._stopping.is_set():
                    raise
                log.warning("cannot open the stream yet", topic=topic, error=str(error))
                await asyncio.sleep(wait)  # not on the event: Faust may call from another loop than its own
                wait = min(5.0, wait * 2)

    def _claimed(self, stream: str) -> tuple[Row[Any], Applied]:
        """The stream's row and where it stands, ours now. Whoever had it and does not end its batch is frozen: its session is ended, and
        this tried again."""
        try:
            return self.runtime.store.claim_stream(stream)
        except Transient:
            self.runtime.end_holders([stream])
            raise

    def _open_now(self, topic: str, opening: int) -> tuple[StreamSession, int]:
        runtime, name = self.runtime, self._streams[topic]
        row, applied = self._claimed(name)
        failpoints.here("stream.claimed")
        if row.state != "running":
            self._held_up.add(name)
        elif name in self._held_up:
            # Tables are as they are when somebody lets it go on, not as they were when it stopped or was opened last.
            self._held_up.discard(name)
            runtime.reload()
        fault = self._see_to_columns(name) if row.state == "running" else None
        # Asked of one that is to run: a pause is not ended by what is found meanwhile.
        gap = self._topics.gap(row, applied) if row.state == "running" else None
        hole = self._topics.hole(row, applied) if row.state == "running" and gap is None else None
        self._states[name] = row.state
        lag = self._lag.setdefault(name, LagSamples())
        lag.events, lag.transactions = int(row.applied_events), int(row.applied_transactions)
        spec = runtime.migration.apply
        routes: Mapping[TableId, Sequence[Route]] = {}
        policy: SchemaPolicy | None = None
        try:
            policy = self._policies[name] = SchemaPolicy(runtime, self._left_out, self._seen_to.get(name, set()))
            routes = runtime.routes(policy.known if runtime.source_engine == "postgresql" else None)
        except Transient:
            raise
        except CrossfadeError as error:
            fault = fault or error  # a table is gone, say
        applier = Applier(
            migration=runtime.name,
            stream=name,
            writer=runtime.writer(),
            events=runtime.events,
            routes=routes,
            applied=applied,
            on_error=runtime.migration.on_error,
            held=runtime.store.held_keys(name),
            limits=Limits(spec.batch_rows, spec.batch_bytes),
            retry_max=spec.retry_max,
            on_schema_change=policy.check if policy is not None else _nothing,
            on_applied=lag,
            muted=row.muted if row.muted and not runtime.store.marker_came(name, row.muted) else "",
        )
        session = StreamSession(
            stream=name,
            opening=opening,
            offset=applied.offset,
            hole=hole,
            events=runtime.events,
            applier=applier,
            pieces=Pieces(
                rows=spec.transaction_memory_rows,
                bytes=spec.transaction_memory_bytes,
                next_rows=spec.batch_rows,
                next_bytes=spec.batch_bytes,
            ),
            on_failed=self._failed,
        )
        applier.on_failed = session.fail
        self._sessions[name] = session
        fault = fault or gap
        if fault is not None:
            session.fail(fault)
        elif row.state != "running":
            session.pause()
        log.info("stream opened", stream=name, epoch=applied.epoch, position=applied.position, offset=applied.offset, state=row.state)
        return session, applied.offset

    def _see_to_columns(self, stream: str) -> CrossfadeError | None:
        """Adds columns that the last opening (or another worker's) came to; what makes that impossible stops the stream."""
        try:
            added = self._added.get(stream)
            if isinstance(added, ColumnsAdded):
                left = columns.record(self.runtime, added)
                self._left_out.setdefault(added.table, set()).update(left)
            elif added is not None:
                columns.record_missing(self.runtime, added)
            self._added.pop(stream, None)
            columns.complete(self.runtime, self._tables[stream])
        except Transient:
            raise
        except CrossfadeError as error:
            self._added.pop(stream, None)
            self._refused[stream] = error
            return error
        return None

    def _failed(self, stream: str, error: CrossfadeError) -> None:
        session = self._sessions.get(stream)
        if session is not None and session.met is not None:
            self._topics.met(stream, session.met)
        if isinstance(error, (Transient, Fenced)):
            # Somebody else may own it now, or the target is away: ask again where it stands.
            self._reopen_at = time.monotonic() + 1.0
            return
        if isinstance(error, ColumnsUnknown):
            found = self._policies[stream].found(error)
            if found is None:
                self._reopen_at = time.monotonic()
                return
            error = found
        if isinstance(error, ColumnsAdded) or (isinstance(error, ColumnMissing) and error is not self._refused.get(stream)):
            log.info("the source's columns have changed", stream=stream, what=str(error))
            self._added[stream] = error
            self._reopen_at = time.monotonic()
            return
        if isinstance(error, SchemaChanged):
            # Once somebody lets it go on, the same statement is not asked about again.
            policy = self._policies.get(stream)
            if policy is not None and policy.stopped_at is not None:
                self._seen_to.setdefault(stream, set()).add(policy.stopped_at)
        self._held_up.add(stream)
        log.error("stream stopped", stream=stream, error=str(error))
        state = "gap" if isinstance(error, GapInStream) else "stopped"
        with contextlib.suppress(CrossfadeError):
            self.runtime.store.set_stream(stream, state=state, error=str(error))
            self._states[stream] = state


async def run_both(runtime: Runtime, roles: Iterable[str], stop: asyncio.Event) -> None:
    """A worker of the migration, and of its way back once that is prepared."""
    roles = tuple(roles)
    forward = asyncio.create_task(Worker(runtime, roles).run(stop))
    back = asyncio.create_task(_run_back(runtime, stop)) if "apply" in roles and runtime.migration.reverse != "none" else None
    try:
        await forward
    finally:
        if back is not None:
            stop.set()
            await back


async def _run_back(runtime: Runtime, stop: asyncio.Event) -> None:
    """Waits for the way back and works on it; what goes wrong there stops no stream of the way there."""

    def look() -> Runtime | None:
        row = runtime.store.migration_row()
        if row is None or not asked_for(runtime, row):
            return None
        back = reverse_runtime(runtime)
        return back if back is not None and prepared(back) else None

    while not stop.is_set():
        try:
            back = await asyncio.to_thread(look)
            if back is not None:
                await Worker(back, ("apply",)).run(stop)
        except Transient as error:
            log.debug("no way back yet", error=str(error))
        except CrossfadeError as error:
            log.warning("the way back", error=str(error))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(stop.wait(), 1.0)


def _nothing(_transaction: Transaction) -> None:
    """For a stream that takes nothing in."""
