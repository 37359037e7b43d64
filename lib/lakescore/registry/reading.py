"""Read records in few requests: MLflow keeps a version's facts in four places.

A version's row has no aliases, which the model has. It has no metrics and params, which its run and
its logged model have. Its signature is in a file. This module reads each place in bulk.
"""

from __future__ import annotations

import itertools
import math
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from lakescore.errors import IntegrityError
from lakescore.registry import artifacts
from lakescore.registry.errors import ModelNotFound, VersionDeleted, VersionNotFound
from lakescore.registry.record import Dataset, RegisteredModel, VersionRecord
from lakescore.registry.reference import OWN_TAGS
from lakescore.registry.store import is_missing, is_unity_catalog, pages, store_uri

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import LoggedModel, Metric, Run
    from mlflow.entities.model_registry import ModelVersion as Registered
    from mlflow.entities.model_registry import RegisteredModel as Model

CARD_TAG = "lakescore.card"
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})")
_BATCH = 100  # ids or names in a search
_MOST_SINGLE = 3
"""Up to this number, models are fetched one by one: a search also returns other models."""
_READERS = 8


def model_named(client: MlflowClient, name: str) -> Model:
    """Return the registered model *name*, with its aliases.

    Raises:
        ModelNotFound: the model does not exist; the error names the existing models.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise ModelNotFound(name, some_names(client), store_uri()) from error


def some_names(client: MlflowClient) -> list[str]:
    """Return the names of at most a thousand registered models, for messages."""
    return [model.name for model in client.search_registered_models(max_results=1000)]


def version_numbered(client: MlflowClient, name: str, number: int) -> Registered:
    """Return version *number* of the registered model *name*.

    Raises:
        VersionNotFound, VersionDeleted: it does not exist; the error names the existing versions.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        if not is_missing(error):
            raise
        numbers = [int(version.version) for version in versions_of(client, name)]
        kind = VersionDeleted if numbers and 0 < number < max(numbers) else VersionNotFound
        raise kind(name, number, numbers) from error


def models_named(client: MlflowClient, names: Collection[str]) -> dict[str, Model]:
    """Return the registered models *names* by name, with their aliases; skip missing models.

    For many names, it searches all models that begin with the common prefix, in thousands.
    """
    if len(names) <= _MOST_SINGLE or is_unity_catalog():
        single = [_fetch_or_none(client.get_registered_model, name) for name in sorted(names)]
        return {model.name: model for model in single if model}
    first, last = min(names), max(names)
    common = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    condition = _name_filter("".join(letter for letter, _ in common) + "*")
    models = pages(lambda token: client.search_registered_models(condition, 1000, page_token=token))
    return {model.name: model for model in models if model.name in names}


def versions_numbered(
    client: MlflowClient, wanted: Collection[tuple[str, int]]
) -> list[Registered]:
    """Return the versions *wanted*, given as names and numbers; skip missing versions."""
    single = {key for key in wanted if "'" in key[0]}
    if len(wanted) <= _MOST_SINGLE or is_unity_catalog():
        single = set(wanted)
    versions = [
        _fetch_or_none(client.get_model_version, name, str(n)) for name, n in sorted(single)
    ]
    # Sorted by number, so that a search returns few other versions.
    others = sorted(set(wanted) - single, key=lambda key: (key[1], key[0]))
    for start in range(0, len(others), _BATCH):
        batch = others[start : start + _BATCH]
        versions += _search_versions(
            client,
            f"name IN ({_quote_all(sorted({name for name, _ in batch}))}) "
            f"AND version_number >= {batch[0][1]} AND version_number <= {batch[-1][1]}",
        )
    return [v for v in versions if v and (v.name, int(v.version)) in wanted]


def latest_of(client: MlflowClient, names: Collection[str]) -> dict[str, int]:
    """Return the highest version number of each registered model that has versions."""
    latest: dict[str, int] = {}
    if len(names) <= _MOST_SINGLE or is_unity_catalog() or any("'" in name for name in names):
        versions = [v for name in sorted(names) for v in versions_of(client, name, limit=1)]
    else:
        batches = [sorted(names)[n : n + _BATCH] for n in range(0, len(names), _BATCH)]
        versions = [
            v for c in batches for v in _search_versions(client, f"name IN ({_quote_all(c)})")
        ]
    for version in versions:
        latest[version.name] = max(latest.get(version.name, 0), int(version.version))
    return latest


def located_records(
    client: MlflowClient, models: Mapping[str, Model], versions: Sequence[Registered]
) -> list[tuple[VersionRecord, str]]:
    """Return the records of versions of several *models*, each with the location of its files.

    A logged model names the location of its files; for other versions, the store is asked.
    """
    runs, logged = _origins(client, versions)
    records = []
    for version in versions:
        origin = logged.get(_logged_model_id(version) or "")
        run = runs.get(version.run_id or "")
        record = _record(version, aliases_of(models[version.name]), run, origin)
        location = origin.artifact_location if origin and not is_unity_catalog() else None
        records.append((record, location or location_of(client, record)))
    return records


def versions_of(
    client: MlflowClient,
    name: str,
    *,
    conditions: Sequence[str] = (),
    limit: int | None = None,
) -> list[Registered]:
    """Return the versions of the registered model *name*, newest first.

    Args:
        client: the client of the store.
        name: the registered model's name.
        conditions: further filters, in MLflow's own language.
        limit: maximum number of versions; None for all.
    """
    condition = " AND ".join([_name_is(name), *conditions])
    order = None if is_unity_catalog() else ["version_number DESC"]
    most = None if is_unity_catalog() or "LIKE" in _name_is(name) else limit
    versions = pages(
        lambda token: client.search_model_versions(
            condition, max_results=most or 1000, order_by=order, page_token=token
        ),
        most,
    )
    exact = [version for version in versions if version.name == name]
    if is_unity_catalog():
        exact.sort(key=lambda version: -int(version.version))
    return exact[:limit]


def _name_is(name: str) -> str:
    """Return the filter for one name: MLflow's filters cannot escape a quote within quotes."""
    if "'" not in name:
        return f"name = '{name}'"
    return f"""name LIKE '{name.replace("'", "_")}'""" if '"' in name else f'name = "{name}"'


def records_of(
    client: MlflowClient, model: Model, versions: Sequence[Registered]
) -> list[VersionRecord]:
    """Join versions with the model's aliases, their runs and their logged models."""
    runs, logged = _origins(client, versions)
    aliases = aliases_of(model)
    return [
        _record(
            version,
            aliases,
            runs.get(version.run_id or ""),
            logged.get(_logged_model_id(version) or ""),
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


def location_of(client: MlflowClient, record: VersionRecord) -> str:
    """Return the location of the version's files, as the store names it.

    A catalog gives credentials only for the URI of the registered version.
    """
    if is_unity_catalog():
        return record.uri
    return client.get_model_version_download_uri(record.name, str(record.version))


def all_models(
    client: MlflowClient, pattern: str, tags: Mapping[str, str | None]
) -> list[RegisteredModel]:
    """Return the registered models that match *pattern* and have *tags*."""
    condition = _name_filter(pattern)
    models = [
        model
        for model in pages(
            lambda token: client.search_registered_models(condition, 1000, page_token=token)
        )
        if fnmatchcase(model.name, pattern)
        and all(
            key in model.tags and value in (None, model.tags[key]) for key, value in tags.items()
        )
    ]
    versions: dict[str, list[Registered]] = {model.name: [] for model in models}
    for version in _versions_of_all(client, list(versions)):
        versions.setdefault(version.name, []).append(version)
    return sorted((model_record(m, versions[m.name]) for m in models), key=lambda m: m.name)


def _name_filter(pattern: str) -> str | None:
    """Return a filter that keeps all names that *pattern* matches, and perhaps more."""
    if is_unity_catalog() or pattern == "*" or set(pattern) & set("'[\\"):
        return None
    return f"name LIKE '{pattern.translate({ord('*'): '%', ord('?'): '_'})}'"


def _versions_of_all(client: MlflowClient, names: Sequence[str]) -> Iterable[Registered]:
    if is_unity_catalog():
        return [version for name in names for version in versions_of(client, name)]
    if any("'" in name for name in names) or len(names) > _BATCH:
        filters = [""]
    else:
        filters = [f"name IN ({_quote_all(names)})"] if names else []
    return [v for condition in filters for v in _search_versions(client, condition)]


def _search_versions(client: MlflowClient, condition: str) -> list[Registered]:
    return pages(
        lambda token: client.search_model_versions(condition, max_results=10_000, page_token=token)
    )


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


def aliases_of(model: Model) -> dict[str, int]:
    """Return the model's aliases: alias -> version."""
    return {alias: int(version) for alias, version in model.aliases.items()}


def _origins(
    client: MlflowClient, versions: Sequence[Registered]
) -> tuple[dict[str, Run], dict[str, LoggedModel]]:
    """Return the runs and logged models of the versions, by id; skip deleted ones.

    For one version, it makes direct requests; for several, it searches: a search needs the ids of
    all experiments.
    """
    from mlflow.entities import ViewType  # noqa: PLC0415

    run_ids = sorted({version.run_id for version in versions if version.run_id})
    model_ids = sorted({model_id for v in versions if (model_id := _logged_model_id(v))})
    if len(versions) == 1:
        runs = [_fetch_or_none(client.get_run, run_id) for run_id in run_ids]
        models = [_fetch_or_none(client.get_logged_model, model_id) for model_id in model_ids]
    elif run_ids or model_ids:
        experiment_ids = [
            experiment.experiment_id
            for experiment in pages(
                lambda token: client.search_experiments(ViewType.ALL, 1000, page_token=token)
            )
        ]
        runs = _search_by_id(
            run_ids,
            lambda ids, token: client.search_runs(
                experiment_ids,
                f"attributes.run_id IN ({ids})",
                ViewType.ALL,
                max_results=_BATCH,
                page_token=token,
            ),
        )
        models = _search_by_id(
            model_ids,
            lambda ids, token: client.search_logged_models(
                experiment_ids,
                f"model_id IN ({ids})",
                max_results=_BATCH,
                page_token=token,
            ),
        )
    else:
        return {}, {}
    return (
        {run.info.run_id: run for run in runs if run},
        {model.model_id: model for model in models if model},
    )


def _fetch_or_none(fetch: Any, *identifiers: str) -> Any:  # noqa: ANN401 - a run, a model or a version
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return fetch(*identifiers)
    except MlflowException as error:  # a run can be deleted while its version remains
        if not is_missing(error):
            raise
        return None


def _search_by_id(identifiers: Sequence[str], search: Any) -> list[Any]:  # noqa: ANN401 - likewise
    return [
        entity
        for start in range(0, len(identifiers), _BATCH)
        for entity in pages(
            lambda token, start=start: search(  # type: ignore[misc]
                _quote_all(identifiers[start : start + _BATCH]), token
            )
        )
    ]


def _quote_all(values: Sequence[str]) -> str:
    return ", ".join(f"'{value}'" for value in values)


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
        logged_model_id=_logged_model_id(registered),
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


def _logged_model_id(version: Registered) -> str | None:
    match = _LOGGED_MODEL.fullmatch(version.source or "")
    return match[1] if match else None


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
