"""Define the errors of environments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import (
    ConfigError,
    InputContractError,
    IntegrityError,
    LakescoreError,
    TemporaryError,
)
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path


class ModuleMissing(InputContractError):
    """A module that the model imports is not installed here."""

    def __init__(self, uri: str, module: str, missing: Sequence[str]) -> None:
        if missing:
            cause = f"these packages of its requirements.txt are not installed: {listed(missing)}"
            advice = "install them, or give environment: own"
        else:
            cause = "its requirements.txt names no package that is missing"
            advice = "install it, or log the model with code_paths that contain it"
        super().__init__(
            f"{uri} needs the module {module!r}, which is missing here; {cause}; {advice}"
        )


class ModuleNotAsked(InputContractError):
    """A module that the model imports is not in the version's own environment."""

    def __init__(self, uri: str, module: str) -> None:
        super().__init__(
            f"{uri} needs the module {module!r}, which its own environment lacks, because its "
            "requirements.txt does not name the package; log the model again with this package in "
            "pip_requirements, or give environment: shared"
        )


class RequirementRefused(IntegrityError):
    """The files of a version ask for something other than packages of an index."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"no environment is made for {uri}: {reason}; only packages by name and version are "
            "installed, as wheels from an index: log the model again with such requirements"
        )


class NeedsUnknown(InputContractError):
    """The files of a version do not say which packages or which Python it needs."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"the environment of {uri} is not known: {reason}; log the model again with MLflow, "
            "or give environment: shared"
        )


class PythonMissing(ConfigError):
    """The machine has no interpreter of the minor version that a version needs."""

    def __init__(self, uri: str, minor: str, here: Iterable[str]) -> None:
        super().__init__(
            f"{uri} needs Python {minor}, which is not here; there are: {listed(here)}; install "
            f"Python {minor}, or name its folder in LAKESCORE_PYTHONS"
        )


class PythonUnsupported(InputContractError):
    """A version needs a Python that no environment is made for."""

    def __init__(self, uri: str, minor: str, supported: Iterable[str]) -> None:
        super().__init__(
            f"{uri} needs Python {minor}, but environments are made for Python "
            f"{listed(supported)}; log the model again with one of these, or give "
            "environment: shared"
        )


class WheelsMissing(InputContractError):
    """No wheels of the index meet the requirements of a version."""

    def __init__(self, uri: str, python: str, reason: str) -> None:
        super().__init__(
            f"no wheels for Python {python} meet the requirements of {uri}: {reason}; log the "
            "model again with requirements that can be met, or add the packages to the index"
        )


class WheelsDiffer(IntegrityError):
    """The index has other files than those whose digests are in the lock."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(
            f"the packages of the index differ from those that were locked for {uri}: {reason}; "
            "find out who changed them"
        )


class PackagesOffline(ConfigError):
    """UV_OFFLINE is set, and packages have not been fetched before."""

    def __init__(self, uri: str, missing: Iterable[str]) -> None:
        super().__init__(
            f"the environment of {uri} lacks {listed(missing)}, and UV_OFFLINE forbids to fetch "
            "packages; run lakescore environment REF --build with a network, or unset UV_OFFLINE"
        )


class IndexUnavailable(TemporaryError):
    """The index of packages does not answer."""

    def __init__(self, uri: str, indexes: Iterable[str], reason: str) -> None:
        super().__init__(
            f"the environment of {uri} is not made: the index {listed(indexes)} does not answer: "
            f"{reason}; run it again when the index answers"
        )


class IndexRefused(ConfigError):
    """The index of packages asks for a password, or refuses it."""

    def __init__(self, uri: str, indexes: Iterable[str]) -> None:
        super().__init__(
            f"the environment of {uri} is not made: the index {listed(indexes)} refuses the "
            "credentials, or needs some; set them in UV_INDEX_..._USERNAME and ..._PASSWORD or in "
            "a netrc file"
        )


class EnvironmentNotMade(LakescoreError):
    """The environment cannot be made, because of the machine."""

    def __init__(self, uri: str, folder: Path, reason: str) -> None:
        super().__init__(
            f"the environment of {uri} cannot be made in {folder}: {reason}; nothing is left "
            "there; correct this, and run it again"
        )


class DiskFull(TemporaryError):
    """There is no space for an environment."""

    def __init__(self, uri: str, folder: Path) -> None:
        super().__init__(
            f"the environment of {uri} cannot be made in {folder}: no space left on device; "
            "nothing is left there; make room there and in the cache of uv (uv cache prune), then "
            "run it again"
        )


class EnvironmentChanged(IntegrityError):
    """The files of a kept environment differ from those that were installed."""

    def __init__(self, uri: str, folder: Path, what: str) -> None:
        super().__init__(
            f"the environment of {uri} in {folder} has changed since it was made: {what}; find out "
            "who changed it, delete this folder, and run it again"
        )


class ArchiveNotWritten(ConfigError):
    """The archive of an environment cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"cannot write the archive {path}: {reason}; nothing is left there")
