"""Which keys have changed lately: a stream's topic read once more, beside whoever applies it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence

from connectors import topics
from connectors.base import Events
from pipeline.apply.batch import HEARTBEAT
from pipeline.apply.collapse import Route
from pipeline.control.runtime import Runtime
from pipeline.control.streamplans import kafka_options
from pipeline.errors import CrossfadeError, TimedOut
from pipeline.model import Key, TableId
from pipeline.records import Record, given, read

RECORDS_BACK = 200_000
"""So many records are read again at most: at fifty thousand a second that takes four seconds, before the pause."""
KEYS = 50_000
"""So many keys a table are kept, the newest."""
_ROWS = frozenset("cudr")


class Keys:
    """Changed keys of one table, the newest `most` of them."""

    def __init__(self, most: int = KEYS) -> None:
        self._most = most
        self._keys: dict[Key, None] = {}
        self.lost = 0

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: Key) -> None:
        """It changed just now."""
        self._keys.pop(key, None)
        self._keys[key] = None
        if len(self._keys) > self._most:
            del self._keys[next(iter(self._keys))]
            self.lost += 1

    def take(self) -> list[Key]:
        """All of them, oldest first; none is kept."""
        keys, self._keys = self._keys, {}
        return list(keys)


class Changes:
    """Records in, keys of the target's tables and markers out."""

    def __init__(self, events: Events, routes: Mapping[TableId, Sequence[Route]]) -> None:
        self._events, self._routes = events, routes
        self.keys: dict[int, Keys] = {route.target.number: Keys() for some in routes.values() for route in some}
        self.markers: set[str] = set()

    def add(self, values: Sequence[bytes]) -> None:
        """Takes records in. Of a row's event both keys count, the one before and the one after; whether a filter lets the row through is
        what the comparison finds out."""
        for value in values:
            event = read(value)
            if event.op is None:
                continue
            token = self._events.marker(event)
            if token is not None:
                if not token.startswith(HEARTBEAT):
                    self.markers.add(token)
            elif event.op in _ROWS and event.source is not None:
                for route in self._routes.get(self._events.table(event.source), ()):
                    for key in _keys(route, event):
                        self.keys[route.target.number].add(key)


def _keys(route: Route, event: Record) -> Iterator[Key]:
    for row in (given(event.before), given(event.after)):
        if row is not None:
            try:
                key = route.shape.key(row)
            except CrossfadeError:
                continue  # the applier has met it too, and stops or holds it
            if all(isinstance(part, str) for part in key):  # what was before may have come without its key
                yield key


class Collector(threading.Thread):
    """Reads one stream's topic from `since` (seconds since 1970) until it is closed."""

    def __init__(self, runtime: Runtime, topic: str, since: float) -> None:
        super().__init__(name="changed keys", daemon=True)
        kafka = runtime.migration.kafka
        self._changes = Changes(runtime.events, runtime.routes())
        self._tail = topics.Tail(kafka.bootstrap, topic, since_ms=int(since * 1000), at_most=RECORDS_BACK, options=kafka_options(runtime))
        self.cut = self._tail.cut
        self._came, self._stop_event = threading.Condition(), threading.Event()
        self._error: CrossfadeError | None = None

    def run(self) -> None:
        try:
            while not self._stop_event.is_set():
                values = self._tail.read(0.1)
                if values:
                    with self._came:
                        self._changes.add(values)
                        self._came.notify_all()
        except Exception as error:
            with self._came:  # whoever waits must not wait for the rest of the pause
                self._error = CrossfadeError(f"the final verify cannot read the stream: {error}")
                self._came.notify_all()
        finally:
            self._tail.close()

    def take(self, token: str, deadline: float) -> dict[int, list[Key]]:
        """Keys that changed before this marker and were not taken yet, by table number. Raises `TimedOut`, or what it stopped for."""
        with self._came:
            while token not in self._changes.markers:
                if self._error is not None:
                    raise self._error
                if not self._came.wait(max(0.0, deadline - time.monotonic())):
                    raise TimedOut("the stream is not read in time for the final verify")
            return {number: keys.take() for number, keys in self._changes.keys.items() if keys}

    def again(self, number: int, keys: Sequence[Key]) -> None:
        """These are to be taken once more."""
        with self._came:
            for key in keys if number in self._changes.keys else ():
                self._changes.keys[number].add(key)

    @property
    def lost(self) -> int:
        """How many keys were too many."""
        with self._came:
            return sum(keys.lost for keys in self._changes.keys.values())

    def close(self) -> None:
        """Ends the thread."""
        self._stop_event.set()
        if self.is_alive():
            self.join(10)
