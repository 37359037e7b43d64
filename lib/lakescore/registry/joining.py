"""Join the facts of a version, which MLflow keeps in four places, into one record.

A version's row has no aliases, which the model has. It has no metrics and params, which its run and
its logged model have. Its signature is in a file.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakescore.errors import IntegrityError
from lakescore.registry import artifacts
from lakescore.registry.reading import (
    aliases_of,
    location_of,
    logged_model_id,
    models_like,
    origins,
    versions_of_all,
)
from lakescore.registry.record import Dataset, RegisteredModel, VersionRecord
from lakescore.registry.reference import OWN_TAGS
from lakescore.registry.store import is_unity_catalog

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import LoggedModel, Metric, Run
    from mlflow.entities.model_registry import ModelVersion as Registered
    from mlflow.entities.model_registry import RegisteredModel as Model

CARD_TAG = "lakescore.card"
_READERS = 8


def located_records(
    client: MlflowClient, models: Mapping[str, Model], versions: Sequence[Registered]
) -> list[tuple[VersionRecord, str]]:
    """Return the records of versions of several *models*, each with the location of its files.

    A logged model names the location of its files; for other versions, the store is asked.
    """
    runs, logged = origins(client, versions)
    records = []
    for version in versions:
        origin = logged.get(logged_model_id(version) or "")
        run = runs.get(version.run_id or "")
        record = _record(version, aliases_of(models[version.name]), run, origin)
        location = origin.artifact_location if origin and not is_unity_catalog() else None
        records.append((record, location or location_of(client, record)))
    return records


def records_of(
    client: MlflowClient, model: Model, versions: Sequence[Registered]
) -> list[VersionRecord]:
    """Join versions with the model's aliases, their runs and their logged models."""
    runs, logged = origins(client, versions)
    aliases = aliases_of(model)
    return [
        _record(
            version,
            aliases,
            runs.get(version.run_id or ""),
            logged.get(logged_model_id(version) or ""),
        )
        for version in versions
    ]


def add_cards(client: MlflowClient, records: Sequence[VersionRecord]) -> list[VersionRecord]:
    """Read the cards of the *records* that have none: a few requests each, in parallel.

    If the files of a version are missing or damaged, it gets no card: a listing must not fail for
    one version.
    """

    def read(record: VersionRecord) -> VersionRecord:
        if record.card is not None:
            return record
        try:
            return replace(
                record, card=artifacts.read_card(record.uri, location_of(client, record))
            )
        except IntegrityError:
            return record

    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(read, records))


def all_models(
    client: MlflowClient, pattern: str, tags: Mapping[str, str | None]
) -> list[RegisteredModel]:
    """Return the registered models that match *pattern* and have *tags*."""
    models = models_like(client, pattern, tags)
    versions: dict[str, list[Registered]] = {model.name: [] for model in models}
    for version in versions_of_all(client, list(versions)):
        versions.setdefault(version.name, []).append(version)
    return sorted((model_record(m, versions[m.name]) for m in models), key=lambda m: m.name)


def model_record(model: Model, versions: Sequence[Registered]) -> RegisteredModel:
    """Return the record of a registered *model* with its *versions*."""
    changes = [model.last_updated_timestamp, *(v.last_updated_timestamp for v in versions)]
    return RegisteredModel(
        name=model.name,
        description=model.description or None,
        created_at=_time(model.creation_timestamp),
        changed_at=_time(max(change for change in changes if change)),
        tags=dict(model.tags),
        aliases=dict(sorted(aliases_of(model).items())),
        versions=len(versions),
        latest=max((int(version.version) for version in versions), default=None),
    )


def _record(
    registered: Registered, aliases: Mapping[str, int], run: Run | None, logged: LoggedModel | None
) -> VersionRecord:
    number = int(registered.version)
    return VersionRecord(
        name=registered.name,
        version=number,
        status=str(registered.status),
        description=registered.description or None,
        created_at=_time(registered.creation_timestamp),
        updated_at=_time(registered.last_updated_timestamp or registered.creation_timestamp),
        run_id=registered.run_id or None,
        run_name=run.info.run_name if run else None,
        source=registered.source or None,
        logged_model_id=logged_model_id(registered),
        params={**(run.data.params if run else {}), **(logged.params or {} if logged else {})},
        metrics=_metrics(run, logged),
        measured_on=_measured_on(logged),
        tags={key: value for key, value in registered.tags.items() if not key.startswith(OWN_TAGS)},
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
        card=artifacts.recorded_card(registered.tags.get(CARD_TAG)),
    )


def _metrics(run: Run | None, logged: LoggedModel | None) -> dict[str, float]:
    """Return the last value of each metric; a value of the logged model overrides its run's.

    NaN is the exception: MLflow's table of logged models' metrics holds 0 in its place.
    """
    run_metrics = run.data.metrics if run else {}
    lost = {key: value for key, value in run_metrics.items() if math.isnan(value)}
    return {**run_metrics, **{metric.key: metric.value for metric in _last_metrics(logged)}, **lost}


def _measured_on(logged: LoggedModel | None) -> dict[str, Dataset]:
    """Return the dataset of the last value of each metric; a metric of a run has no dataset."""
    last = {metric.key: metric for metric in _last_metrics(logged)}
    return {
        key: Dataset(metric.dataset_name, metric.dataset_digest)
        for key, metric in last.items()
        if metric.dataset_name and metric.dataset_digest
    }


def _last_metrics(logged: LoggedModel | None) -> list[Metric]:
    """Return the metrics of the logged model, the last value of each metric last."""
    metrics: list[Metric] = (logged.metrics or []) if logged else []
    return sorted(metrics, key=lambda metric: (metric.step, metric.timestamp))


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
