"""Connect to MLflow: one client, short timeouts, and errors of one line without credentials."""

from __future__ import annotations

import logging
import os
import re
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakescore.errors import RegistryError
from lakescore.home import embedded_store
from lakescore.registry.errors import NoTrackingStore, RegistryRefused, RegistryUnavailable
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.store.entities import PagedList

    T = TypeVar("T")

# MLflow's own defaults, 7 retries and 120 s, take four minutes until a silent server is an error.
_BUDGET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_OURS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_POOL_MAXSIZE": "64",  # files of several models are fetched in parallel
}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5"}
"""With MLflow's backoff (0, 4, 8, 16, 32 s) this is a minute, enough for a server to restart."""
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def connect(*, create: bool = False) -> MlflowClient:
    """Return a client of the configured store; no other function creates clients.

    MLflow's own setting names the store (`MLFLOW_TRACKING_URI`, or the setting of the platform). If
    it is not set, the store is the embedded SQLite store under `LAKESCORE_HOME`, which is created
    only if *create* is true.

    Raises:
        NoTrackingStore: nothing is configured and there is no embedded store.
        RegistryUnavailable: the host of a database store does not answer.
    """
    for name, value in {**_BUDGET, **_OURS}.items():
        os.environ.setdefault(name, value)
    import mlflow  # noqa: PLC0415 - seconds of import that --help must not pay
    from mlflow.tracking import is_tracking_uri_set  # noqa: PLC0415

    _quiet_logs()
    configured = is_tracking_uri_set()  # type: ignore[no-untyped-call]
    if not configured and not mlflow.get_tracking_uri().startswith("databricks"):
        store = embedded_store()
        if not create and not store.exists():
            raise NoTrackingStore(store)
        store.parent.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{store}")
    if redact(mlflow.get_tracking_uri()) != mlflow.get_tracking_uri():
        # At the end of each run, MLflow prints the URI to standard output, with the password.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with answering():
        for uri in dict.fromkeys([mlflow.get_tracking_uri(), mlflow.get_registry_uri()]):
            _check_reachable(uri)
        return mlflow.MlflowClient()  # noqa: TID251 - the only one


@contextmanager
def patient() -> Iterator[None]:
    """Make MLflow wait while a server restarts, unless its own settings define the retries.

    Use it for requests after hours of work. A request at the start of a job fails soon instead, and
    the job is repeated.
    """
    names = [name for name in _PATIENCE if os.environ.get(name) in {None, _BUDGET[name]}]
    os.environ.update({name: _PATIENCE[name] for name in names})
    try:
        yield
    finally:
        os.environ.update({name: _BUDGET[name] for name in names})


class _Redacted(logging.Filter):
    """Remove the credentials of URIs from the log messages of MLflow and its libraries."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


def _quiet_logs() -> None:
    # Alembic logs each step of the creation of a store.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # It logs the tracebacks of errors that lakescore raises too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    for logger in (logging.getLogger(), logging.getLogger("mlflow")):
        for handler in logger.handlers:
            if not any(isinstance(filter_, _Redacted) for filter_ in handler.filters):
                handler.addFilter(_Redacted())


def _check_reachable(uri: str) -> None:
    """Connect once to a database's port: MLflow would retry its connection for most of an hour."""
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
    """Return the id of the MLflow experiment *name*; create it if it does not exist."""
    import mlflow  # noqa: PLC0415

    client = connect(create=True)
    if client.get_experiment_by_name(name) is None:
        with suppress(mlflow.MlflowException):  # another process created it first
            client.create_experiment(name, artifact_location())
    return str(mlflow.set_experiment(name).experiment_id)


def artifact_location() -> str | None:
    """Return the location of a new experiment's artifacts; None if the server decides.

    Artifacts of the embedded store are beside it, under `LAKESCORE_HOME`: MLflow itself would put
    them into a folder `mlruns` in the working directory.
    """
    import mlflow  # noqa: PLC0415

    store = embedded_store()
    embedded = mlflow.get_tracking_uri() == f"sqlite:///{store}"
    return (store.parent / "artifacts").as_uri() if embedded else None


def store_uri() -> str:
    """Return the registry's URI with its credentials: compare it, but never show it."""
    import mlflow  # noqa: PLC0415

    return mlflow.get_registry_uri()


def is_unity_catalog() -> bool:
    """Return whether the registry is a catalog, whose searches filter only by a model's name."""
    return store_uri().startswith("databricks")


def pages(ask: Callable[[str | None], PagedList[T]], most: int | None = None) -> list[T]:
    """Return the items of all pages, or stop at *most* items; *ask* returns the page of a token."""
    items: list[T] = []
    token = None
    while token != "" and (most is None or len(items) < most):
        page = ask(token)
        items += page
        token = page.token or ""
    return items


def is_missing(error: Exception) -> bool:
    """Return whether MLflow reports that a thing does not exist, and no other fault."""
    return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


@contextmanager
def answering() -> Iterator[None]:
    """Raise the errors of MLflow as errors of lakescore, of one line each."""
    from mlflow import MlflowException  # noqa: PLC0415

    try:
        yield
    except MlflowException as error:
        first = str(error).splitlines()[0]
        if re.search(r"error code 401", first):
            raise RegistryRefused(store_uri()) from error
        if (
            "Max retries exceeded" in first
            or "failed with exception" in first
            or "database is locked" in str(error)
            or re.search(r"error code 50[0-9]|too many 50[0-9]", first)
        ):
            raise RegistryUnavailable(store_uri(), _cause(error)) from error
        raise RegistryError(f"the MLflow store at {store_uri()} refused: {first}") from error
    except ImportError as error:  # a database's driver
        raise RegistryError(
            f"the MLflow store at {store_uri()} needs a package that is not installed: {error}"
        ) from error


def _cause(error: BaseException) -> str:
    """Return the innermost cause of *error* in a few words."""
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
