"""Find the records of the versions that references name, one or many at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.errors import RegistryError
from lakescore.notation import number
from lakescore.registry import joining, reading
from lakescore.registry.errors import AliasNotFound, ModelNotFound, QueryNotUnique, VersionNotFound
from lakescore.registry.listing import versions
from lakescore.registry.query import Order
from lakescore.registry.reference import (
    ByAlias,
    ByLoggedModel,
    ByVersion,
    Latest,
    Named,
    Query,
    Reference,
    parse,
)
from lakescore.registry.store import store_uri

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities.model_registry import RegisteredModel as Model

    from lakescore.registry.record import VersionRecord


def find(client: MlflowClient, reference: str) -> VersionRecord:
    """Return the record of the version that *reference* names."""
    form = parse(reference)
    if isinstance(form, Query):
        return _run_query(reference, form)
    model, number = _pick(client, reference, form)
    version = reading.version_numbered(client, model.name, number)
    return joining.records_of(client, model, [version])[0]


def find_all(
    client: MlflowClient, references: Iterable[str]
) -> tuple[dict[str, tuple[VersionRecord, str]], dict[str, RegistryError]]:
    """Return the records of versions with their locations, and the errors of missing versions."""
    parsed = {reference: parse(reference) for reference in references}
    forms = [form for form in parsed.values() if isinstance(form, Named)]
    models = reading.models_named(client, {form.name for form in forms})
    latest = reading.latest_of(client, {form.name for form in forms if isinstance(form, Latest)})
    located: dict[str, tuple[VersionRecord, str]] = {}
    wanted: dict[str, tuple[str, int]] = {}
    missing: dict[str, RegistryError] = {}
    any_missing = any(form.name not in models for form in forms)
    existing = reading.some_names(client) if any_missing else []
    for reference, form in parsed.items():
        try:
            if isinstance(form, (ByLoggedModel, Query)):
                record = find(client, reference)
                located[reference] = record, reading.location_of(client, record)
            else:
                wanted[reference] = form.name, _version_number(form, models, latest, existing)
        except QueryNotUnique as error:
            if error.found:  # several versions match, so no version is missing
                raise
            missing[reference] = error
        except (ModelNotFound, VersionNotFound, AliasNotFound) as error:
            missing[reference] = error
    registered = reading.versions_numbered(client, set(wanted.values()))
    records = {
        (r.name, r.version): (r, at)
        for r, at in joining.located_records(client, models, registered)
    }
    for reference, key in wanted.items():
        try:
            if key not in records:  # this raises the error that names the existing versions
                reading.version_numbered(client, *key)
                raise RegistryError(f"the MLflow store hides version {key[1]} of {key[0]!r}")
            located[reference] = records[key]
        except VersionNotFound as error:
            missing[reference] = error
    return located, missing


def _version_number(
    form: Named, models: Mapping[str, Model], latest: Mapping[str, int], existing: Sequence[str]
) -> int:
    """Return the number of the version that *form* names; *existing* are models for a message."""
    if form.name not in models:
        raise ModelNotFound(form.name, existing, store_uri())
    match form:
        case ByVersion(_, version):
            return version
        case Latest(name):
            if name not in latest:
                raise VersionNotFound(name, "at all", [])
            return latest[name]
        case ByAlias(name, alias):
            aliases = reading.aliases_of(models[name])
            if alias not in aliases:
                raise AliasNotFound(name, alias, aliases)
            return aliases[alias]


def _pick(client: MlflowClient, reference: str, form: Reference) -> tuple[Model, int]:
    match form:
        case ByVersion(name, version):
            return reading.model_named(client, name), version
        case ByAlias(name, alias):
            model = reading.model_named(client, name)
            aliases = reading.aliases_of(model)
            if alias not in aliases:
                raise AliasNotFound(name, alias, aliases)
            return model, aliases[alias]
        case Latest(name):
            model = reading.model_named(client, name)
            newest = reading.versions_of(client, name, limit=1)
            if not newest:
                raise VersionNotFound(name, "at all", [])
            return model, int(newest[0].version)
        case ByLoggedModel(logged_model_id):
            registered = client.search_model_versions(f"source_path = 'models:/{logged_model_id}'")
            if len(registered) != 1:
                names = [f"{version.name}/{version.version}" for version in registered]
                numbers = [int(version.version) for version in registered]
                raise QueryNotUnique(reference, numbers, names)
            return reading.model_named(client, registered[0].name), int(registered[0].version)
    raise AssertionError(form)


def _run_query(reference: str, query: Query) -> VersionRecord:
    """Return the only version that a query matches: never the first of several."""
    order = Order(query.order_by) if query.order_by else None
    records = versions(query.name, where=query.where, order_by=query.order_by)
    first = order.first(records) if order else records
    if len(first) != 1:
        summaries = [_summary(record) for record in (records or versions(query.name))]
        raise QueryNotUnique(reference, [record.version for record in first], summaries)
    return first[0]


def _summary(record: VersionRecord) -> str:
    facts = [f"{name} {number(value)}" for name, value in list(record.metrics.items())[:3]]
    return f"{record.name}/{record.version} ({', '.join([*record.aliases, *facts]) or 'no facts'})"
