"""Lineage: which version, input and run made a prediction: in the row, the commit and MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore.errors import RegistryError
from lakescore.registry import connect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow.data.meta_dataset import MetaDataset
    from pyspark.sql import DataFrame

    from lakescore.registry import ModelVersion
    from lakescore.tables import Snapshot

COLUMNS = (
    "model_name",
    "model_version",
    "model_uri",
    "logged_model_id",
    "model_run_id",
    "model_reference",
    "input_table",
    "input_version",
    "slice",
    "scoring_run_id",
    "scored_at",
)
"""What every prediction carries, after the keys and the prediction itself."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One slice scored by one version from one snapshot."""

    model: ModelVersion
    input_table: str
    input_version: int
    slice: str
    fingerprint: str
    """Of everything that decides the rows: equal fingerprints, equal rows."""
    run_id: str
    """As given, or else the fingerprint: never random, so that a rerun is recognised."""

    @property
    def place(self) -> dict[str, str]:
        """The rows of the output that this run replaces: column = value."""
        return {"model_name": self.model.name, "slice": self.slice}

    def facts(self) -> dict[str, Any]:
        """Return what the rows say of this run, by column, but for the time."""
        return {
            "model_name": self.model.name,
            "model_version": self.model.version,
            "model_uri": self.model.uri,
            "logged_model_id": self.model.logged_model_id,
            "model_run_id": self.model.run_id,
            "model_reference": self.model.reference,
            "input_table": self.input_table,
            "input_version": self.input_version,
            "slice": self.slice,
            "scoring_run_id": self.run_id,
        }

    def commit(self, scored_at: datetime) -> dict[str, Any]:
        """Return the facts that the Delta commit's `userMetadata` carries."""
        return {
            **self.facts(),
            "scored_at": scored_at.isoformat(),
            "model_digest": self.model.digest,
            "fingerprint": self.fingerprint,
        }


def plan(
    model: ModelVersion,
    source: Snapshot,
    *,
    slice_names: Sequence[str],
    run_id: str | None,
    settings: Mapping[str, Any],
) -> list[Run]:
    """Return one run for each slice, with ids derived from what goes in unless *run_id* is given.

    Args:
        model: the pinned version; its digest counts, not the reference that led to it.
        source: the pinned input.
        slice_names: the slices.
        run_id: an id given from outside, such as a scheduler's.
        settings: whatever else decides the rows that are written.
    """
    runs = []
    for name in slice_names:
        inputs = fingerprint([model], source, slice=name, **settings)
        runs.append(
            Run(
                model=model,
                input_table=source.address,
                input_version=source.version,
                slice=name,
                fingerprint=inputs,
                run_id=run_id or inputs,
            )
        )
    return runs


def fingerprint(models: Sequence[ModelVersion], source: Snapshot, **settings: object) -> str:
    """Return 16 hex digits that are equal where models, their artifacts, input and settings are."""
    inputs = {
        "models": [[model.name, model.version, model.digest] for model in models],
        "input": [source.table_id, source.version],
        "settings": settings,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def stamp(scored: DataFrame, run: Run, *, scored_at: datetime) -> DataFrame:
    """Return *scored* with the columns of `COLUMNS` after its own."""
    facts = run.facts()
    kinds = {"model_version": "int", "input_version": "bigint"}
    columns = [
        F.lit(value).cast(kinds.get(name, "string")).alias(name) for name, value in facts.items()
    ]
    return scored.select("*", *columns, F.lit(scored_at).alias("scored_at"))


def published(predictions: DataFrame, model_name: str) -> DataFrame:
    """Return `slice`, `scoring_run_id` and `rows` of what *predictions* holds of *model_name*."""
    return (
        predictions.where(F.col("model_name") == F.lit(model_name))
        .groupBy("slice", "scoring_run_id")
        .agg(F.count("*").alias("rows"))
        .select("slice", "scoring_run_id", "rows")
    )


def fingerprints(commits: DataFrame, *, run_id: str, slice_name: str) -> DataFrame:
    """Return `fingerprint` of the *commits* that wrote *slice_name* for *run_id*, newest first."""
    facts = {
        name: F.get_json_object("userMetadata", f"$.{name}")
        for name in ("scoring_run_id", "slice", "fingerprint")
    }
    return (
        commits.where(facts["scoring_run_id"] == run_id)
        .where(facts["slice"] == slice_name)
        .orderBy(F.col("version").desc())
        .select(facts["fingerprint"].alias("fingerprint"))
    )


def log_run(
    experiment: str, context: str, source: Snapshot, report: Mapping[str, Any]
) -> str | None:
    """Log one MLflow run and return its id, or none where the store does not take it any more.

    The predictions are published by then, and they carry their lineage themselves, so a store
    that went away does not make the job fail.

    Args:
        experiment: its experiment, made when missing.
        context: what *source* was read for; the tag `mlflow.data.context` of the input dataset.
        source: the input dataset. Its Delta source alone is logged: `mlflow.data.load_delta` would
            count the whole table again for its profile.
        report: the receipt, kept whole as `receipt.json`; its numbers become metrics.
    """
    import mlflow  # noqa: PLC0415 - seconds of import

    try:
        connect(create=True)
        found = mlflow.set_experiment(experiment)
        with mlflow.start_run(
            experiment_id=found.experiment_id,
            run_name=f"lakescore {context}",
            tags=_tags(context, report),
            log_system_metrics=False,
        ) as run:
            mlflow.log_input(_dataset(source), context=context)
            numbers = {k: float(v) for k, v in report.items() if isinstance(v, (int, float))}
            mlflow.log_metrics(numbers)
            mlflow.log_dict(dict(report), "receipt.json")
    except (mlflow.MlflowException, RegistryError) as error:
        logging.getLogger(__name__).warning("the run could not be logged in MLflow: %s", error)
        return None
    return str(run.info.run_id)


def _tags(context: str, report: Mapping[str, Any]) -> dict[str, str]:
    model = {f"model_{key}": value for key, value in report.get("model", {}).items()}
    return {f"lakescore.{key}": str(value) for key, value in {"context": context, **model}.items()}


def _dataset(source: Snapshot) -> MetaDataset:
    from mlflow.data.delta_dataset_source import DeltaDatasetSource  # noqa: PLC0415
    from mlflow.data.meta_dataset import MetaDataset  # noqa: PLC0415

    by_path = "/" in source.address
    delta = DeltaDatasetSource(
        path=source.address if by_path else None,
        delta_table_name=None if by_path else source.address,
        delta_table_version=source.version,
    )
    name = source.address.rstrip("/").rsplit("/", 1)[-1]
    digest = hashlib.sha256(f"{source.table_id}@v{source.version}".encode()).hexdigest()[:8]
    return MetaDataset(delta, name=f"{name}@v{source.version}", digest=digest)


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)
