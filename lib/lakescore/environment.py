"""Environment: how the packages here differ from those that a version was logged with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from packaging.requirements import InvalidRequirement, Requirement

from lakescore.errors import ModuleMissing

if TYPE_CHECKING:
    from pathlib import Path


def differences(artifacts: Path) -> list[dict[str, str | None]]:
    """Return the requirements of a version that the packages here do not meet.

    Each as `package`, `asked` (the requirement) and `here` (a version, or none). What the driver
    has is looked at; executors are expected to have the same.
    """
    path = artifacts / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    found = []
    for line in lines:
        try:
            asked = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:  # an option of pip, a file, an address
            continue
        if asked.marker is not None and not asked.marker.evaluate():
            continue
        try:
            here = version(asked.name)
        except PackageNotFoundError:
            here = None
        if here is None or not asked.specifier.contains(here, prereleases=True):
            found.append({"package": asked.name, "asked": str(asked), "here": here})
    return found


def missing(uri: str, artifacts: Path, error: ModuleNotFoundError) -> ModuleMissing:
    """Return what *error* means for a version that imports what is not installed here."""
    asked = [str(lack["asked"]) for lack in differences(artifacts) if lack["here"] is None]
    return ModuleMissing(uri, error.name or str(error), asked)
