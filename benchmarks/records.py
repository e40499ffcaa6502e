"""What a results file holds, found by benchmark and by how a workload's name begins and ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

WAYS = ("PG to PG", "MariaDB to PG", "PG to MariaDB", "MariaDB to MariaDB")
TO_POSTGRES = WAYS[:2]
PRODUCTS = {"PG": "PostgreSQL", "MariaDB": "MariaDB"}
COPIED, MEMORY, PROCESSOR = ", with foreign keys", ", memory of the worker", ", by the worker's processor time"


class Missing(Exception):
    """A figure that is asked for is not there."""


class Records:
    """Each is a document of a results file: what `benchmarks/README.md` says of it."""

    def __init__(self, every: Sequence[dict[str, Any]]) -> None:
        self.every = every

    def some(self, benchmark: str, begin: str = "", end: str = "") -> list[dict[str, Any]]:
        """In the file's order; one more peer makes one more record of the same figure."""
        return [
            one
            for one in self.every
            if one["benchmark"] == benchmark and one["workload"].startswith(begin) and one["workload"].endswith(end)
        ]

    def one(self, benchmark: str, begin: str = "", end: str = "") -> dict[str, Any]:
        """The first of them. Raises `Missing`."""
        found = self.some(benchmark, begin, end)
        if not found:
            raise Missing(f"{benchmark}: {begin} … {end}")
        return found[0]

    def median(self, benchmark: str, begin: str = "", end: str = "") -> float:
        """crossfade's, of that one. Raises `Missing`."""
        return float(self.one(benchmark, begin, end)["ours"])
