"""The control store on both products."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa
from contract.conftest import Lab

from connectors.base import Range
from pipeline.backfill.queue import Queue
from pipeline.errors import CrossfadeError, Fenced
from pipeline.store import tables as t
from pipeline.store.store import Store

pytestmark = pytest.mark.system


def test_a_control_store_of_version_1_gets_what_came_since_and_keeps_what_it_has(lab: Lab) -> None:
    target = lab.people(phase="copying", tracked=True)
    with lab.store.begin() as db:
        db.execute(sa.text("ALTER TABLE crossfade.table_state DROP COLUMN keyless"))
        db.execute(sa.text("ALTER TABLE crossfade.stream DROP COLUMN topic_id"))
        db.execute(t.version.update().values(version=1))
    worker = Store(lab.product.address, lab.migration)  # a process of today that meets it
    assert [row.topic_id for row in worker.streams()] == [""]
    worker.close()
    for _ in range(2):
        lab.store.create()
    assert (lab.state(target).phase, bool(lab.state(target).keyless)) == ("copying", False)
    assert [row.topic_id for row in lab.store.streams()] == [""] * len(lab.store.streams())
    with lab.store.begin() as db:
        assert db.execute(sa.select(t.version.c.version)).scalar_one() == t.VERSION
        db.execute(t.version.update().values(version=t.VERSION + 1))
    with pytest.raises(CrossfadeError, match="is of version"):
        lab.store.create()
    with lab.store.begin() as db:
        db.execute(t.version.update().values(version=t.VERSION))


def test_s27_who_was_frozen_does_not_mute_what_another_crossing_lets_apply(lab: Lab) -> None:
    before = lab.store.muted()
    assert before == {""} and lab.store.mute("m:first", instead_of=before)
    _, claimed = lab.store.claim_stream("main")
    assert not lab.store.mute("m:late", instead_of=before)
    assert lab.store.muted() == {"m:first"} and lab.store.streams()[0].epoch == claimed.epoch
    assert lab.store.mute("m:second", instead_of={"m:first"}) and lab.store.streams()[0].epoch > claimed.epoch


def test_s26_a_chunk_that_a_crash_of_the_target_left_taken_is_taken_again(lab: Lab) -> None:
    """Its end did not wait for the disk: after the crash it is said to be a worker's that lives and is at work on something else."""
    target = lab.people(phase="copying", tracked=True)
    queue = Queue(lab.store)
    lab.store.seen("w", "backfill")
    assert queue.add(target.number, [Range(None, ("5",)), Range(("5",), None)], last=True)
    first, second = queue.take("w"), queue.take("w")
    assert first is not None and second is not None and first.id < second.id and queue.take("w") is None
    queue.put_down(first)  # done, as far as it knows
    again = queue.take("w")
    assert again is not None and (again.id, again.attempts) == (first.id, 1) and queue.take("w") is None
    assert Queue(lab.store).take("another") is None


def test_chunks_that_a_worker_has_taken_and_not_begun_are_free_again_once_it_leaves(lab: Lab) -> None:
    target = lab.people(phase="copying", tracked=True)
    queue, other = Queue(lab.store), Queue(lab.store)
    for worker in ("w", "another"):
        lab.store.seen(worker, "backfill")
    bounds = [None, *((str(at),) for at in range(1, 10)), None]
    assert queue.add(target.number, [Range(*within) for within in itertools.pairwise(bounds)], last=True)
    begun = queue.take("w")
    there = other.take("another")
    assert begun is not None and there is not None and there.id > begun.id + 1, "several are taken together"
    queue.leave()
    assert queue.unmerged() == {target.number: 10} and queue.rows(target.number) == 0
    found = [chunk.id for chunk in iter(lambda: other.take("another"), None)]
    assert sorted([begun.id, there.id, *found]) == list(range(begun.id, begun.id + 10)), "all but the one that is begun, and each once"


def test_s27_who_leads_no_more_cannot_even_read(lab: Lab) -> None:
    """A turn that goes by what it reads ends there; but a reader keeps nobody from taking the lease."""
    late, next_one = Store(lab.product.address, lab.migration), Store(lab.product.address, lab.migration)
    try:
        assert late.lead("late", 0.0) is not None and len(late.streams()) == 1
        with late.look() as reading:
            reading.execute(sa.text("SELECT 1"))
            assert next_one.lead("next", 60.0) is not None
        with pytest.raises(Fenced):
            late.streams()
        with pytest.raises(Fenced):
            Queue(late).counts()
        assert len(next_one.streams()) == 1
    finally:
        late.close()
        next_one.close()
