"""The job's file: each kind of job is a frozen type, whose fields are the keys of its YAML file."""

from lakescore.config.comparing import CompareJob
from lakescore.config.models import Segments
from lakescore.config.reading import is_override, kind_of, load, read, validate
from lakescore.config.replaying import ReplayJob
from lakescore.config.scoring import ScoreJob
from lakescore.config.strict import Strict
from lakescore.config.trusting import TrustFile, policy

JOBS: dict[str, type[ScoreJob | CompareJob | ReplayJob]] = {
    "score": ScoreJob,
    "compare": CompareJob,
    "replay": ReplayJob,
}

__all__ = [
    "JOBS",
    "CompareJob",
    "ReplayJob",
    "ScoreJob",
    "Segments",
    "Strict",
    "TrustFile",
    "is_override",
    "kind_of",
    "load",
    "policy",
    "read",
    "validate",
]
