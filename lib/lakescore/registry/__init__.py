"""The registry library: all operations on model versions, without Spark.

It hides MLflow's registry: the forms of its URIs, searches that return no aliases, aliases without
a history, timeouts of minutes, and the four places of a version's facts (version, run, logged
model, MLmodel file). Importing this package imports neither MLflow nor Spark; the first call
imports MLflow.
"""

from lakescore.registry.artifacts import digest_of
from lakescore.registry.difference import Difference
from lakescore.registry.ledger import (
    AliasChange,
    AliasOutcome,
    History,
    history,
    promote,
    rollback,
    withdraw,
)
from lakescore.registry.logged import LoggedModel, logged_models
from lakescore.registry.record import Card, File, ModelVersion, RegisteredModel, VersionRecord
from lakescore.registry.resolving import (
    describe,
    diff,
    explain,
    fetch_file,
    files,
    models,
    resolve,
    resolve_all,
    versions,
)
from lakescore.registry.store import connect, experiment, patient
from lakescore.registry.writing import create, describe_as, register, tag, untag
from lakescore.trust import Trust

__all__ = [
    "AliasChange",
    "AliasOutcome",
    "Card",
    "Difference",
    "File",
    "History",
    "LoggedModel",
    "ModelVersion",
    "RegisteredModel",
    "Trust",
    "VersionRecord",
    "connect",
    "create",
    "describe",
    "describe_as",
    "diff",
    "digest_of",
    "experiment",
    "explain",
    "fetch_file",
    "files",
    "history",
    "logged_models",
    "models",
    "patient",
    "promote",
    "register",
    "resolve",
    "resolve_all",
    "rollback",
    "tag",
    "untag",
    "versions",
    "withdraw",
]
