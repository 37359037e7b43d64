"""Define the errors of the registry: what cannot be found, named, changed or reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import (
    ConfigError,
    ConflictError,
    IntegrityError,
    LakescoreError,
    RegistryError,
    TemporaryError,
)
from lakescore.wording import listed, nearest, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ModelNotCopied(TemporaryError):
    """The disk has no room for a private copy of a model's files."""

    def __init__(self, uri: str, folder: str, reason: str) -> None:
        super().__init__(
            f"the files of {uri} cannot be copied to {folder}: {reason}; make room there, or set "
            "TMPDIR to another folder, then run the job again"
        )


class NothingToCompare(ConfigError):
    """A query names no version."""

    def __init__(self, name: str, where: str | None) -> None:
        condition = f" that matches {where!r}" if where else ""
        super().__init__(
            f"{name!r} has no version{condition}; see lakescore versions {name}, or change the "
            "filter"
        )


class FileExists(ConfigError):
    """A file already exists at the place that a file is copied to."""

    def __init__(self, path: object) -> None:
        super().__init__(f"{path} exists already and was not changed; name another folder: --to")


class NoTrackingStore(RegistryError):
    """No registry is configured, and the embedded one does not exist yet."""

    def __init__(self, path: object) -> None:
        super().__init__(
            f"there is no MLflow store at {path} and MLFLOW_TRACKING_URI is not set; set it, or "
            "run ./scripts/demo.sh to create an embedded store"
        )


class BadReference(RegistryError):
    """The reference has a wrong syntax."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(
            f"cannot read the reference {reference!r}: {reason}; write name/3, name@alias, "
            "name/latest, models:/name/3 or 'name?where=metrics.rmse < 12&order_by=metrics.rmse'"
        )


class BadFilter(BadReference):
    """A filter or an order has a wrong syntax."""

    def __init__(self, text: str, reason: str, at: int | None = None) -> None:
        place = ""
        if at is not None:
            rest = text[at : at + 20] + ("..." if text[at + 20 :] else "")
            place = f" (at character {at + 1}: {rest!r})" if rest else " (at its end)"
        RegistryError.__init__(self, f"cannot read the filter {text!r}: {reason}{place}")


class BadColumn(ConfigError, RegistryError):
    """No record has such a column."""

    def __init__(self, column: str, columns: Iterable[str]) -> None:
        names = list(columns)
        super().__init__(
            f"there is no column {column!r}{nearest(column, names)}; "
            f"columns: {listed(names, most=40)}"
        )


class BadName(RegistryError):
    """A name, alias or tag is not valid, or would be read as something else."""

    def __init__(self, what: str, name: str, reason: str) -> None:
        super().__init__(f"cannot use {shortened(name)} as {what}: {reason}")


class ModelNotFound(RegistryError):
    """No registered model has this name."""

    def __init__(self, name: str, models: Iterable[str], store: str) -> None:
        names = sorted(models)
        super().__init__(
            f"there is no registered model {name!r} at {store}{nearest(name, names)}; "
            f"there are: {listed(names)}"
        )


class VersionNotFound(RegistryError):
    """The registered model has no such version."""

    def __init__(self, name: str, version: object, versions: Iterable[int]) -> None:
        super().__init__(
            f"{name!r} has no version {version}; there are: {listed(sorted(versions))}"
        )


class VersionDeleted(VersionNotFound):
    """The version was deleted: a later version exists."""

    def __init__(self, name: str, version: int, versions: Iterable[int]) -> None:
        RegistryError.__init__(
            self,
            f"version {version} of {name!r} was deleted; there are: {listed(sorted(versions))}",
        )


class AliasNotFound(RegistryError):
    """The registered model has no such alias."""

    def __init__(self, name: str, alias: str, aliases: Mapping[str, int]) -> None:
        known = [f"{known} (version {version})" for known, version in sorted(aliases.items())]
        super().__init__(
            f"{name!r} has no alias {alias!r}{nearest(alias, aliases)}; there are: {listed(known)}"
        )


class ModelExists(RegistryError):
    """The registered model exists already."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the registered model {name!r} exists already; add versions with lakescore register, "
            "and tags with lakescore tag --model"
        )


class TagNotFound(RegistryError):
    """The tag to remove does not exist."""

    def __init__(self, owner: str, key: str, tags: Iterable[str]) -> None:
        keys = sorted(tags)
        super().__init__(
            f"{owner} has no tag {key!r}{nearest(key, keys)}; there are: {listed(keys)}"
        )


class RunNotFound(RegistryError):
    """The tracking store has no such run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"there is no run {run_id!r} in the MLflow store; give the id of an MLflow run, "
            "such as a receipt's tracking_run_id"
        )


class NotAModel(RegistryError):
    """The source has no model that could be registered."""

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(
            f"cannot register {source!r}: {reason}; give a run's id, runs:/<run id>/<name>, "
            "models:/m-<hex>, or a folder or URI that holds an MLmodel file"
        )


class NothingToRollBack(RegistryError):
    """The alias has no earlier version to go back to."""

    def __init__(self, name: str, alias: str, reason: str) -> None:
        super().__init__(
            f"cannot roll back {name}@{alias}: {reason}; "
            f"promote a version instead: lakescore promote {name}/<version> --to {alias}"
        )


class LedgerLost(RegistryError):
    """A part of the ledger was deleted with MLflow's own tools."""

    def __init__(self, name: str, command: str) -> None:
        super().__init__(f"the ledger of {name!r} was deleted in MLflow; restore it: {command}")


class QueryNotUnique(RegistryError):
    """A query matches no version, or several versions."""

    def __init__(self, query: str, found: Iterable[int], versions: Iterable[str]) -> None:
        self.found = matches = sorted(found)
        result = f"matches versions {listed(matches)}" if matches else "matches no version"
        super().__init__(
            f"{query!r} {result}, but must match exactly one; there are: {listed(versions)}"
        )


class VersionNotReady(RegistryError):
    """The registration of the version is not finished, or failed."""

    def __init__(self, uri: str, status: str) -> None:
        super().__init__(f"{uri} is {status}, not READY; wait for it, or register it again")


class SignatureMissing(RegistryError):
    """The version was logged without the signature that scoring needs."""

    def __init__(self, uri: str, part: str = "signature") -> None:
        super().__init__(
            f"{uri} has no {part}, so its columns cannot be checked; log the model again with "
            "signature=infer_signature(inputs, predictions)"
        )


class RegistryUnavailable(TemporaryError, RegistryError):
    """The tracking store does not answer in time."""

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(
            f"the MLflow store at {store} does not answer ({reason}); check MLFLOW_TRACKING_URI "
            "and the server, then try again"
        )


class RegistryRefused(RegistryError):
    """The tracking store refuses the user and password."""

    def __init__(self, store: str) -> None:
        super().__init__(
            f"the MLflow store at {store} does not accept the user and password; set "
            "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
        )


class ArtifactsMissing(IntegrityError):
    """The version is registered, but its files are missing."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"the artifacts of {uri} cannot be fetched: {reason}")


class AliasMoved(ConflictError):
    """Another process moved the alias first."""

    def __init__(self, name: str, alias: str, expected: int | None, found: int | None) -> None:
        current = "no version" if found is None else f"version {found}"
        wanted = "no version" if expected is None else f"version {expected}"
        super().__init__(
            f"{name}@{alias} points at {current}, but {wanted} was expected: someone else moved "
            f"it; nothing was changed; see lakescore history {name}"
        )


class EditedMeanwhile(ConflictError):
    """Someone else changed the value after it was read for the edit."""

    def __init__(self, what: str, expected: str | None, found: str | None) -> None:
        current = "does not exist now" if found is None else f"is {shortened(found)} now"
        wanted = "no value" if expected is None else shortened(expected)
        super().__init__(
            f"{what} {current}, but {wanted} was expected: someone else changed it; nothing was "
            "written; look at it again, then repeat the edit"
        )


class AliasMoving(AliasMoved):
    """Another process is moving the alias right now, or died a moment ago."""

    def __init__(self, name: str, alias: str, target: int | None, by: str | None, age: int) -> None:
        destination = "no version" if target is None else f"version {target}"
        LakescoreError.__init__(
            self,
            f"{by} began to move {name}@{alias} to {destination} {age} s ago; nothing was "
            f"changed; wait a minute, look at lakescore history {name}, and try again",
        )
