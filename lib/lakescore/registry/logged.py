"""The models that runs logged, which can be registered as versions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakescore.registry.record import clean
from lakescore.registry.store import answering, connect, is_unity_catalog, pages
from lakescore.registry.table import Rows, Shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import LoggedModel as Logged

_COLUMNS = ("logged_model_id", "name", "run_name", "experiment", "created_at", "registered")
_MOST_MODELS = 100


@dataclass(frozen=True, kw_only=True)
class LoggedModel(Shown):
    """A logged model of a run, with all of its files."""

    logged_model_id: str
    name: str
    run_id: str | None
    run_name: str | None
    experiment: str
    created_at: datetime
    """UTC."""
    registered: tuple[str, ...]
    """The versions that were registered from it, as `name/3`."""

    def facts(self) -> dict[str, Any]:
        """Return the logged model as plain JSON values, without credentials."""
        return {
            "logged_model_id": self.logged_model_id,
            "name": clean(self.name),
            "run_id": self.run_id,
            "run_name": clean(self.run_name),
            "experiment": clean(self.experiment),
            "created_at": self.created_at.isoformat(),
            "registered": list(self.registered),
        }


def logged_models(*, limit: int = 50) -> Rows[LoggedModel]:
    """Return the last models that runs logged, newest first: four requests.

    Args:
        limit: the number of models to search, at most 100; models with missing files are left out.

    Raises:
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        experiments = {
            experiment.experiment_id: experiment.name
            for experiment in pages(
                lambda token: client.search_experiments(max_results=1000, page_token=token)
            )
        }
        newest = client.search_logged_models(
            list(experiments),
            max_results=min(limit, _MOST_MODELS),
            order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        )
        # Stores differ in the values that a filter by status compares.
        ready = [model for model in newest if model.status == "READY"]
        runs = sorted({model.source_run_id for model in ready if model.source_run_id})
        names = _run_names(client, list(experiments), runs)
        versions = _versions(client, runs)
    return Rows((_record(model, experiments, names, versions) for model in ready), _COLUMNS)


def _record(
    model: Logged,
    experiments: Mapping[str, str],
    names: Mapping[str, str],
    versions: Mapping[str, Sequence[str]],
) -> LoggedModel:
    return LoggedModel(
        logged_model_id=model.model_id,
        name=model.name,
        run_id=model.source_run_id or None,
        run_name=names.get(model.source_run_id or ""),
        experiment=experiments[model.experiment_id],
        created_at=datetime.fromtimestamp(model.creation_timestamp / 1000, tz=UTC),
        registered=tuple(versions.get(model.model_id, ())),
    )


def _run_names(
    client: MlflowClient, experiments: list[str], run_ids: Iterable[str]
) -> dict[str, str]:
    ids = ", ".join(f"'{run_id}'" for run_id in run_ids)
    if not ids:
        return {}
    runs = client.search_runs(
        experiments, f"attributes.run_id IN ({ids})", max_results=_MOST_MODELS
    )
    return {run.info.run_id: run.info.run_name for run in runs}


def _versions(client: MlflowClient, run_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the versions by logged model; the search of a catalog cannot filter by run."""
    ids = ", ".join(f"'{run_id}'" for run_id in run_ids)
    if not ids or is_unity_catalog():
        return {}
    by_model: dict[str, list[str]] = {}
    versions = pages(
        lambda token: client.search_model_versions(
            f"run_id IN ({ids})", max_results=1000, page_token=token
        )
    )
    for version in sorted(versions, key=lambda version: int(version.version)):
        logged_model_id = (version.source or "").removeprefix("models:/")
        by_model.setdefault(logged_model_id, []).append(f"{version.name}/{version.version}")
    return by_model
