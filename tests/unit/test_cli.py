"""The command line's frame: exit codes, one line for every fault, JSON on stdout alone, and no secret anywhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import structlog

from pipeline.cli import build, execute, logs, output

CROSSFADE = [sys.executable, "-c", "from pipeline.cli import main; main()"]


def crossfade(*arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """The real program; `CROSSFADE_…` of this process do not reach it."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("CROSSFADE_")}
    return subprocess.run([*CROSSFADE, *arguments], cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["nonsense"], "nonsense"),
        (["plan"], "FILE"),
        (["plan", "absent.yaml"], "absent.yaml"),
        (["plan", "."], "is a directory"),
        (["plan", "absent.yaml", "--nope"], "--nope"),
        (["connectors", "status", "unknown"], "unknown"),
        (["init", "oracle://a/b", "postgresql://a/b"], "postgresql://"),
        (["connectors", "restart", "x", "--timeout", "soon"], "--timeout"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, arguments: list[str], names: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_HOME", str(tmp_path / "home"))
    assert execute(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("crossfade: ") and said.err.count("\n") == 1
    assert names in said.err


def test_every_command_takes_json_and_no_color_and_every_option_has_a_variable() -> None:
    def leaves(command: object, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], object]]:
        children = getattr(command, "commands", None)
        if not children:
            return [(path, command)]
        return [leaf for name, child in children.items() for leaf in leaves(child, (*path, name))]

    found = leaves(build(), ())
    assert {("init",), ("plan",), ("doctor",), ("connectors", "render"), ("connectors", "validate"), ("stack", "up")} <= {
        p for p, _ in found
    }
    for path, command in found:
        flags = [flag for parameter in command.params for flag in parameter.opts]  # type: ignore[attr-defined]
        assert flags.count("--json") == 1 and flags.count("--no-color") == 1, path


def test_variables_stand_for_options(tmp_path: Path) -> None:
    done = crossfade("doctor", CROSSFADE_JSON="1")
    assert {"ok", "checks"} == json.loads(done.stdout).keys()
    crossfade("init", CROSSFADE_SOURCE="mysql://u@h/a", CROSSFADE_TARGET="postgresql://u@h/b", CROSSFADE_FILE=str(tmp_path / "m.yaml"))
    assert (tmp_path / "m.yaml").exists()


def test_init_writes_a_file_that_loads_and_never_over_another(tmp_path: Path) -> None:
    urls = ("mariadb://app:hunter2hunter2@db1/shop", "postgresql://app@db2/crm")
    done = crossfade("init", *urls, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"file": "migration.yaml", "name": "shop-to-crm"}
    assert "hunter2" not in (tmp_path / "migration.yaml").read_text() + done.stderr
    again = crossfade("init", *urls, cwd=tmp_path)
    assert again.returncode == 2 and "--force" in again.stderr
    assert crossfade("init", *urls, "--force", cwd=tmp_path).returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["migration.yaml"]


def test_plan_names_the_missing_variable(tmp_path: Path) -> None:
    crossfade("init", "mysql://u@h/a", "postgresql://u@h/b", cwd=tmp_path)
    done = crossfade("plan", "migration.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "SOURCE_PASSWORD" in done.stderr and done.stderr.count("\n") == 1


def test_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*CROSSFADE, "doctor"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writer)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    shut = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *CROSSFADE, "doctor"], stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert shut.returncode == 1 and "standard output is closed" in shut.stderr and "Traceback" not in shut.stderr


def test_ctrl_c_is_exit_130_in_one_line(tmp_path: Path) -> None:
    """Struck while the command waits for a password that a fifo has not given yet."""
    os.mkfifo(tmp_path / "secret")
    crossfade("init", "mysql://u@h/a", "postgresql://u@h/b", cwd=tmp_path)
    file = tmp_path / "migration.yaml"
    file.write_text(file.read_text().replace("{env: SOURCE_PASSWORD}", f"{{file: {tmp_path / 'secret'}}}"))
    running = subprocess.Popen([*CROSSFADE, "plan", str(file)], stderr=subprocess.PIPE, text=True)
    held = os.open(tmp_path / "secret", os.O_WRONLY)  # returns when the command has opened it for reading
    running.send_signal(signal.SIGINT)
    _, said = running.communicate(timeout=30)
    os.close(held)
    assert (running.returncode, said) == (130, "crossfade: interrupted\n")


def test_internal_fault_is_one_line_unless_debugged(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_path: object) -> None:
        raise RuntimeError("lost postgresql://app:hunter2hunter2@db/x password=sesame99")

    monkeypatch.setattr("pipeline.spec.load", broken)
    monkeypatch.delenv("CROSSFADE_DEBUG", raising=False)
    assert execute(["plan", "x.yaml"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("crossfade: internal error: RuntimeError: lost postgresql://app:***@db/x password=***")
    assert said.count("\n") == 1
    monkeypatch.setenv("CROSSFADE_DEBUG", "1")
    assert execute(["plan", "x.yaml"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_log_lines_hold_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    logs.hide("open-sesame-42")
    logs.to_stderr("info", as_json=True)
    structlog.get_logger().info(
        "x open-sesame-42", url="mysql://a:b0b0b0@h/d", password="zzz", nested={"api_token": "ttt", "n": [1, "pwd=qqq"]}
    )
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "x ***" and line["url"] == "mysql://a:***@h/d" and line["password"] == "***"
    assert line["nested"] == {"api_token": "***", "n": [1, "pwd=***"]}


def test_names_cannot_draw_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.reset()
    output.table(["name"], [["evil\x1b[2Jname [bold]x[/bold]"]])
    assert capsys.readouterr().out.split("\n")[1].rstrip() == "evil\\x1b[2Jname [bold]x[/bold]"


def test_a_path_that_is_called_like_a_secret_stays_to_be_read() -> None:
    said = "source.password.file: cannot read /run/secrets/source_password: No such file or directory"
    assert logs.redact(said) == said
    assert logs.redact("cannot read './db-password': Permission denied") == "cannot read './db-password': Permission denied"
    for leak in (
        "password: No way",
        "/db password: No such luck",
        "source_password: No such file or directory",  # no path
        "at /tmp/x_password: hunter2",
        "/run/secrets/password=No such file or directory",
        "/run/password: No such file or directory password: hunter2",
        '{"password": "No such file or directory"}',
    ):
        assert logs.HIDDEN in logs.redact(leak), leak
        assert "hunter2" not in logs.redact(leak)


def test_demo_names_the_extra_that_is_not_installed(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys; real = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *a: None if name in ('numpy', 'pandas') else real(name, *a)\n"
        "sys.modules['numpy'] = None\n"
        "from pipeline.cli import main; sys.argv = ['crossfade', 'demo']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().count("\n") == 0
    assert "crossfade demo needs the extra `local`: numpy, pandas not installed" in done.stderr and "crossfade[local]" in done.stderr
