"""One description of a schedule, and the four files that are made of it."""

from __future__ import annotations

import ast
import shlex
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from lakescore.cli import app
from lakescore.errors import ConfigError
from lakescore.scheduling import SCHEDULERS, Cron, Schedule

if TYPE_CHECKING:
    from conftest import Golden

ROOT = Path(__file__).parents[2]
ODD = 'experiment=50% of $HOME\'s "best" \\ night'
TRACKING = "http://mlflow:5000"


def described(cron: str = "0 5 * * 1-5", **changes: Any) -> Schedule:
    plain: dict[str, Any] = {
        "job": "score",
        "config": "conf/score.yaml",
        "overrides": (ODD,),
        "place": "standalone",
        "properties": {"spark.speculation": "true", "spark.driver.memory": "3g"},
        "environment": {"MLFLOW_TRACKING_URI": TRACKING},
    }
    return Schedule(cron=Cron(cron), **plain | changes)


def of_yaml(files: dict[str, str]) -> Any:
    (text,) = files.values()
    return yaml.safe_load(text)


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_file_for_a_scheduler_reads_as_agreed(scheduler: str, golden: Golden) -> None:
    words = ["schedule", "conf/score.yaml", "slices=2013-12-24", "--cron", "0 5 * * *"]
    words += ["--to", scheduler, "--env", f"MLFLOW_TRACKING_URI={TRACKING}"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    golden(f"schedule-{scheduler}", done.stdout)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_file_names_the_command_that_makes_it_again(scheduler: Any, tmp_path: Path) -> None:
    made = described(properties={}).render(scheduler)
    text = next(iter(made.values()))
    (line,) = [line for line in text.splitlines() if "lakescore schedule " in line]
    words = shlex.split(line.partition("lakescore ")[2])
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, "")
    again = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert again == described(properties=dict(of_place("standalone"))).render(scheduler)


def of_place(name: str) -> dict[str, str]:
    from lakescore.places import read_properties

    return read_properties(ROOT / f"conf/spark/{name}.conf")


def test_airflow_gets_python_that_says_what_was_asked() -> None:
    (text,) = described().render("airflow").values()
    (dag,) = [node for node in ast.parse(text).body if isinstance(node, ast.With)]
    (task,) = dag.body
    assert isinstance(task, ast.Expr)
    assert isinstance(task.value, ast.Call)
    given = {each.arg: ast.unparse(each.value) for each in task.value.keywords}
    arguments = ast.literal_eval(given["application_args"])
    assert arguments == ["/opt/lakescore/conf/score.yaml", ODD]
    assert ast.literal_eval(given["env_vars"])["MLFLOW_TRACKING_URI"] == TRACKING


def test_databricks_reads_every_field_of_the_bundles_job() -> None:
    from databricks.sdk.service.jobs import JobSettings

    bundle = of_yaml(described().render("databricks"))
    (job,) = bundle["resources"]["jobs"].values()
    read = JobSettings.from_dict(job).as_dict()
    assert read == job  # a field that it does not know would be gone
    assert job["schedule"]["quartz_cron_expression"] == "0 0 5 ? * MON-FRI"
    assert job["tasks"][0]["spark_python_task"]["parameters"][1:] == [ODD]


def test_the_spark_operator_reads_every_field_of_the_application() -> None:
    from kubeflow_spark_api.models import SparkV1beta2ScheduledSparkApplication as Application

    place = of_place("kubernetes")
    application = of_yaml(described(properties=place).render("kubernetes"))
    read = Application.from_dict(application)
    assert read is not None
    assert read.to_dict() == application
    template = application["spec"]["template"]
    assert template["sparkVersion"] == version("pyspark")
    assert template["image"] == place["spark.kubernetes.container.image"]
    assert template["sparkConf"]["spark.speculation"] == "true"
    assert template["arguments"] == ["/opt/lakescore/conf/score.yaml", ODD]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "spark-submit.sh").touch(mode=0o755)
    for name, text in described(project=str(project)).render("systemd").items():
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / f"lakescore-score.{kind}") for kind in ("service", "timer")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "lakescore-score" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_cron_line_runs_the_command_that_was_asked_for(tmp_path: Path) -> None:
    r"""By cron's own rule: `\%` is a `%`."""
    project = tmp_path / "project"
    project.mkdir()
    script = project / "spark-submit.sh"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$PLACE" "$@"\n')
    script.chmod(0o755)
    files = described(project=str(project)).render("systemd")
    line = files["lakescore-score.crontab"].splitlines()[-1]
    command = line.split(maxsplit=5)[5].replace("\\%", "%")
    done = subprocess.run(
        ["sh", "-c", f"env {command.partition(' env ')[2]}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == ["standalone", "score", f"{project}/conf/score.yaml", ODD]


@pytest.mark.parametrize(
    ("cron", "calendar", "quartz"),
    [
        ("0 5 * * *", "*-*-* 5:0:00 UTC", "0 0 5 * * ?"),
        ("*/15 8-18 * * *", "*-*-* 8..18:0/15:00 UTC", "0 */15 8-18 * * ?"),
        ("30 6 1,15 */3 *", "*-1/3-1,15 6:30:00 UTC", "0 30 6 1,15 */3 ?"),
        ("0 5 * * 0", "Sun *-*-* 5:0:00 UTC", "0 0 5 ? * SUN"),
        ("0 5 * * 7", "Sun *-*-* 5:0:00 UTC", "0 0 5 ? * SUN"),  # cron's other Sunday
        ("0 5 * * 1,3-5", "Mon,Wed..Fri *-*-* 5:0:00 UTC", "0 0 5 ? * MON,WED-FRI"),
    ],
)
def test_the_times_are_the_same_for_each_scheduler(cron: str, calendar: str, quartz: str) -> None:
    assert Cron(cron).on_calendar() == calendar
    assert Cron(cron).quartz() == quartz
    if shutil.which("systemd-analyze"):
        subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("cron", "sentence"),
    [
        ("0 5 * *", "has 4 fields; it takes five"),
        ("0 25 * * *", "'25' for the hour; it takes numbers from 0 to 23"),
        ("0 5 * * MON", "'MON' for the day of the week"),
        ("0 18-8 * * *", "'18-8' for the hour"),
        ("*/0 5 * * *", "'*/0' for the minute"),
        ("@daily", "has 1 fields"),
    ],
)
def test_a_cron_line_that_is_none_is_refused(cron: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Cron(cron)
    assert sentence in str(refused.value)


def test_what_a_scheduler_cannot_say_is_refused() -> None:
    either = Cron("0 5 13 * 5")  # the 13th, and every Friday
    for convert in (either.on_calendar, either.quartz):
        with pytest.raises(ConfigError, match="of which cron means either"):
            convert()
    assert "0 5 13 * 5" in str(described("0 5 13 * 5").render("kubernetes"))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["conf/score.yaml", "--to", "cron"], "there is no scheduler 'cron'; schedulers: airflow"),
        (["conf/score.yaml", "--to", "airfow"], "(did you mean 'airflow'?)"),
        (["conf/score.yaml", "--to", "airflow", "--place", "moon"], "there is no place 'moon'"),
        (["conf/score.yaml", "modle=a/1", "--to", "airflow"], "unknown key 'modle'"),
        (["conf/score.yaml", "experiment=a\nb", "--to", "airflow"], "does not fit on one line"),
    ],
)
def test_a_mistake_is_told_in_one_line(words: list[str], sentence: str) -> None:
    done = CliRunner().invoke(app, ["schedule", *words, "--cron", "0 5 * * *"])
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert sentence in done.stderr


@pytest.mark.parametrize(
    ("scheduler", "slices", "code"),
    [
        ("airflow", "{{ ds }}", 0),
        ("airflow", "{{ macros.ds_add(ds, -7) }}..{{ ds }}", 0),
        ("airflow", "{{ ds }}..christmas", 2),
        ("databricks", "{{job.trigger.time.iso_date}}", 0),
        ("systemd", "{{ ds }}", 2),  # it would not fill that in
    ],
)
def test_a_schedulers_own_variables_are_passed_on(scheduler: str, slices: str, code: int) -> None:
    words = ["schedule", "conf/score.yaml", f"slices={slices}", "--cron", "0 5 * * *"]
    done = CliRunner().invoke(app, [*words, "--to", scheduler])
    assert done.exit_code == code
    assert (f"slices={slices}" in done.stdout) == (code == 0)


def test_the_job_is_told_by_its_file() -> None:
    words = ["schedule", "conf/compare.yaml", "--cron", "0 6 * * 1", "--to", "systemd"]
    done = CliRunner().invoke(app, words)
    assert "ExecStart=/opt/lakescore/spark-submit.sh compare " in done.stdout
