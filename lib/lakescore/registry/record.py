"""What is known of a model version."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

    from mlflow.models import ModelSignature


@dataclass(frozen=True, kw_only=True)
class VersionRecord:
    """The metadata of one registered model version, as the registry holds it now."""

    name: str
    version: int
    status: str
    created_at: datetime
    """UTC."""
    run_id: str | None
    run_name: str | None
    logged_model_id: str | None
    """MLflow 3's `m-<32 hex digits>`; versions that were registered from elsewhere have none."""
    params: Mapping[str, str]
    """The hyperparameters that the version's run logged."""
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    aliases: tuple[str, ...]

    @property
    def uri(self) -> str:
        """The pinned URI: `models:/<name>/<integer>`, never an alias."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True)
class ModelVersion(VersionRecord):
    """A version that a reference was resolved to: pinned, with its artifacts at hand.

    Everything that a run says of its model comes from this one object, so what is loaded and what
    is written in rows, commit and run cannot differ.
    """

    reference: str
    """As typed."""
    signature: ModelSignature
    artifacts: Path
    """A private copy of the artifacts, removed when the process ends."""
    digest: str
    """`sha256:<hex>` of that copy; see `digest_of`."""
