"""Records of registered models and their versions.

Each `facts()` returns plain JSON. Its keys are an interface: docs/registry.md lists them.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakescore.registry.table import Shown
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from mlflow.models import ModelSignature

    from lakescore.trust import Environments

READY = "READY"
"""The status of a version that can be used."""


@dataclass(frozen=True)
class File(Shown):
    """One logged file of a version."""

    path: str
    """Relative to the version's folder, with `/`."""
    size: int
    """Bytes."""

    def facts(self) -> dict[str, Any]:
        """Return path and size."""
        return {"path": self.path, "size": self.size}


@dataclass(frozen=True)
class Dataset(Shown):
    """The dataset of a metric, as MLflow records it."""

    name: str
    digest: str
    """Metrics of the same name can be compared if their digests are equal."""

    def facts(self) -> dict[str, Any]:
        """Return name and digest."""
        return {"dataset": clean(self.name), "digest": self.digest}


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts of a version's files, which the registry's own tables do not have.

    A listing knows the card if `register` recorded it, in the tag `lakescore.card`. `describe`
    reads it from the files, and `resolve` from the copy that will be loaded.
    """

    signature: ModelSignature | None
    flavours: tuple[str, ...]
    """The loaders that MLflow would use: `sklearn`, `python_function` (a custom model), ..."""
    formats: tuple[str, ...]
    """The serialisation formats: `skops`, `cloudpickle`, `json`, `code`, ..."""
    mlflow_version: str | None
    python_version: str | None
    files: tuple[File, ...] | None
    """None if there are too many files to record."""
    size: int
    """Bytes of all files."""
    digest: str | None
    """`sha256:<hex>` of the files; see `digest_of`. In a listing, it is the value of the tag, which
    anyone with the right to write tags can set."""


@dataclass(frozen=True, kw_only=True)
class VersionRecord(Shown):
    """One registered model version in its present state in the registry."""

    name: str
    version: int
    status: str
    """`READY`, `PENDING_REGISTRATION` or `FAILED_REGISTRATION`."""
    description: str | None
    created_at: datetime
    """UTC."""
    updated_at: datetime
    """UTC."""
    run_id: str | None
    run_name: str | None
    source: str | None
    """The source that the version was registered from, as the registry records it."""
    logged_model_id: str | None
    """MLflow 3's `m-<32 hex digits>`; None if the version has another kind of source."""
    params: Mapping[str, str]
    """The hyperparameters of the version's run and logged model."""
    metrics: Mapping[str, float]
    """The last value of each metric; a value of the logged model overrides its run's."""
    tags: Mapping[str, str]
    """The tags of users; the tags that lakescore writes for itself are left out."""
    aliases: tuple[str, ...]
    measured_on: Mapping[str, Dataset] = field(default_factory=dict)
    """The dataset of each metric, if it was logged with the metric."""
    card: Card | None = None

    @property
    def uri(self) -> str:
        """The pinned URI: `models:/<name>/<integer>`, never an alias."""
        return f"models:/{self.name}/{self.version}"

    @property
    def signature(self) -> ModelSignature | None:
        """The inputs and outputs of the model; None if its card is not known."""
        return self.card.signature if self.card else None

    @property
    def files(self) -> tuple[File, ...] | None:
        """The logged files; None if they are not known."""
        return self.card.files if self.card else None

    @property
    def digest(self) -> str | None:
        """`sha256:<hex>` of the files; None if it is not known."""
        return self.card.digest if self.card else None

    @property
    def flavours(self) -> tuple[str, ...] | None:
        """The flavours of the model; see `Card`."""
        return self.card.flavours if self.card else None

    @property
    def formats(self) -> tuple[str, ...] | None:
        """The serialisation formats of the model; see `Card`."""
        return self.card.formats if self.card else None

    @property
    def mlflow_version(self) -> str | None:
        """The version of the MLflow that logged the model."""
        return self.card.mlflow_version if self.card else None

    @property
    def python_version(self) -> str | None:
        """The version of the Python that logged the model."""
        return self.card.python_version if self.card else None

    @property
    def size(self) -> int | None:
        """The bytes of all files."""
        return self.card.size if self.card else None

    def facts(self) -> dict[str, Any]:
        """Return the record as plain JSON values, without credentials."""
        return {
            "name": self.name,
            "version": self.version,
            "uri": self.uri,
            "status": self.status,
            "description": clean(self.description),
            "created_at": self.created_at.isoformat(),
            "updated_at": self.updated_at.isoformat(),
            "aliases": list(self.aliases),
            "tags": clean(self.tags),
            "run_id": self.run_id,
            "run_name": clean(self.run_name),
            "source": clean(self.source),
            "logged_model_id": self.logged_model_id,
            "params": clean(self.params),
            "metrics": {k: v if math.isfinite(v) else None for k, v in self.metrics.items()},
            "measured_on": {key: data.facts() for key, data in self.measured_on.items()},
            **self._card_facts(),
        }

    def _card_facts(self) -> dict[str, Any]:
        return {
            "flavours": _list(self.flavours),
            "formats": _list(self.formats),
            "mlflow_version": self.mlflow_version,
            "python_version": self.python_version,
            "size": self.size,
            "digest": self.digest,
            "signature": signature_facts(self.signature) if self.signature else None,
            "files": _list(self.files and [file.facts() for file in self.files]),
        }


@dataclass(frozen=True, kw_only=True)
class ModelVersion(VersionRecord):
    """The pinned version that a reference was resolved to, with a copy of its artifacts.

    A run takes all facts about its model from this object. So the loaded model cannot differ from
    the one named in rows, commit and run.
    """

    reference: str
    """The reference as the user typed it."""
    artifacts: Path
    """A private copy of the artifacts, removed when the process ends."""
    card: Card
    """The card of that copy."""
    digest_by: str | None = None
    """The source that confirms the digest: the trust policy or the ledger; None if nothing does."""
    installing: Environments | None = None
    """The trust policy's rule for environments; None if there is no policy."""
    indexes: tuple[str, ...] | None = None
    """The trust policy's rule for indexes of packages; None if it has none."""

    @property
    def signature(self) -> ModelSignature:
        """The inputs and outputs of the model: a version without a signature is never resolved."""
        assert self.card.signature is not None  # noqa: S101 - narrows for mypy
        return self.card.signature

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the copy; see `digest_of`."""
        assert self.card.digest is not None  # noqa: S101 - narrows for mypy
        return self.card.digest

    @property
    def pin(self) -> str:
        """For people: the pinned URI, the start of its digest, and the source that confirms it."""
        evidence = f", as {self.digest_by} says" if self.digest_by else ""
        return f"{self.uri} ({self.digest[:19]}{evidence})"

    def facts(self) -> dict[str, Any]:
        """Return the version as plain JSON values, with the reference that the user typed."""
        return {**super().facts(), "reference": self.reference, "digest_by": self.digest_by}


NOT_COPIED = Path(os.devnull)
"""The folder of a version whose files were not copied: nothing can be below it."""


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A pinned version without a copy of its files. It has no digest, and nothing can load it."""

    model: ModelVersion
    model_file: Mapping[str, Any]
    """The values of its MLmodel file."""


@dataclass(frozen=True, kw_only=True)
class RegisteredModel(Shown):
    """One registered model, with the facts for a list of models."""

    name: str
    description: str | None
    created_at: datetime
    """UTC."""
    changed_at: datetime
    """UTC; the last change of the model or of any version."""
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    """Alias -> version."""
    versions: int
    """The number of versions, without deleted ones."""
    latest: int | None
    """The highest version number."""

    def facts(self) -> dict[str, Any]:
        """Return the model as plain JSON values, without credentials."""
        return {
            "name": self.name,
            "versions": self.versions,
            "latest": self.latest,
            "aliases": dict(self.aliases),
            "tags": clean(self.tags),
            "description": clean(self.description),
            "created_at": self.created_at.isoformat(),
            "changed_at": self.changed_at.isoformat(),
        }


def signature_facts(signature: ModelSignature) -> dict[str, Any]:
    """Return *signature* as lists of columns: `inputs`, `outputs`, `params`, each or null."""
    parts = signature.to_dict()
    return {
        part: json.loads(parts[part]) if parts.get(part) else None
        for part in ("inputs", "outputs", "params")
    }


def clean(value: Any) -> Any:  # noqa: ANN401 - text, texts or nothing
    """Remove credentials from a text, or from the texts of a mapping."""
    if isinstance(value, str):
        return redact(value)
    return value if value is None else {key: redact(text) for key, text in value.items()}


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
