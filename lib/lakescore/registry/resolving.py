"""Find the versions that references name: list, describe, or pin them, with their files."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lakescore.errors import ConfigError, RegistryError
from lakescore.registry import artifacts, reading
from lakescore.registry.difference import Difference, compare_records
from lakescore.registry.errors import (
    AliasNotFound,
    ArtifactsMissing,
    FileExists,
    ModelNotFound,
    QueryNotUnique,
    SignatureMissing,
    VersionNotFound,
    VersionNotReady,
)
from lakescore.registry.journal import Journal
from lakescore.registry.pushdown import SplitFilter
from lakescore.registry.query import Filter, Order
from lakescore.registry.record import ModelVersion, RegisteredModel, VersionRecord
from lakescore.registry.reference import (
    ByAlias,
    ByLoggedModel,
    ByVersion,
    Latest,
    Named,
    Query,
    Reference,
    check_name,
    parse,
)
from lakescore.registry.store import answering, connect, is_unity_catalog, store_uri
from lakescore.registry.table import Rows
from lakescore.trust import Trust
from lakescore.wording import nearest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities.model_registry import RegisteredModel as Model

    from lakescore.registry.record import Card, File

READY = "READY"
_FETCHED_AT_ONCE = 4
_MOST_CARDS_READ = 10
"""Maximum number of versions whose files are read: a few requests each, without a recorded card."""
_MOST_BYTES_FOR_DIGEST = 100_000_000
_COLUMNS = ("version", "aliases", "created_at", "run_name", "metrics")
_MODEL_COLUMNS = ("name", "versions", "latest", "aliases", "tags", "changed_at")
_EVERYTHING = Trust()


def models(
    pattern: str = "*", *, tags: Mapping[str, str | None] | None = None
) -> Rows[RegisteredModel]:
    """Return the registered models, sorted by name: two requests, or more for thousands of models.

    Args:
        pattern: a pattern of the name, as in a shell: `flight-*`.
        tags: the tags that a model must have; the value None allows any value.

    Raises:
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        return Rows(reading.all_models(client, pattern, tags or {}), _MODEL_COLUMNS)


def versions(
    name: str,
    *,
    where: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    whole: bool | None = False,
) -> Rows[VersionRecord]:
    """Return the versions of the registered model *name*, newest first.

    The number of requests is small: one per thousand versions, then one per hundred runs and one
    per hundred logged models. The facts of the files are known if `register` recorded them.
    Otherwise they take a few requests per version, which only *whole*, or a filter on such a fact,
    causes.

    Args:
        name: the registered model's name.
        where: a filter; see `lakescore.registry.query`.
        order_by: `COLUMN [asc|desc]`; versions that lack the value come last.
        limit: maximum number of versions; None for all.
        whole: whether every record must have its `card`: signature, files, flavours; None: only if
            there are at most ten versions.

    Raises:
        ModelNotFound: there is no such registered model.
        BadFilter: *where* or *order_by* cannot be parsed; the error says where.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    condition, order = Filter(where) if where else None, Order(order_by) if order_by else None
    client = connect()
    with answering():
        model = reading.model_named(client, name)
        conditions = _server_conditions(condition)
        most = limit if order is None and not (condition and condition.plan.here) else None
        registered = reading.versions_of(client, name, conditions=conditions, limit=most)
        records = reading.records_of(client, model, registered)
        if whole or (condition and condition.plan.files) or (order and order.files):
            records = reading.add_cards(client, records)
        matching = condition.matching(records) if condition else records
        listed = (order.sorted(matching) if order else matching)[:limit]
        if whole is None and len(listed) <= _MOST_CARDS_READ:
            listed = reading.add_cards(client, listed)
    return Rows(listed, _COLUMNS)


def explain(name: str, where: str | None) -> SplitFilter:
    """Return the conditions of *where* that the server evaluates, and those evaluated here.

    Raises:
        BadFilter: *where* cannot be parsed; the error says where.
    """
    condition = Filter(where) if where else None
    plan = condition.plan if condition else SplitFilter((), (), files=False)
    return replace(plan, server=(f"name = '{name}'", *_server_conditions(condition)))


def _server_conditions(condition: Filter | None) -> Sequence[str]:
    """Return the conditions for the server; a catalog can filter only by name."""
    return () if condition is None or is_unity_catalog() else condition.plan.server


def describe(reference: str, *, digest_up_to: int = _MOST_BYTES_FOR_DIGEST) -> VersionRecord:
    """Return all facts of one version, with its signature and files; the model is not loaded.

    Args:
        reference: as in `resolve`.
        digest_up_to: bytes; if no digest was recorded, and the files are larger in total, they are
            not fetched for a digest.

    Raises:
        BadReference, ModelNotFound, VersionNotFound, VersionDeleted, AliasNotFound,
            QueryNotUnique: as `resolve`.
        ArtifactsMissing, IntegrityError: the files are missing, or cannot be read.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        if record.card is not None and record.card.files is not None:
            return record
        location = reading.location_of(client, record)
        card = artifacts.read_card(record.uri, location, digest_up_to=digest_up_to)
        return replace(record, card=card)


def diff(references: Sequence[str], *, changed: bool = False) -> Difference:
    """Compare versions side by side: the first with each of the others.

    Args:
        references: as in `resolve`; two or more.
        changed: whether to keep only the lines that differ.

    Raises:
        As `describe`.
    """
    return compare_records([describe(reference) for reference in references], changed=changed)


def resolve(reference: str, *, trust: Trust = _EVERYTHING) -> ModelVersion:
    """Pin *reference* to one model version, and fetch its artifacts.

    The result does not change if an alias moves later.

    Args:
        reference: `name/3`, `name@alias`, `name/latest`, any of these after `models:/`,
            `models:/m-<hex>`, or a query `name?where=FILTER&order_by=COLUMN [desc]`.
        trust: the policy for the versions that can be loaded. The facts of the registry are
            checked before any file is fetched; the facts of the files, and their digest, on the
            private copy. The default allows nearly all versions, and so any code of a model can
            run.

    Raises:
        BadReference: *reference* has none of these forms.
        ModelNotFound, VersionNotFound, VersionDeleted, AliasNotFound: it does not exist.
        QueryNotUnique: the query matches no version, or several (also a tie in its order).
        VersionNotReady, SignatureMissing: the version cannot be used for scoring.
        NotTrusted, DigestDiffers: the policy refuses it, or its files changed since registration.
        ArtifactsMissing, IntegrityError: its files are missing, or lead out of their folder.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        journal = Journal.find(client, record.name)
        recorded = journal.digest(record.version, record.created_at) if journal else None
    _check_record(record, location, recorded, trust)
    copy = artifacts.fetch(record.uri, location)
    return _pin(reference, record, copy, recorded, trust)


def resolve_all(
    references: Collection[str], *, trust: Trust = _EVERYTHING
) -> dict[str, ModelVersion | RegistryError]:
    """Pin many references at once, as `resolve` does, with bulk requests to the registry.

    It makes a few requests per hundred references. Queries and ids of logged models take single
    requests, and so do all references in a catalog, which has no such searches. The files of
    several versions are fetched in parallel.

    Args:
        references: as in `resolve`.
        trust: as in `resolve`.

    Returns:
        The version of each of *references*, or the error that the model, version or alias does not
        exist.

    Raises:
        All other errors of `resolve`.
    """
    client = connect()
    with answering():
        records, missing = _find_all(client, dict.fromkeys(references))
        recorded = Journal.digests(
            client, {(r.name, r.version, r.created_at) for r, _ in records.values()}
        )

    firsts = {record.uri: reference for reference, (record, _) in reversed(records.items())}
    located = {uri: records[reference] for uri, reference in firsts.items()}
    digests = {uri: recorded.get((r.name, r.version)) for uri, (r, _) in located.items()}
    for uri, (record, location) in located.items():
        _check_record(record, location, digests[uri], trust)
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as pool:
        copies = pool.map(artifacts.fetch, located, [at for _, at in located.values()])
        pinned = {
            uri: _pin(firsts[uri], record, copy, digests[uri], trust)
            for (uri, (record, _)), copy in zip(located.items(), copies, strict=True)
        }
    versions = {
        reference: replace(pinned[record.uri], reference=reference)
        for reference, (record, _) in records.items()
    }
    return {r: versions.get(r) or missing[r] for r in references}


def _check_record(record: VersionRecord, location: str, recorded: str | None, trust: Trust) -> None:
    """Check by the facts of the registry that a version is ready and that the policy allows it."""
    trust.check_version(
        record.uri,
        registry=store_uri(),
        location=location,
        tags=record.tags,
        aliases=record.aliases,
        recorded=recorded,
    )
    if record.status != READY:
        raise VersionNotReady(record.uri, record.status)


def _pin(
    reference: str, record: VersionRecord, copy: Path, recorded: str | None, trust: Trust
) -> ModelVersion:
    """Return the pinned version of *record* with the private *copy* of its files, if trusted."""
    card = artifacts.card_of(record.uri, copy)
    digest_by = trust.check_digest(
        record.uri, str(card.digest), recorded=recorded, tagged=record.digest
    )
    loading = artifacts.reading_of(record.uri, copy)
    trust.check_files(
        record.uri,
        flavours=loading.flavours,
        formats=loading.formats,
        doubts=loading.doubts,
        pickles=partial(artifacts.pickles_in, copy, loading.files),
        modules=partial(artifacts.modules_in, copy, loading.files),
    )
    _check_signature(record.uri, card)
    facts = {field.name: getattr(record, field.name) for field in fields(record)}
    return ModelVersion(
        **{**facts, "card": card},
        reference=reference,
        artifacts=copy,
        digest_by=digest_by,
        installing=trust.installing,
    )


def _check_signature(uri: str, card: Card) -> None:
    if card.signature is None or card.signature.inputs is None:
        raise SignatureMissing(uri)
    if card.signature.outputs is None:
        raise SignatureMissing(uri, "output schema in its signature")


def files(reference: str) -> Rows[File]:
    """Return the logged files of one version, sorted by path: one request per folder.

    Raises:
        As `describe`, without the errors of reading a file.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        return Rows(artifacts.list_files(record.uri, location), ("path", "size"))


def fetch_file(reference: str, path: str, to: Path) -> Path:
    """Copy one logged file of a version into the folder *to*, and return the copy.

    Args:
        reference: as in `resolve`.
        path: as `files` lists it.
        to: the folder; it is created if it does not exist.

    Raises:
        ArtifactsMissing: the version has no such file.
        FileExists: *to* already has a file of that name, which is not changed.
        ConfigError: *to* cannot be written to.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        paths = [file.path for file in artifacts.list_files(record.uri, location)]
        if path not in paths:
            raise ArtifactsMissing(record.uri, f"there is no file {path!r}{nearest(path, paths)}")
        target = to / PurePosixPath(path).name
        if target.exists() or target.is_symlink():
            raise FileExists(target)
        copy = artifacts.fetch_file(record.uri, location, path)
    try:
        to.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copyfile(copy, target))
    except OSError as error:
        raise ConfigError(
            f"cannot write {target}: {error.strerror}; name another folder"
        ) from error


def find(client: MlflowClient, reference: str) -> VersionRecord:
    """Return the record of the version that *reference* names."""
    form = parse(reference)
    if isinstance(form, Query):
        return _run_query(reference, form)
    model, number = _pick(client, reference, form)
    version = reading.version_numbered(client, model.name, number)
    return reading.records_of(client, model, [version])[0]


def _find_all(
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
        for r, at in reading.located_records(client, models, registered)
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
    facts = [f"{name} {value:.6g}" for name, value in list(record.metrics.items())[:3]]
    return f"{record.name}/{record.version} ({', '.join([*record.aliases, *facts]) or 'no facts'})"
