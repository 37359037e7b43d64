"""Render schedules for Kubernetes: ScheduledSparkApplications with as few rights as possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.scheduling.description import MINUTES_BETWEEN, RETRIES
from lakescore.scheduling.yamls import as_yaml

if TYPE_CHECKING:
    from lakescore.scheduling.cron import Cron
    from lakescore.scheduling.description import Job, Schedule

_OPERATOR_KEYS = (
    "spark.driver.bindAddress",
    "spark.driver.host",
    "spark.kubernetes.container.image.pullPolicy",
    "spark.master",
    "spark.submit.deployMode",
)
_SPARK = "4.2.0"
_SECOND_NOTE = """\
# The spark-operator cannot start one application after another, so {then} has its
# own times: the same times on its days. It needs no rows that the first application writes.
"""


def render(schedule: Schedule) -> dict[str, str]:
    """Return one application for each task, and one for the second job.

    Raises:
        ConfigError: the spark-operator cannot express the schedule.
    """
    schedule.refuse_alarm("kubernetes")
    numbered = [f"{schedule.name}-{number}" for number in range(1, len(schedule.each) + 1)]
    applications = [
        _application(schedule, name, job, schedule.cron)
        for name, job in zip(numbered or [schedule.name], schedule.tasks, strict=True)
    ]
    note = ""
    if (then := schedule.then) is not None:
        applications.append(_application(schedule, then.name, then, schedule.then_cron))
        note = _SECOND_NOTE.format(then=then.name)
    text = as_yaml(schedule.command("kubernetes"), *applications, note=note)
    return {f"{schedule.name}.yaml": text}


def _application(schedule: Schedule, name: str, job: Job, cron: Cron) -> dict[str, Any]:
    properties = dict(schedule.properties)
    memory = {
        role: properties.pop(f"spark.{role}.memory", default)
        for role, default in (("driver", "2g"), ("executor", "1g"))
    }
    cores = int(properties.pop("spark.executor.cores", "1"))
    instances = int(properties.pop("spark.executor.instances", "2"))
    overhead = properties.pop("spark.executor.memoryOverhead", "1g")
    image = properties.pop("spark.kubernetes.container.image", "lakescore:latest")
    namespace = properties.pop("spark.kubernetes.namespace", "default")
    account = properties.pop("spark.kubernetes.authenticate.serviceAccountName", "default")
    for key in _OPERATOR_KEYS:
        properties.pop(key, None)
    rights = {
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    environment = [{"name": key, "value": value} for key, value in schedule.environment.items()]
    return {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "ScheduledSparkApplication",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "schedule": cron.with_sunday_as_0(),
            "timeZone": "UTC",
            "concurrencyPolicy": "Forbid",
            "successfulRunHistoryLimit": 3,
            "failedRunHistoryLimit": 3,
            "template": {
                "type": "Python",
                "pythonVersion": "3",
                "sparkVersion": _SPARK,
                "mode": "cluster",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "mainApplicationFile": f"local://{schedule.file_of(job)}",
                "arguments": job.arguments(schedule.project),
                "sparkConf": properties,
                "restartPolicy": {
                    "type": "OnFailure",
                    "onFailureRetries": RETRIES,
                    "onFailureRetryInterval": MINUTES_BETWEEN * 60,
                },
                "driver": {
                    "cores": 1,
                    "memory": memory["driver"],
                    "serviceAccount": account,
                    "env": environment,
                    "securityContext": rights,
                },
                "executor": {
                    "cores": cores,
                    "instances": instances,
                    "memory": memory["executor"],
                    "memoryOverhead": overhead,
                    "securityContext": rights,
                },
            },
        },
    }
