"""A migration run the way a user runs it: `crossfade` processes, a file, exit codes and JSON documents."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from deploy.local.stack import Stack
from tests.system.forks import Forked, Forks


@functools.cache
def forks() -> Forks:
    """What the commands of this run are forked off."""
    return Forks()


class Move:
    """One migration between two databases of the shared stack."""

    def __init__(self, stack: Stack, folder: Path, name: str, source: Any, target: Any, **spec: Any) -> None:
        self.stack, self.folder, self.name = stack, folder, name
        self.env = os.environ | {
            "SOURCE_PW": source.password,
            "TARGET_PW": target.password,
            "CROSSFADE_HOME": str(folder / "home"),
            "CROSSFADE_LOG_LEVEL": "info",
            "NO_COLOR": "1",
        }
        document = {
            "name": name,
            "source": {"url": source.url, "password": {"env": "SOURCE_PW"}},
            "target": {"url": target.url, "password": {"env": "TARGET_PW"}},
            "kafka": {"bootstrap": stack.kafka_bootstrap},
            "connect": {"url": stack.connect_url, "secrets_dir": str(stack.secrets_dir)},
            "verify": {"continuous": False},
            **spec,
        }
        self.file = folder / "migration.yaml"
        self.file.write_text(yaml.safe_dump(document, allow_unicode=True))
        self.processes: dict[str, Forked] = {}

    # -- commands --------------------------------------------------------------------------------------------------------------------

    def run(self, *arguments: str, timeout: float = 300, check: bool = True) -> subprocess.CompletedProcess[str]:
        """One command, waited for."""
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            process = forks().start(arguments, env=self.env, cwd=self.folder, stdout=out, stderr=err)
            try:
                code = process.wait(timeout)
            except BaseException:
                process.kill()
                raise
            for file in (out, err):
                file.seek(0)
            done = subprocess.CompletedProcess(list(arguments), code, out.read().decode(), err.read().decode())
        if check and done.returncode:
            raise AssertionError(f"crossfade {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}\n{self.logs()}")
        return done

    def ask(self, *arguments: str, check: bool = True, timeout: float = 300) -> Any:
        """One command's JSON document."""
        done = self.run(*arguments, "--json", check=False, timeout=timeout)
        if check and done.returncode not in (0, 1):
            raise AssertionError(f"crossfade {' '.join(arguments)}: exit code {done.returncode}\n{done.stderr}\n{self.logs()}")
        assert done.stdout, f"crossfade {' '.join(arguments)} said nothing: {done.stderr}\n{self.logs()}"
        return json.loads(done.stdout)

    def plan(self) -> Any:
        """The findings."""
        return self.ask("plan", str(self.file))

    def status(self) -> Any:
        """How it stands."""
        return self.ask("status", str(self.file))

    def verify(self) -> Any:
        """A full verify."""
        return self.ask("verify", str(self.file), "--full")

    # -- services --------------------------------------------------------------------------------------------------------------------

    def spawn(self, name: str, *arguments: str) -> Forked:
        """A service in a process group of its own, its log in the test's folder."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = forks().start(arguments, env=self.env, cwd=self.folder, stdout=log, stderr=log, start_new_session=True)
        self.processes[name] = process
        return process

    def controller(self) -> Forked:
        """Starts (again) the controller."""
        return self.spawn("controller", "controller", str(self.file))

    def worker(self, name: str = "worker", *options: str) -> Forked:
        """Starts (again) a worker."""
        return self.spawn(name, "worker", str(self.file), *options)

    def begin(self) -> None:
        """start, controller, worker."""
        self.run("start", str(self.file), "--detach")
        self.controller()
        self.worker()

    def wait(self, phase: str, timeout: float = 240) -> None:
        """Waits for a phase."""
        self.run("wait", str(self.file), "--for", phase, "--timeout", str(timeout), timeout=timeout + 30)

    def kill(self, name: str) -> None:
        """kill -9, and gone."""
        self.processes[name].kill()
        self.processes[name].wait()

    def logs(self, lines: int = 40) -> str:
        """The end of every service's log."""
        return "\n".join(f"--- {p.name}\n" + "\n".join(p.read_text().splitlines()[-lines:]) for p in sorted(self.folder.glob("*.log")))

    def end(self) -> None:
        """Stops what runs and takes back what the migration made."""
        for process in self.processes.values():
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + 30
        for process in self.processes.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if self.processes:
            done = self.run("cancel", str(self.file), check=False, timeout=120)
            if done.returncode:
                print(f"cancel: {done.stderr}")  # shown with a test that fails; after a crossing there is nothing to cancel
