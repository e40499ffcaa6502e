"""What a stream takes in: the record at the very offset that comes next, and no other."""

from __future__ import annotations

import asyncio

import pytest

from connectors.postgres.events import PostgresEvents
from pipeline.errors import CrossfadeError, GapInStream, Transient
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


async def _fed(failed: list[CrossfadeError], *fetches: Fetched) -> int | None:
    """What comes next after these fetches, of a stream that is opened for the seventh time, at offset 10."""
    session = StreamSession(
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
        await session.feed(fetched)
    taken = session.next_offset
    await session.close()
    return taken
