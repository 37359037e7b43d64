"""Read models, versions, runs and logged models in few requests to MLflow."""

from __future__ import annotations

import itertools
import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from lakescore.registry.errors import ModelNotFound, VersionDeleted, VersionNotFound
from lakescore.registry.store import is_missing, is_unity_catalog, pages, store_uri

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion as Registered
    from mlflow.entities.model_registry import RegisteredModel as Model

    from lakescore.registry.record import VersionRecord

_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})")
_BATCH = 100  # ids or names in a search
_MOST_SINGLE = 3
"""Up to this number, models are fetched one by one: a search also returns other models."""


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


def location_of(client: MlflowClient, record: VersionRecord) -> str:
    """Return the location of the version's files, as the store names it.

    A catalog gives credentials only for the URI of the registered version.
    """
    if is_unity_catalog():
        return record.uri
    return client.get_model_version_download_uri(record.name, str(record.version))


def models_like(client: MlflowClient, pattern: str, tags: Mapping[str, str | None]) -> list[Model]:
    """Return the registered models whose names match *pattern* and that have *tags*."""
    condition = _name_filter(pattern)
    return [
        model
        for model in pages(
            lambda token: client.search_registered_models(condition, 1000, page_token=token)
        )
        if fnmatchcase(model.name, pattern)
        and all(
            key in model.tags and value in (None, model.tags[key]) for key, value in tags.items()
        )
    ]


def _name_filter(pattern: str) -> str | None:
    """Return a filter that keeps all names that *pattern* matches, and perhaps more."""
    if is_unity_catalog() or pattern == "*" or set(pattern) & set("'[\\"):
        return None
    return f"name LIKE '{pattern.translate({ord('*'): '%', ord('?'): '_'})}'"


def versions_of_all(client: MlflowClient, names: Sequence[str]) -> Iterable[Registered]:
    """Return the versions of all models *names*, and perhaps of other models."""
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


def aliases_of(model: Model) -> dict[str, int]:
    """Return the model's aliases: alias -> version."""
    return {alias: int(version) for alias, version in model.aliases.items()}


def origins(
    client: MlflowClient, versions: Sequence[Registered]
) -> tuple[dict[str, Run], dict[str, LoggedModel]]:
    """Return the runs and logged models of the versions, by id; skip deleted ones.

    For one version, it makes direct requests; for several, it searches: a search needs the ids of
    all experiments.
    """
    from mlflow.entities import ViewType  # noqa: PLC0415

    run_ids = sorted({version.run_id for version in versions if version.run_id})
    model_ids = sorted({model_id for v in versions if (model_id := logged_model_id(v))})
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


def logged_model_id(version: Registered) -> str | None:
    """Return the id of the logged model that *version* was registered from, if there is one."""
    match = _LOGGED_MODEL.fullmatch(version.source or "")
    return match[1] if match else None
