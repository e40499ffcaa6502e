"""What verify remembers, so that a killed one goes on where it was: progress by table, and the differences."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import sqlalchemy as sa
import sqlalchemy.dialects.mysql
from sqlalchemy.engine import Connection

from pipeline.model import Difference, TableId

Mode = Literal["full", "continuous", "final"]

RESUME_WITHIN = 3600.0
"""Seconds after which what an unfinished run has seen says too little about now."""


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """One table's part of a run. Everything up to `cursor` is looked at and counted, nothing behind it is."""

    cursor: str = ""  # see `plan.Chunk`; "end": all of it
    how: str = ""  # the cut that the cursor belongs to
    rows: int = 0  # rows of the source
    missing: int = 0
    extra: int = 0
    different: int = 0
    unsettled: int = 0
    seconds: float = 0.0

    @property
    def done(self) -> bool:
        """Whether the table was looked at to its end."""
        return self.cursor == "end"

    @property
    def differences(self) -> int:
        """Rows that are not the same."""
        return self.missing + self.extra + self.different


@dataclasses.dataclass(frozen=True, slots=True)
class Verified:
    """A finished run, in seconds since 1970, and the rows that it or a later one found not to be the same and nobody has repaired."""

    started_at: float
    finished_at: float
    differences: int


class VerifyStore(Protocol):
    """Every method is one transaction. `source` and `target` name a pair within a run."""

    def begin(self, mode: Mode, scope: str = "", *, within: float = RESUME_WITHIN) -> int:
        """The unfinished run of this mode over the same tables (`scope`) that got on not longer than `within` seconds ago, to be taken up
        again; else a new one."""

    def progress(self, run: int, source: TableId, target: TableId) -> Progress:
        """How far the pair is; `Progress()` at the beginning."""

    def record(self, run: int, source: TableId, target: TableId, progress: Progress, found: Sequence[Difference]) -> None:
        """Progress together with the differences found on the way to it: both or neither."""

    def finish(self, run: int) -> None:
        """The run looked at every table."""

    def differences(self, run: int, target: TableId | None = None) -> list[Difference]:
        """What a run found and nobody has repaired."""

    def repaired(self, found: Sequence[Difference]) -> None:
        """These are gone, in whichever run they were found."""


@dataclasses.dataclass(slots=True)
class _Run:
    mode: Mode
    scope: str
    at: float
    finished: bool = False


class MemoryStore:
    """Remembers as long as it lives: for tests, and for a look that nobody needs to keep."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs: list[_Run] = []
        self._progress: dict[tuple[int, TableId, TableId], Progress] = {}
        self._found: list[tuple[int, Difference]] = []

    def begin(self, mode: Mode, scope: str = "", *, within: float = RESUME_WITHIN) -> int:
        now = time.time()
        with self._lock:
            for number in reversed(range(len(self._runs))):
                run = self._runs[number]
                if (run.mode, run.scope, run.finished) == (mode, scope, False) and now - run.at <= within:
                    return number
            self._runs.append(_Run(mode, scope, now))
            return len(self._runs) - 1

    def progress(self, run: int, source: TableId, target: TableId) -> Progress:
        with self._lock:
            return self._progress.get((run, source, target), Progress())

    def record(self, run: int, source: TableId, target: TableId, progress: Progress, found: Sequence[Difference]) -> None:
        with self._lock:
            self._progress[run, source, target] = progress
            self._runs[run].at = time.time()
            self._found += [(run, difference) for difference in found]

    def finish(self, run: int) -> None:
        with self._lock:
            self._runs[run].finished = True

    def differences(self, run: int, target: TableId | None = None) -> list[Difference]:
        with self._lock:
            return [found for its_run, found in self._found if its_run == run and target in (None, found.table)]

    def repaired(self, found: Sequence[Difference]) -> None:
        gone = {(difference.table, difference.key) for difference in found}
        with self._lock:
            self._found = [(run, one) for run, one in self._found if (one.table, one.key) not in gone]


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyTables:
    """The tables that `SqlStore` keeps it in."""

    run: sa.Table
    table: sa.Table
    difference: sa.Table


def _name(length: int = 190) -> sa.types.TypeEngine[str]:
    return sa.String(length).with_variant(sa.dialects.mysql.VARCHAR(length, collation="utf8mb4_bin"), "mysql", "mariadb")


def _text() -> sa.types.TypeEngine[str]:
    return sa.Text().with_variant(sa.dialects.mysql.LONGTEXT(collation="utf8mb4_bin"), "mysql", "mariadb")


def define(metadata: sa.MetaData) -> VerifyTables:
    """Adds the tables to a metadata (the control store's), whose schema they then belong to."""
    return VerifyTables(
        sa.Table(
            "verify_run",
            metadata,
            sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
            sa.Column("migration", _name(), nullable=False, index=True),
            sa.Column("mode", _name(20), nullable=False),
            sa.Column("scope", _name(), nullable=False),
            sa.Column("started_at", sa.Double, nullable=False),
            sa.Column("updated_at", sa.Double, nullable=False),
            sa.Column("finished_at", sa.Double),
        ),
        sa.Table(
            "verify_table",
            metadata,
            sa.Column("run", sa.BigInteger, primary_key=True, autoincrement=False),
            sa.Column("source", _name(), primary_key=True),
            sa.Column("target", _name(), primary_key=True),
            sa.Column("read_to", _text(), nullable=False),
            sa.Column("how", _name(), nullable=False),
            *(sa.Column(count, sa.BigInteger, nullable=False) for count in ("rows_compared", "missing", "extra", "different", "unsettled")),
            sa.Column("seconds", sa.Double, nullable=False),
            sa.Column("updated_at", sa.Double, nullable=False),
        ),
        sa.Table(
            "verify_difference",
            metadata,
            sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True),
            sa.Column("run", sa.BigInteger, nullable=False, index=True),
            sa.Column("target", _text(), nullable=False),  # JSON list: schema and name may hold dots
            sa.Column("row_key", _text(), nullable=False),  # JSON list of canonical text
            sa.Column("kind", _name(20), nullable=False),
            sa.Column("finding", _text(), nullable=False),  # JSON: {"columns", "source", "target"}
            sa.Column("state", _name(10), nullable=False),  # open | repaired
        ),
    )


class SqlStore:
    """In a database, for one migration. `begin` opens a transaction (the control store's own `begin`)."""

    def __init__(self, begin: Callable[[], contextlib.AbstractContextManager[Connection]], tables: VerifyTables, migration: str) -> None:
        self._begin, self._t, self._migration = begin, tables, migration

    def begin(self, mode: Mode, scope: str = "", *, within: float = RESUME_WITHIN) -> int:
        run, now = self._t.run, time.time()
        mine = (run.c.migration == self._migration) & (run.c.mode == mode) & (run.c.scope == scope)
        open_still = run.c.finished_at.is_(None) & (run.c.updated_at >= now - within)
        with self._begin() as db:
            found = db.execute(sa.select(run.c.id).where(mine & open_still).order_by(run.c.id.desc()).limit(1)).scalar()
            if found is not None:
                return int(found)
            values = {"migration": self._migration, "mode": mode, "scope": scope, "started_at": now, "updated_at": now}
            made = db.execute(run.insert().values(**values))
            assert made.inserted_primary_key is not None
            return int(made.inserted_primary_key[0])

    def last(self, scope: str) -> Verified | None:
        """The newest run that has looked at all of these tables; None: there is none."""
        run, difference = self._t.run, self._t.difference
        mine = run.c.migration == self._migration
        whole = mine & (run.c.scope == scope) & run.c.finished_at.is_not(None)
        with self._begin() as db:
            row = db.execute(sa.select(run).where(whole).order_by(run.c.id.desc()).limit(1)).one_or_none()
            if row is None:
                return None
            since = sa.select(run.c.id).where(mine & (run.c.id >= row.id))
            left = sa.select(sa.func.count()).where(difference.c.run.in_(since), difference.c.state == "open")
            return Verified(float(row.started_at), float(row.finished_at), int(db.execute(left).scalar() or 0))

    def progress(self, run: int, source: TableId, target: TableId) -> Progress:
        with self._begin() as db:
            row = db.execute(sa.select(self._t.table).where(self._of(run, source, target))).mappings().first()
        if row is None:
            return Progress()
        counts = {count: int(row[count]) for count in ("missing", "extra", "different", "unsettled")}
        return Progress(row["read_to"], row["how"], int(row["rows_compared"]), **counts, seconds=float(row["seconds"]))

    def record(self, run: int, source: TableId, target: TableId, progress: Progress, found: Sequence[Difference]) -> None:
        table = self._t.table
        values = {
            "read_to": progress.cursor,
            "how": progress.how,
            "rows_compared": progress.rows,
            "missing": progress.missing,
            "extra": progress.extra,
            "different": progress.different,
            "unsettled": progress.unsettled,
            "seconds": progress.seconds,
            "updated_at": time.time(),
        }
        with self._begin() as db:
            db.execute(self._t.run.update().where(self._t.run.c.id == run).values(updated_at=values["updated_at"]))
            if not db.execute(table.update().where(self._of(run, source, target)).values(**values)).rowcount:
                db.execute(table.insert().values(run=run, source=_id(source), target=_id(target), **values))
            if found:
                db.execute(
                    self._t.difference.insert(),
                    [
                        {
                            "run": run,
                            "target": _id(one.table),
                            "row_key": json.dumps(one.key),
                            "kind": one.kind,
                            "finding": json.dumps({"columns": one.columns, "source": one.source, "target": one.target}),
                            "state": "open",
                        }
                        for one in found
                    ],
                )

    def finish(self, run: int) -> None:
        with self._begin() as db:
            db.execute(self._t.run.update().where(self._t.run.c.id == run).values(finished_at=time.time()))

    def differences(self, run: int, target: TableId | None = None) -> list[Difference]:
        table = self._t.difference
        where = (table.c.run == run) & (table.c.state == "open")
        if target is not None:
            where &= table.c.target == _id(target)
        with self._begin() as db:
            rows = db.execute(sa.select(table).where(where).order_by(table.c.id)).mappings().all()
        return [_difference(row["target"], row["row_key"], row["kind"], json.loads(row["finding"])) for row in rows]

    def repaired(self, found: Sequence[Difference]) -> None:
        table, mine = self._t.difference, sa.select(self._t.run.c.id).where(self._t.run.c.migration == self._migration)
        with self._begin() as db:
            for one in found:
                same = (table.c.target == _id(one.table)) & (table.c.row_key == json.dumps(one.key)) & table.c.run.in_(mine)
                db.execute(table.update().where(same).values(state="repaired"))

    def _of(self, run: int, source: TableId, target: TableId) -> sa.ColumnElement[bool]:
        table = self._t.table
        return (table.c.run == run) & (table.c.source == _id(source)) & (table.c.target == _id(target))


def _id(table: TableId) -> str:
    return json.dumps([table.schema, table.name], ensure_ascii=False)


def _difference(target: str, key: str, kind: Literal["missing", "extra", "different"], finding: dict[str, list[str | None]]) -> Difference:
    schema, name = json.loads(target)
    columns = tuple(str(column) for column in finding["columns"])
    return Difference(TableId(schema, name), tuple(json.loads(key)), kind, columns, tuple(finding["source"]), tuple(finding["target"]))
