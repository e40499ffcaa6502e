"""What every writer keeps: whole batches exactly once, the net effect of a batch, and the rules of the backfill beside the stream."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from contract.conftest import Lab, Running, wait_for
from msgspec import structs

from connectors.base import ApplyNotes, HeldEvent, TableBatch, TargetTable
from pipeline.errors import CommitUnknown, CrossfadeError, DataRejected, Fenced, Transient
from pipeline.model import UNCHANGED, Applied, Text
from pipeline.store import tables as t

pytestmark = pytest.mark.system


def person(key: int, name: str = "n", big: str | None = "B", email: str | None = "") -> tuple[Text, ...]:
    return (str(key), name, big, f"{key}@x" if email == "" else email)


# -- exactly once ------------------------------------------------------------------------------------------------------------------------


def test_rows_position_counters_markers_and_held_events_are_one_transaction(lab: Lab) -> None:
    target = lab.people()
    held = HeldEvent(target.number, str(target.table.id), '["9"]', "1", '{"op": "delete"}', "refused", "held")
    lab.apply(TableBatch(target, rows=[person(1), person(2)], events=5), notes=ApplyNotes(3, ("tok",), (held,)))
    assert lab.rows(target) == [person(1), person(2)]
    assert lab.writer.applied(lab.migration, "main") == Applied("main", 0, "1", offset=10)
    with lab.store.begin() as db:
        stream = db.execute(sa.select(t.stream).where(t.stream.c.migration == lab.migration)).one()
        assert (stream.applied_events, stream.applied_transactions) == (5, 3)
        assert db.execute(sa.select(t.marker.c.token).where(t.marker.c.migration == lab.migration)).scalars().all() == ["tok"]
        assert db.execute(sa.select(t.quarantine.c.row_key).where(t.quarantine.c.migration == lab.migration)).scalars().all() == ['["9"]']


@pytest.mark.parametrize("change", [{"epoch": 7}, {"position": "0"}, {"partial_place": 3}])
def test_i5_a_batch_is_never_applied_twice_nor_by_a_deposed_worker(lab: Lab, change: dict[str, object]) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1)]))
    stale = structs.replace(lab.position, **change)  # type: ignore[arg-type]
    with pytest.raises(Fenced):
        lab.writer.apply(lab.migration, [TableBatch(target, rows=[person(1, "again"), person(2)])], stale, stale)
    assert lab.rows(target) == [person(1)]
    assert lab.writer.applied(lab.migration, "main") == lab.position


def test_a_probe_changes_nothing(lab: Lab) -> None:
    target = lab.people()
    before = lab.position
    lab.writer.apply(lab.migration, [TableBatch(target, rows=[person(1)])], before, structs.replace(before, position="9"), probe=True)
    assert lab.rows(target) == []
    assert lab.writer.applied(lab.migration, "main") == before


def test_a_refused_row_leaves_nothing_behind_and_names_its_table(lab: Lab) -> None:
    first, target = lab.people(), lab.people()
    with pytest.raises(DataRejected, match=target.table.id.name):
        lab.apply(TableBatch(first, rows=[person(1)]), TableBatch(target, rows=[person(1), ("two", "n", "B", "e")]))
    assert (lab.rows(first), lab.rows(target)) == ([], [])
    lab.apply(TableBatch(target, rows=[person(1)]))  # and the session is good for more
    assert lab.rows(target) == [person(1)]


def test_s12_text_too_long_is_refused_not_cut(lab: Lab) -> None:
    target = lab.people()
    with pytest.raises(DataRejected, match=target.table.id.name):
        lab.apply(TableBatch(target, rows=[person(1, "x" * 101)]))
    with pytest.raises(DataRejected, match=target.table.id.name):
        lab.merge(target, person(1, "x" * 101))
    assert lab.rows(target) == []


@pytest.mark.parametrize("of", ["apply", "merge"])
def test_a_session_killed_in_the_middle_is_a_passing_fault_that_leaves_nothing_behind(lab: Lab, of: str) -> None:
    target = lab.copying()
    lab.apply(TableBatch(target, rows=[person(9)]))
    chunk, blocker = lab.chunk(target), lab.session()
    blocker.cursor().execute("SELECT number FROM crossfade.table_state WHERE migration = %s FOR UPDATE", (lab.migration,))
    blocker.cursor().execute("SELECT id FROM crossfade.chunk WHERE id = %s FOR UPDATE", (chunk,))
    blocker.cursor().execute(f"UPDATE {lab.name_of(target)} SET name = 'held' WHERE id = 9")
    batch, block = TableBatch(target, deletes=[("9",)], rows=[person(1)]), [b"2\tn\tB\t2@x\n"]
    work = Running(lambda: lab.apply(batch) if of == "apply" else lab.writer.merge(target, chunk, block))
    lab.wait_until_waiting(1)
    lab.kill_waiting()
    with pytest.raises(Transient):
        work.result()
    blocker.rollback()
    assert lab.rows(target) == [person(9)]
    assert lab.writer.applied(lab.migration, "main") == lab.position
    lab.apply(batch)  # the same writer, in a new session
    assert lab.writer.merge(target, chunk, block).rows == 1
    assert lab.rows(target) == [person(1), person(2)]


def test_a_commit_whose_outcome_is_unknown_says_so(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1)]))
    before = lab.position
    session = lab.writer._db  # the one test that reaches inside: the connection must break at COMMIT, not before
    commit = session.commit

    def breaking() -> None:
        lab.kill(session)
        commit()

    session.commit = breaking
    with pytest.raises(CommitUnknown):
        lab.apply(TableBatch(target, rows=[person(2)]))
    assert lab.writer.applied(lab.migration, "main") == before  # read back, in a new session
    lab.apply(TableBatch(target, rows=[person(2)]))
    assert lab.rows(target) == [person(1), person(2)]


# -- the net effect of a batch -----------------------------------------------------------------------------------------------------------

HOSTILE = "\\ \t\n\r'\"`%s {} \x01 ÿ \U0001f600 \\N"


def test_values_arrive_as_they_were(lab: Lab) -> None:
    target = lab.people()
    rows = [person(1, HOSTILE, HOSTILE, HOSTILE), person(2, "", "", ""), person(3, "NULL", None, None), person(4, " a ", "\\N", "N")]
    lab.apply(TableBatch(target, rows=rows))
    assert lab.rows(target) == rows
    more = [(str(int(row[0] or 0) + 10), *row[1:3], None) for row in rows]
    lab.merge(target, *more)
    assert lab.rows(target) == sorted([*rows, *more], key=lambda row: row[0] or "")


def test_s23_hostile_identifiers(lab: Lab) -> None:
    text = lab.type(lab.product.pick("character varying(20)", "varchar(20)"))
    names = ['id"`', 'a."b', "x; DROP TABLE y", "new\nline %s", "select", "cf_g", "c0"]
    target = lab.table(dict.fromkeys(names, text), names[:1], name='t"`.%s;\n--', phase="copying", tracked=True)
    row = ("k", "1", "2", "3", "4", "5", "6")
    lab.apply(TableBatch(target, rows=[row]))
    lab.apply(TableBatch(target, partials=[("k", "9", UNCHANGED, UNCHANGED, "8", UNCHANGED, UNCHANGED), ("l", *[UNCHANGED] * 5, "1")]))
    lab.merge(target, ("m", *row[1:]), ("l", *row[1:]))
    assert lab.rows(target) == [("k", "9", "2", "3", "8", "5", "6"), ("m", *row[1:])]
    assert lab.listed(target) == ["l"]


def test_deletes_and_overwrites(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(k) for k in range(1, 5)]))
    lab.apply(TableBatch(target, deletes=[("2",), ("3",), ("99",)], rows=[person(1, "new"), person(5)]))
    assert lab.rows(target) == [person(1, "new"), person(4), person(5)]


def test_s10_a_key_deleted_and_inserted_again_has_its_last_state(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1)]))
    lab.apply(TableBatch(target, deletes=[("1",)]))
    lab.apply(TableBatch(target, rows=[person(1, "later", None)]))
    assert lab.rows(target) == [person(1, "later", None)]


def test_s9_s14_a_moved_row_keeps_what_its_event_left_out(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, big="one"), person(2, big="two")]))
    moves = [(("1",), ("8", "moved", UNCHANGED, "1@x")), (("2",), ("1", "moved too", UNCHANGED, "2@x"))]
    lab.apply(TableBatch(target, deletes=[("2",)], moves=moves))
    assert lab.rows(target) == [("1", "moved too", "two", "2@x"), ("8", "moved", "one", "1@x")]


def test_a_move_and_a_new_row_at_the_old_key(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, big="one")]))
    lab.apply(TableBatch(target, rows=[person(1, "new", "other", "new@x")], moves=[(("1",), ("2", "moved", UNCHANGED, "1@x"))]))
    assert lab.rows(target) == [person(1, "new", "other", "new@x"), ("2", "moved", "one", "1@x")]


def test_s14_s15_columns_left_out_keep_their_values_column_by_column(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, big="kept"), person(2), person(3, big="kept")]))
    partials = [("1", "new", UNCHANGED, "1@y"), ("2", UNCHANGED, None, "2@x"), ("3", "nn", UNCHANGED, UNCHANGED)]
    outcome = lab.apply(TableBatch(target, partials=partials))
    assert lab.rows(target) == [("1", "new", "kept", "1@y"), ("2", "n", None, "2@x"), ("3", "nn", "kept", "3@x")]
    assert outcome.relisted == 0
    assert lab.listed(target) == []


def test_staged_keys_are_looked_up_in_a_table_that_is_cheap_to_read_as_a_whole(lab: Lab) -> None:
    if lab.product.engine == "mysql":
        pytest.skip("STRAIGHT_JOIN has no choice")
    target = lab.people()
    lab.sql(f"INSERT INTO {lab.name_of(target)} SELECT g, 'n', 'B', g || '@x' FROM generate_series(1, 60000) g")

    def scans() -> tuple[int, int]:
        ((whole, by_key),) = lab.sql("SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relid = %s::regclass", lab.name_of(target))
        return int(whole), int(by_key)

    deletes = [(str(key),) for key in range(1, 6001)]  # half of them the old keys of what moves
    moves = [((str(key),), (str(key + 100_000), "moved", UNCHANGED, f"{key}@x")) for key in range(3001, 6001)]
    partials = [(str(key), "new", UNCHANGED, f"{key}@x") for key in range(6001, 9001)]
    before = scans()
    lab.apply(TableBatch(target, deletes=deletes, moves=moves, partials=partials))
    lab.writer.close()  # with the session its statistics are told
    wait_for(lambda: scans()[1] >= before[1] + 12_000, "statistics")
    assert scans()[0] == before[0]
    assert len(lab.rows(target)) == 57_000


def test_a_partial_event_of_an_absent_row_is_never_lost(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1)]))
    moved = (("5",), ("6", "moved", UNCHANGED, "6@x"))
    outcome = lab.apply(TableBatch(target, partials=[("1", "new", UNCHANGED, "1@x"), ("4", "x", UNCHANGED, "4@x")], moves=[moved]))
    assert (outcome.relisted, lab.listed(target), lab.state(target).tracked) == (2, ["4", "6"], True)
    assert lab.rows(target) == [person(1, "new")]
    assert lab.reread(target, {"4": person(4, "read"), "6": person(6, "read")}) == 2
    assert lab.rows(target) == [person(1, "new"), person(4, "read"), person(6, "read")]


def test_s11_a_unique_value_is_handed_over_in_one_batch(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, email="a"), person(2, email="b"), person(3, email="c")]))
    outcome = lab.apply(TableBatch(target, rows=[person(1, email="free"), person(2, email="a")]))
    lab.apply(TableBatch(target, rows=[person(3, email="free"), person(4, email="c")], partials=[("1", UNCHANGED, UNCHANGED, "new")]))
    assert [row[3] for row in lab.rows(target)] == ["new", "a", "free", "c"]
    assert outcome.evicted == 0


def test_s11_two_rows_swap_their_unique_values(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, big="one", email="a"), person(2, big="two", email="b")]))
    outcome = lab.apply(TableBatch(target, partials=[("1", "n", UNCHANGED, "b"), ("2", "n", UNCHANGED, "a")]))
    assert lab.rows(target) == [("1", "n", "one", "b"), ("2", "n", "two", "a")]
    assert (outcome.second_path, outcome.relisted) == (1, 0)


def test_s12_a_real_conflict_is_refused_and_overwrites_nobody(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, email="a")]))
    with pytest.raises(DataRejected, match=target.table.id.name):
        lab.apply(TableBatch(target, rows=[person(2, email="a")]))
    assert lab.rows(target) == [person(1, email="a")]


def test_a_truncate_comes_before_the_rest_of_its_batch(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1), person(2)]))
    lab.apply(TableBatch(target, truncate=True, rows=[person(2, "after")]))
    assert lab.rows(target) == [person(2, "after")]


def test_s19_parent_and_child_need_no_order(lab: Lab) -> None:
    number = lab.type(lab.product.pick("integer", "int(11)"))
    parent = lab.table({"id": number}, ["id"])
    child = lab.table(
        {"id": number, "p": number}, ["id"], extra=[f"FOREIGN KEY (p) REFERENCES {lab.name_of(parent)} (id) ON DELETE CASCADE"]
    )
    lab.apply(TableBatch(child, rows=[("1", "7")]), TableBatch(parent, rows=[("7",)]))
    lab.apply(TableBatch(parent, rows=[("8",)], deletes=[("7",)]), TableBatch(child, rows=[("1", "8")]))
    assert (lab.rows(parent), lab.rows(child)) == ([("8",)], [("1", "8")])
    lab.sql(f"DROP TABLE {lab.name_of(child)}")


def test_a_table_of_nothing_but_its_key(lab: Lab) -> None:
    number = lab.type(lab.product.pick("integer", "int(11)"))
    target = lab.table({"a": number, "b": number}, ["b", "a"], phase="copying", tracked=True)
    lab.apply(TableBatch(target, rows=[("1", "2"), ("2", "1")]))
    lab.apply(TableBatch(target, rows=[("1", "2"), ("1", "3")], deletes=[("1", "2")]))
    lab.merge(target, ("1", "3"), ("2", "1"), ("5", "5"))
    assert lab.rows(target) == [("1", "2"), ("1", "3"), ("5", "5")]


# -- backfill beside the stream ----------------------------------------------------------------------------------------------------------


def test_a_chunk_inserts_what_is_absent_and_overwrites_nothing(lab: Lab) -> None:
    target = lab.copying()
    fast = lab.merge(target, person(1), person(2))
    lab.apply(TableBatch(target, rows=[person(2, "stream"), person(3, "stream")]))
    slow = lab.merge(target, person(2, "old"), person(3, "old"), person(4))
    assert lab.rows(target) == [person(1), person(2, "stream"), person(3, "stream"), person(4)]
    assert (fast.rows, fast.skipped, fast.fast, slow.rows, slow.skipped) == (2, 0, True, 1, 2)
    assert lab.listed(target) == []


def test_s7_a_chunk_does_not_resurrect_what_the_stream_deleted(lab: Lab) -> None:
    target = lab.copying()
    lab.apply(TableBatch(target, deletes=[("1",), ("2",)]))
    lab.apply(TableBatch(target, rows=[person(2, "later life")]))
    outcome = lab.merge(target, person(1, "old"), person(2, "old"), person(3))
    assert lab.rows(target) == [person(2, "later life"), person(3)]
    assert (outcome.rows, outcome.skipped) == (1, 2)


def test_s8_the_old_key_of_a_key_change_is_recorded_and_nothing_is_carried_over_while_copying(lab: Lab) -> None:
    target = lab.copying()
    lab.merge(target, person(1, "a later life of 1", "not of the moved row"), person(7, "to be overwritten"))
    lab.apply(TableBatch(target, deletes=[("1",)], moves=[(("1",), ("7", "moved", UNCHANGED, "1@x"))]))
    assert (lab.rows(target), lab.listed(target)) == ([], ["7"])
    lab.merge(target, person(1, "old"), person(7, "old"))
    assert lab.rows(target) == []
    assert lab.reread(target, {"7": ("7", "moved", "its own", "1@x")}) == 1
    assert lab.rows(target) == [("7", "moved", "its own", "1@x")]


def test_a_listed_key_is_skipped_by_chunks_and_taken_off_by_a_whole_row_or_a_delete(lab: Lab) -> None:
    target = lab.copying()
    lab.apply(TableBatch(target, partials=[(str(k), "p", UNCHANGED, f"{k}@x") for k in (1, 2, 3)]))
    lab.merge(target, person(1, "old"), person(2, "old"), person(3, "old"))
    assert (lab.rows(target), lab.listed(target)) == ([], ["1", "2", "3"])
    lab.apply(TableBatch(target, rows=[person(1, "whole")], deletes=[("2",)]))
    assert (lab.rows(target), lab.listed(target)) == ([person(1, "whole")], ["3"])


def test_a_reread_row_is_merged_only_under_the_entry_it_was_read_for(lab: Lab) -> None:
    target = lab.copying()
    lab.apply(TableBatch(target, partials=[(str(k), "p", UNCHANGED, f"{k}@x") for k in (1, 2, 3, 4)]))
    entries = dict(lab.writer.listed(target, 10))
    read = {key: (sequence, person(int(key[0]), "read") if key != ("4",) else None) for key, sequence in entries.items()}
    lab.apply(TableBatch(target, partials=[("1", "p2", UNCHANGED, "1@x")], deletes=[("2",)]))  # after the read
    assert lab.writer.merge_listed(target, read) == 2
    assert (lab.rows(target), lab.listed(target)) == ([person(3, "read")], ["1"])


def test_a_reread_row_does_not_overwrite_unless_it_is_a_repair(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1), person(2), person(3)]))
    lab.writer.relist(target, [("1",), ("2",), ("9",)])
    assert lab.state(target).tracked
    assert lab.reread(target, {"1": person(1, "repaired"), "9": person(9, "missing")}) == 3
    assert lab.rows(target) == [person(1), person(2), person(3), person(9, "missing")]
    lab.writer.relist(target, [("1",), ("2",), ("9",)])
    assert lab.reread(target, {"1": person(1, "repaired"), "9": person(9, "missing")}, overwrite=True) == 3
    assert (lab.rows(target), lab.listed(target)) == ([person(1, "repaired"), person(3), person(9, "missing")], [])


def test_s28_a_repair_puts_nothing_over_rows_once_the_application_writes_here(lab: Lab) -> None:
    """It has read its rows on the side that was left; a crossing has muted the stream since."""
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, "new"), person(2, "new")]))
    lab.writer.relist(target, [("1",), ("2",)])
    lab.store.mute("m:crossed", instead_of={""})
    for _ in range(2):
        with pytest.raises(CrossfadeError, match="changed sides"):
            lab.reread(target, {"1": person(1, "old")}, overwrite=True)
        with pytest.raises(CrossfadeError, match="changed sides"):
            lab.new_writer().relist(target, [("1",)])
        with pytest.raises(CrossfadeError, match="changed sides"):
            lab.new_writer().merge_listed(target, {("1",): (1, person(1, "old"))}, overwrite=True)
    with lab.store.begin() as db:  # and back again
        db.execute(t.marker.insert().values(migration=lab.migration, stream="main", token="m:crossed", at=0.0))
    with pytest.raises(CrossfadeError, match="changed sides"):
        lab.reread(target, {"1": person(1, "old")}, overwrite=True)
    assert lab.rows(target) == [person(1, "new"), person(2, "new")]
    lab.writer.relist(target, [("1",)])
    lab.reread(target, {"1": person(1, "right"), "2": person(2, "new")}, overwrite=True)
    assert lab.rows(target) == [person(1, "right"), person(2, "new")]


def test_a_repair_read_before_a_partial_event_is_not_merged_over_it(lab: Lab) -> None:
    target = lab.people()
    lab.apply(TableBatch(target, rows=[person(1, big="wrong"), person(2, big="wrong")]))
    lab.writer.relist(target, [("1",), ("2",)])
    entries = lab.writer.listed(target, 10)
    moved = (("2",), ("3", "moved", UNCHANGED, "2@x"))
    lab.apply(TableBatch(target, partials=[("1", "newer", UNCHANGED, "1@x")], deletes=[("2",)], moves=[moved]))
    assert lab.writer.merge_listed(target, {key: (sequence, person(int(key[0]))) for key, sequence in entries}, overwrite=True) == 0
    assert lab.rows(target) == [("1", "newer", "wrong", "1@x"), ("3", "moved", "wrong", "2@x")]  # readers see rows all the while
    assert lab.listed(target) == ["1", "3"]
    assert lab.reread(target, {"1": person(1, "newer", "right"), "3": ("3", "moved", "right", "2@x")}, overwrite=True) == 2
    assert lab.rows(target) == [person(1, "newer", "right"), ("3", "moved", "right", "2@x")]


def test_a_chunk_row_that_clashes_on_a_unique_key_is_skipped_and_listed(lab: Lab) -> None:
    target = lab.copying()
    lab.apply(TableBatch(target, rows=[person(1, email="a")]))
    outcome = lab.merge(target, person(2, email="a"), person(3), person(1, "old", email="b"))
    assert (lab.rows(target), lab.listed(target)) == ([person(1, email="a"), person(3)], ["2"])
    assert (outcome.rows, outcome.skipped) == (1, 2)
    assert lab.reread(target, {"2": person(2, email="a")}) == 0  # another row owns the value still
    lab.apply(TableBatch(target, rows=[person(1, email="c")]))
    assert lab.reread(target, {"2": person(2, email="a")}) == 1
    assert lab.rows(target) == [person(1, email="c"), person(2, email="a"), person(3)]


def test_a_stream_row_evicts_an_untouched_row_from_a_chunk_and_lists_its_key(lab: Lab) -> None:
    target = lab.copying()
    lab.merge(target, person(5, "from the future", email="a"), person(6))
    outcome = lab.apply(TableBatch(target, rows=[person(1, email="a"), person(2, email="b")]))
    assert (lab.rows(target), lab.listed(target)) == ([person(1, email="a"), person(2, email="b"), person(6)], ["5"])
    assert (outcome.evicted, outcome.relisted) == (1, 1)


def test_s11_what_one_batch_evicted_the_next_one_does_not_delete(lab: Lab) -> None:
    target = lab.copying()
    lab.merge(target, ("7", "later", "b", "mail"))
    lab.apply(TableBatch(target, rows=[("6", "n", "b", "mail")], events=1))
    lab.apply(TableBatch(target, rows=[("6", "n", "b", "other"), ("7", "back", "b", "mail")], events=2))
    lab.apply(TableBatch(target, rows=[("8", "n", "b", "third")], deletes=[("5",)], events=2))
    assert [row[0] for row in lab.rows(target)] == ["6", "7", "8"] and lab.listed(target) == []


def test_a_partial_stream_row_evicts_too_and_a_touched_row_is_not_evicted(lab: Lab) -> None:
    target = lab.copying()
    lab.merge(target, person(1, big="one"), person(2, big="two"), person(3, email="c"))
    lab.apply(TableBatch(target, partials=[("1", "n", UNCHANGED, "2@x"), ("2", "n", UNCHANGED, "c")]))
    assert (lab.rows(target), lab.listed(target)) == ([("1", "n", "one", "2@x"), ("2", "n", "two", "c")], ["3"])


def test_a_truncate_throws_chunks_list_and_records_away(lab: Lab) -> None:
    target, other = lab.copying(), lab.copying()
    chunks = [lab.chunk(target, state) for state in ("todo", "taken", "done")]
    elsewhere = lab.chunk(other, "todo")
    lab.apply(TableBatch(target, deletes=[("1",)], partials=[("2", "p", UNCHANGED, "2@x")]))
    lab.apply(TableBatch(target, truncate=True, rows=[person(3)]))
    assert [lab.chunk_state(chunk) for chunk in (*chunks, elsewhere)] == ["void", "void", "done", "todo"]
    assert (lab.rows(target), lab.listed(target)) == ([person(3)], [])
    assert lab.writer.merge(target, chunks[1], [b"1\told\tB\te\n"]) is None
    assert lab.rows(target) == [person(3)]


def test_a_chunk_is_done_in_the_transaction_of_its_rows_and_once(lab: Lab) -> None:
    target = lab.copying()
    chunk = lab.chunk(target)
    assert lab.writer.merge(target, chunk, [b"1\tn\tB\t1@x\n"]).rows == 1
    assert lab.chunk_state(chunk) == "done"
    assert lab.writer.merge(target, chunk, [b"2\tn\tB\t2@x\n"]) is None
    assert lab.rows(target) == [person(1)]
    assert lab.merge(target).rows == 0  # an empty range


# -- the gate ----------------------------------------------------------------------------------------------------------------------------


def test_a_chunk_in_flight_holds_a_batch_back(lab: Lab) -> None:
    target, chunk = lab.copying(), 0
    lab.apply(TableBatch(target, rows=[person(9)]))
    chunk = lab.chunk(target)
    blocker, merger = lab.session(), lab.new_writer()
    blocker.cursor().execute("SELECT id FROM crossfade.chunk WHERE id = %s FOR UPDATE", (chunk,))  # stops the merge behind its gate
    merge = Running(lambda: merger.merge(target, chunk, [b"1\told\tB\t1@x\n"]))
    lab.wait_until_waiting(1)
    apply = Running(lambda: lab.apply(TableBatch(target, deletes=[("1",)])))
    lab.wait_until_waiting(2)
    assert apply.is_alive()
    blocker.rollback()
    assert merge.result().rows == 1
    apply.result()
    assert lab.rows(target) == [person(9)]


def test_a_batch_in_flight_holds_a_chunk_back(lab: Lab) -> None:
    target = lab.copying()
    lab.apply(TableBatch(target, rows=[person(9)]))
    blocker, merger = lab.session(), lab.new_writer()
    blocker.cursor().execute(f"UPDATE {lab.name_of(target)} SET name = 'held' WHERE id = 9")  # stops the batch behind its gate
    apply = Running(lambda: lab.apply(TableBatch(target, deletes=[("1",), ("9",)])))
    lab.wait_until_waiting(1)
    merge = Running(lambda: lab.merge(target, person(1, "old"), person(2), writer=merger))
    lab.wait_until_waiting(2)
    assert merge.is_alive()
    blocker.rollback()
    apply.result()
    assert merge.result().rows == 1
    assert lab.rows(target) == [person(2)]


def test_chunks_of_one_table_run_side_by_side_and_other_tables_are_not_held(lab: Lab) -> None:
    target, other = lab.copying(), lab.copying()
    chunk = lab.chunk(target)
    blocker, merger = lab.session(), lab.new_writer()
    blocker.cursor().execute("SELECT id FROM crossfade.chunk WHERE id = %s FOR UPDATE", (chunk,))
    held = Running(lambda: merger.merge(target, chunk, [b"1\tn\tB\t1@x\n"]))
    lab.wait_until_waiting(1)
    assert lab.merge(target, person(2)).rows == 1
    lab.apply(TableBatch(other, rows=[person(3)]))
    assert held.is_alive()
    blocker.rollback()
    assert held.result().rows == 1
    assert lab.rows(target) == [person(1), person(2)]


def _keyed_by_text(lab: Lab) -> TargetTable:
    collation = lab.product.pick("", "utf8mb4_general_ci")
    text = lab.type(lab.product.pick("character varying(20)", "varchar(20)"), collation=collation or None)
    declared = f"{text.native} COLLATE {collation}" if collation else text.native
    return lab.table({"k": text, "v": text}, ["k"], declared={"k": declared}, phase="copying", tracked=True)


def test_s12_keys_that_differ_only_in_case_are_two_rows_or_an_error(lab: Lab) -> None:
    """On a target whose collation ignores case they cannot both be there: refused in one batch, and never silently one row."""
    target = _keyed_by_text(lab)
    both = [("google", "1"), ("Google", "2")]
    if lab.product.engine == "postgresql":
        lab.apply(TableBatch(target, rows=both))
        assert sorted(lab.rows(target)) == sorted(both)
        return
    with pytest.raises(DataRejected, match=target.table.id.name):
        lab.apply(TableBatch(target, rows=both))
    lab.apply(TableBatch(target, rows=both[:1]))
    lab.set_state(target, phase="copied", tracked=False)
    with pytest.raises(DataRejected, match=target.table.id.name):
        lab.apply(TableBatch(target, rows=both[1:]))
    assert lab.rows(target) == both[:1]
    lab.apply(TableBatch(target, deletes=[("google",)], rows=both[1:]))  # a change of case is a key change like any other
    assert lab.rows(target) == both[1:]


def test_s12_a_chunk_row_that_differs_only_in_case_is_listed_not_lost(lab: Lab) -> None:
    target = _keyed_by_text(lab)
    lab.apply(TableBatch(target, rows=[("google", "1")], deletes=[("yahoo",)]))
    lab.merge(target, ("Google", "2"), ("Yahoo", "3"), ("yahoo", "old"), ("bing", "4"))
    there = [("bing", "4"), ("google", "1"), ("Yahoo", "3")]
    if lab.product.engine == "postgresql":
        assert sorted(lab.rows(target)) == sorted([*there, ("Google", "2")])
    else:
        assert sorted(lab.rows(target)) == sorted(there)
        assert lab.listed(target) == ["Google"]


def test_a_server_that_refuses_local_infile_gets_plain_inserts(lab: Lab) -> None:
    if lab.product.engine != "mysql":
        pytest.skip("MySQL's and MariaDB's own")
    lab.sql("SET GLOBAL local_infile = OFF")
    try:
        writer = lab.new_writer()
        target = lab.copying()
        rows = [person(1, HOSTILE, HOSTILE, HOSTILE), *(person(n) for n in range(2, 9))]
        lab.apply(TableBatch(target, rows=rows[:4], partials=[("7", "p", UNCHANGED, UNCHANGED)], deletes=[("8",)]), writer=writer)
        outcome = lab.merge(target, *(person(n, "old") for n in range(1, 9)), writer=writer)
        assert (outcome.rows, outcome.fast, lab.listed(target)) == (2, False, ["7"])
        assert lab.rows(target) == [*rows[:4], person(5, "old"), person(6, "old")]
    finally:
        lab.sql("SET GLOBAL local_infile = ON")
