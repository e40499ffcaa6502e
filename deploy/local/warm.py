"""Lets Kafka and Connect start with a third of the work: one training run each, whose loaded classes Java keeps in the user's cache."""

from __future__ import annotations

import tempfile
from pathlib import Path

from deploy.local import artifacts, java, place
from deploy.local.filelock import locked
from deploy.local.stack import Stack
from pipeline.errors import StackError

_TRAINING_STOP_S = 300.0
"""When a training run ends, Java works for some ten seconds before it exits."""


def warm() -> bool:
    """Makes the start caches; False when they are there already. Raises StackError."""
    classpath = artifacts.kafka_classpath()
    folder = place.own_dir(place.cache_dir() / "java")
    with locked(folder / "lock"):
        wanted = {name: java.start_cache(name, classpath) for name in ("kafka", "connect")}
        if all(path.exists() for path in wanted.values()):
            return False
        with tempfile.TemporaryDirectory(prefix="crossfade-warm-", dir="/var/tmp") as scratch:
            half = {name: folder / f"{path.name}.half" for name, path in wanted.items()}
            stack = Stack(Path(scratch) / "stack", postgres=(), mariadb=(), durable=False)
            for server in (stack.kafka, stack.connect):
                server.train_into, server.stop_seconds = half[server.name], _TRAINING_STOP_S
            with stack:
                pass
            for name, path in wanted.items():
                if not half[name].exists():
                    raise StackError(f"java made no start cache for {name}; its log {stack.root}/logs/{name}.log")
                half[name].replace(path)
    return True
