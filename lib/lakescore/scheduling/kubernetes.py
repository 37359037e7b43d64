"""Kubernetes: ScheduledSparkApplications of the spark-operator, with no right they can spare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.scheduling.description import MINUTES_BETWEEN, RETRIES
from lakescore.scheduling.yamls import as_yaml

if TYPE_CHECKING:
    from lakescore.scheduling.cron import Cron
    from lakescore.scheduling.description import Job, Schedule

_OPERATORS_OWN = (
    "spark.driver.bindAddress",
    "spark.driver.host",
    "spark.kubernetes.container.image.pullPolicy",
    "spark.master",
    "spark.submit.deployMode",
)
_SPARK = "4.2.0"
_APART = """\
# The spark-operator starts none after another: {then} has times of its own. They are the
# same ones, on its days, since it ranks rows that the first one does not write.
"""


def render(schedule: Schedule) -> dict[str, str]:
    """Return an application a task, and one for the second job.

    Raises:
        ConfigError: the spark-operator cannot say what was asked for.
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
        note = _APART.format(then=then.name)
    text = as_yaml(schedule.command("kubernetes"), *applications, note=note)
    return {f"{schedule.name}.yaml": text}


def _application(schedule: Schedule, name: str, job: Job, cron: Cron) -> dict[str, Any]:
    given = dict(schedule.properties)
    memory = {
        role: given.pop(f"spark.{role}.memory", default)
        for role, default in (("driver", "2g"), ("executor", "1g"))
    }
    cores = int(given.pop("spark.executor.cores", "1"))
    instances = int(given.pop("spark.executor.instances", "2"))
    overhead = given.pop("spark.executor.memoryOverhead", "1g")
    image = given.pop("spark.kubernetes.container.image", "lakescore:latest")
    namespace = given.pop("spark.kubernetes.namespace", "default")
    account = given.pop("spark.kubernetes.authenticate.serviceAccountName", "default")
    for key in _OPERATORS_OWN:
        given.pop(key, None)
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
                "mainApplicationFile": f"local://{schedule.project}/jobs/{job.kind}.py",
                "arguments": job.arguments(schedule.project),
                "sparkConf": given,
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
