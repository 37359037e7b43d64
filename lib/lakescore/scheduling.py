"""Schedules: one description of when a job runs, and the file that each scheduler wants.

The four files say the same, since they come from the same fields. What differs is what a scheduler
can express: where it lacks something that was asked for, that is an error here and not a surprise
at five in the morning.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal, get_args

import yaml

from lakescore.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Scheduler = Literal["airflow", "databricks", "kubernetes", "systemd"]
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
_DAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_PART = re.compile(r"(?:(\*)|(\d+)(?:-(\d+))?)(?:/(\d+))?")
_OPERATORS_OWN = (
    "spark.driver.bindAddress",
    "spark.driver.host",
    "spark.kubernetes.container.image.pullPolicy",
    "spark.master",
    "spark.submit.deployMode",
)
_SPARK = "4.2.0"
_RETRIES, _MINUTES_BETWEEN, _MOST_HOURS = 2, 10, 6


@dataclass(frozen=True)
class Cron:
    """Five fields as cron reads them, with numbers and `* , - /`; times are UTC."""

    text: str

    def __post_init__(self) -> None:
        fields = self.text.split()
        if len(fields) != len(_FIELDS):
            raise ConfigError(
                f"the cron line {self.text!r} has {len(fields)} fields; it takes five: minute, "
                "hour, day of the month, month and day of the week"
            )
        for given, (name, least, most) in zip(fields, _FIELDS, strict=True):
            for part in given.split(","):
                found = _PART.fullmatch(part)
                numbers = [int(n) for n in found.groups()[1:3] if n] if found else []
                ordered = numbers == sorted(numbers) and all(least <= n <= most for n in numbers)
                if found is None or not ordered or found[4] == "0":
                    raise ConfigError(
                        f"the cron line {self.text!r} has {given!r} for the {name}; it takes "
                        f"numbers from {least} to {most} with * , - and /"
                    )

    @property
    def fields(self) -> tuple[str, ...]:
        """The five fields."""
        return tuple(self.text.split())

    def on_calendar(self) -> str:
        """Return what systemd's OnCalendar reads."""
        minute, hour, day, month, weekday = self._one_day("systemd")
        date = f"*-{_dots(month, 1)}-{_dots(day, 1)}"
        time = f"{_dots(hour, 0)}:{_dots(minute, 0)}:00"
        names = "" if weekday == "*" else f"{_weekdays(weekday, '..')} "
        return f"{names}{date} {time} UTC"

    def quartz(self) -> str:
        """Return Quartz's line, which begins with seconds; one of its two days is a `?`."""
        minute, hour, day, month, weekday = self._one_day("databricks")
        if weekday == "*":
            return f"0 {minute} {hour} {day} {month} ?"
        return f"0 {minute} {hour} ? {month} {_weekdays(weekday, '-').upper()}"

    def _one_day(self, scheduler: Scheduler) -> tuple[str, ...]:
        *_, day, _, weekday = self.fields
        if "*" not in {day, weekday}:
            raise ConfigError(
                f"the cron line {self.text!r} gives a day of the month and one of the week, of "
                f"which cron means either; {scheduler} cannot say that: give one of them"
            )
        return self.fields


def _dots(given: str, least: int) -> str:
    """Return a field as systemd writes it: `..` for ranges, and steps that begin somewhere."""
    parts = []
    for part in given.split(","):
        span, _, step = part.partition("/")
        if step and span == "*":
            span = str(least)
        parts.append(span.replace("-", "..") + (f"/{step}" if step else ""))
    return ",".join(parts)


def _weekdays(given: str, to: str) -> str:
    """Return days of the week by name, since each scheduler counts them from another day."""
    if "/" in given:
        raise ConfigError(f"days of the week {given!r} have a step; list them: 1,3,5")
    spans = [[_DAYS[int(n) % 7] for n in part.split("-")] for part in given.split(",")]
    return ",".join(to.join(span) for span in spans)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A job, when it runs, and where."""

    job: Literal["score", "compare"]
    config: str
    """The job's file: a path of the project, or an absolute one of the machine that runs it."""
    overrides: tuple[str, ...] = ()
    cron: Cron
    place: str
    """The name of `conf/spark/PLACE.conf`."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """What that file says."""
    project: str = "/opt/lakescore"
    """Where this project lies on the machine, or in the image, that runs the job."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        given = (self.config, *self.overrides, self.project, *self.environment.values())
        for text in (*given, *self.environment):
            if not text.isprintable():
                raise ConfigError(f"{text!r} does not fit on one line of a scheduler's file")

    @property
    def name(self) -> str:
        """What the scheduler calls it: from the name of the job's file."""
        return f"lakescore-{re.sub('[^a-z0-9]+', '-', PurePosixPath(self.config).stem.lower())}"

    def command(self, scheduler: Scheduler) -> str:
        """Return the command that makes this schedule's file."""
        words = ["lakescore", "schedule", self.config, *self.overrides, "--cron", self.cron.text]
        words += ["--to", scheduler]
        words += ["--place", self.place, "--project", self.project]
        for key, value in self.environment.items():
            words += ["--env", f"{key}={value}"]
        return shlex.join(words)

    def render(self, scheduler: Scheduler) -> dict[str, str]:
        """Return the files of *scheduler*, by name.

        Raises:
            ConfigError: the scheduler cannot run it at those times.
        """
        return _RENDERERS[scheduler](self)

    def arguments(self, root: str) -> list[str]:
        """Return the job's arguments where the project lies at *root*."""
        config = self.config if self.config.startswith("/") else f"{root}/{self.config}"
        return [config, *self.overrides]


def filled(scheduler: Scheduler, words: Sequence[str]) -> list[str]:
    """Return *words* with a day for each of the variables that *scheduler* fills in at run time."""
    if scheduler not in {"airflow", "databricks"}:
        return list(words)
    return [re.sub(r"\{\{.*?\}\}", "2026-01-01", word) for word in words]


def _airflow(schedule: Schedule) -> dict[str, str]:
    """Return a DAG whose operator's own arguments are those of spark-submit.sh."""
    root = schedule.project
    python = f"{root}/.venv/bin/python"
    logging = f"-Dlog4j2.configurationFile=file:{root}/conf/spark/log4j2.properties"
    environment = {
        "LAKESCORE_HOME": f"{root}/.lakescore",
        "PYSPARK_PYTHON": python,
        **schedule.environment,
    }
    text = f"""\
# Made by the command below; make it anew rather than edit it.
# {schedule.command("airflow")}
from datetime import UTC, datetime, timedelta

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG

with DAG(
    dag_id={schedule.name!r},
    schedule={schedule.cron.text!r},
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # days that were missed are a matter of the slices that the job is given
    max_active_runs=1,  # of two runs of one slice the second would lose
):
    SparkSubmitOperator(
        task_id={schedule.job!r},
        conn_id="spark_default",  # its master goes before the one that the properties name
        application={f"{root}/jobs/{schedule.job}.py"!r},
        application_args={schedule.arguments(root)!r},
        properties_file={f"{root}/conf/spark/{schedule.place}.conf"!r},
        jars={f"{root}/.venv/share/lakescore/jars/*.jar"!r},
        conf={{
            "spark.pyspark.driver.python": {python!r},
            "spark.driver.defaultJavaOptions": {logging!r},
        }},
        env_vars={environment!r},
        retries={_RETRIES},  # a run that is repeated writes nothing twice
        retry_delay=timedelta(minutes={_MINUTES_BETWEEN}),
        execution_timeout=timedelta(hours={_MOST_HOURS}),
    )
"""
    return {f"{schedule.name}.py": text}


def _databricks(schedule: Schedule) -> dict[str, str]:
    """Return a bundle: `databricks bundle deploy` makes the job of it."""
    files = "${workspace.file_path}"
    job = {
        "name": schedule.name,
        "schedule": {"quartz_cron_expression": schedule.cron.quartz(), "timezone_id": "UTC"},
        "max_concurrent_runs": 1,
        "timeout_seconds": _MOST_HOURS * 3600,
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
        "tasks": [
            {
                "task_key": schedule.job,
                "job_cluster_key": "main",
                "spark_python_task": {
                    "python_file": f"{files}/jobs/{schedule.job}.py",
                    "parameters": schedule.arguments(files),
                },
                "libraries": [{"whl": "./dist/*.whl"}],
                "max_retries": _RETRIES,
                "min_retry_interval_millis": _MINUTES_BETWEEN * 60_000,
            }
        ],
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
        "artifacts": {"lakescore": {"type": "whl", "build": "./scripts/package.sh --code"}},
        "targets": {"production": {"default": True}},
        "resources": {"jobs": {schedule.name.replace("-", "_"): job}},
    }
    return {"databricks.yml": _yaml(schedule.command("databricks"), bundle)}


def _kubernetes(schedule: Schedule) -> dict[str, str]:
    """Return a ScheduledSparkApplication of the spark-operator, with no right that it can spare."""
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
    application = {
        "apiVersion": "sparkoperator.k8s.io/v1beta2",
        "kind": "ScheduledSparkApplication",
        "metadata": {"name": schedule.name, "namespace": namespace},
        "spec": {
            "schedule": schedule.cron.text,
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
                "mainApplicationFile": f"local://{schedule.project}/jobs/{schedule.job}.py",
                "arguments": schedule.arguments(schedule.project),
                "sparkConf": given,
                "restartPolicy": {
                    "type": "OnFailure",
                    "onFailureRetries": _RETRIES,
                    "onFailureRetryInterval": _MINUTES_BETWEEN * 60,
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
    return {f"{schedule.name}.yaml": _yaml(schedule.command("kubernetes"), application)}


def _systemd(schedule: Schedule) -> dict[str, str]:
    """Return a service, its timer, and the same as a line for cron."""
    name, root = schedule.name, schedule.project
    words = [f"{root}/spark-submit.sh", schedule.job, *schedule.arguments(root)]
    variables = {"PLACE": schedule.place, **schedule.environment}
    assigned = "\n".join(f"Environment={_quoted(f'{k}={v}')}" for k, v in variables.items())
    head = f"# Made by: {schedule.command('systemd')}\n"
    service = f"""\
{head}[Unit]
Description={name}
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
WorkingDirectory={_unit(root)}
{assigned}
ExecStart={" ".join(_quoted(word, dollar="$$") for word in words)}
TimeoutStartSec={_MOST_HOURS}h
# A repeated run writes nothing twice. The exit codes that a repetition cannot change end it.
Restart=on-failure
RestartSec={_MINUTES_BETWEEN}min
RestartPreventExitStatus=2 4 5 6
"""
    timer = f"""\
{head}[Unit]
Description={name} at {_unit(schedule.cron.text)} UTC

[Timer]
OnCalendar={schedule.cron.on_calendar()}
# A time that passed while the machine was off is made up for.
Persistent=true

[Install]
WantedBy=timers.target
"""
    given = shlex.join(["env", *[f"{key}={value}" for key, value in variables.items()], *words])
    line = f"flock -n /tmp/{name}.lock {given}"
    cron = f"{head}CRON_TZ=UTC\n{schedule.cron.text} {line.replace('%', chr(92) + '%')}\n"
    return {f"{name}.service": service, f"{name}.timer": timer, f"{name}.crontab": cron}


def _unit(text: str) -> str:
    """Return *text* for a unit's file, which reads `%` as the beginning of a name of its own."""
    return text.replace("%", "%%")


def _quoted(text: str, *, dollar: str = "$") -> str:
    r"""Return *text* as one word of a unit's file, where `%`, `"` and `\` mean themselves.

    So does `$` in a variable's value; in a command it is written twice.
    """
    plain = _unit(text).replace("\\", "\\\\").replace('"', '\\"').replace("$", dollar)
    return plain if re.fullmatch(r"[\w./=:@+,-]+", plain) else f'"{plain}"'


def _yaml(command: str, document: Any) -> str:  # noqa: ANN401 - what YAML holds
    head = f"# Made by the command below; make it anew rather than edit it.\n# {command}\n"
    text: str = yaml.dump(document, Dumper=_Plain, sort_keys=False, width=100)
    return head + text


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ANN401, ARG002 - PyYAML's signature
        return True


_RENDERERS: dict[Scheduler, Callable[[Schedule], dict[str, str]]] = {
    "airflow": _airflow,
    "databricks": _databricks,
    "kubernetes": _kubernetes,
    "systemd": _systemd,
}
