"""Streams are shared out among workers: each to exactly one, evenly, and as few as can be change hands."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.stream.assignor import shared_out

WORKERS = st.sets(st.sampled_from("ABCDEF"), min_size=1)
STREAMS = st.sets(st.sampled_from([f"s{n}" for n in range(9)]))


def spread(found: dict[str, set[str]]) -> int:
    return max(map(len, found.values())) - min(map(len, found.values()))


@given(WORKERS, WORKERS, STREAMS)
def test_every_stream_has_one_worker_and_none_moves_for_nothing(before: set[str], after: set[str], streams: set[str]) -> None:
    first = shared_out(dict.fromkeys(before, streams), {})
    assert sorted(s for mine in first.values() for s in mine) == sorted(streams) and spread(first) <= 1
    assert shared_out(dict.fromkeys(before, streams), first) == first
    then = shared_out(dict.fromkeys(after, streams), first)
    assert sorted(s for mine in then.values() for s in mine) == sorted(streams) and spread(then) <= 1
    # Those whose worker is gone have to move, and one that joins gets its share: no others.
    most = -(-len(streams) // len(after))
    moved = sum(len(first[worker] - then[worker]) for worker in before & after)
    assert moved <= sum(max(0, len(first[w]) - most) for w in before & after) + len(after - before) * most


@given(st.dictionaries(st.sampled_from("ABCD"), STREAMS, min_size=1))
def test_a_worker_gets_only_streams_that_it_is_there_for(streams: dict[str, set[str]]) -> None:
    """Workers of two versions of the file, for a while."""
    found = shared_out(streams, {worker: {"s1", "s2", "s3"} for worker in streams})
    assert all(found[worker] <= streams[worker] for worker in streams)
    assert sorted(s for mine in found.values() for s in mine) == sorted(set().union(*streams.values()))
