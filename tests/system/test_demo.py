"""`crossfade demo` as people run it: each direction ends clean, a tampered target does not, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from deploy.local import demo
from deploy.local.database import connect
from deploy.local.report import is_clean
from deploy.local.screen import Screen

pytestmark = pytest.mark.system
COMMAND = [sys.executable, "-c", "from pipeline.cli import main; main()", "demo"]
SMALL = ["--rows", "1500", "--seconds", "2", "--rate", "60", "--no-durable", "--no-color"]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """An empty folder for servers and processes."""
    folder = tmp_path / "base"
    folder.mkdir()
    return folder


def processes(folder: Path) -> list[str]:
    """Command lines of what still runs in that folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


@pytest.mark.parametrize("scenario", ["pg-to-pg", "mariadb-to-pg", "pg-to-mariadb"])
def test_every_direction_ends_with_nothing_lost_and_nothing_left(scenario: str, base: Path, tmp_path: Path) -> None:
    options = [*SMALL, "--json", "--report", str(tmp_path), "--dir", str(base)]
    done = subprocess.run([*COMMAND, scenario, *options], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert (found["differences"], found["ledger"]["lost"], found["ledger"]["unexpected"]) == (0, 0, 0)
    assert found["rows_copied"] > 30_000 and found["copy_seconds"] > 0
    assert found["events_applied"] >= found["transactions_applied"] > 0
    assert found["ledger"]["acknowledged"] == found["load"]["committed"] + 1
    assert 0 < found["lag_ms"]["p50"] <= found["lag_ms"]["p99"]
    assert all(table["rows_compared"] for table in found["tables"])
    directions = [crossing["direction"] for crossing in found["crossings"]]
    assert directions == ["cutover", "rollback", "cutover"]
    assert found["load"]["failed_queries"] == 0
    assert all(crossing["hashes_equal"] and crossing["pause_ms"] > 0 and crossing["queries"] > 0 for crossing in found["crossings"])
    assert (tmp_path / "report.png").stat().st_size > 10_000
    assert not list(base.iterdir()) and not processes(base)


def test_a_target_that_somebody_else_wrote_to_is_told_by_both_the_comparison_and_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = demo._Demo._compare

    def tampered(self: Any, commands: Any) -> dict[str, Any]:
        with connect(self._scene.target) as target:
            target.execute(
                "UPDATE seat_assignment SET seat = '0X' WHERE (flight_id, seat) = (SELECT flight_id, seat FROM seat_assignment LIMIT 1)"
            )
            target.execute("DELETE FROM request_log WHERE token = (SELECT min(token::text)::uuid FROM request_log)")
            target.commit()
        return compare(self, commands)

    monkeypatch.setattr(demo._Demo, "_compare", tampered)
    wish = demo.Wish(rows=1500, seconds=1, rate=60, crossings=0, durable=False, folder=tmp_path)
    found = demo.run(wish, Screen(Console(stderr=True)))
    assert not is_clean(found)
    assert found["differences"] == 3  # a seat is missing and another one extra; a request is missing
    assert found["ledger"]["lost"] >= 1
    assert "Promises were broken" in (tmp_path / "report.md").read_text()


def test_ctrl_c_twice_in_the_middle_of_the_copy_leaves_nothing(base: Path, tmp_path: Path) -> None:
    log, options = tmp_path / "log", [*SMALL, "--report", str(tmp_path), "--dir", str(base)]
    with log.open("wb") as out:
        running = subprocess.Popen([*COMMAND, *options], stdout=out, stderr=out, start_new_session=True)
    deadline = time.monotonic() + 300
    while "crossfade has it" not in log.read_text():
        assert running.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)
    assert processes(base)
    for _ in range(2):
        os.killpg(running.pid, signal.SIGINT)
    assert running.wait(120) == 130
    assert log.read_text().rstrip().endswith("interrupted") and "Traceback" not in log.read_text()
    assert not list(base.iterdir()) and not processes(base)
