"""The registry library: all operations on model versions, without Spark.

It hides MLflow's registry: the forms of its URIs, searches that return no aliases, aliases without
a history, timeouts of minutes, and the four places of a version's facts (version, run, logged
model, MLmodel file). Importing this package imports neither MLflow nor Spark; the first call
imports MLflow.
"""

from lakescore.registry.artifacts import digest_of
from lakescore.registry.describing import describe, diff, fetch_file, files
from lakescore.registry.difference import Difference
from lakescore.registry.editing import describe_as, tag, untag
from lakescore.registry.ledger import AliasChange, History, history
from lakescore.registry.listing import explain, models, versions
from lakescore.registry.logged import LoggedModel, logged_models
from lakescore.registry.moving import AliasOutcome, promote, rollback, withdraw
from lakescore.registry.record import (
    Card,
    File,
    ModelVersion,
    Outline,
    RegisteredModel,
    VersionRecord,
)
from lakescore.registry.registering import create, register
from lakescore.registry.resolving import outline, resolve, resolve_all
from lakescore.registry.store import connect, experiment, patient
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
    "Outline",
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
    "outline",
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
