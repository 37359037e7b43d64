"""New models and versions, and their tags."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakescore.errors import (
    DigestDiffers,
    EditedMeanwhile,
    IntegrityError,
    LakescoreError,
    ModelExists,
    NotAModel,
    SignatureMissing,
    TagNotFound,
    VersionNotReady,
    redact,
)
from lakescore.registry import artifacts, reading
from lakescore.registry.journal import Journal
from lakescore.registry.ledger import promote, who
from lakescore.registry.record import clean
from lakescore.registry.reference import (
    check_alias,
    check_description,
    check_name,
    check_tag,
)
from lakescore.registry.resolving import READY, find
from lakescore.registry.store import answering, connect, experiment, is_missing
from lakescore.registry.table import Shown

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from mlflow import MlflowClient  # noqa: TID251 - a type

    from lakescore.registry.record import RegisteredModel, VersionRecord

_RUN = re.compile(r"[0-9a-f]{32}")
_PATH_OF_RUN = re.compile(r"runs:/([0-9a-f]{32})/(.+)")
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})")
_IMPORTED_INTO = "lakescore"
_SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Described(Shown):
    """What was described."""

    of: str
    """A version's pinned URI, or a registered model's name."""
    description: str | None

    def facts(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"of": self.of, "description": clean(self.description)}


@dataclass(frozen=True)
class Tagged(Shown):
    """What was tagged or untagged."""

    of: str
    """A version's pinned URI, or a registered model's name."""
    tags: Mapping[str, str]
    """All of its tags now."""

    def facts(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {"of": self.of, "tags": clean(dict(sorted(self.tags.items())))}


def create(
    name: str, *, tags: Mapping[str, str] | None = None, description: str | None = None
) -> RegisteredModel:
    """Make an empty registered model, to add versions to later.

    Args:
        name: its name.
        tags: its tags.
        description: what it is for.

    Raises:
        BadName: the name, a tag or the description is none.
        ModelExists: there is one of that name.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    check_name(name)
    check_description(description)
    _check_tags(tags or {})
    client = connect(create=True)
    with answering():
        try:
            client.create_registered_model(name, dict(tags or {}), description)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                raise ModelExists(name) from error
            raise
        return reading.model_record(client.get_registered_model(name), [])


def register(  # noqa: PLR0913 - all but two by name, and optional
    source: str,
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    alias: str | None = None,
    description: str | None = None,
    wait: float = 0,
    signed: bool = True,
) -> VersionRecord:
    """Register a model as the next version of *name*, which is made if it is missing.

    The files are copied once to note their card (signature, flavours, sizes, digest) in the tag
    `lakescore.card`, where listings find it. The digest is written into the ledger too, where it
    cannot be changed, and `resolve` holds every later copy against it.

    Args:
        source: a run's id, `runs:/<run id>/<name>`, `models:/m-<hex>`, or a folder or URI with an
            MLmodel file. The files of a folder on this machine are copied into the store.
        name: the registered model's name.
        tags: of the version.
        alias: to be moved to it, through the ledger.
        description: of the version.
        wait: seconds to wait until the version is ready; 0 does not wait.
        signed: whether a model without a signature is refused.

    Raises:
        NotAModel: *source* is nothing that could be registered.
        SignatureMissing: the model has no signature, and *signed* is true.
        VersionNotReady: its registration failed, or was not finished within *wait*.
        BadName, AliasMoved, ArtifactsMissing, IntegrityError, LedgerLost: as their names say.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    check_name(name)
    check_description(description)
    _check_tags(tags or {})
    if alias is not None:
        check_alias(alias)
    client = connect(create=True)
    with answering():
        origin, run_id, model_id = _origin(client, source)
        try:
            card = artifacts.card_of(source, artifacts.fetch(source, origin))
        except IntegrityError as error:
            raise NotAModel(source, str(error)) from error
        if signed and card.signature is None:
            raise SignatureMissing(source)
        if model_id is None and "://" not in origin and not origin.startswith("runs:"):
            model_id = _imported(client, Path(origin))
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        journal = Journal.opened(client, name)
        made = client.create_model_version(
            name,
            f"models:/{model_id}" if model_id else origin,
            run_id,
            {**(tags or {}), reading.CARD_TAG: artifacts.card_tag(card)},
            description=description,
            await_creation_for=0,
            model_id=model_id,
        )
        reference = f"{name}/{made.version}"
        record = find(client, reference)
        facts = {"digest": card.digest, "when": datetime.now(UTC).isoformat(), "by": who()}
        if not journal.record_digest(record.version, record.created_at, facts):
            known = journal.digest(record.version, record.created_at)
            raise DigestDiffers(record.uri, str(card.digest), str(known), "the ledger")
        _wait(client, reference, wait)
    if alias is not None:
        try:
            promote(reference, to=alias, reason="registered")
        except LakescoreError as error:
            error.args = (f"{error}; {reference} is registered, without {alias!r}",)
            raise
    with answering():
        return find(client, reference)


def _origin(client: MlflowClient, source: str) -> tuple[str, str | None, str | None]:
    """Return where the files of *source* lie, and its run and logged model, if it has them."""
    if _RUN.fullmatch(source):
        return _of_run(client, source, source, None)
    if found := _PATH_OF_RUN.fullmatch(source):
        return _of_run(client, source, found[1], found[2])
    if found := _LOGGED_MODEL.fullmatch(source):
        return _of_logged_model(client, source, found[1])
    if not source.isprintable() or source.startswith(("runs:", "models:")):
        raise NotAModel(source, "it has none of the forms")
    if "://" not in source and not (Path(source) / "MLmodel").is_file():
        raise NotAModel(source, "there is no such folder with an MLmodel file")
    return source, None, None


def _of_run(
    client: MlflowClient, source: str, run_id: str, name: str | None
) -> tuple[str, str | None, str | None]:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise NotAModel(source, "there is no such run") from error
    logged = [each.model_id for each in (run.outputs.model_outputs if run.outputs else [])]
    models = [client.get_logged_model(each) for each in dict.fromkeys(logged)]
    found = [each for each in models if name in (None, each.name)]
    if len(found) == 1:
        return str(found[0].artifact_location), run_id, str(found[0].model_id)
    if not found and name is not None:  # logged by an MLflow before 3, among the run's own files
        return f"{str(run.info.artifact_uri).rstrip('/')}/{name}", run_id, None
    there = ", ".join(f"models:/{each.model_id} ({each.name})" for each in found) or "none"
    raise NotAModel(source, f"the run logged {len(found)} models: {there}")


def _of_logged_model(
    client: MlflowClient, source: str, model_id: str
) -> tuple[str, str | None, str]:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        logged = client.get_logged_model(model_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise NotAModel(source, "there is no such logged model") from error
    return str(logged.artifact_location), logged.source_run_id or None, model_id


def _imported(client: MlflowClient, folder: Path) -> str:
    """Copy the model in *folder* into the store, and return the logged model's id.

    A server refuses to register a path on another machine, and a path on this one can change.
    """
    place = experiment(_IMPORTED_INTO)
    logged = client.create_logged_model(place, name=re.sub(r"[/:.%\"']", "-", folder.name) or None)
    client.log_model_artifacts(logged.model_id, str(folder))
    client.finalize_logged_model(logged.model_id, "READY")
    return str(logged.model_id)


def _wait(client: MlflowClient, reference: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while seconds:
        record = find(client, reference)
        if record.status == READY:
            return
        if record.status == "FAILED_REGISTRATION" or time.monotonic() > deadline:
            raise VersionNotReady(record.uri, record.status)
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def tag(
    reference: str,
    tags: Mapping[str, str],
    *,
    of_model: bool = False,
    expect: Mapping[str, str | None] | None = None,
) -> Tagged:
    """Add or change tags of a version, or of a registered model; all are checked before any is set.

    Returns what was tagged, with all of its tags now.

    Args:
        reference: as in `resolve`, or the registered model's name.
        tags: the tags.
        of_model: whether *reference* is the name of a registered model.
        expect: what tags must be now, as `facts` shows them; None for not there. Looked at just
            before, since MLflow itself cannot compare and set.

    Raises:
        BadName: a tag is none, or one that lakescore writes itself.
        EditedMeanwhile: a tag is not what *expect* says; none was set.
        As `describe` besides, for *reference*.
    """
    _check_tags(tags)
    client = connect()
    with answering():
        edited = _edited(client, reference, of_model=of_model)
        _check_expected(edited, expect)
        for key, value in tags.items():
            edited.set_tag(key, value)
        return Tagged(edited.of, {**edited.tags, **tags})


def untag(
    reference: str,
    keys: Collection[str],
    *,
    of_model: bool = False,
    expect: Mapping[str, str | None] | None = None,
) -> Tagged:
    """Remove tags of a version, or of a registered model; all are checked before any is removed.

    Returns what was untagged, with all of its tags now.

    Args:
        reference: as in `resolve`, or the registered model's name.
        keys: the tags' keys.
        of_model: whether *reference* is the name of a registered model.
        expect: as in `tag`.

    Raises:
        EditedMeanwhile: a tag is not what *expect* says; none was removed.
        TagNotFound: there is no such tag.
        BadName: the key is none, or one that lakescore writes itself.
        As `describe` besides, for *reference*.
    """
    _check_tags(dict.fromkeys(keys, ""))
    client = connect()
    with answering():
        edited = _edited(client, reference, of_model=of_model)
        _check_expected(edited, expect)
        _check_there(edited, keys)
        for key in keys:
            edited.delete_tag(key)
        left = {key: value for key, value in edited.tags.items() if key not in keys}
        return Tagged(edited.of, left)


def describe_as(
    reference: str, description: str, *, of_model: bool = False, expect: str | None = None
) -> Described:
    """Set the description of a version, or of a registered model; an empty one removes it.

    Args:
        reference: as in `resolve`, or the registered model's name.
        description: what it is, for people.
        of_model: whether *reference* is the name of a registered model.
        expect: what it must be now, as `facts` shows it, empty for none; checked only if given.

    Raises:
        BadName: the description is too long, or holds what cannot be seen.
        EditedMeanwhile: it is not what *expect* says; nothing was set.
        As `describe` besides, for *reference*.
    """
    check_description(description)
    client = connect()
    with answering():
        edited = _edited(client, reference, of_model=of_model)
        there = edited.description
        if expect is not None and expect != redact(there or ""):
            what = f"the description of {edited.owner}"
            raise EditedMeanwhile(what, expect or None, there or None)
        edited.describe(description)
        return Described(edited.of, description or None)


@dataclass(frozen=True, kw_only=True)
class _Edited:
    """A version or a registered model as it was read, and how it is written to."""

    of: str
    """A version's pinned URI, or a registered model's name."""
    owner: str
    """The same, for messages."""
    tags: Mapping[str, str]
    description: str | None
    set_tag: Callable[[str, str], object]
    delete_tag: Callable[[str], object]
    describe: Callable[[str], object]


def _edited(client: MlflowClient, reference: str, *, of_model: bool) -> _Edited:
    if of_model:
        model = reading.model_named(client, check_name(reference))
        return _Edited(
            of=model.name,
            owner=repr(model.name),
            tags=model.tags,
            description=model.description,
            set_tag=partial(client.set_registered_model_tag, model.name),
            delete_tag=partial(client.delete_registered_model_tag, model.name),
            describe=partial(client.update_registered_model, model.name),
        )
    record = find(client, reference)
    version = record.name, str(record.version)
    return _Edited(
        of=record.uri,
        owner=record.uri,
        tags=record.tags,
        description=record.description,
        set_tag=partial(client.set_model_version_tag, *version),
        delete_tag=partial(client.delete_model_version_tag, *version),
        describe=partial(client.update_model_version, *version),
    )


def _check_expected(edited: _Edited, expect: Mapping[str, str | None] | None) -> None:
    """Hold tags against what a reader saw of them: texts without credentials."""
    for key, expected in (expect or {}).items():
        found = redact(edited.tags[key]) if key in edited.tags else None
        if found != expected:
            raise EditedMeanwhile(f"the tag {key!r} of {edited.owner}", expected, found)


def _check_tags(tags: Mapping[str, str]) -> None:
    for key, value in tags.items():
        check_tag(key, value)


def _check_there(edited: _Edited, keys: Iterable[str]) -> None:
    for key in keys:
        if key not in edited.tags:
            raise TagNotFound(edited.owner, key, edited.tags)
