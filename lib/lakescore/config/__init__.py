"""The job's file: each kind of job is a frozen type, whose fields are the keys of its YAML file.

Every module of this package is imported here, so that every kind of job is in `JOBS`.
"""

from importlib import import_module
from pkgutil import iter_modules

from lakescore.config.comparing import CompareJob
from lakescore.config.jobs import JOBS, Job
from lakescore.config.models import Segments
from lakescore.config.monitoring import MonitorJob
from lakescore.config.predicting import Prediction
from lakescore.config.reading import arguments, is_override, kind_of, load, read, validate
from lakescore.config.replaying import ReplayJob
from lakescore.config.scoring import ScoreJob
from lakescore.config.strict import Strict
from lakescore.config.trusting import TrustFile, policy

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = [
    "JOBS",
    "CompareJob",
    "Job",
    "MonitorJob",
    "Prediction",
    "ReplayJob",
    "ScoreJob",
    "Segments",
    "Strict",
    "TrustFile",
    "arguments",
    "is_override",
    "kind_of",
    "load",
    "policy",
    "read",
    "validate",
]
