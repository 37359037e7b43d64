"""Records, read in few requests: MLflow keeps a version's facts in four places.

The version's own row has neither aliases (the model has them) nor metrics nor params (its run and
its logged model have them), and its signature stands in a file. Each place is asked in bulk.
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

from lakescore.errors import IntegrityError, ModelNotFound, VersionDeleted, VersionNotFound
from lakescore.registry import artifacts
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
_IN_A_SEARCH = 100
_ASKED_ALONE = 3
"""So many models are asked for one by one: a search brings others along."""
_READERS = 8


def model_named(client: MlflowClient, name: str) -> Model:
    """Return the registered model *name*, with its aliases.

    Raises:
        ModelNotFound: there is none; says which there are.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise ModelNotFound(name, some_names(client), store_uri()) from error


def some_names(client: MlflowClient) -> list[str]:
    """Return the names of registered models, a thousand at the most, for messages."""
    return [each.name for each in client.search_registered_models(max_results=1000)]


def version_numbered(client: MlflowClient, name: str, number: int) -> Registered:
    """Return version *number* of the registered model *name*.

    Raises:
        VersionNotFound, VersionDeleted: there is none; says which there are.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return client.get_model_version(name, str(number))
    except MlflowException as error:
        if not is_missing(error):
            raise
        there = [int(each.version) for each in versions_of(client, name)]
        kind = VersionDeleted if there and 0 < number < max(there) else VersionNotFound
        raise kind(name, number, there) from error


def models_named(client: MlflowClient, names: Collection[str]) -> dict[str, Model]:
    """Return the registered models *names*, by name, with their aliases; what is missing is not.

    Of many, all whose names begin alike are asked for, by thousands.
    """
    if len(names) <= _ASKED_ALONE or is_unity_catalog():
        alone = [_or_none(client.get_registered_model, name) for name in sorted(names)]
        return {model.name: model for model in alone if model}
    first, last = min(names), max(names)
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    asked = _like("".join(letter for letter, _ in alike) + "*")
    found = pages(lambda token: client.search_registered_models(asked, 1000, page_token=token))
    return {model.name: model for model in found if model.name in names}


def versions_numbered(
    client: MlflowClient, wanted: Collection[tuple[str, int]]
) -> list[Registered]:
    """Return the versions *wanted*, which are names and numbers; what is missing is left out."""
    alone = {key for key in wanted if "'" in key[0]}
    if len(wanted) <= _ASKED_ALONE or is_unity_catalog():
        alone = set(wanted)
    found = [_or_none(client.get_model_version, name, str(n)) for name, n in sorted(alone)]
    # By number, so that a search brings along few others.
    others = sorted(set(wanted) - alone, key=lambda key: (key[1], key[0]))
    for start in range(0, len(others), _IN_A_SEARCH):
        part = others[start : start + _IN_A_SEARCH]
        found += _versions_by(
            client,
            f"name IN ({_quoted(sorted({name for name, _ in part}))}) "
            f"AND version_number >= {part[0][1]} AND version_number <= {part[-1][1]}",
        )
    return [each for each in found if each and (each.name, int(each.version)) in wanted]


def latest_of(client: MlflowClient, names: Collection[str]) -> dict[str, int]:
    """Return the highest number of a version of each registered model that has any."""
    latest: dict[str, int] = {}
    if len(names) <= _ASKED_ALONE or is_unity_catalog() or any("'" in name for name in names):
        found = [each for name in sorted(names) for each in versions_of(client, name, limit=1)]
    else:
        parts = [sorted(names)[n : n + _IN_A_SEARCH] for n in range(0, len(names), _IN_A_SEARCH)]
        found = [e for part in parts for e in _versions_by(client, f"name IN ({_quoted(part)})")]
    for each in found:
        latest[each.name] = max(latest.get(each.name, 0), int(each.version))
    return latest


def located(
    client: MlflowClient, models: Mapping[str, Model], found: Sequence[Registered]
) -> list[tuple[VersionRecord, str]]:
    """Return what `records_of` does of versions of several *models*, each with its location.

    A logged model says itself where its files lie; of other versions the store is asked.
    """
    runs, logged = _origins(client, found)
    records = []
    for each in found:
        origin = logged.get(_logged_model_id(each) or "")
        run = runs.get(each.run_id or "")
        record = _record(each, aliases_of(models[each.name]), run, origin)
        told = origin.artifact_location if origin and not is_unity_catalog() else None
        records.append((record, told or location_of(client, record)))
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
        client: the store's.
        name: the registered model's name.
        conditions: further filters, in MLflow's own language.
        limit: how many at the most; all when left out.
    """
    asked = " AND ".join([_name_is(name), *conditions])
    order = None if is_unity_catalog() else ["version_number DESC"]
    most = None if is_unity_catalog() or "LIKE" in _name_is(name) else limit
    found = pages(
        lambda token: client.search_model_versions(
            asked, max_results=most or 1000, order_by=order, page_token=token
        ),
        most,
    )
    ours = [each for each in found if each.name == name]
    if is_unity_catalog():
        ours.sort(key=lambda each: -int(each.version))
    return ours[:limit]


def _name_is(name: str) -> str:
    """Return the filter for one name: MLflow's filters know no way to write a quote in quotes."""
    if "'" not in name:
        return f"name = '{name}'"
    return f"""name LIKE '{name.replace("'", "_")}'""" if '"' in name else f'name = "{name}"'


def records_of(
    client: MlflowClient, model: Model, found: Sequence[Registered]
) -> list[VersionRecord]:
    """Join what MLflow keeps apart: versions, the model's aliases, runs and logged models."""
    runs, logged = _origins(client, found)
    aliases = aliases_of(model)
    return [
        _record(
            each, aliases, runs.get(each.run_id or ""), logged.get(_logged_model_id(each) or "")
        )
        for each in found
    ]


def with_cards(client: MlflowClient, records: Sequence[VersionRecord]) -> list[VersionRecord]:
    """Read the files' facts of those *records* that lack them: a few requests each, at once.

    A version whose files are gone, or damaged, keeps no card: a listing must not fail for one.
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
    """Return where the version's files lie, as the store itself says.

    A catalog hands out credentials for a registered version's own URI alone.
    """
    if is_unity_catalog():
        return record.uri
    return client.get_model_version_download_uri(record.name, str(record.version))


def all_models(
    client: MlflowClient, pattern: str, tags: Mapping[str, str | None]
) -> list[RegisteredModel]:
    """Return the registered models whose name matches *pattern* and that carry *tags*."""
    asked = _like(pattern)
    found = [
        each
        for each in pages(
            lambda token: client.search_registered_models(asked, 1000, page_token=token)
        )
        if fnmatchcase(each.name, pattern)
        and all(key in each.tags and value in (None, each.tags[key]) for key, value in tags.items())
    ]
    versions: dict[str, list[Registered]] = {each.name: [] for each in found}
    for each in _versions_of_all(client, list(versions)):
        versions.setdefault(each.name, []).append(each)
    return sorted((model_record(each, versions[each.name]) for each in found), key=lambda m: m.name)


def _like(pattern: str) -> str | None:
    """Return a filter that keeps at least the names that *pattern* matches."""
    if is_unity_catalog() or pattern == "*" or set(pattern) & set("'[\\"):
        return None
    return f"name LIKE '{pattern.translate({ord('*'): '%', ord('?'): '_'})}'"


def _versions_of_all(client: MlflowClient, names: Sequence[str]) -> Iterable[Registered]:
    if is_unity_catalog():
        return [each for name in names for each in versions_of(client, name)]
    if any("'" in name for name in names) or len(names) > _IN_A_SEARCH:
        filters = [""]
    else:
        filters = [f"name IN ({_quoted(names)})"] if names else []
    return [each for asked in filters for each in _versions_by(client, asked)]


def _versions_by(client: MlflowClient, asked: str) -> list[Registered]:
    return pages(
        lambda token: client.search_model_versions(asked, max_results=10_000, page_token=token)
    )


def model_record(found: Model, versions: Sequence[Registered]) -> RegisteredModel:
    """Return the record of a registered model with these *versions*."""
    changes = [found.last_updated_timestamp, *(each.last_updated_timestamp for each in versions)]
    return RegisteredModel(
        name=found.name,
        description=found.description or None,
        created_at=_time(found.creation_timestamp),
        changed_at=_time(max(change for change in changes if change)),
        tags=dict(found.tags),
        aliases=dict(sorted(aliases_of(found).items())),
        versions=len(versions),
        latest=max((int(each.version) for each in versions), default=None),
    )


def aliases_of(model: Model) -> dict[str, int]:
    """Return alias -> version."""
    return {alias: int(version) for alias, version in model.aliases.items()}


def _origins(
    client: MlflowClient, found: Sequence[Registered]
) -> tuple[dict[str, Run], dict[str, LoggedModel]]:
    """Return the runs and logged models of the versions, by id; those that are gone are left out.

    One version is asked for directly, several are searched: a search needs all experiments' ids.
    """
    from mlflow.entities import ViewType  # noqa: PLC0415

    run_ids = sorted({each.run_id for each in found if each.run_id})
    model_ids = sorted({model_id for each in found if (model_id := _logged_model_id(each))})
    if len(found) == 1:
        runs = [_or_none(client.get_run, each) for each in run_ids]
        models = [_or_none(client.get_logged_model, each) for each in model_ids]
    elif run_ids or model_ids:
        places = [
            each.experiment_id
            for each in pages(
                lambda token: client.search_experiments(ViewType.ALL, 1000, page_token=token)
            )
        ]
        runs = _searched(
            run_ids,
            lambda ids, token: client.search_runs(
                places,
                f"attributes.run_id IN ({ids})",
                ViewType.ALL,
                max_results=_IN_A_SEARCH,
                page_token=token,
            ),
        )
        models = _searched(
            model_ids,
            lambda ids, token: client.search_logged_models(
                places, f"model_id IN ({ids})", max_results=_IN_A_SEARCH, page_token=token
            ),
        )
    else:
        return {}, {}
    return (
        {run.info.run_id: run for run in runs if run},
        {model.model_id: model for model in models if model},
    )


def _or_none(ask: Any, *identifiers: str) -> Any:  # noqa: ANN401 - a run, a model or a version
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return ask(*identifiers)
    except MlflowException as error:  # a run may be deleted while its version lives on
        if not is_missing(error):
            raise
        return None


def _searched(identifiers: Sequence[str], ask: Any) -> list[Any]:  # noqa: ANN401 - likewise
    return [
        each
        for start in range(0, len(identifiers), _IN_A_SEARCH)
        for each in pages(
            lambda token, start=start: ask(  # type: ignore[misc]
                _quoted(identifiers[start : start + _IN_A_SEARCH]), token
            )
        )
    ]


def _quoted(values: Sequence[str]) -> str:
    return ", ".join(f"'{each}'" for each in values)


def _record(
    found: Registered, aliases: Mapping[str, int], run: Run | None, logged: LoggedModel | None
) -> VersionRecord:
    number = int(found.version)
    return VersionRecord(
        name=found.name,
        version=number,
        status=str(found.status),
        description=found.description or None,
        created_at=_time(found.creation_timestamp),
        updated_at=_time(found.last_updated_timestamp or found.creation_timestamp),
        run_id=found.run_id or None,
        run_name=run.info.run_name if run else None,
        source=found.source or None,
        logged_model_id=_logged_model_id(found),
        params={**(run.data.params if run else {}), **(logged.params or {} if logged else {})},
        metrics=_metrics(run, logged),
        measured_on=_measured_on(logged),
        tags={key: each for key, each in found.tags.items() if not key.startswith(OWN_TAGS)},
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
        card=artifacts.recorded_card(found.tags.get(CARD_TAG)),
    )


def _metrics(run: Run | None, logged: LoggedModel | None) -> dict[str, float]:
    """Return the last value of each metric; the logged model's own outweighs its run's.

    But for NaN: MLflow's table of logged models' metrics holds 0 in its place.
    """
    of_run = run.data.metrics if run else {}
    lost = {key: value for key, value in of_run.items() if math.isnan(value)}
    return {**of_run, **{each.key: each.value for each in _last(logged)}, **lost}


def _measured_on(logged: LoggedModel | None) -> dict[str, Dataset]:
    """Return on which data the last value of each metric was measured; a run's own has none."""
    last = {each.key: each for each in _last(logged)}
    return {
        key: Dataset(each.dataset_name, each.dataset_digest)
        for key, each in last.items()
        if each.dataset_name and each.dataset_digest
    }


def _last(logged: LoggedModel | None) -> list[Metric]:
    """Return what was logged for this very model, the last of each metric last."""
    logs: list[Metric] = (logged.metrics or []) if logged else []
    return sorted(logs, key=lambda each: (each.step, each.timestamp))


def _logged_model_id(found: Registered) -> str | None:
    logged = _LOGGED_MODEL.fullmatch(found.source or "")
    return logged[1] if logged else None


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, tz=UTC)
