"""A table that is filled before it has its key (PostgreSQL): what the stream touches meanwhile is neither lost nor in anybody's way."""

from __future__ import annotations

import types
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from contract.conftest import Lab

from connectors.base import Statement, TableBatch, TargetTable
from pipeline import copytext
from pipeline.control import schema
from pipeline.errors import CrossfadeError, DataRejected, Transient
from pipeline.model import UNCHANGED

pytestmark = pytest.mark.system


@pytest.fixture
def keyless(lab: Lab) -> TargetTable:
    if lab.product.engine != "postgresql":
        pytest.skip("tables of this product always have their key")
    return lab.people(phase="copying", tracked=True, keyless=True)


def test_s7_what_the_stream_touched_before_the_key_was_there_is_read_again_and_what_it_deleted_stays_away(
    lab: Lab, keyless: TargetTable
) -> None:
    lab.merge(keyless, ("1", "old", "b", "e1"), ("2", "old", "b", "e2"), ("3", "kept", "b", "e3"))
    lab.apply(TableBatch(keyless, rows=[("1", "new", "b", "e1")], deletes=[("2",)], events=2))
    lab.merge(keyless, ("4", "old", "b", "e4"))
    lab.apply(TableBatch(keyless, partials=[("4", "new", UNCHANGED, "e4")], deletes=[("5",)], events=2))
    late = lab.chunk(keyless)
    lab.writer.build_key(keyless)
    lab.writer.build_key(keyless)  # a controller that died right after it tries again
    assert [row[0] for row in lab.rows(keyless)] == ["3"] and lab.listed(keyless) == ["1", "4"]
    lab.writer.merge(
        keyless, late, [copytext.encode([("5", "resurrected", "b", "e5"), ("4", "stale", "b", "e4"), ("6", "late", "b", "e6")])]
    )
    lab.reread(keyless, {"1": ("1", "new", "b", "e1"), "4": ("4", "new", "b", "e4")})
    assert [row[:2] for row in lab.rows(keyless)] == [("1", "new"), ("3", "kept"), ("4", "new"), ("6", "late")]
    lab.apply(TableBatch(keyless, rows=[("3", "newer", "b", "e3")], events=1))
    assert ("3", "newer") in [row[:2] for row in lab.rows(keyless)]


def test_s21_a_truncate_empties_a_table_that_has_no_key_yet(lab: Lab, keyless: TargetTable) -> None:
    lab.merge(keyless, ("1", "old", "b", "e1"))
    left = lab.chunk(keyless)
    lab.apply(TableBatch(keyless, truncate=True, rows=[("7", "after", "b", "e7")], events=2))
    assert lab.writer.merge(keyless, left, [copytext.encode([("1", "old", "b", "e1")])]) is None
    lab.writer.build_key(keyless)
    assert lab.rows(keyless) == [] and lab.listed(keyless) == ["7"]


def test_a_chunk_gives_way_while_the_key_is_built_and_the_stream_does_not_wait_for_it(lab: Lab, keyless: TargetTable) -> None:
    lab.merge(keyless, ("1", "old", "b", "e1"))
    builder = lab.session()
    with builder.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {lab.name_of(keyless)} IN SHARE MODE")  # what CREATE INDEX holds as long as it takes
    chunk = lab.chunk(keyless)
    with pytest.raises(Transient):
        lab.writer.merge(keyless, chunk, [copytext.encode([("2", "old", "b", "e2")])])
    lab.apply(TableBatch(keyless, rows=[("1", "new", "b", "e1")], events=1))
    assert lab.listed(keyless) == ["1"] and lab.chunk_state(chunk) == "taken"
    builder.rollback()
    assert lab.writer.merge(keyless, chunk, [copytext.encode([("2", "old", "b", "e2")])]).rows == 1


def test_a_batch_that_waits_while_the_key_comes_writes_rows_and_not_the_list(lab: Lab, keyless: TargetTable) -> None:
    lab.merge(keyless, ("1", "old", "b", "e1"))
    holder, builder = lab.new_writer(), lab.new_writer()
    holder._gate(keyless.number, shared=True)  # a chunk that is being merged
    with ThreadPoolExecutor(2) as threads:
        built = threads.submit(builder.build_key, keyless)
        lab.wait_until_waiting(1)
        applied = threads.submit(lab.apply, TableBatch(keyless, rows=[("1", "new", "b", "e1")], events=1))
        lab.wait_until_waiting(2)
        holder._undo()
        built.result(60)
        applied.result(60)
    assert [row[:2] for row in lab.rows(keyless)] == [("1", "new")] and lab.listed(keyless) == []


def test_two_rows_of_one_key_are_told_when_the_key_is_built(lab: Lab, keyless: TargetTable) -> None:
    lab.merge(keyless, ("1", "one", "b", "e1"), ("1", "two", "b", "e2"))
    with pytest.raises(DataRejected, match="the key of table"):
        lab.writer.build_key(keyless)


def test_two_that_build_the_key_at_once_build_it_once(lab: Lab, keyless: TargetTable) -> None:
    lab.merge(keyless, ("1", "old", "b", "e1"))
    blocker = lab.session()
    with blocker.cursor() as cursor:
        cursor.execute(f"LOCK TABLE {lab.name_of(keyless)} IN ROW EXCLUSIVE MODE")
    builders = [lab.new_writer(), lab.new_writer()]
    with ThreadPoolExecutor(2) as threads:
        built = [threads.submit(builder.build_key, keyless) for builder in builders]
        lab.wait_until_waiting(2)
        blocker.rollback()
        assert [one.result(60) for one in built] == [None, None]
    assert lab.sql(f"SELECT count(*) FROM pg_index WHERE indrelid = '{lab.name_of(keyless)}'::regclass") == [(1,)]


def test_an_index_that_who_led_before_is_still_building_is_waited_for(lab: Lab, keyless: TargetTable) -> None:
    sql = f"CREATE INDEX late ON {lab.name_of(keyless)} (name)"
    late = Statement("index late", sql, "SELECT 1 FROM pg_class WHERE relname = 'late'")
    runtime: Any = types.SimpleNamespace(target=lab.product.address)
    before = lab.session()
    with before.cursor() as cursor:
        cursor.execute(sql)
    with ThreadPoolExecutor(1) as threads:
        made = threads.submit(schema.run, runtime, [late])
        lab.wait_until_waiting(1)
        before.commit()
        made.result(60)
    with pytest.raises(CrossfadeError, match="index late"):
        schema.run(runtime, [Statement("index late", sql, "SELECT 1 WHERE false")])
