"""Where the stack's files live, and the unprivileged user its database servers run as when the caller is root."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pwd
import stat
from pathlib import Path

from pipeline.errors import StackError

_USERS = ("crossfade", "nobody", "daemon")


@dataclasses.dataclass(frozen=True, slots=True)
class User:
    """Somebody to run a server as."""

    uid: int
    gid: int


def server_user() -> User | None:
    """PostgreSQL and MariaDB refuse to run as root: root gets an existing unprivileged user, anybody else runs them as oneself (None)."""
    if os.geteuid() != 0:
        return None
    names = (os.environ["CROSSFADE_STACK_USER"],) if os.environ.get("CROSSFADE_STACK_USER") else _USERS
    for name in names:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return User(entry.pw_uid, entry.pw_gid)
    raise StackError(f"none of the users {', '.join(names)} exists", hint="set CROSSFADE_STACK_USER to one that is not root")


def cache_dir() -> Path:
    """The user's cache folder for downloads: CROSSFADE_CACHE, else crossfade under XDG_CACHE_HOME or ~/.cache. Not created."""
    if chosen := os.environ.get("CROSSFADE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base and os.path.isabs(base) else Path.home() / ".cache") / "crossfade"


def default_root() -> Path:
    """Where the stack is unless told: CROSSFADE_STACK_DIR, else under the user's data folder."""
    if chosen := os.environ.get("CROSSFADE_STACK_DIR"):
        return Path(chosen).expanduser().absolute()
    return Path.home() / ".local" / "share" / "crossfade" / "stack"


def server_cache(user: User | None) -> Path:
    """A cache folder whose programs the server user may run: the caller's own where that user gets there."""
    own = cache_dir()
    return own if reaches(user, own) else public_dir() / "cache"


def server_data(root: Path, user: User | None) -> Path:
    """Where the servers of the stack in `root` keep data: in it, or, where the server user does not get there, under /var/tmp."""
    if reaches(user, root):
        return root / "data"
    return public_dir() / hashlib.sha256(os.fsencode(root.absolute())).hexdigest()[:12]


def reaches(user: User | None, path: Path) -> bool:
    """Whether `user` may walk to `path` (its part that exists, and what would be made below it)."""
    if user is None:
        return True
    path = path.resolve()
    for folder in (path, *path.parents):
        try:
            found = folder.stat()
        except FileNotFoundError:
            continue
        bit = stat.S_IXUSR if found.st_uid == user.uid else stat.S_IXGRP if found.st_gid == user.gid else stat.S_IXOTH
        if not found.st_mode & bit:
            return False
    return True


def public_dir() -> Path:
    """A folder of our own under /var/tmp that everybody may walk through. Raises StackError if somebody else made it."""
    path = Path("/var/tmp") / f"crossfade-{os.geteuid()}"
    path.mkdir(mode=0o755, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StackError(f"{path} is not a folder that only this user may write to", hint="remove it")
    path.chmod(0o755)
    return path


def own_dir(path: Path, mode: int = 0o700, user: User | None = None) -> Path:
    """The folder, made if it is not there, with this mode and owner."""
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    path.chmod(mode)
    if user is not None:
        os.chown(path, user.uid, user.gid)
    return path


def write_private(path: Path, text: str, user: User | None = None) -> None:
    """Writes a 0600 file that appears whole, owned by `user`."""
    half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    half.unlink(missing_ok=True)
    descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        if user is not None:
            os.fchown(out.fileno(), user.uid, user.gid)
    half.replace(path)
