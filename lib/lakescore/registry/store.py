"""The connection: one client, a budget of seconds, and errors of one line without credentials."""

from __future__ import annotations

import logging
import os
import re
import socket
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lakescore.errors import (
    NoTrackingStore,
    RegistryError,
    RegistryRefused,
    RegistryUnavailable,
    redact,
)
from lakescore.home import embedded_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeVar

    from mlflow import MlflowClient  # noqa: TID251 - a type
    from mlflow.store.entities import PagedList

    T = TypeVar("T")

# MLflow's own defaults are 7 retries of 120 s: four minutes until a silent server is an error.
_BUDGET = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
_OURS = {
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_POOL_MAXSIZE": "64",  # files of several models are fetched at once
}
_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5"}
"""With MLflow's backoff (0, 4, 8, 16, 32 s) a minute, in which a server is restarted."""
_DATABASE_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}


def connect(*, create: bool = False) -> MlflowClient:
    """Return the client of the configured store: the only maker of one.

    The store is MLflow's own setting (`MLFLOW_TRACKING_URI`, or what the platform set) and, where
    there is none, the embedded SQLite store under `LAKESCORE_HOME`, made only if *create* is true.

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
        # At the end of each run MLflow writes the URI to standard output, with the password in it.
        os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    with answering():
        for uri in dict.fromkeys([mlflow.get_tracking_uri(), mlflow.get_registry_uri()]):
            _check_reachable(uri)
        return mlflow.MlflowClient()  # noqa: TID251 - here is the one


@contextmanager
def patient() -> Iterator[None]:
    """Have MLflow wait for a server that is restarted, unless its own settings say how long.

    For what follows hours of work. What a job begins with fails soon instead, and is repeated.
    """
    ours = [name for name in _PATIENCE if os.environ.get(name) in {None, _BUDGET[name]}]
    os.environ.update({name: _PATIENCE[name] for name in ours})
    try:
        yield
    finally:
        os.environ.update({name: _BUDGET[name] for name in ours})


class _Redacted(logging.Filter):
    """Takes the credentials of URIs out of what MLflow and its libraries log."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        return True


def _quiet_logs() -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # the making of a store, step by step
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # traces of our errors
    for logger in (logging.getLogger(), logging.getLogger("mlflow")):
        for handler in logger.handlers:
            if not any(isinstance(each, _Redacted) for each in handler.filters):
                handler.addFilter(_Redacted())


def _check_reachable(uri: str) -> None:
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
    """Return the id of the MLflow experiment *name*, made when it does not exist."""
    import mlflow  # noqa: PLC0415

    client = connect(create=True)
    if client.get_experiment_by_name(name) is None:
        with suppress(mlflow.MlflowException):  # another process made it first
            client.create_experiment(name, artifact_location())
    return str(mlflow.set_experiment(name).experiment_id)


def artifact_location() -> str | None:
    """Return where a new experiment's artifacts shall lie; None leaves it to the server.

    Those of the embedded store lie beside it, under `LAKESCORE_HOME`: MLflow alone would put them
    into a folder `mlruns` wherever the process happens to run.
    """
    import mlflow  # noqa: PLC0415

    store = embedded_store()
    embedded = mlflow.get_tracking_uri() == f"sqlite:///{store}"
    return (store.parent / "artifacts").as_uri() if embedded else None


def store_uri() -> str:
    """Return the registry's URI, with its credentials: for comparing, never for telling."""
    import mlflow  # noqa: PLC0415

    return mlflow.get_registry_uri()


def is_unity_catalog() -> bool:
    """Tell whether the registry is a catalog, whose searches know little but a model's name."""
    return store_uri().startswith("databricks")


def pages(ask: Callable[[str | None], PagedList[T]], most: int | None = None) -> list[T]:
    """Return what the pages hold, of which *ask* returns one: all, or until there are *most*."""
    found: list[T] = []
    token = None
    while token != "" and (most is None or len(found) < most):
        page = ask(token)
        found += page
        token = page.token or ""
    return found


def is_missing(error: Exception) -> bool:
    """Tell whether MLflow says that a thing does not exist, rather than that it went wrong."""
    return getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST"


@contextmanager
def answering() -> Iterator[None]:
    """Turn what MLflow raises into errors of ours: one line each."""
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
