"""One description of a schedule, and the four files that are made of it."""

from __future__ import annotations

import ast
import os
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from typer.testing import CliRunner

from lakescore.cli import app
from lakescore.errors import ConfigError
from lakescore.scheduling import (
    SCHEDULERS,
    Cron,
    Job,
    Schedule,
    filled,
    minutes,
    render,
    weekdays,
    words,
)

if TYPE_CHECKING:
    from conftest import Golden

ROOT = Path(__file__).parents[2]
ODD = 'experiment=50% of $HOME\'s "best" \\ night'
TRACKING = "http://mlflow:5000"
CARRIED = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "LAKESCORE_HOME", "LAKESCORE_TRUST")
THERE = ["--project", "/opt/lakescore", "--venv", "/opt/lakescore/.venv"]


def described(cron: str = "0 5 * * 1-5", **changes: Any) -> Schedule:
    plain: dict[str, Any] = {
        "job": Job(kind="score", config="conf/score.yaml", overrides=(ODD,)),
        "place": "standalone",
        "properties": {"spark.speculation": "true", "spark.driver.memory": "3g"},
        "venv": "/opt/lakescore/.venv",
        "environment": {"MLFLOW_TRACKING_URI": TRACKING},
    }
    return Schedule(cron=Cron(cron), **plain | changes)


COMBINED: dict[str, Any] = {
    "each": (("slices=2013-12-01..2013-12-07",), ("slices=2013-12-08..2013-12-14", ODD)),
    "then": Job(kind="compare", config="conf/compare.yaml", overrides=(ODD,)),
    "then_on": (1, 4),
}


def combined(cron: str = "0 5 * * *", **changes: Any) -> Schedule:
    return described(cron, **COMBINED | changes)


def of_yaml(files: dict[str, str]) -> Any:
    (text,) = files.values()
    return yaml.safe_load(text)


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("PLACE", *CARRIED):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_file_for_a_scheduler_reads_as_agreed(scheduler: str, golden: Golden) -> None:
    words = ["schedule", "conf/score.yaml", "slices=2013-12-24", "--cron", "0 5 * * *"]
    words += ["--to", scheduler, "--env", f"MLFLOW_TRACKING_URI={TRACKING}", *THERE]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stderr) == (0, "")
    golden(f"schedule-{scheduler}", done.stdout)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_files_for_two_ranges_and_a_weekly_ranking_read_as_agreed(
    scheduler: str, golden: Golden
) -> None:
    words = ["schedule", "conf/score.yaml", "--each", "slices=2013-12-01..2013-12-07"]
    words += ["--each", "slices=2013-12-08..2013-12-14", "--cron", "0 5 * * *"]
    words += ["--then", "conf/compare.yaml gates.mode=enforce", "--then-on", "mon,thu"]
    done = CliRunner().invoke(app, [*words, "--to", scheduler, *THERE])
    assert (done.exit_code, done.stderr) == (0, "")
    golden(f"schedule-{scheduler}-combined", done.stdout)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_monitor_job_runs_alone_or_after_a_score_job(scheduler: str) -> None:
    for jobs in (["conf/monitor.yaml"], ["conf/score.yaml", "--then", "conf/monitor.yaml"]):
        asked = ["schedule", *jobs, "--cron", "0 5 * * *", "--to", scheduler, *THERE]
        done = CliRunner().invoke(app, asked)
        assert (done.exit_code, done.stderr) == (0, "")
        assert "conf/monitor.yaml" in done.stdout
        assert "monitor" in done.stdout.replace("conf/monitor.yaml", "")  # its job, not score's
        assert ("conf/score.yaml" in done.stdout) == (jobs[0] == "conf/score.yaml")


@pytest.mark.parametrize("asked", [described, combined])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_file_names_the_command_that_makes_it_again(
    asked: Any, scheduler: Any, tmp_path: Path
) -> None:
    made = render(asked(properties={}), scheduler)
    text = next(iter(made.values()))
    (line,) = [line for line in text.splitlines() if "lakescore schedule " in line]
    words = shlex.split(line.partition("lakescore ")[2])
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path)])
    assert (done.exit_code, done.stdout) == (0, "")
    again = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert again == render(asked(properties=dict(of_place("standalone"))), scheduler)


def of_place(name: str) -> dict[str, str]:
    from lakescore.places import read_properties

    return read_properties(ROOT / f"conf/spark/{name}.conf")


def of_dag(schedule: Schedule) -> list[ast.stmt]:
    (text,) = render(schedule, "airflow").values()
    (dag,) = [node for node in ast.parse(text).body if isinstance(node, ast.With)]
    return dag.body


def keywords(task: ast.stmt) -> dict[str | None, str]:
    assert isinstance(task, ast.Assign)
    assert isinstance(task.value, ast.Call)
    return {keyword.arg: ast.unparse(keyword.value) for keyword in task.value.keywords}


def test_airflow_gets_python_that_says_what_was_asked() -> None:
    schedule = described()
    (task,) = of_dag(schedule)
    arguments = ast.literal_eval(keywords(task)["application_args"])
    assert arguments == ["/opt/lakescore/conf/score.yaml", ODD]
    assert (
        f"'MLFLOW_TRACKING_URI': {TRACKING!r}" in render(schedule, "airflow")["lakescore-score.py"]
    )


def test_airflow_maps_tasks_and_branches_on_the_day() -> None:
    first, second, branch, order = of_dag(combined())
    mapped = ast.literal_eval(keywords(first)["application_args"])
    assert [words[2] for words in mapped] == [words[0] for words in COMBINED["each"]]
    assert ast.literal_eval(keywords(second)["application_args"])[1:] == [ODD]
    assert ast.literal_eval(keywords(branch)["week_day"]) == {"Monday", "Thursday"}
    assert ast.unparse(order) == "score >> only_on >> compare"


def test_a_second_job_without_days_follows_every_time() -> None:
    schedule = combined(then_on=())
    assert ast.unparse(of_dag(schedule)[-1]) == "score >> compare"
    job = bundled(schedule)
    assert job["tasks"][-1]["depends_on"] == [{"task_key": "score_1"}, {"task_key": "score_2"}]
    units = render(schedule, "systemd")
    assert "OnCalendar=*-*-* 5:0:00 UTC" in units["lakescore-compare.timer"]


def bundled(schedule: Schedule) -> dict[str, Any]:
    from databricks.sdk.service.jobs import JobSettings

    bundle = of_yaml(render(schedule, "databricks"))
    job: dict[str, Any]
    (job,) = bundle["resources"]["jobs"].values()
    read = JobSettings.from_dict(job).as_dict()
    assert read == job  # a field that it does not know would be gone
    return job


def test_databricks_reads_every_field_of_the_bundles_job() -> None:
    job = bundled(described())
    assert job["schedule"]["quartz_cron_expression"] == "0 0 5 ? * MON-FRI"
    assert job["tasks"][0]["python_wheel_task"]["parameters"][1:] == [ODD]


@pytest.mark.parametrize(
    ("days", "runs_on"), [((1,), {1}), ((1, 4), {1, 4}), ((1, 2, 3, 4, 5), {1, 2, 3, 4, 5})]
)
def test_databricks_tests_the_day_before_the_second_job(
    days: tuple[int, ...], runs_on: set[int]
) -> None:
    tasks = {task["task_key"]: task for task in bundled(combined(then_on=days))["tasks"]}

    def would_run(key: str, today: str) -> bool:
        task = tasks[key]
        return all(
            would_run(before["task_key"], today)
            and ("outcome" not in before or outcome(tasks[before["task_key"]], today) == "true")
            for before in task.get("depends_on", [])
        )

    def outcome(task: dict[str, Any], today: str) -> str:
        test = task["condition_task"]
        assert test["left"] == "{{job.trigger.time.iso_weekday}}"
        same = test["right"] == today
        return str({"EQUAL_TO": same, "NOT_EQUAL": not same}[test["op"]]).lower()

    assert {day for day in range(1, 8) if would_run("compare", str(day))} == runs_on


def test_databricks_warns_of_a_late_run() -> None:
    late = {"metric": "RUN_DURATION_SECONDS", "op": "GREATER_THAN", "value": 5400}
    assert bundled(described(within=90))["health"] == {"rules": [late]}


def test_the_spark_operator_reads_every_field_of_the_application() -> None:
    from kubeflow_spark_api.models import SparkV1beta2ScheduledSparkApplication as Application

    place = of_place("kubernetes")
    application = of_yaml(render(described(properties=place), "kubernetes"))
    read = Application.from_dict(application)
    assert read is not None
    assert read.to_dict() == application
    template = application["spec"]["template"]
    assert template["sparkVersion"] == version("pyspark")
    assert template["image"] == place["spark.kubernetes.container.image"]
    assert template["sparkConf"]["spark.speculation"] == "true"
    assert template["arguments"] == ["/opt/lakescore/conf/score.yaml", ODD]


def test_kubernetes_gets_an_application_a_task_each_with_its_times() -> None:
    from kubeflow_spark_api.models import SparkV1beta2ScheduledSparkApplication as Application

    (text,) = render(combined("0 5 * * 1-7"), "kubernetes").values()
    applications = list(yaml.safe_load_all(text))
    assert [
        Application.from_dict(application).to_dict() for application in applications
    ] == applications
    assert {
        application["metadata"]["name"]: application["spec"]["schedule"]
        for application in applications
    } == {
        "lakescore-score-1": "0 5 * * 0,1,2,3,4,5,6",  # its cron knows no 7
        "lakescore-score-2": "0 5 * * 0,1,2,3,4,5,6",
        "lakescore-compare": "0 5 * * 1,4",
    }


@pytest.mark.parametrize("asked", [described, combined])
@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="there is no systemd")
def test_systemd_accepts_the_units(asked: Any, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "bin").mkdir()
    (project / "bin" / "lakescore").touch(mode=0o755)
    made = render(asked(project=str(project), venv=str(project)), "systemd")
    for name, text in made.items():
        (tmp_path / name).write_text(text)
    units = [path for path in tmp_path.iterdir() if path.suffix in {".service", ".timer"}]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    ours = [line for line in done.stderr.splitlines() if "lakescore-" in line]
    assert (done.returncode, ours) == (0, [])


def test_the_second_service_waits_for_the_first_and_has_its_own_days() -> None:
    units = render(combined(), "systemd")
    assert "\nWants=lakescore-score.service\n" in units["lakescore-compare.service"]
    assert "\nAfter=lakescore-score.service\n" in units["lakescore-compare.service"]
    assert "OnCalendar=Mon,Thu *-*-* 5:0:00 UTC" in units["lakescore-compare.timer"]


SAYS = '#!/bin/sh\nprintf "%s\\n" "$PWD" "$PLACE" "$@"\nexit "${CODE:-0}"\n'


def run_by_cron(schedule: Schedule, tmp_path: Path, day: int = 1, code: int = 0) -> list[str]:
    r"""Run cron's line by cron's own rule, `\%` is a `%`; return what was run, a word a line."""
    command = Path(schedule.project) / ".venv" / "bin" / "lakescore"
    command.parent.mkdir(parents=True)
    command.write_text(SAYS)
    command.chmod(0o755)
    for name, text in {"flock": 'shift 2; exec "$@"', "date": f"echo {day}"}.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    line = render(schedule, "systemd")["lakescore-score.crontab"].splitlines()[-1]
    done = subprocess.run(
        ["sh", "-c", line.split(maxsplit=5)[5].replace("\\%", "%")],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "CODE": str(code)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout.splitlines()


def test_the_cron_line_runs_the_command_that_was_asked_for(tmp_path: Path) -> None:
    project = str(tmp_path / "project")
    ran = run_by_cron(described(project=project, venv=""), tmp_path)
    assert ran == [project, "standalone", "score", f"{project}/conf/score.yaml", ODD]


@pytest.mark.parametrize(
    ("day", "code", "jobs"),
    [
        (4, 0, ["score", "score", "compare"]),
        (5, 0, ["score", "score"]),
        (4, 5, ["score"]),  # what fails ends the line
    ],
)
def test_the_cron_line_runs_the_second_job_on_its_days(
    day: int, code: int, jobs: list[str], tmp_path: Path
) -> None:
    ran = run_by_cron(combined(project=str(tmp_path / "project"), venv=""), tmp_path, day, code)
    assert [word for word in ran if word in {"score", "compare"}] == jobs


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
        with pytest.raises(ConfigError, match="cron runs on either"):
            convert()
    assert "0 5 13 * 5" in str(render(described("0 5 13 * 5"), "kubernetes"))


@pytest.mark.parametrize("scheduler", ["kubernetes", "systemd"])
def test_times_of_its_own_cannot_have_a_day_of_the_month_and_of_the_week(scheduler: Any) -> None:
    with pytest.raises(ConfigError, match="gives a day of the month"):
        render(combined("0 5 13 * *"), scheduler)


@pytest.mark.parametrize("scheduler", ["airflow", "kubernetes", "systemd"])
def test_an_alarm_is_refused_where_the_scheduler_has_none(scheduler: Any) -> None:
    with pytest.raises(ConfigError, match=f"{scheduler} has no alarm of its own for late runs"):
        render(described(within=120), scheduler)


@pytest.mark.parametrize(
    ("cron", "days"),
    [
        ("0 5 * * *", {1, 2, 3, 4, 5, 6, 7}),
        ("0 5 * * 1-5", {1, 2, 3, 4, 5}),
        ("0 5 * * 0", {7}),
        ("0 5 * * 5-7", {5, 6, 7}),
        ("0 5 * * */2", {7, 2, 4, 6}),
        ("0 5 13 * 5", {1, 2, 3, 4, 5, 6, 7}),
    ],
)
def test_a_cron_line_tells_its_days(cron: str, days: set[int]) -> None:
    assert Cron(cron).weekdays() == days


def test_words_are_a_shells_but_a_schedulers_variables_stay_whole() -> None:
    assert words("slices={{ ds }}..{{ macros.ds_add(ds, 7) }} 'experiment=a b'") == (
        "slices={{ ds }}..{{ macros.ds_add(ds, 7) }}",
        "experiment=a b",
    )
    assert words(shlex.join(["slices={{ ds }}", ODD])) == ("slices={{ ds }}", ODD)
    assert filled("airflow", ["slices={{ ds }}"]) == ["slices=2026-01-01"]


def test_days_and_durations_are_read() -> None:
    assert weekdays("thu,Mon") == (1, 4)
    assert (minutes("2h"), minutes("90m")) == (120, 90)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["conf/score.yaml", "--to", "cron"], "there is no scheduler 'cron'; schedulers: airflow"),
        (["conf/score.yaml", "--to", "airfow"], "(did you mean 'airflow'?)"),
        (["conf/score.yaml", "--to", "airflow", "--place", "moon"], "there is no place 'moon'"),
        (["conf/score.yaml", "modle=a/1", "--to", "airflow"], "unknown key 'modle'"),
        (["conf/score.yaml", "experiment=a\nb", "--to", "airflow"], "does not fit on one line"),
        (["--each", "slises=a"], "unknown key 'slises' (did you mean 'slices'?)"),
        (["--each", "slices=2013-12-01", "--each", "slices=2013-12-01"], "have the same overrides"),
        (["--each", "'slices=2013-12-01"], "has a quote that is not closed"),
        (["--each", ""], "has no words"),
        (["--then", "conf/score.yaml"], "a score job, cannot follow conf/score.yaml"),
        (["--then", "conf/compare.yaml rank=mae"], "unknown key 'rank'"),
        (["--then-on", "mon"], "a second job, but there is no --then"),
        (
            ["--then", "conf/compare.yaml", "--then-on", "monday"],
            "'monday' is not a day of the week",
        ),
        (
            ["--then", "conf/compare.yaml", "--then-on", "sun", "--cron", "0 5 * * 1-5"],
            "would never run: the cron line '0 5 * * 1-5' never matches on sun",
        ),
        (["--within", "2 hours"], "'2 hours' is not a duration; write hours or minutes"),
    ],
)
def test_a_mistake_is_told_in_one_line(words: list[str], sentence: str) -> None:
    if words[0].startswith("--"):
        words = ["conf/score.yaml", *words, "--to", "databricks"]
    done = CliRunner().invoke(app, ["schedule", "--cron", "0 5 * * *", *words])
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
    (run,) = [line for line in done.stdout.splitlines() if line.startswith("ExecStart=")]
    command, job, config = run.removeprefix("ExecStart=").split()
    assert os.access(command, os.X_OK)
    assert (job, config) == ("compare", f"{ROOT}/conf/compare.yaml")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_registry_of_this_environment_is_kept_with_a_line(
    scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://registry:5001")
    monkeypatch.setenv("LAKESCORE_TRUST", "conf/trust.yaml")
    words = ["schedule", "conf/score.yaml", "--cron", "0 5 * * *", "--to", scheduler]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0
    kept, trust = done.stderr.splitlines()
    assert "MLFLOW_TRACKING_URI=http://registry:5001 of this environment is kept" in kept
    body = [line for line in done.stdout.splitlines() if not line.startswith("#")]
    assert any("http://registry:5001" in line for line in body)
    assert ("LAKESCORE_TRUST is set here, but not" in trust) == (scheduler != "systemd")
    assert any("LAKESCORE_TRUST" in line for line in body) == (scheduler == "systemd")


def test_no_file_shows_the_password_of_a_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@registry:5001")
    words = ["schedule", "conf/score.yaml", "--cron", "0 5 * * *", "--to", "systemd"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "has a password, which the files would show" in done.stderr
    assert "secret" not in done.stderr


def test_jobs_on_this_machine_run_in_local_mode_unless_a_place_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["schedule", "conf/score.yaml", "--cron", "0 5 * * *", "--to", "systemd"]
    assert "Environment=PLACE=local\n" in CliRunner().invoke(app, words).stdout
    monkeypatch.setenv("PLACE", "yarn")
    assert "Environment=PLACE=yarn\n" in CliRunner().invoke(app, words).stdout


def test_an_environment_without_the_command_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", "/nowhere")
    words = ["schedule", "conf/score.yaml", "--cron", "0 5 * * *", "--to", "systemd"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, done.stdout) == (2, "")
    assert "there is no /nowhere/bin/lakescore, which the schedule would run" in done.stderr
