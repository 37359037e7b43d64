"""The commands about the jobs' files: schema and check."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - Typer reads the annotation
from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.door import command, tell
from lakescore.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from lakescore.config import CompareJob, ReplayJob, ScoreJob


@command()
def schema(job: str) -> None:
    """Print the JSON schema of a job's file: score, compare or replay."""
    tell(_job(job).model_json_schema())


@command()
def check(
    job: str, config: Path, overrides: Annotated[list[str] | None, typer.Argument()] = None
) -> None:
    """Read a job's file with its overrides, and say what is wrong.

    Java is looked for as well.
    """
    from lakescore import java  # noqa: PLC0415
    from lakescore.config import load  # noqa: PLC0415

    load(_job(job), config, overrides or [])
    java.require()


def _job(name: str) -> type[ScoreJob | CompareJob | ReplayJob]:
    from lakescore.config import JOBS  # noqa: PLC0415

    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}{nearest(name, JOBS)}; jobs: {listed(JOBS)}")
    return JOBS[name]
