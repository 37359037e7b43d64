"""Render schedules for Databricks: a bundle, which `databricks bundle deploy` makes a job."""

from __future__ import annotations

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from lakescore.scheduling.cron import DAYS
from lakescore.scheduling.description import MINUTES_BETWEEN, MOST_HOURS, RETRIES
from lakescore.scheduling.yamls import as_yaml

if TYPE_CHECKING:
    from lakescore.scheduling.description import Job, Schedule

_FILES = "${workspace.file_path}"


def render(schedule: Schedule) -> dict[str, str]:
    """Return the bundle.

    Raises:
        ConfigError: Databricks cannot express the schedule.
    """
    job = {
        "name": schedule.name,
        "schedule": {"quartz_cron_expression": schedule.cron.quartz(), "timezone_id": "UTC"},
        "max_concurrent_runs": 1,
        **_alarm(schedule),
        "job_clusters": [
            {
                "job_cluster_key": "main",
                "new_cluster": {
                    "spark_version": "${var.spark_version}",
                    "node_type_id": "${var.node_type_id}",
                    "num_workers": 2,
                    "data_security_mode": "SINGLE_USER",
                    "spark_conf": {
                        key: value
                        for key, value in schedule.properties.items()
                        if key in {"spark.speculation", "spark.task.maxFailures"}
                    },
                    "spark_env_vars": {
                        "MLFLOW_TRACKING_URI": "databricks",
                        **schedule.environment,
                    },
                },
            }
        ],
        "tasks": _tasks(schedule),
    }
    bundle = {
        "bundle": {"name": "lakescore"},
        "variables": {
            "spark_version": {
                "description": "a runtime with Spark 4",
                "default": "17.3.x-scala2.13",
            },
            "node_type_id": {"description": "of the cloud", "default": "i3.xlarge"},
        },
        "targets": {"production": {"default": True}},
        "resources": {"jobs": {schedule.name.replace("-", "_"): job}},
    }
    return {"databricks.yml": as_yaml(schedule.command("databricks"), bundle)}


def _alarm(schedule: Schedule) -> dict[str, Any]:
    if schedule.within is None:
        return {}
    late = {"metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": schedule.within * 60}
    return {"health": {"rules": [late]}}


def _tasks(schedule: Schedule) -> list[dict[str, Any]]:
    numbered = [f"{schedule.job.kind}_{number}" for number in range(1, len(schedule.each) + 1)]
    keys = numbered or [schedule.job.kind]
    tasks = [_task(key, job) for key, job in zip(keys, schedule.tasks, strict=True)]
    if schedule.then is None:
        return tasks
    after: list[dict[str, str]] = [{"task_key": key} for key in keys]
    for key, test in _conditions(schedule.then_on):
        tasks.append({"task_key": key, "depends_on": after, "condition_task": test})
        after = [{"task_key": key, "outcome": "true"}]
    return [*tasks, _task(schedule.then.kind, schedule.then, after)]


def _conditions(days: tuple[int, ...]) -> list[tuple[str, dict[str, str]]]:
    """Return tests that all succeed on *days*, and do not all succeed on any other day.

    Databricks has no test for one of several days, and a task after several tests surely runs only
    if all of them succeed. So the tests for several days exclude all other days.
    """
    others = [day for day in range(1, 8) if days and day not in days]
    operator, word, tested = ("NOT_EQUAL", "not_on", others)
    if len(days) == 1:
        operator, word, tested = ("EQUAL_TO", "on", list(days))
    today = "{{job.trigger.time.iso_weekday}}"
    return [
        (f"{word}_{DAYS[day - 1].lower()}", {"op": operator, "left": today, "right": str(day)})
        for day in tested
    ]


def _task(key: str, job: Job, after: list[dict[str, str]] | None = None) -> dict[str, Any]:
    return {
        "task_key": key,
        **({"depends_on": after} if after else {}),
        "job_cluster_key": "main",
        "python_wheel_task": {
            "package_name": "lakescore",
            "entry_point": job.kind,
            "parameters": job.arguments(_FILES),
        },
        "libraries": [{"pypi": {"package": f"lakescore=={version('lakescore')}"}}],
        "max_retries": RETRIES,
        "min_retry_interval_millis": MINUTES_BETWEEN * 60_000,
        "timeout_seconds": MOST_HOURS * 3600,
    }
