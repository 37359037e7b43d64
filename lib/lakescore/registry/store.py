"""The look-ups: one client, few requests, a budget of seconds, errors that say what is there."""

from __future__ import annotations

import logging
import os
import re
import socket
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakescore.errors import (
    AliasNotFound,
    IntegrityError,
    ModelNotFound,
    NoTrackingStore,
    QueryNotUnique,
    RegistryError,
    RegistryUnavailable,
    SignatureMissing,
    VersionDeleted,
    VersionNotFound,
    VersionNotReady,
)
from lakescore.home import embedded_store
from lakescore.registry import query
from lakescore.registry.artifacts import digest_of, fetch
from lakescore.registry.record import ModelVersion, VersionRecord
from lakescore.registry.reference import ByAlias, ByLoggedModel, ByVersion, Latest, Query, parse

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion as Registered
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.models import ModelSignature

# MLflow's own defaults are 7 retries of 120 s: four minutes until a silent server is an error.
_BUDGET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_RUNS_IN_A_SEARCH = 100
_READY = "READY"


def connect(*, create: bool = False) -> MlflowClient:
    """Return the client of the configured store: the only maker of one.

    The store is MLflow's own setting (`MLFLOW_TRACKING_URI`, or what the platform set) and, where
    there is none, the embedded SQLite store under `LAKESCORE_HOME`, made only if *create* is true.

    Raises:
        NoTrackingStore: nothing is configured and there is no embedded store.
        RegistryUnavailable: the host of a database store does not answer.
    """
    for name, value in {**_BUDGET, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: PLC0415 - seconds of import that --help must not pay
    from mlflow.tracking import is_tracking_uri_set  # noqa: PLC0415

    logging.getLogger("alembic").setLevel(logging.WARNING)  # the making of a store, step by step
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # traces of our errors
    configured = is_tracking_uri_set()  # type: ignore[no-untyped-call]
    if not configured and not mlflow.get_tracking_uri().startswith("databricks"):
        store = embedded_store()
        if not create and not store.exists():
            raise NoTrackingStore(store)
        store.parent.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{store}")
    with _answering():
        for uri in dict.fromkeys([mlflow.get_tracking_uri(), mlflow.get_registry_uri()]):
            _knock(uri)
        return mlflow.MlflowClient()  # noqa: TID251 - here is the one


def _knock(uri: str) -> None:
    """Reach a database's port once: MLflow retries its connection for most of an hour."""
    parts = urlsplit(uri)
    usual_port = _DATABASE_PORTS.get(parts.scheme.split("+")[0])
    if usual_port is None or parts.hostname is None:
        return
    try:
        port = parts.port or usual_port
    except ValueError as error:
        raise RegistryError(f"cannot read the MLflow store's URI {uri}: {error}") from error
    try:
        socket.create_connection((parts.hostname, port), timeout=5).close()
    except OSError as error:
        raise RegistryUnavailable(uri, error.strerror or str(error)) from error


def experiment(name: str) -> str:
    """Return the id of the MLflow experiment *name*, made when it does not exist.

    The embedded store's artifacts lie beside it, under `LAKESCORE_HOME`: MLflow alone would put
    them into a folder `mlruns` wherever the process happens to run.
    """
    import mlflow  # noqa: PLC0415

    client = connect(create=True)
    embedded = mlflow.get_tracking_uri() == f"sqlite:///{embedded_store()}"
    if client.get_experiment_by_name(name) is None:
        location = (embedded_store().parent / "artifacts").as_uri() if embedded else None
        with suppress(mlflow.MlflowException):  # another process made it first
            client.create_experiment(name, artifact_location=location)
    return str(mlflow.set_experiment(name).experiment_id)


def resolve(reference: str) -> ModelVersion:
    """Pin *reference* to one model version and fetch its artifacts: asked once, told once.

    Args:
        reference: `name/3`, `name@alias`, `name/latest`, any of these after `models:/`,
            `models:/m-<hex>`, or a query `name?where=FILTER&order_by=COLUMN [desc]`.

    Raises:
        BadReference: *reference* has none of these forms.
        ModelNotFound, VersionNotFound, VersionDeleted, AliasNotFound: there is no such thing.
        QueryNotUnique: the query names no version, or several (ties in its order included).
        VersionNotReady, SignatureMissing: the version cannot be scored with.
        ArtifactsMissing, IntegrityError: its files are gone, or lead out of their folder.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    asked = parse(reference)
    client = connect()
    with _answering():
        name, number = _pick(client, reference, asked)
        registered = _registered_model(client, name)
        found = _registered_version(client, registered, number)
        record = _records(client, registered, [found])[0]
        # MLflow itself reads models:/a@b/1 as an alias, so such a name's files are asked for.
        source = client.get_model_version_download_uri(name, str(number)) if "@" in name else ""
    if record.status != _READY:
        raise VersionNotReady(record.uri, record.status)
    artifacts = fetch(record.uri, source or record.uri)
    return ModelVersion(
        **{**asdict(record), "params": dict(record.params)},
        reference=reference,
        signature=_signature(record.uri, artifacts),
        artifacts=artifacts,
        digest=digest_of(artifacts),
    )


def versions(name: str) -> list[VersionRecord]:
    """Return the records of all versions of the registered model *name*, newest first.

    A bounded handful of requests, however many versions: the versions by pages, then their runs
    by hundreds.

    Raises:
        ModelNotFound: there is no such registered model.
        NoTrackingStore, RegistryUnavailable: there is no registry, or it does not answer.
    """
    client = connect()
    with _answering():
        registered = _registered_model(client, name)
        return _records(client, registered, _all_versions(client, name))


def _pick(client: MlflowClient, reference: str, asked: object) -> tuple[str, int]:
    match asked:
        case ByVersion(name, version):
            return name, version
        case ByAlias(name, alias):
            aliases = _aliases(_registered_model(client, name))
            if alias not in aliases:
                raise AliasNotFound(name, alias, aliases)
            return name, aliases[alias]
        case Latest(name):
            _registered_model(client, name)
            numbers = [int(each.version) for each in _all_versions(client, name)]
            if not numbers:
                raise VersionNotFound(name, "at all", [])
            return name, max(numbers)
        case ByLoggedModel(logged_model_id):
            return _of_logged_model(client, reference, logged_model_id)
        case Query(name, where, order_by):
            return name, _answer(client, reference, name, where=where, order_by=order_by)
    raise AssertionError(asked)


def _of_logged_model(client: MlflowClient, reference: str, logged_model_id: str) -> tuple[str, int]:
    found = client.search_model_versions(f"source_path = 'models:/{logged_model_id}'")
    if len(found) != 1:
        there = [f"{each.name}/{each.version}" for each in found]
        raise QueryNotUnique(reference, [int(each.version) for each in found], there)
    return found[0].name, int(found[0].version)


def _answer(
    client: MlflowClient, reference: str, name: str, *, where: str | None, order_by: str | None
) -> int:
    registered = _registered_model(client, name)
    records = _records(client, registered, _all_versions(client, name))
    found: Sequence[VersionRecord] = query.matching(records, where) if where else records
    if order_by:
        found = query.best(found, order_by)
    if len(found) != 1:
        raise QueryNotUnique(
            reference, [each.version for each in found], [_summary(each) for each in records]
        )
    return found[0].version


def _summary(record: VersionRecord) -> str:
    facts = [f"{name} {value:.6g}" for name, value in list(record.metrics.items())[:3]]
    return f"{record.name}/{record.version} ({', '.join([*record.aliases, *facts]) or 'no facts'})"


def _registered_model(client: MlflowClient, name: str) -> RegisteredModel:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        there = [each.name for each in client.search_registered_models(max_results=1000)]
        raise ModelNotFound(name, there, _store()) from error


def _registered_version(
    client: MlflowClient, registered: RegisteredModel, number: int
) -> Registered:
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        return client.get_model_version(registered.name, str(number))
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        there = [int(each.version) for each in _all_versions(client, registered.name)]
        kind = VersionDeleted if there and 0 < number < max(there) else VersionNotFound
        raise kind(registered.name, number, there) from error


def _all_versions(client: MlflowClient, name: str) -> list[Registered]:
    quoted = name.replace("'", "''")
    found: list[Registered] = []
    page = None
    while page != "":
        answer = client.search_model_versions(
            f"name = '{quoted}'",
            max_results=1000,
            order_by=["version_number DESC"],
            page_token=page,
        )
        found += answer
        page = answer.token or ""
    return found


def _records(
    client: MlflowClient, registered: RegisteredModel, found: Sequence[Registered]
) -> list[VersionRecord]:
    """Join what MLflow keeps apart: versions, the model's aliases, and the versions' runs."""
    aliases = _aliases(registered)
    runs = _runs(client, [each.run_id for each in found if each.run_id])
    return [_record(each, aliases, runs.get(each.run_id or "")) for each in found]


def _aliases(registered: RegisteredModel) -> dict[str, int]:
    return {alias: int(version) for alias, version in registered.aliases.items()}


def _record(found: Registered, aliases: dict[str, int], run: Run | None) -> VersionRecord:
    number = int(found.version)
    logged = re.fullmatch(r"models:/(m-[0-9a-f]{32})", found.source or "")
    return VersionRecord(
        name=found.name,
        version=number,
        status=str(found.status),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, tz=UTC),
        run_id=found.run_id or None,
        run_name=run.info.run_name if run else None,
        logged_model_id=logged[1] if logged else None,
        params=dict(run.data.params) if run else {},
        metrics=dict(run.data.metrics) if run else {},
        tags=dict(found.tags),
        aliases=tuple(sorted(alias for alias, version in aliases.items() if version == number)),
    )


def _runs(client: MlflowClient, run_ids: Sequence[str]) -> dict[str, Run]:
    from mlflow import MlflowException  # noqa: PLC0415
    from mlflow.entities import ViewType  # noqa: PLC0415

    if len(run_ids) == 1:
        try:
            return {run_ids[0]: client.get_run(run_ids[0])}
        except MlflowException as error:  # a run may be deleted while its version lives on
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return {}
    found: dict[str, Run] = {}
    experiments = [each.experiment_id for each in client.search_experiments()] if run_ids else []
    for start in range(0, len(run_ids), _RUNS_IN_A_SEARCH):
        wanted = ", ".join(f"'{each}'" for each in run_ids[start : start + _RUNS_IN_A_SEARCH])
        answer = client.search_runs(
            experiments, f"attributes.run_id IN ({wanted})", run_view_type=ViewType.ALL
        )
        found |= {run.info.run_id: run for run in answer}
    return found


def _signature(uri: str, artifacts: Path) -> ModelSignature:
    from mlflow.models import Model  # noqa: PLC0415

    try:
        signature = Model.load(str(artifacts)).signature
        inputs, outputs = (signature.inputs, signature.outputs) if signature else (None, None)
    except Exception as error:  # whatever MLflow's parsing of a damaged file raises
        raise IntegrityError(f"the MLmodel file of {uri} cannot be read: {error}") from error
    if signature is None or inputs is None:
        raise SignatureMissing(uri)
    if outputs is None:
        raise SignatureMissing(uri, "output schema in its signature")
    return signature  # type: ignore[no-any-return]


def _store() -> str:
    import mlflow  # noqa: PLC0415

    return mlflow.get_registry_uri()


@contextmanager
def _answering() -> Iterator[None]:
    """Turn what MLflow raises into errors of ours: one line each."""
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        yield
    except MlflowException as error:
        first = str(error).splitlines()[0]
        if (
            "Max retries exceeded" in first
            or "failed with exception" in first
            or "database is locked" in str(error)
            or re.search(r"error code 50[0-9]|too many 50[0-9]", first)
        ):
            raise RegistryUnavailable(_store(), _cause(error)) from error
        raise RegistryError(f"the MLflow store at {_store()} refused: {first}") from error


def _cause(error: BaseException) -> str:
    """Return the innermost reason in a few words."""
    text = str(error)
    for words in (
        "Connection refused",
        "timed out",
        "database is locked",
        "Name or service not known",
    ):
        if words in text:
            return words.lower()
    return text.splitlines()[0][-120:]
