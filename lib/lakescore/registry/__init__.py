"""The registry library: what a person types becomes one pinned model version.

Hides MLflow's registry: its URI forms, its searches that forget aliases, its timeouts of minutes,
and where a version's facts are scattered (version, run, logged model, MLmodel file).
Importing it imports neither MLflow nor Spark; the first call does.
"""

from lakescore.registry.artifacts import digest_of
from lakescore.registry.record import ModelVersion, VersionRecord
from lakescore.registry.store import connect, experiment, resolve, versions

__all__ = [
    "ModelVersion",
    "VersionRecord",
    "connect",
    "digest_of",
    "experiment",
    "resolve",
    "versions",
]
