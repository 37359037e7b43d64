"""Keeping: environments that are in use stay, and the others stay within a bound.

A process that uses an environment holds a shared lock until it ends, so no other process removes
it. One that makes or removes an environment holds the exclusive lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from typing import TYPE_CHECKING

from lakescore.errors import ConfigError
from lakescore.home import home

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FACTS = "environment.json"
"""The file that is written last into an environment."""
_PART = ".part"
_VARIABLE = "LAKESCORE_ENVIRONMENTS_GB"
_MOST_GIGABYTES = 20.0
_held: dict[Path, int] = {}
"""The locks that this process holds until it ends, by the environment's folder."""


def environments_folder() -> Path:
    """Return the folder of all environments, whether or not it exists."""
    return home() / "environments"


def part_of(folder: Path) -> Path:
    """Return the folder in which an environment is made before it is complete."""
    return folder.with_name(folder.name + _PART)


def is_kept(folder: Path) -> bool:
    """Return whether an environment is complete."""
    return (folder / FACTS).is_file()


def use(folder: Path, make: Callable[[int], None], wait: Callable[[], None]) -> None:
    """Hold the environment in *folder* for the life of this process; make it if it is not there.

    Args:
        folder: the environment's folder.
        make: makes it, and takes the descriptor of the lock, which its processes have to hold too.
            Only one process on this machine is in it for this folder.
        wait: is called if another process makes it.
    """
    if folder in _held:
        if is_kept(folder):
            return
        os.close(_held.pop(folder))  # someone deleted the folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(_lock_file(folder), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _acquire(descriptor, fcntl.LOCK_SH, wait)
        while not is_kept(folder):
            _acquire(descriptor, fcntl.LOCK_EX, wait)
            if not is_kept(folder):
                make(descriptor)
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # another process can get in between
    except BaseException:
        os.close(descriptor)
        raise
    os.utime(descriptor)  # the time of the last use
    _held[folder] = descriptor


def _acquire(descriptor: int, kind: int, wait: Callable[[], None]) -> None:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        wait()
        fcntl.flock(descriptor, kind)


def _lock_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def find_bound() -> int:
    """Return the bytes that all environments may have together.

    Raises:
        ConfigError: `LAKESCORE_ENVIRONMENTS_GB` is not a number of gigabytes.
    """
    text = os.environ.get(_VARIABLE) or str(_MOST_GIGABYTES)
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1
    if not 0 <= gigabytes < float("inf"):
        raise ConfigError(f"{_VARIABLE} is {text!r}, which is not a number of gigabytes")
    return int(gigabytes * 10**9)


def remove_unused(most: int) -> None:
    """Remove what killed processes left, and the environments used longest ago above *most* bytes.

    An environment that any process uses stays.
    """
    for part in environments_folder().glob(f"*{_PART}"):
        with _alone(part.with_name(part.name.removesuffix(_PART))) as is_alone:
            if is_alone:
                shutil.rmtree(part, ignore_errors=True)
    found = [path.parent for path in environments_folder().glob(f"*/{FACTS}")]
    kept = [folder for folder in found if folder.suffix != _PART]
    sizes = {folder: _size(folder) for folder in sorted(kept, key=_last_use)}
    total = sum(sizes.values())
    for folder, size in sizes.items():
        if total <= most:
            return
        with _alone(folder) as is_alone:
            if is_alone:
                folder.replace(part_of(folder))
                shutil.rmtree(part_of(folder), ignore_errors=True)
                total -= size


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """Hold the exclusive lock of an environment, if nobody uses it."""
    descriptor = os.open(_lock_file(folder), os.O_CREAT | os.O_RDWR, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(descriptor)


def _size(folder: Path) -> int:
    try:
        return int(json.loads((folder / FACTS).read_text(encoding="utf-8"))["size"])
    except (OSError, ValueError, KeyError):  # another process removes it
        return 0


def _last_use(folder: Path) -> float:
    try:
        return _lock_file(folder).stat().st_mtime
    except OSError:
        return 0.0
