"""The control store on both products."""

from __future__ import annotations

import pytest
import sqlalchemy as sa
from contract.conftest import Lab

from pipeline.errors import CrossfadeError
from pipeline.store import tables as t

pytestmark = pytest.mark.system


def test_a_control_store_of_version_1_gets_what_came_since_and_keeps_what_it_has(lab: Lab) -> None:
    target = lab.people(phase="copying", tracked=True)
    with lab.store.begin() as db:
        db.execute(sa.text("ALTER TABLE crossfade.table_state DROP COLUMN keyless"))
        db.execute(t.version.update().values(version=1))
    for _ in range(2):
        lab.store.create()
    assert (lab.state(target).phase, bool(lab.state(target).keyless)) == ("copying", False)
    with lab.store.begin() as db:
        assert db.execute(sa.select(t.version.c.version)).scalar_one() == t.VERSION
        db.execute(t.version.update().values(version=t.VERSION + 1))
    with pytest.raises(CrossfadeError, match="is of version"):
        lab.store.create()
    with lab.store.begin() as db:
        db.execute(t.version.update().values(version=t.VERSION))
