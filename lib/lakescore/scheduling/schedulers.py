"""The schedulers that `lakescore schedule --to` knows, and what each of them can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakescore.scheduling import airflow, databricks, kubernetes, systemd
from lakescore.scheduling.description import VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lakescore.scheduling.description import Schedule

_PLACE = "standalone"
"""Airflow and Databricks submit jobs to a cluster, so its place is theirs."""


@dataclass(frozen=True, kw_only=True)
class Scheduler:
    """A scheduler: how its files are written, and where its jobs run."""

    render: Callable[[Schedule], dict[str, str]]
    """Return the files by name; raise a ConfigError if it cannot express the schedule."""
    place: str = _PLACE
    """The place of its jobs, if the command names none."""
    fills_variables: bool = False
    """Whether it fills in `{{ variables }}` when a job runs."""
    is_here: bool = False
    """Whether it usually runs jobs on the machine that writes its files."""


SCHEDULERS: Mapping[str, Scheduler] = {
    "airflow": Scheduler(render=airflow.render, fills_variables=True),
    "databricks": Scheduler(render=databricks.render, fills_variables=True),
    "kubernetes": Scheduler(render=kubernetes.render, place="kubernetes"),
    "systemd": Scheduler(render=systemd.render, place="local", is_here=True),
}
"""By name."""


def default_places() -> str:
    """Return as text the places of jobs if the command names none."""
    others = [
        f"{scheduler.place} with --to {name}"
        for name, scheduler in SCHEDULERS.items()
        if scheduler.place != _PLACE
    ]
    return ", or ".join([_PLACE, *others])


def render(schedule: Schedule, scheduler: str) -> dict[str, str]:
    """Return the files of *scheduler*, by name.

    Raises:
        ConfigError: the scheduler cannot express the schedule.
    """
    return SCHEDULERS[scheduler].render(schedule)


def filled(scheduler: str, overrides: Sequence[str]) -> list[str]:
    """Return *overrides* with a day for each variable that *scheduler* fills in at run time."""
    if not SCHEDULERS[scheduler].fills_variables:
        return list(overrides)
    return [VARIABLE.sub("2026-01-01", word) for word in overrides]
