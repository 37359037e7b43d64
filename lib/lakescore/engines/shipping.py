"""Shipping: the artifacts of versions go to the executors, once a session."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lakescore import classic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore import executor
    from lakescore.runner import Runner


def ship(
    runner: Runner, versions: Sequence[executor.Version], *, as_one: bool = False
) -> list[str]:
    """Ship the artifacts of *versions* to the executors, and return their folders there.

    In local mode the executors already have them.

    Args:
        runner: the runner of the tasks.
        versions: the versions, whose folders are here.
        as_one: send one archive, as executors fetch archives one after the other.
    """
    if not runner.is_started or classic.is_local(runner.spark):
        return [version.folder for version in versions]
    names = [_archive_name(version.key) for version in versions]
    if not as_one:
        for name, version in zip(names, versions, strict=True):
            classic.ship(runner.spark, name, {"": version.folder})
        return names
    archive = _archive_name(" ".join(["segments", *[version.key for version in versions]]))
    folders = {name: version.folder for name, version in zip(names, versions, strict=True)}
    classic.ship(runner.spark, archive, folders)
    return [f"{archive}/{name}" for name in names]


def _archive_name(key: str) -> str:
    return f"lakescore-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
