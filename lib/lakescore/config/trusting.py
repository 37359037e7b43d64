"""The file of a trust policy, and the policy that counts if a job's file has none."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import Field

from lakescore.config.reading import load
from lakescore.config.strict import Strict
from lakescore.trust import Trust


class TrustFile(Strict):
    """The file of a trust policy."""

    trust: Trust = Field(description="which model versions may be loaded")


def policy(path: Path | None = None) -> Trust:
    """Read the trust policy at *path* or at `LAKESCORE_TRUST`; without both, return the defaults.

    Raises:
        ConfigError: as `load`.
    """
    path = path or (Path(file) if (file := os.environ.get("LAKESCORE_TRUST")) else None)
    return load(TrustFile, path).trust if path else Trust()


def read_policy(value: object) -> object:
    """Return the policy if *value* is the path of its file, otherwise *value*."""
    return policy(Path(value)) if isinstance(value, str) else value
