"""Which keys the final verify of a crossing looks at."""

from __future__ import annotations

from pipeline.control.changed import Keys


def test_the_newest_are_kept_and_a_key_that_changes_again_is_new() -> None:
    keys = Keys(3)
    keys.add([("1",), ("2",), ("3",)])
    keys.add([("1",)])
    keys.add([("4",), ("5",)])
    assert keys.take() == [("1",), ("4",), ("5",)] and keys.lost == 2
    assert len(keys) == 0 and keys.take() == []
