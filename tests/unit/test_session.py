"""What a stream takes in: the record at the very offset that comes next, and no other."""

from __future__ import annotations

import asyncio

import pytest

from connectors.postgres.events import PostgresEvents
from pipeline.errors import CrossfadeError, GapInStream, Transient
from pipeline.stream import session
from pipeline.stream.app import Sessions
from pipeline.stream.assembler import Pieces
from pipeline.stream.session import StreamSession
from pipeline.stream.transport import Fetched
from tests.unit.applylab import lab


@pytest.mark.parametrize(
    ("opening", "offsets", "then", "fault"),
    [
        (7, [10, 11], 12, None),
        (7, [20], 21, None),  # the hole that the topic is known to have
        (7, [12], None, Transient),  # a fetch that went astray
        (7, [0, 1], None, GapInStream),  # the topic begins anew
        (7, [9, 10], None, GapInStream),
        (6, [0, 1], 10, None),  # what was on its way before the seek: older,
        (6, [9, 10], 11, None),
        (6, [12], 10, None),  # and newer
    ],
)
def test_s6_a_stream_goes_on_at_the_offset_that_comes_next(
    opening: int, offsets: list[int], then: int | None, fault: type[CrossfadeError] | None
) -> None:
    failed: list[CrossfadeError] = []

    taken = asyncio.run(_fed(failed, Fetched(opening, [(offset, None) for offset in offsets])))
    assert [type(error) for error in failed] == ([fault] if fault else [])
    assert taken == then


def test_what_was_on_its_way_before_the_seek_comes_again_after_it() -> None:
    failed: list[CrossfadeError] = []
    assert asyncio.run(_fed(failed, Fetched(6, [(10, None), (11, None)]), Fetched(7, [(10, None), (11, None), (12, None)]))) == 13
    assert not failed


def test_a_stream_for_which_nobody_fetches_is_opened_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "ASTRAY_SECONDS", -1.0)
    failed: list[CrossfadeError] = []
    assert asyncio.run(_fed(failed, Fetched(6, [(12, None)]))) is None
    assert [type(error) for error in failed] == [Transient]


def test_s27_of_two_openings_at_once_the_later_one_holds_whichever_is_through_first() -> None:
    """A rebalance and a session that wants to be opened again: what is read is read for the opening that holds."""

    class Session:
        def __init__(self, opening: int) -> None:
            self.opening, self.closed = opening, False

        async def close(self) -> None:
            self.closed = True

    async def go() -> None:
        through = {1: asyncio.Event(), 2: asyncio.Event()}
        made: dict[int, Session] = {}

        async def opener(_topic: str, opening: int) -> tuple[StreamSession, int]:
            await through[opening].wait()
            made[opening] = Session(opening)
            return made[opening], 10 * opening  # type: ignore[return-value]

        sessions = Sessions(opener)
        first, second = (asyncio.create_task(sessions.opened("t")) for _ in range(2))
        await asyncio.sleep(0)
        through[2].set()
        assert await second == (20, 2)
        through[1].set()
        assert await first == (10, 1)
        assert sessions.opening("t") == 2 and (made[1].closed, made[2].closed) == (True, False)

    asyncio.run(go())


async def _fed(failed: list[CrossfadeError], *fetches: Fetched) -> int | None:
    """What comes next after these fetches, of a stream that is opened for the seventh time, at offset 10."""
    one = StreamSession(
        stream="main",
        opening=7,
        offset=10,
        hole=(10, 20),
        events=PostgresEvents(),
        applier=lab().applier,
        pieces=Pieces(rows=100, bytes=1 << 20, next_rows=100, next_bytes=1 << 20),
        on_failed=lambda _, error: failed.append(error),
    )
    for fetched in fetches:
        await one.feed(fetched)
    taken = one.next_offset
    await one.close()
    return taken
