"""Render schedules for Airflow: a DAG whose operators submit the installed jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.scheduling.description import FINAL, MINUTES_BETWEEN, MOST_HOURS, RETRIES

if TYPE_CHECKING:
    from lakescore.scheduling.description import Job, Schedule

_FULL_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def render(schedule: Schedule) -> dict[str, str]:
    """Return the DAG.

    Raises:
        ConfigError: Airflow cannot express the schedule.
    """
    schedule.refuse_alarm("airflow")
    root = schedule.project
    python = f"{schedule.python_folder}/bin/python"
    layout = f"{schedule.job_folder}/conf/spark/log4j2.properties"
    logging = f"-Dlog4j2.configurationFile=file:{layout}"
    environment = {
        "LAKESCORE_HOME": f"{root}/.lakescore",
        "PYSPARK_PYTHON": python,
        **schedule.environment,
    }
    weekday_operator = (
        "from airflow.providers.standard.operators.weekday import BranchDayOfWeekOperator\n"
        if schedule.then_on
        else ""
    )
    text = f"""\
# The command below wrote this file. Do not edit it; run the command again.
# {schedule.command("airflow")}
import re
from datetime import UTC, datetime, timedelta

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
{weekday_operator}\
from airflow.sdk import DAG, CronTriggerTimetable, RetryDecision, RetryPolicy


class OnlyWhatMayPass(RetryPolicy):
    def evaluate(self, exception, try_number, max_tries, context=None):
        code = re.search(r"Error code is: (\\d+)", str(exception))
        if code and int(code[1]) in {set(FINAL)!r}:
            return RetryDecision.fail(f"a repetition cannot change exit code {{code[1]}}")
        return RetryDecision.default()


SUBMIT = dict(
    conn_id="spark_default",  # its master overrides the master of the properties file
    properties_file={schedule.properties_file!r},
    jars={f"{schedule.python_folder}/share/lakescore/jars/*.jar"!r},
    conf={{
        "spark.pyspark.driver.python": {python!r},
        "spark.driver.defaultJavaOptions": {logging!r},
    }},
    env_vars={environment!r},
    retries={RETRIES},  # a repeated run writes nothing twice
    retry_delay=timedelta(minutes={MINUTES_BETWEEN}),
    retry_policy=OnlyWhatMayPass(),
    execution_timeout=timedelta(hours={MOST_HOURS}),
)

with DAG(
    dag_id={schedule.name!r},
    # The logical date, and so {{{{ ds }}}}, is the start of the run.
    schedule=CronTriggerTimetable({schedule.cron.text!r}, timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # the job's slices decide about missed days
    max_active_runs=1,  # of two runs of one slice, the second would fail
):
{_first_job(schedule)}{_second_job(schedule)}"""
    return {f"{schedule.name}.py": text}


def _first_job(schedule: Schedule) -> str:
    if not schedule.each:
        return _operator(schedule, schedule.job)
    arguments = "".join(
        f"            {task.arguments(schedule.project)!r},\n" for task in schedule.tasks
    )
    return f"""\
    {schedule.job.kind} = SparkSubmitOperator.partial(
        task_id={schedule.job.kind!r},
        application={schedule.file_of(schedule.job)!r},
        **SUBMIT,
    ).expand(
        application_args=[
{arguments}        ]
    )
"""


def _second_job(schedule: Schedule) -> str:
    if schedule.then is None:
        return ""
    first, second = schedule.job.kind, schedule.then.kind
    operator = _operator(schedule, schedule.then)
    if not schedule.then_on:
        return f"{operator}    {first} >> {second}\n"
    days = ", ".join(repr(_FULL_NAMES[number - 1]) for number in schedule.then_on)
    return f"""\
{operator}\
    only_on = BranchDayOfWeekOperator(
        task_id="only_on",
        week_day={{{days}}},
        use_task_logical_date=True,
        follow_task_ids_if_true={second!r},
        follow_task_ids_if_false=[],
    )
    {first} >> only_on >> {second}
"""


def _operator(schedule: Schedule, job: Job) -> str:
    return f"""\
    {job.kind} = SparkSubmitOperator(
        task_id={job.kind!r},
        application={schedule.file_of(job)!r},
        application_args={job.arguments(schedule.project)!r},
        **SUBMIT,
    )
"""
