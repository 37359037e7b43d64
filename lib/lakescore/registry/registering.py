"""Create registered models, and register models as their versions."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakescore.errors import IntegrityError, LakescoreError
from lakescore.registry import artifacts, joining
from lakescore.registry.errors import ModelExists, NotAModel, SignatureMissing, VersionNotReady
from lakescore.registry.finding import find
from lakescore.registry.journal import Journal
from lakescore.registry.ledger import who
from lakescore.registry.moving import promote
from lakescore.registry.record import READY
from lakescore.registry.reference import check_alias, check_description, check_name, check_tags
from lakescore.registry.store import answering, connect, experiment, is_missing
from lakescore.trust import DigestDiffers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient  # noqa: TID251 - a type

    from lakescore.registry.record import RegisteredModel, VersionRecord

_RUN = re.compile(r"[0-9a-f]{32}")
_PATH_OF_RUN = re.compile(r"runs:/([0-9a-f]{32})/(.+)")
_LOGGED_MODEL = re.compile(r"models:/(m-[0-9a-f]{32})")
_IMPORTED_INTO = "lakescore"
_POLL_SECONDS = 1.0


def create(
    name: str, *, tags: Mapping[str, str] | None = None, description: str | None = None
) -> RegisteredModel:
    """Create an empty registered model, to add versions later.

    Args:
        name: the name of the model.
        tags: the tags of the model.
        description: the purpose of the model.

    Raises:
        BadName: the name, a tag or the description is not valid.
        ModelExists: a model of that name exists.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    check_name(name)
    check_description(description)
    check_tags(tags or {})
    client = connect(create=True)
    with answering():
        try:
            client.create_registered_model(name, dict(tags or {}), description)
        except MlflowException as error:
            if error.error_code == "RESOURCE_ALREADY_EXISTS":
                raise ModelExists(name) from error
            raise
        return joining.model_record(client.get_registered_model(name), [])


def register(  # noqa: PLR0913 - all but two are optional keywords
    source: str,
    name: str,
    *,
    tags: Mapping[str, str] | None = None,
    alias: str | None = None,
    description: str | None = None,
    wait: float = 0,
    signed: bool = True,
) -> VersionRecord:
    """Register a model as the next version of *name*; create *name* if it does not exist.

    The files are copied once to record their card (signature, flavours, sizes, digest) in the tag
    `lakescore.card`, which listings read. The digest is also written into the ledger, where nobody
    can change it, and `resolve` checks every later copy against it.

    Args:
        source: a run's id, `runs:/<run id>/<name>`, `models:/m-<hex>`, or a folder or URI with an
            MLmodel file. The files of a folder on this machine are copied into the store.
        name: the registered model's name.
        tags: the tags of the version.
        alias: the alias to move to the version, through the ledger.
        description: the description of the version.
        wait: seconds to wait until the version is ready; 0 does not wait.
        signed: whether to refuse a model without a signature.

    Raises:
        NotAModel: *source* cannot be registered.
        SignatureMissing: the model has no signature, and *signed* is true.
        VersionNotReady: the registration failed, or did not finish within *wait* seconds.
        BadName, AliasMoved, ArtifactsMissing, IntegrityError, LedgerLost: as their names say.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    from mlflow import MlflowException  # noqa: PLC0415

    check_name(name)
    check_description(description)
    check_tags(tags or {})
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
            model_id = _import_folder(client, Path(origin))
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        journal = Journal.opened(client, name)
        created = client.create_model_version(
            name,
            f"models:/{model_id}" if model_id else origin,
            run_id,
            {**(tags or {}), joining.CARD_TAG: artifacts.card_tag(card)},
            description=description,
            await_creation_for=0,
            model_id=model_id,
        )
        reference = f"{name}/{created.version}"
        record = find(client, reference)
        facts = {"digest": card.digest, "when": datetime.now(UTC).isoformat(), "by": who()}
        if not journal.record_digest(record.version, record.created_at, facts):
            recorded = journal.digest(record.version, record.created_at)
            raise DigestDiffers(record.uri, str(card.digest), str(recorded), "the ledger")
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
    """Return the location of the files of *source*, and its run and logged model, or None."""
    if _RUN.fullmatch(source):
        return _run_origin(client, source, source, None)
    if match := _PATH_OF_RUN.fullmatch(source):
        return _run_origin(client, source, match[1], match[2])
    if match := _LOGGED_MODEL.fullmatch(source):
        return _logged_model_origin(client, source, match[1])
    if not source.isprintable() or source.startswith(("runs:", "models:")):
        raise NotAModel(source, "it has none of the forms of a source")
    if "://" not in source and not (Path(source) / "MLmodel").is_file():
        raise NotAModel(source, "there is no such folder with an MLmodel file")
    return source, None, None


def _run_origin(
    client: MlflowClient, source: str, run_id: str, name: str | None
) -> tuple[str, str | None, str | None]:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if not is_missing(error):
            raise
        raise NotAModel(source, "there is no such run") from error
    logged = [output.model_id for output in (run.outputs.model_outputs if run.outputs else [])]
    models = [client.get_logged_model(model_id) for model_id in dict.fromkeys(logged)]
    matching = [model for model in models if name in (None, model.name)]
    if len(matching) == 1:
        return str(matching[0].artifact_location), run_id, str(matching[0].model_id)
    if not matching and name is not None:  # an MLflow before 3 logged it among the run's files
        return f"{str(run.info.artifact_uri).rstrip('/')}/{name}", run_id, None
    names = ", ".join(f"models:/{model.model_id} ({model.name})" for model in matching) or "none"
    raise NotAModel(source, f"the run logged {len(matching)} models: {names}")


def _logged_model_origin(
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


def _import_folder(client: MlflowClient, folder: Path) -> str:
    """Copy the model in *folder* into the store, and return the logged model's id.

    A server refuses to register a path on another machine, and the files of a path can change.
    """
    experiment_id = experiment(_IMPORTED_INTO)
    logged = client.create_logged_model(
        experiment_id, name=re.sub(r"[/:.%\"']", "-", folder.name) or None
    )
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
        time.sleep(_POLL_SECONDS)
