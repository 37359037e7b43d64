"""Shipping: the artifacts of versions go to the executors, once a session."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from lakescore import classic, environments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lakescore import executor
    from lakescore.loading import Loadable
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


def ship_environments(runner: Runner, loadables: Iterable[Loadable]) -> dict[str, str]:
    """Ship the own environments of versions to the executors, with their Python.

    Returns:
        The names of the archives that hold them, by the path of their folder here; empty in local
        mode, where the executors already have them.
    """
    if not runner.is_started or classic.is_local(runner.spark):
        return {}
    owned = [loadable.environment for loadable in loadables if loadable.environment is not None]
    names = {}
    for own in {own.digest: own for own in owned}.values():
        names[str(own.folder)] = _archive_name(own.digest)
        classic.ship_archive(runner.spark, names[str(own.folder)], environments.packed(own))
    return names


def _archive_name(key: str) -> str:
    return f"lakescore-{hashlib.sha256(key.encode()).hexdigest()[:32]}"
