from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Golden

ROOT = Path(__file__).parents[2]
SCORE = str(ROOT / "conf" / "score.yaml")
REPLAY = str(ROOT / "conf" / "replay.yaml")
CLUSTER = "standalone"
"""A place that Spark's own command starts jobs for."""


@dataclass
class Submit:
    """spark-submit.sh with a java that says it is 17, records its calls, and starts nothing."""

    home: Path

    def __call__(
        self, *arguments: str, folder: Path = ROOT, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run it and return how it ended."""
        ours = {"PLACE", "DRY_RUN", "SPARK_HOME", "PYSPARK_PYTHON", "VIRTUAL_ENV", "JAVA_HOME"}
        kept = {key: value for key, value in os.environ.items() if key not in ours}
        return subprocess.run(
            [ROOT / "spark-submit.sh", *arguments],
            env=kept | {"JAVA_HOME": str(self.home)} | environment,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    @property
    def jvms(self) -> list[str]:
        """The calls of java, but those for its version."""
        calls = self.home / "calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in lines if line != "-version"]


@pytest.fixture
def submit(tmp_path: Path) -> Submit:
    java = tmp_path / "java" / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/java/calls\n'
        "echo 'openjdk version \"17.0.1\" 2021-10-19' >&2\n"
    )
    java.chmod(0o755)
    return Submit(tmp_path / "java")


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_dry_run_prints_the_command(submit: Submit, golden: Golden) -> None:
    done = submit("replay", "conf/replay.yaml", "tolerance=0.1", DRY_RUN="1", PLACE=CLUSTER)
    assert (done.returncode, done.stderr) == (0, "")
    golden(
        "submit", done.stdout.rstrip().replace(" --", "\n  --").replace(" REP", "\n  REP") + "\n"
    )
    assert submit.jvms == []


def test_the_command_is_the_same_from_another_folder(submit: Submit, tmp_path: Path) -> None:
    here = submit("score", SCORE, DRY_RUN="1")
    elsewhere = submit("score", SCORE, folder=tmp_path, DRY_RUN="1")
    assert (elsewhere.returncode, elsewhere.stderr) == (0, "")
    assert elsewhere.stdout == here.stdout
    assert f"{ROOT}/jobs/score.py {SCORE}" in elsewhere.stdout


def test_words_with_spaces_stay_one_word(submit: Submit, tmp_path: Path) -> None:
    words = ["score", SCORE, "model=a?where=metrics.rmse < 12", "experiment=it's; $(touch x) *"]
    done = submit(*words, folder=tmp_path, DRY_RUN="1")
    assert done.returncode == 0
    read = subprocess.run(  # as a shell reads the line that a person pasted
        ["bash", "-c", f"set -f; printf '%s\\n' {done.stdout.rstrip()}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    assert read.stdout.splitlines()[-3:] == words[1:]
    assert not (tmp_path / "x").exists()


def test_the_place_is_a_file_of_properties(submit: Submit) -> None:
    done = submit("replay", REPLAY, DRY_RUN="1", PLACE=CLUSTER)
    assert f"--properties-file {ROOT}/conf/spark/standalone.conf " in done.stdout
    here = submit("replay", REPLAY, DRY_RUN="1", PLACE="local")
    assert here.stdout == submit("replay", REPLAY, DRY_RUN="1").stdout


@pytest.mark.parametrize("job", ["score", "compare", "replay", "monitor"])
def test_a_job_in_local_mode_starts_spark_itself_if_at_all(submit: Submit, job: str) -> None:
    file = str(ROOT / f"conf/{job}.yaml")
    done = submit(job, file, "runner=local", DRY_RUN="1")
    assert done.stdout.split()[1:] == [f"{ROOT}/jobs/{job}.py", file, "runner=local"]


def test_a_place_may_lie_anywhere(submit: Submit, tmp_path: Path) -> None:
    (tmp_path / "mine.conf").write_text("spark.master spark://10.0.0.1:7077\n")
    done = submit("score", SCORE, folder=tmp_path, DRY_RUN="1", PLACE="./mine.conf")
    assert "--properties-file mine.conf " in done.stdout


@pytest.mark.parametrize(
    ("line", "python"),
    [
        ("", None),  # executors run the driver's, which is there by PYSPARK_PYTHON
        ("spark.pyspark.python ./environment/bin/python", "/usr/bin/python3"),
        ("spark.pyspark.python=/a/python\nspark.pyspark.driver.python /b/python", None),
        ("spark.pyspark.python /a/python\nspark.submit.deployMode cluster", None),
        ("#spark.pyspark.python /a/python", None),
    ],
)
def test_a_python_for_executors_is_not_the_drivers(
    submit: Submit, tmp_path: Path, line: str, python: str | None
) -> None:
    (tmp_path / "mine.conf").write_text(f"{line}\n")
    given = {"PLACE": f"{tmp_path}/mine.conf", "PYSPARK_PYTHON": "/usr/bin/python3"}
    words = submit("score", SCORE, DRY_RUN="1", **given).stdout.split()
    drivers = [word for word in words if word.startswith("spark.pyspark.driver.python=")]
    assert drivers == ([f"spark.pyspark.driver.python={python}"] if python else [])


def test_verbose_is_passed_on_and_opens_the_log(submit: Submit) -> None:
    done = submit("replay", REPLAY, "-v", DRY_RUN="1", PLACE=CLUSTER)
    assert "-Dlakescore.log.level=info" in done.stdout
    assert done.stdout.rstrip().endswith(f"{REPLAY} -v")
    quiet = submit("replay", REPLAY, DRY_RUN="1", PLACE=CLUSTER)
    assert "-Dlakescore.log.level" not in quiet.stdout


@pytest.mark.parametrize("words", [["--log", "json"], ["--log=json"], ["-v", "--log", "json"]])
def test_a_log_of_json_is_sparks_too_and_no_key_of_the_job(
    submit: Submit, words: list[str]
) -> None:
    done = submit("replay", REPLAY, *words, DRY_RUN="1", PLACE=CLUSTER)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"file:{ROOT}/conf/spark/log4j2-json.properties" in done.stdout
    assert done.stdout.rstrip().endswith(" ".join([REPLAY, *words]))


def test_both_logs_say_as_much() -> None:
    """They differ in their layout only: whoever changes one must change the other."""
    text, json = (
        (ROOT / f"conf/spark/log4j2{kind}.properties").read_text().splitlines()[1:]
        for kind in ("", "-json")
    )
    differ = [line for line in {*text} ^ {*json} if "appender.stderr.layout." not in line]
    assert differ == []


def test_a_job_that_is_right_starts_a_jvm(submit: Submit) -> None:
    """Without it, the tests that none starts would prove nothing."""
    submit("replay", REPLAY, PLACE=CLUSTER)
    assert submit.jvms != []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["score", SCORE, "modle=a/1"], "unknown key 'modle' (did you mean 'model'?)"),
        (["score", SCORE, "model"], "'model' is not an override"),
        (
            ["score", "conf/scor.yaml"],
            "no file conf/scor.yaml (did you mean 'conf/score.yaml'?)",
        ),
        (["scroe", SCORE], "there is no job 'scroe' (did you mean 'score'?)"),
        (["../jobs/score", SCORE], "there is no job '../jobs/score'"),
    ],
)
def test_a_typo_is_told_before_any_jvm_starts(
    submit: Submit, arguments: list[str], sentence: str
) -> None:
    done = submit(*arguments)
    assert done.returncode == 2
    assert sentence in one_line(done)
    assert done.stderr.startswith("error: ")
    assert submit.jvms == []


def test_a_place_that_is_not_there_is_named(submit: Submit) -> None:
    done = submit("score", SCORE, PLACE="moon")
    assert done.returncode == 2
    places = "connect, kubernetes, local, s3, standalone, yarn"
    assert one_line(done) == f"error: there is no place 'moon'; places: {places}\n"
    assert submit.jvms == []


def test_without_a_job_the_usage_is_told(submit: Submit) -> None:
    done = submit()
    assert done.returncode == 2
    assert done.stderr.startswith("error: JOB is missing; usage: ")
    assert (
        "jobs: compare, monitor, replay, score; "
        "places: connect, kubernetes, local, s3, standalone, yarn" in done.stderr
    )


def test_without_java_one_line_says_what_to_do(submit: Submit, tmp_path: Path) -> None:
    for name in ("bash", "dirname", "env", "grep"):
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = submit("replay", REPLAY, PATH=str(tmp_path), JAVA_HOME="", PLACE=CLUSTER)
    assert done.returncode == 1
    assert one_line(done).startswith(
        "error: Spark needs Java 17 or newer, but no java is on the PATH; install a JRE "
    )
