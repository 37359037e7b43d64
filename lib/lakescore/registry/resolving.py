"""Pin the versions that references name, with a private copy of their files, if trusted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from lakescore.registry import artifacts, reading
from lakescore.registry.errors import SignatureMissing, VersionNotReady
from lakescore.registry.finding import find, find_all
from lakescore.registry.journal import Journal
from lakescore.registry.record import NOT_COPIED, READY, ModelVersion, Outline, VersionRecord
from lakescore.registry.store import answering, connect, store_uri
from lakescore.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    from lakescore.errors import RegistryError
    from lakescore.registry.record import Card

_FETCHED_AT_ONCE = 4
_EVERYTHING = Trust()


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
    record, location, recorded = _locate(reference, trust)
    copy = artifacts.fetch(record.uri, location)
    return _pin(reference, record, copy, recorded, trust)


def outline(reference: str, *, trust: Trust = _EVERYTHING) -> Outline:
    """Pin *reference* as `resolve` does, but read only the MLmodel file of the version.

    The policy is checked by the facts of the registry and of this file. Its rules for digests and
    for the other files are not.

    Raises:
        The errors of `resolve`, without those of the digest and of other files.
    """
    record, location, _ = _locate(reference, trust)
    card, model_file = artifacts.read_model_file(record.uri, location)
    trust.check_files(record.uri, flavours=card.flavours, formats=card.formats)
    _check_signature(record.uri, card)
    model = ModelVersion(
        **{**_facts_of(record), "card": card}, reference=reference, artifacts=NOT_COPIED
    )
    return Outline(model=model, model_file=model_file)


def _locate(reference: str, trust: Trust) -> tuple[VersionRecord, str, str | None]:
    """Return the record that *reference* names, the place of its files, and the ledger's digest."""
    client = connect()
    with answering():
        record = find(client, reference)
        location = reading.location_of(client, record)
        journal = Journal.find(client, record.name)
        recorded = journal.digest(record.version, record.created_at) if journal else None
    _check_record(record, location, recorded, trust)
    return record, location, recorded


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
        records, missing = find_all(client, dict.fromkeys(references))
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
    return ModelVersion(
        **{**_facts_of(record), "card": card},
        reference=reference,
        artifacts=copy,
        digest_by=digest_by,
        installing=trust.installing,
        indexes=trust.indexes,
    )


def _facts_of(record: VersionRecord) -> dict[str, Any]:
    return {field.name: getattr(record, field.name) for field in fields(record)}


def _check_signature(uri: str, card: Card) -> None:
    if card.signature is None or card.signature.inputs is None:
        raise SignatureMissing(uri)
    if card.signature.outputs is None:
        raise SignatureMissing(uri, "output schema in its signature")
