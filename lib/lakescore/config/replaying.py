"""The file of a replay job: the run whose predictions are made again."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from lakescore.config.jobs import Predicting, RunId
from lakescore.config.tables import Table
from lakescore.options import EnvironmentName


class ReplayJob(Predicting):
    """Make the predictions of a run again, and check that they are the same."""

    job_name: ClassVar[str] = "replay"

    output: Table = Field(description="table of predictions that the run wrote")
    run: RunId = Field(description="id of the run: scoring_run_id in its rows")
    environment: EnvironmentName | None = Field(
        default=None,
        description="packages that a model runs with, as in a score job; default: as the run's job",
    )
    tolerance: float = Field(
        default=0.0,
        ge=0,
        description="numbers are equal if they differ by at most this fraction of the larger one",
    )
