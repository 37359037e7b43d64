"""Jobs, as their files would ask for them: a test gives the settings that it is about.

A test may name a table by its path alone, where a job's file has `{path: PATH}`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lakescore.config import CompareJob, MonitorJob, ReplayJob, ScoreJob

_TABLES = {"predictions", "input", "holdout", "output", "quarantine", "disagreements"}


def score_settings(folder: Path, table: str | Path, /, **settings: Any) -> dict[str, Any]:
    """Return the settings of a job that scores a table, whose key is `id`, as its file has them.

    It writes into FOLDER/predictions; *settings* come on top.
    """
    own = {"input": table, "output": folder / "predictions", "id_columns": ["id"]}
    return _with_tables(own | settings)


def score_job(folder: Path, table: str | Path, /, **settings: Any) -> ScoreJob:
    """Return a job with the settings of `score_settings`."""
    return ScoreJob.model_validate(score_settings(folder, table, **settings))


def compare_job(folder: Path, table: str | Path, /, **settings: Any) -> CompareJob:
    """Return a job that ranks by the rows of a table.

    It writes into FOLDER/ranking and FOLDER/reports; *settings* come on top.
    """
    own = {
        "holdout": table,
        "bootstraps": 100,
        "output": folder / "ranking",
        "report": str(folder / "reports"),
    }
    return CompareJob.model_validate(_with_tables(own | settings))


def replay_job(config: ScoreJob, run: str, /, **settings: Any) -> ReplayJob:
    """Return a job that makes a run of *config* again."""
    return ReplayJob.model_validate({"output": config.output, "run": run, **settings})


def monitor_job(folder: Path, /, **settings: Any) -> MonitorJob:
    """Return a job that monitors FOLDER/predictions, and writes into FOLDER/drift."""
    own = {"predictions": folder / "predictions", "output": folder / "drift"}
    return MonitorJob.model_validate(_with_tables(own | settings))


def _with_tables(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"path": str(value)} if name in _TABLES and isinstance(value, str | Path) else value
        for name, value in settings.items()
    }
