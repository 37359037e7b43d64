"""The models that runs logged: what could be registered as a version."""

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
_IN_A_SEARCH = 100


@dataclass(frozen=True, kw_only=True)
class LoggedModel(Shown):
    """A model that a run logged, whose files are all there."""

    logged_model_id: str
    name: str
    run_id: str | None
    run_name: str | None
    experiment: str
    created_at: datetime
    """UTC."""
    registered: tuple[str, ...]
    """The versions that were made of it, as `name/3`."""

    def facts(self) -> dict[str, Any]:
        """Return it as plain JSON values, without credentials."""
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
    """Return the models that runs logged last, newest first: four requests.

    Args:
        limit: how many are looked at, up to 100; those whose files are not all there are left out.

    Raises:
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        experiments = {
            each.experiment_id: each.name
            for each in pages(
                lambda token: client.search_experiments(max_results=1000, page_token=token)
            )
        }
        newest = client.search_logged_models(
            list(experiments),
            max_results=min(limit, _IN_A_SEARCH),
            order_by=[{"field_name": "creation_timestamp", "ascending": False}],
        )
        # Stores differ in what a filter by status compares.
        found = [each for each in newest if each.status == "READY"]
        runs = sorted({each.source_run_id for each in found if each.source_run_id})
        names = _names(client, list(experiments), runs)
        versions = _versions(client, runs)
    return Rows((_record(each, experiments, names, versions) for each in found), _COLUMNS)


def _record(
    found: Logged,
    experiments: Mapping[str, str],
    names: Mapping[str, str],
    versions: Mapping[str, Sequence[str]],
) -> LoggedModel:
    return LoggedModel(
        logged_model_id=found.model_id,
        name=found.name,
        run_id=found.source_run_id or None,
        run_name=names.get(found.source_run_id or ""),
        experiment=experiments[found.experiment_id],
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, tz=UTC),
        registered=tuple(versions.get(found.model_id, ())),
    )


def _names(client: MlflowClient, experiments: list[str], run_ids: Iterable[str]) -> dict[str, str]:
    ids = ", ".join(f"'{each}'" for each in run_ids)
    if not ids:
        return {}
    found = client.search_runs(
        experiments, f"attributes.run_id IN ({ids})", max_results=_IN_A_SEARCH
    )
    return {run.info.run_id: run.info.run_name for run in found}


def _versions(client: MlflowClient, run_ids: Iterable[str]) -> dict[str, list[str]]:
    """Return the versions by logged model; a catalog's search knows no runs."""
    ids = ", ".join(f"'{each}'" for each in run_ids)
    if not ids or is_unity_catalog():
        return {}
    made: dict[str, list[str]] = {}
    found = pages(
        lambda token: client.search_model_versions(
            f"run_id IN ({ids})", max_results=1000, page_token=token
        )
    )
    for each in sorted(found, key=lambda version: int(version.version)):
        logged_model_id = (each.source or "").removeprefix("models:/")
        made.setdefault(logged_model_id, []).append(f"{each.name}/{each.version}")
    return made
