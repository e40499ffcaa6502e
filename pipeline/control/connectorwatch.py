"""The connectors of a migration, looked after: one that fails is restarted, less and less often, and what it says stands in the status;
one that cannot go on, whoever restarts it, is a gap in its stream."""

from __future__ import annotations

import dataclasses
import time

import structlog

from connectors.connect import ConnectClient
from pipeline.control.prepare import connect_client
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import stream_plans
from pipeline.errors import ConnectError, GapInStream, TimedOut

log = structlog.get_logger("controller")

GONE_SECONDS = 60.0  # a Connect that has just started does not know its connectors yet
LONGEST_WAIT = 60.0

# What Debezium says when what it must read next is gone or can never be read, and what there is to do.
_START_OVER = "crossfade cancel, then start: the copy begins anew"
_HOPELESS = {
    "no longer available on the server": _START_OVER,
    "have been purged": _START_OVER,
    "could not find first log file name": _START_OVER,
    "can no longer get changes from replication slot": _START_OVER,
    "requested wal segment": _START_OVER,
    "which is no longer": _START_OVER,
    "internal schema size": f"a session wrote rows with a binlog_row_image other than FULL; let none do so, and {_START_OVER}",
    "based replication format": f"a session wrote with a binlog_format other than ROW; let none do so, and {_START_OVER}",
}


@dataclasses.dataclass(slots=True)
class _Trouble:
    """A connector that is not well."""

    gone_since: float | None = None
    restarts: int = 0
    restart_at: float = 0.0
    said: str = ""


class ConnectorWatch:
    """Asks Connect now and then. Keeps what went wrong between the looks."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._troubles: dict[str, _Trouble] = {}

    def look(self) -> None:
        """One look. Raises GapInStream when a connector is gone."""
        try:
            with connect_client(self.runtime) as connect:
                for plan in stream_plans(self.runtime):
                    self._look_at(connect, plan.name, plan.connector)
        except (ConnectError, TimedOut) as error:
            log.warning("Kafka Connect does not answer", error=str(error))

    def _look_at(self, connect: ConnectClient, stream: str, connector: str) -> None:
        state = connect.status(connector)
        now = time.monotonic()
        if state is not None and not state.failure:
            if self._troubles.pop(connector, None) is not None:
                self._say(stream, None)
            return
        trouble = self._troubles.setdefault(connector, _Trouble())
        if state is None:
            trouble.gone_since = trouble.gone_since or now
            if now - trouble.gone_since > GONE_SECONDS:
                raise GapInStream(f"connector {connector} is gone", hint="crossfade start registers it again")
            return
        trouble.gone_since = None
        lower = state.failure.lower()
        for text, hint in _HOPELESS.items():
            if text in lower:
                # Nobody waits for this stream's markers any more. The controller has it sent again where that can be.
                self.runtime.store.set_stream(stream, state="gap", error=f"connector {connector}: {state.failure}: {hint}")
                return
        if trouble.said != state.failure:
            trouble.said = state.failure
            self._say(stream, f"connector {connector}: {state.failure}")
        if now >= trouble.restart_at:
            log.warning("connector failed: restarting it", connector=connector, error=state.failure, restarts=trouble.restarts)
            connect.restart(connector)
            trouble.restart_at = now + min(LONGEST_WAIT, 5.0 * 2**trouble.restarts)
            trouble.restarts += 1

    def _say(self, stream: str, error: str | None) -> None:
        """In the stream's status, unless the stream itself has stopped and says why."""
        row = next((row for row in self.runtime.store.streams() if row.name == stream), None)
        if row is not None and row.state in ("running", "paused"):
            self.runtime.store.set_stream(stream, state=row.state, error=error)
