"""The registry library: what a person types becomes one pinned model version.

Hides MLflow's registry: its URI forms, its searches that forget aliases, its timeouts of minutes,
and where a version's facts are scattered (version, run, logged model, MLmodel file).
Importing it imports neither MLflow nor Spark; the first call does.
"""

from lakescore.registry.artifacts import digest_of
from lakescore.registry.record import File, ModelVersion, RegisteredModel, VersionRecord
from lakescore.registry.resolving import (
    describe,
    explain,
    fetch_file,
    files,
    models,
    resolve,
    versions,
)
from lakescore.registry.store import connect, experiment
from lakescore.trust import Trust

__all__ = [
    "File",
    "ModelVersion",
    "RegisteredModel",
    "Trust",
    "VersionRecord",
    "connect",
    "describe",
    "digest_of",
    "experiment",
    "explain",
    "fetch_file",
    "files",
    "models",
    "resolve",
    "versions",
]
