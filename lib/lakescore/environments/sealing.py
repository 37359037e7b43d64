"""Sealing: whether the files of an environment are still those that were installed."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import os
from dataclasses import dataclass
from importlib.metadata import distributions
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CACHE = "__pycache__"
_NOT_RECORDED = {".lock"}
"""Files that uv leaves in the folder into which it installs."""


@dataclass(frozen=True, kw_only=True)
class Seal:
    """What says that files are unchanged."""

    quick: str
    """A digest of the names, sizes and times of all files but caches; it costs no reading."""
    records: str
    """A digest of the lists of files that the packages bring, with the digests of the files."""
    size: int
    """The bytes of the files."""


def seal(packages: Path) -> Seal:
    """Return the seal of the installed *packages*."""
    quick, size = hashlib.sha256(), 0
    for name, status in _files(packages):
        quick.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        size += status.st_size
    return Seal(quick=quick.hexdigest(), records=_records_digest(packages), size=size)


def find_change(packages: Path) -> str | None:
    """Return the first file that differs from what the packages list, or None; all are read."""
    recorded: set[str] = set()
    for record in sorted(packages.glob("*.dist-info/RECORD")):
        for name, digest, _ in csv.reader(record.read_text(encoding="utf-8").splitlines()):
            path = os.path.normpath(packages / name)
            recorded.add(os.path.relpath(path, packages))
            if not digest or _CACHE in name:
                continue
            if not os.path.isfile(path):  # noqa: PTH113 - a text, normalised
                return f"{name} is missing"
            if _digest(path) != digest.partition("=")[2]:
                return f"{name} has other content"
    added = next((name for name, _ in _files(packages) if name not in recorded), None)
    return None if added is None else f"{added} belongs to no package"


def installed(packages: Path) -> dict[str, str]:
    """Return the versions of the installed packages by their normal names."""
    return {canonicalize_name(d.name): d.version for d in distributions(path=[str(packages)])}


def _files(packages: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the files below *packages* in one order, but caches."""
    for folder, folders, names in os.walk(packages):
        folders[:] = sorted(name for name in folders if name != _CACHE)
        for name in sorted(names):
            path = os.path.join(folder, name)  # noqa: PTH118 - thousands of files
            relative = os.path.relpath(path, packages)
            if relative not in _NOT_RECORDED:
                yield relative, os.stat(path, follow_symlinks=False)  # noqa: PTH116


def _records_digest(packages: Path) -> str:
    lists = [record.read_text("utf-8") for record in sorted(packages.glob("*.dist-info/RECORD"))]
    return hashlib.sha256(json.dumps(lists).encode()).hexdigest()


def _digest(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123 - thousands of files
        digest = hashlib.file_digest(file, "sha256").digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
