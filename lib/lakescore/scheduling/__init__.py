"""Write schedules: one description of when jobs run, and the files for each scheduler.

The files of all schedulers come from the same fields, so they agree. If a scheduler cannot
express a field, rendering raises an error, so that no run surprises at five in the morning.
"""

from lakescore.scheduling.cron import Cron, weekdays
from lakescore.scheduling.description import Job, Schedule, minutes, words
from lakescore.scheduling.schedulers import SCHEDULERS, Scheduler, default_places, filled, render

__all__ = [
    "SCHEDULERS",
    "Cron",
    "Job",
    "Schedule",
    "Scheduler",
    "default_places",
    "filled",
    "minutes",
    "render",
    "weekdays",
    "words",
]
