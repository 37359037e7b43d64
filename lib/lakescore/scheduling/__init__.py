"""Write schedules: one description of when jobs run, and the files for each scheduler.

The files of the four schedulers come from the same fields, so they agree. If a scheduler cannot
express a field, rendering raises an error, so that no run surprises at five in the morning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.scheduling import airflow, databricks, kubernetes, systemd
from lakescore.scheduling.cron import Cron, weekdays
from lakescore.scheduling.description import (
    SCHEDULERS,
    Job,
    Schedule,
    Scheduler,
    filled,
    minutes,
    words,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "SCHEDULERS",
    "Cron",
    "Job",
    "Schedule",
    "Scheduler",
    "filled",
    "minutes",
    "render",
    "weekdays",
    "words",
]

_RENDERERS: dict[Scheduler, Callable[[Schedule], dict[str, str]]] = {
    "airflow": airflow.render,
    "databricks": databricks.render,
    "kubernetes": kubernetes.render,
    "systemd": systemd.render,
}


def render(schedule: Schedule, scheduler: Scheduler) -> dict[str, str]:
    """Return the files of *scheduler*, by name.

    Raises:
        ConfigError: the scheduler cannot express the schedule.
    """
    return _RENDERERS[scheduler](schedule)
