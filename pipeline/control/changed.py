"""The final verify of a crossing: the keys that have really changed lately, compared on both sides while nobody writes.

A collector reads the streams' topics beside the applier, from the last clean verify on, and keeps the keys. Before the pause they are
checked as ever, by markers; within the pause only those that changed since. What compares is verify's own code; from what applies comes
nothing but which keys an event touches.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import orjson
import structlog

from connectors import topics
from pipeline.apply.batch import HEARTBEAT
from pipeline.apply.collapse import TableCollapse
from pipeline.control.markers import new_token
from pipeline.control.prepare import kafka_options
from pipeline.control.runtime import Runtime
from pipeline.control.verifying import Verifier
from pipeline.errors import CrossfadeError, DataRejected, TimedOut
from pipeline.model import Change, Key
from pipeline.verify import plan
from pipeline.verify.compare import judge_of
from pipeline.verify.keys import find_differences
from pipeline.verify.rows import Judge
from pipeline.verify.side import Side, agree
from transforms.pair import Pair

log = structlog.get_logger("final verify")

RECORDS_BACK = 200_000
"""So many records are read again at most: at a hundred thousand a second that takes two seconds, before the pause."""
KEYS = 50_000
"""So many keys a table are kept, the newest."""
FEW = 2_000
"""So many are left for the pause."""
ROUNDS = 5
OPEN_SECONDS = 120.0


class Keys:
    """Changed keys of one table, the newest `most` of them."""

    def __init__(self, most: int = KEYS) -> None:
        self._most = most
        self._keys: dict[Key, None] = {}
        self.lost = 0

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, keys: Sequence[Key]) -> None:
        """These changed just now."""
        for key in keys:
            self._keys.pop(key, None)
            self._keys[key] = None
        while len(self._keys) > self._most:
            del self._keys[next(iter(self._keys))]
            self.lost += 1

    def take(self) -> list[Key]:
        """All of them; none is kept."""
        keys, self._keys = self._keys, {}
        return list(keys)


class Collector(threading.Thread):
    """Reads one stream's topic until `stop`."""

    def __init__(self, runtime: Runtime, topic: str, since: float) -> None:
        super().__init__(name="changed keys", daemon=True)
        kafka = runtime.migration.kafka
        self.lock = threading.Condition()
        self._events = runtime.events
        self._routes = runtime.routes()
        self._tail = topics.Tail(kafka.bootstrap, topic, since_ms=int(since * 1000), at_most=RECORDS_BACK, options=kafka_options(runtime))
        self.cut = self._tail.cut
        self.keys: dict[int, Keys] = {route.target.number: Keys() for some in self._routes.values() for route in some}
        self._stop_event = threading.Event()
        self._tokens: set[str] = set()  # markers that have come
        self._error: CrossfadeError | None = None

    def run(self) -> None:
        try:
            while not self._stop_event.is_set():
                values = self._tail.read(0.02)
                with self.lock:
                    self._take_in(values)
                    self.lock.notify_all()
        except CrossfadeError as error:
            with self.lock:
                self._error = error
                self.lock.notify_all()
        finally:
            self._tail.close()

    def until(self, token: str, deadline: float) -> None:
        """Returns when everything before this marker has been taken in. Raises `TimedOut`, or what it stopped for."""
        with self.lock:
            while token not in self._tokens:
                if self._error is not None:
                    raise self._error
                if not self.lock.wait(max(0.0, deadline - time.monotonic())):
                    raise TimedOut("the topic is not read in time for the final verify")

    def close(self) -> None:
        """Ends the thread."""
        self._stop_event.set()
        if self.is_alive():
            self.join(10)

    def _take_in(self, values: Sequence[bytes]) -> None:
        touched: dict[int, TableCollapse] = {}
        for value in values:
            event = orjson.loads(value)
            if "op" not in event:
                continue
            token = self._events.marker(event)
            if token is not None and not token.startswith(HEARTBEAT):
                self._tokens.add(token)
            if token is not None or event["op"] not in ("c", "u", "d", "t"):
                continue
            table = self._events.table(event["source"])
            change = Change(event["op"], table, event.get("before"), event.get("after"), 0, 0)
            for route in self._routes.get(table, ()):
                collapse = touched.setdefault(route.target.number, TableCollapse(route))
                try:
                    collapse.add(change)
                except DataRejected:
                    continue  # the applier has met it too, and stops or holds it
        for number, collapse in touched.items():
            self.keys[number].add(list(collapse.net))


class FinalVerify:
    """See `pipeline.control.crossing.FinalCheck`. `there` is the direction that applies."""

    def __init__(self, there: Runtime) -> None:
        self._there = there
        self._collectors: list[Collector] = []
        self._pairs: dict[int, Pair] = {}
        self._ready: dict[int, _Ready] = {}
        self._verifier: Verifier | None = None
        self.checked = 0

    def open(self) -> None:
        """Checks what has changed since the last clean verify. Raises CrossfadeError naming a row that differs."""
        there = self._there
        last = there.store.last_verify()
        since = float(str(last["started_at"])) if last is not None else time.time()
        self._pairs = {pair.number: pair for pair in there.pairs.values()}
        self._verifier = Verifier(there)
        for row in there.store.streams():
            self._collectors.append(Collector(there, row.topic, since))
        for collector in self._collectors:
            collector.start()
        if any(collector.cut for collector in self._collectors):
            log.warning("more has changed since the last verify than is looked at again", records=RECORDS_BACK)
        for _ in range(ROUNDS):
            token = new_token()
            self._verifier.mark(token)
            keys = self._taken(token, time.monotonic() + OPEN_SECONDS)
            for number, some in keys.items():
                self._compare(self._pairs[number], some)
            if sum(map(len, keys.values())) <= FEW:
                break
        for number, some in keys.items():
            self._prepared(number).different(some[:1])

    def now(self, token: str, deadline: float) -> None:
        """Within the pause, everything up to this marker applied and nobody writing: keys that changed since `open`. Raises
        CrossfadeError."""
        self._nothing_held()
        keys = self._taken(token, deadline)
        for number, some in keys.items():
            different = self._prepared(number).different(some)
            if different:
                raise _differs(self._pairs[number], different[0])
        self.checked += sum(map(len, keys.values()))

    def close(self) -> None:
        """Lets go of everything."""
        for collector in self._collectors:
            collector.close()
        for ready in self._ready.values():
            ready.close()
        if self._verifier is not None:
            self._verifier.close()
        self._collectors, self._ready, self._verifier = [], {}, None

    def _prepared(self, number: int) -> _Ready:
        if number not in self._ready:
            assert self._verifier is not None
            self._ready[number] = _Ready(self._pairs[number], self._verifier)
        return self._ready[number]

    def _taken(self, token: str, deadline: float) -> dict[int, list[Key]]:
        found: dict[int, list[Key]] = {}
        for collector in self._collectors:
            collector.until(token, deadline)
            with collector.lock:
                for number, keys in collector.keys.items():
                    if keys:
                        found.setdefault(number, []).extend(keys.take())
        return found

    def _compare(self, pair: Pair, keys: Sequence[Key]) -> None:
        assert self._verifier is not None
        found = find_differences(pair, keys, self._verifier.databases, self._verifier.settle)
        self.checked += len(keys)
        if found.differences:
            raise _differs(pair, found.differences[0].key)
        # Rows that are being written without pause come to rest in the pause.
        for collector in self._collectors:
            with collector.lock:
                if pair.number in collector.keys:
                    collector.keys[pair.number].add(found.unsettled)

    def _nothing_held(self) -> None:
        """No event is held back, no row is waiting to be read again."""
        held = self._there.store.quarantined()
        if held:
            raise CrossfadeError(f"an event of {held[0].target} went to quarantine meanwhile")
        listed = [row.target for row in self._there.store.tables() if row.tracked]
        if listed:
            raise CrossfadeError(f"rows of {listed[0]} are waiting to be read again")


class _Ready:
    """A pair with its sessions open: opening them takes longer than looking."""

    def __init__(self, pair: Pair, verifier: Verifier) -> None:
        ours, theirs = plan.shapes(pair)
        self._source, self._target = Side(verifier.databases.source, ours), Side(verifier.databases.target, theirs)
        self._judge: Judge = judge_of(pair)
        self._digest = agree(self._source, self._target, plan.free(pair))
        # Where a key is made by Python, rows can be found by reading all of them only: that is for before the pause.
        self._quick = ours.key_as_it_is and theirs.key_as_it_is

    def different(self, keys: Sequence[Key]) -> list[Key]:
        """Those of these keys at which the sides are not alike now."""
        if not self._quick:
            return []
        try:
            return self._judge.candidates(self._source.by_keys(self._digest, keys), self._target.by_keys(self._digest, keys))
        except CrossfadeError:
            self.close()
            raise

    def close(self) -> None:
        self._source.close()
        self._target.close()


def _differs(pair: Pair, key: Key) -> CrossfadeError:
    shown = ", ".join(f"{name}={'***' if name in pair.masked else value}" for name, value in zip(pair.key, key, strict=True))
    return CrossfadeError(f"table {pair.target_id}, key {shown}: the sides differ", hint="crossfade repair, then again")
