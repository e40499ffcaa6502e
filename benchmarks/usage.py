"""What a process has used of the machine, as Linux counts it."""

from __future__ import annotations

import os
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def processor_seconds(pid: int) -> float:
    """Processor time that a process has used so far, in the system's calls too."""
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICKS


def family_seconds(pid: int) -> float:
    """The same of a server and its children, those that have ended included: PostgreSQL has a process a session."""
    parents = {int(entry.name): int(_stat(int(entry.name))[1]) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
    ended = _stat(pid)
    alive = [pid, *(child for child, parent in parents.items() if parent == pid)]
    return sum(map(processor_seconds, alive)) + (int(ended[13]) + int(ended[14])) / _TICKS


def memory(pid: int) -> float:
    """Resident memory in MiB."""
    return _status(pid, "VmRSS")


def largest_memory(pid: int) -> float:
    """The largest resident memory that the process has had, in MiB."""
    return _status(pid, "VmHWM")


def _status(pid: int, field: str) -> float:
    return int(Path(f"/proc/{pid}/status").read_text().partition(f"{field}:")[2].split()[0]) / 1024


def _stat(pid: int) -> list[str]:
    """The fields behind the name, the state first; zeros of a process that has just ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return ["0"] * 16
