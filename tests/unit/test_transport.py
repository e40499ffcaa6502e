"""What is read for which opening, when opening takes long and partitions come and go meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
from faust.types import TP

from pipeline.stream import transport
from pipeline.stream.transport import BatchConsumer, Opened

HERE, THERE = TP("here", 0), TP("there", 0)


class Streams:
    """Streams that are open once somebody says so."""

    def __init__(self) -> None:
        self.through = {tp.topic: asyncio.Event() for tp in (HERE, THERE)}
        self.serial = 0
        self.open: dict[str, int] = {}

    async def opened(self, topic: str) -> Opened:
        self.serial += 1
        serial = self.serial
        await self.through[topic].wait()
        self.open[topic] = max(serial, self.open.get(topic, 0))
        return 100 * serial, serial

    def opening(self, topic: str) -> int | None:
        return self.open.get(topic)

    def applied(self, topic: str) -> int | None:
        return None

    async def close(self, topic: str) -> None:
        self.open.pop(topic, None)


class Consumer(BatchConsumer):
    """One without Kafka: what it is assigned is in `mine`, what it reads in `placed`."""

    def __init__(self, streams: Streams) -> None:
        self.streams, self.mine, self.placed = streams, {HERE, THERE}, {}
        self._openings, self._kafka_records, self._seeks = set(), self, 0

    @property
    def _positions(self) -> transport.Positions:
        return transport.Positions(self.streams, ("", "", {}))

    def assignment(self) -> set[TP]:
        return set(self.mine)

    async def seek_wait(self, partitions: Mapping[TP, int]) -> None:
        await asyncio.sleep(0)

    def _hold_own_fetches(self, partitions: Mapping[TP, int]) -> None:
        pass

    def place(self, places: Mapping[TP, Opened]) -> None:
        self.placed.update(places)


async def until(true: Callable[[], object]) -> None:
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never comes")


def test_s27_a_stream_that_opens_late_is_read_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faust would wait for so long, and take nothing in any more."""
    monkeypatch.setattr(transport, "OPEN_SECONDS", 0.01)

    async def go() -> None:
        one = Consumer(Streams())
        one.mine = {HERE}
        assert await one.seek_to_committed() == {} and not one.placed
        one.streams.through["here"].set()
        await until(lambda: one.placed)
        assert one.placed == {HERE: (100, 1)}
        await until(lambda: not one._openings)

    asyncio.run(go())


def test_s27_what_is_taken_away_while_it_is_opened_is_closed_and_the_rest_is_read() -> None:
    async def go() -> None:
        one = Consumer(Streams())
        opening = asyncio.create_task(one.seek_to_committed())
        await until(lambda: one.streams.serial == 1)
        one.mine = {HERE}
        for event in one.streams.through.values():
            event.set()
        assert (await opening).keys() == {HERE}
        assert one.placed.keys() == {HERE} and one.streams.open.keys() == {"here"}

    asyncio.run(go())


def test_s27_what_is_opened_once_more_is_read_for_the_later_opening() -> None:
    """A rebalance and a session that wants to be opened again, at once; the earlier one is through last."""

    async def go() -> None:
        one = Consumer(Streams())
        one.mine = {HERE}
        both = [asyncio.create_task(one.seek_to_committed()) for _ in range(2)]
        await until(lambda: one.streams.serial == 2)
        one.streams.through["here"].set()
        await asyncio.gather(*both)
        assert one.placed == {HERE: (200, 2)}

    asyncio.run(go())
