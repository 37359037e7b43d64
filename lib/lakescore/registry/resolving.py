"""From a reference to a version: listed, described, or pinned with its files at hand."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from lakescore.errors import (
    AliasNotFound,
    ArtifactsMissing,
    ConfigError,
    FileExists,
    ModelNotFound,
    QueryNotUnique,
    RegistryError,
    SignatureMissing,
    VersionNotFound,
    VersionNotReady,
    nearest,
)
from lakescore.registry import artifacts, reading
from lakescore.registry.difference import Difference, compared
from lakescore.registry.journal import Journal
from lakescore.registry.query import Filter, Order, SplitFilter
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

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities.model_registry import RegisteredModel as Model

    from lakescore.registry.record import Card, File

READY = "READY"
_FETCHED_AT_ONCE = 4
_FILES_READ = 10
"""Of how many versions files are read: each costs a few requests, where nothing was recorded."""
_DIGESTED = 100_000_000
_COLUMNS = ("version", "aliases", "created_at", "run_name", "metrics")
_COLUMNS_OF_MODELS = ("name", "versions", "latest", "aliases", "tags", "changed_at")
_EVERYTHING = Trust()


def models(
    pattern: str = "*", *, tags: Mapping[str, str | None] | None = None
) -> Rows[RegisteredModel]:
    """Return the registered models, by name: two requests, more where there are thousands.

    Args:
        pattern: of the name, as a shell's: `flight-*`.
        tags: those that a model must carry; None as a value allows any.

    Raises:
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with answering():
        return Rows(reading.all_models(client, pattern, tags or {}), _COLUMNS_OF_MODELS)


def versions(
    name: str,
    *,
    where: str | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    whole: bool | None = False,
) -> Rows[VersionRecord]:
    """Return the versions of the registered model *name*, newest first.

    A bounded handful of requests, however many versions: the versions by thousands, then their
    runs and logged models by hundreds. What the files say is known where `register` recorded it;
    otherwise it takes a few requests a version, which only *whole*, or a filter on it, asks for.

    Args:
        name: the registered model's name.
        where: a filter; see `lakescore.registry.query`.
        order_by: `COLUMN [asc|desc]`; versions that lack the value come last.
        limit: how many at the most.
        whole: whether every record shall have its `card`: signature, files, flavours; None where
            no more than ten versions are found.

    Raises:
        ModelNotFound: there is no such registered model.
        BadFilter: *where* or *order_by* does not read as one; says where.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    check_name(name)
    condition, order = Filter(where) if where else None, Order(order_by) if order_by else None
    client = connect()
    with answering():
        model = reading.model_named(client, name)
        sent = _sent(condition)
        enough = limit if order is None and not (condition and condition.plan.here) else None
        found = reading.versions_of(client, name, conditions=sent, limit=enough)
        records = reading.records_of(client, model, found)
        if whole or (condition and condition.plan.files) or (order and order.files):
            records = reading.with_cards(client, records)
        kept = condition.matching(records) if condition else records
        listed = (order.sorted(kept) if order else kept)[:limit]
        if whole is None and len(listed) <= _FILES_READ:
            listed = reading.with_cards(client, listed)
    return Rows(listed, _COLUMNS)


def explain(name: str, where: str | None) -> SplitFilter:
    """Return which conditions of *where* the server filters by, and which are evaluated here.

    Raises:
        BadFilter: *where* does not read as a filter; says where.
    """
    condition = Filter(where) if where else None
    plan = condition.plan if condition else SplitFilter((), (), files=False)
    return replace(plan, server=(f"name = '{name}'", *_sent(condition)))


def _sent(condition: Filter | None) -> Sequence[str]:
    """Return what the server shall filter by; a catalog knows nothing but names."""
    return () if condition is None or is_unity_catalog() else condition.plan.server


def describe(reference: str, *, digest_up_to: int = _DIGESTED) -> VersionRecord:
    """Return all that is known of one version, with its signature and files: nothing is loaded.

    Args:
        reference: as in `resolve`.
        digest_up_to: bytes; where no digest was recorded, files that are larger in all are not
            fetched for it.

    Raises:
        BadReference, ModelNotFound, VersionNotFound, VersionDeleted, AliasNotFound,
            QueryNotUnique: as `resolve`.
        ArtifactsMissing, IntegrityError: the files are gone, or cannot be read.
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
    """Return versions side by side, each but the first held against the first.

    Args:
        references: as in `resolve`; two or more.
        changed: whether only what differs is kept.

    Raises:
        As `describe`.
    """
    return compared([describe(each) for each in references], changed=changed)


def resolve(reference: str, *, trust: Trust = _EVERYTHING) -> ModelVersion:
    """Pin *reference* to one model version and fetch its artifacts: asked once, told once.

    Args:
        reference: `name/3`, `name@alias`, `name/latest`, any of these after `models:/`,
            `models:/m-<hex>`, or a query `name?where=FILTER&order_by=COLUMN [desc]`.
        trust: which versions may be loaded. What the registry says is checked before anything is
            fetched, what the files say, and their digest, on the private copy. The default lets
            nearly all be loaded, and so all code run that a model brings.

    Raises:
        BadReference: *reference* has none of these forms.
        ModelNotFound, VersionNotFound, VersionDeleted, AliasNotFound: there is no such thing.
        QueryNotUnique: the query names no version, or several (ties in its order included).
        VersionNotReady, SignatureMissing: the version cannot be scored with.
        NotTrusted, DigestDiffers: the policy refuses it, or its files are not what was registered.
        ArtifactsMissing, IntegrityError: its files are gone, or lead out of their folder.
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
    return _with_files(reference, record, copy, recorded, trust)


def resolve_all(
    references: Collection[str], *, trust: Trust = _EVERYTHING
) -> dict[str, ModelVersion | RegistryError]:
    """Pin many references at once, as `resolve` does: the registry is asked in bulk.

    A handful of requests for each hundred of them, but for queries and ids of logged models, and
    in a catalog, which knows no such searches. Files are fetched several at a time.

    Args:
        references: as in `resolve`.
        trust: as in `resolve`.

    Returns:
        For each of *references* its version, or the error that there is no such model, version or
        alias.

    Raises:
        As `resolve` besides.
    """
    client = connect()
    with answering():
        found, missing = _find_all(client, dict.fromkeys(references))
        recorded = Journal.digests(
            client, {(r.name, r.version, r.created_at) for r, _ in found.values()}
        )

    firsts = {record.uri: reference for reference, (record, _) in reversed(found.items())}
    places = {uri: found[reference] for uri, reference in firsts.items()}
    digests = {uri: recorded.get((r.name, r.version)) for uri, (r, _) in places.items()}
    for uri, (record, location) in places.items():
        _check_record(record, location, digests[uri], trust)
    with ThreadPoolExecutor(_FETCHED_AT_ONCE) as fetching:
        copies = fetching.map(artifacts.fetch, places, [at for _, at in places.values()])
        pinned = {
            uri: _with_files(firsts[uri], record, copy, digests[uri], trust)
            for (uri, (record, _)), copy in zip(places.items(), copies, strict=True)
        }
    versions = {
        reference: replace(pinned[record.uri], reference=reference)
        for reference, (record, _) in found.items()
    }
    return {each: versions.get(each) or missing[each] for each in references}


def _check_record(record: VersionRecord, location: str, recorded: str | None, trust: Trust) -> None:
    """Hold that a version can be loaded, and that the policy lets it in, by what is on record."""
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


def _with_files(
    reference: str, record: VersionRecord, copy: Path, recorded: str | None, trust: Trust
) -> ModelVersion:
    """Return the version of *record* with a private *copy* of its files, if it is let in."""
    card = artifacts.card_of(record.uri, copy)
    digest_by = trust.check_digest(
        record.uri, str(card.digest), recorded=recorded, tagged=record.digest
    )
    way = artifacts.reading_of(record.uri, copy)
    trust.check_files(
        record.uri,
        flavours=way.flavours,
        formats=way.formats,
        doubts=way.doubts,
        pickles=partial(artifacts.pickles_in, copy, way.files),
        modules=partial(artifacts.modules_in, copy, way.files),
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
    """Return the logged files of one version, sorted by path: a request a folder.

    Raises:
        As `describe`, but that nothing is read of the files.
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
        to: an existing folder, or one to be made.

    Raises:
        ArtifactsMissing: there is no such file among those that are logged.
        FileExists: *to* holds a file of that name, which is left as it is.
        ConfigError: *to* cannot be written to.
    """
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        there = [file.path for file in artifacts.list_files(record.uri, location)]
        if path not in there:
            raise ArtifactsMissing(record.uri, f"there is no file {path!r}{nearest(path, there)}")
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
    """Return the record of the one version that *reference* names: the one way to it."""
    asked = parse(reference)
    if isinstance(asked, Query):
        return _answer(reference, asked)
    model, number = _pick(client, reference, asked)
    found = reading.version_numbered(client, model.name, number)
    return reading.records_of(client, model, [found])[0]


def _find_all(
    client: MlflowClient, references: Iterable[str]
) -> tuple[dict[str, tuple[VersionRecord, str]], dict[str, RegistryError]]:
    """Return the records of versions with their locations, and the errors of what is missing."""
    asked = {reference: parse(reference) for reference in references}
    forms = [each for each in asked.values() if isinstance(each, Named)]
    models = reading.models_named(client, {form.name for form in forms})
    latest = reading.latest_of(client, {form.name for form in forms if isinstance(form, Latest)})
    found: dict[str, tuple[VersionRecord, str]] = {}
    wanted: dict[str, tuple[str, int]] = {}
    missing: dict[str, RegistryError] = {}
    lacks_some = any(form.name not in models for form in forms)
    known = reading.some_names(client) if lacks_some else []
    for reference, form in asked.items():
        try:
            if isinstance(form, (ByLoggedModel, Query)):
                record = find(client, reference)
                found[reference] = record, reading.location_of(client, record)
            else:
                wanted[reference] = form.name, _number(form, models, latest, known)
        except QueryNotUnique as error:
            if error.found:  # several answer, which is no matter of a model that is missing
                raise
            missing[reference] = error
        except (ModelNotFound, VersionNotFound, AliasNotFound) as error:
            missing[reference] = error
    there = reading.versions_numbered(client, set(wanted.values()))
    records = {(r.name, r.version): (r, at) for r, at in reading.located(client, models, there)}
    for reference, key in wanted.items():
        try:
            if key not in records:  # the error says which there are
                reading.version_numbered(client, *key)
                raise RegistryError(f"the MLflow store hides version {key[1]} of {key[0]!r}")
            found[reference] = records[key]
        except VersionNotFound as error:
            missing[reference] = error
    return found, missing


def _number(
    form: Named, models: Mapping[str, Model], latest: Mapping[str, int], known: Sequence[str]
) -> int:
    """Return the number of the version that *form* names; *known* are names for a message."""
    if form.name not in models:
        raise ModelNotFound(form.name, known, store_uri())
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


def _pick(client: MlflowClient, reference: str, asked: Reference) -> tuple[Model, int]:
    match asked:
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
            found = client.search_model_versions(f"source_path = 'models:/{logged_model_id}'")
            if len(found) != 1:
                there = [f"{each.name}/{each.version}" for each in found]
                raise QueryNotUnique(reference, [int(each.version) for each in found], there)
            return reading.model_named(client, found[0].name), int(found[0].version)
    raise AssertionError(asked)


def _answer(reference: str, asked: Query) -> VersionRecord:
    """Return the one version that a query names: never the first of several."""
    order = Order(asked.order_by) if asked.order_by else None
    records = versions(asked.name, where=asked.where, order_by=asked.order_by)
    found = order.first(records) if order else records
    if len(found) != 1:
        there = [_summary(each) for each in (records or versions(asked.name))]
        raise QueryNotUnique(reference, [each.version for each in found], there)
    return found[0]


def _summary(record: VersionRecord) -> str:
    facts = [f"{name} {value:.6g}" for name, value in list(record.metrics.items())[:3]]
    return f"{record.name}/{record.version} ({', '.join([*record.aliases, *facts]) or 'no facts'})"
