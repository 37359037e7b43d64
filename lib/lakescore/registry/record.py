"""What is known of registered models and their versions.

`facts()` of each is plain JSON whose keys are an interface: docs/registry.md lists them.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lakescore.errors import redact
from lakescore.registry.table import Shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from mlflow.models import ModelSignature

    from lakescore.trust import Environments


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
    """The data that a metric was measured on, as MLflow knows them."""

    name: str
    digest: str
    """Metrics of one name whose digests are equal can be compared."""

    def facts(self) -> dict[str, Any]:
        """Return name and digest."""
        return {"dataset": clean(self.name), "digest": self.digest}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a version's files say of it; the registry's own tables hold none of this.

    A listing knows it where `register` recorded it, in the tag `lakescore.card`; `describe` reads
    the files, and `resolve` takes it from the very copy that will be loaded.
    """

    signature: ModelSignature | None
    flavours: tuple[str, ...]
    """What MLflow would load it with: `sklearn`, `python_function` (a model of one's own), ..."""
    formats: tuple[str, ...]
    """How it is serialised: `skops`, `cloudpickle`, `json`, `code`, ..."""
    mlflow_version: str | None
    python_version: str | None
    files: tuple[File, ...] | None
    """None where there are too many to be recorded."""
    size: int
    """Bytes of all files."""
    digest: str | None
    """`sha256:<hex>` of the files; see `digest_of`. In a listing it is what the tag says, which
    anyone who may write tags can set."""


@dataclass(frozen=True, kw_only=True)
class VersionRecord(Shown):
    """One registered model version, as the registry holds it now."""

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
    """What the version was registered from, as the registry says it."""
    logged_model_id: str | None
    """MLflow 3's `m-<32 hex digits>`; versions that were registered from elsewhere have none."""
    params: Mapping[str, str]
    """The hyperparameters of the version's run and logged model."""
    metrics: Mapping[str, float]
    """The last value of each metric; what was logged for this very model outweighs its run's."""
    tags: Mapping[str, str]
    """Those that people set; what lakescore notes for itself is left out."""
    aliases: tuple[str, ...]
    measured_on: Mapping[str, Dataset] = field(default_factory=dict)
    """By metric the data that it was measured on, where that was logged with it."""
    card: Card | None = None

    @property
    def uri(self) -> str:
        """The pinned URI: `models:/<name>/<integer>`, never an alias."""
        return f"models:/{self.name}/{self.version}"

    @property
    def signature(self) -> ModelSignature | None:
        """What the model takes and gives, where its card is known."""
        return self.card.signature if self.card else None

    @property
    def files(self) -> tuple[File, ...] | None:
        """The logged files, where the card is known."""
        return self.card.files if self.card else None

    @property
    def digest(self) -> str | None:
        """`sha256:<hex>` of the files, where it is known."""
        return self.card.digest if self.card else None

    @property
    def flavours(self) -> tuple[str, ...] | None:
        """See `Card`."""
        return self.card.flavours if self.card else None

    @property
    def formats(self) -> tuple[str, ...] | None:
        """See `Card`."""
        return self.card.formats if self.card else None

    @property
    def mlflow_version(self) -> str | None:
        """The MLflow that logged the model."""
        return self.card.mlflow_version if self.card else None

    @property
    def python_version(self) -> str | None:
        """The Python that logged the model."""
        return self.card.python_version if self.card else None

    @property
    def size(self) -> int | None:
        """Bytes of all files."""
        return self.card.size if self.card else None

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain JSON values, without credentials."""
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
            **self._of_card(),
        }

    def _of_card(self) -> dict[str, Any]:
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
    """A version that a reference was resolved to: pinned, with its artifacts at hand.

    Everything that a run says of its model comes from this one object, so what is loaded and what
    is written in rows, commit and run cannot differ.
    """

    reference: str
    """As typed."""
    artifacts: Path
    """A private copy of the artifacts, removed when the process ends."""
    card: Card
    """Of that copy."""
    digest_by: str | None = None
    """Who says that the copy has its digest: the trust policy, the ledger, or nobody."""
    installing: Environments | None = None
    """The trust policy's rule for environments; None where there is no policy."""

    @property
    def signature(self) -> ModelSignature:
        """What the model takes and gives: a version without one is never resolved."""
        assert self.card.signature is not None  # noqa: S101 - narrows for mypy
        return self.card.signature

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the copy; see `digest_of`."""
        assert self.card.digest is not None  # noqa: S101 - narrows for mypy
        return self.card.digest

    @property
    def pin(self) -> str:
        """The pinned URI, how its digest begins, and who says that it is this one, for people."""
        evidence = f", as {self.digest_by} says" if self.digest_by else ""
        return f"{self.uri} ({self.digest[:19]}{evidence})"

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain JSON values, with the reference as typed."""
        return {**super().facts(), "reference": self.reference, "digest_by": self.digest_by}


@dataclass(frozen=True, kw_only=True)
class RegisteredModel(Shown):
    """One registered model, with what a list of models should say."""

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
    """How many there are; deleted ones do not count."""
    latest: int | None
    """The highest version number."""

    def facts(self) -> dict[str, Any]:
        """Return all of it as plain JSON values, without credentials."""
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
    """Return a text, or the texts of a mapping, without credentials."""
    if isinstance(value, str):
        return redact(value)
    return value if value is None else {key: redact(each) for key, each in value.items()}


def _list(values: Sequence[Any] | None) -> list[Any] | None:
    return None if values is None else list(values)
