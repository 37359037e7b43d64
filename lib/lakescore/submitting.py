"""Submitting: the command that runs a job at its place, and the process that becomes it.

On this machine, and with a Spark Connect server, the job is a process of Python, which starts Spark
only if it needs it. Elsewhere Spark's own `spark-submit` starts the job.
"""

from __future__ import annotations

import os
import runpy
import shlex
import shutil
import signal
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lakescore import assets, jars, java, places
from lakescore.errors import ConfigError, LakescoreError
from lakescore.places import place_file, place_files, read_properties
from lakescore.wording import listed, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NOISE = "Using incubator modules|Setting default log level to|To adjust logging level use"
_USAGE = "usage: [PLACE=local] [DRY_RUN=1] ./spark-submit.sh JOB conf/JOB.yaml [KEY=VALUE ...] [-v]"
_PROPERTIES_OF_JARS = {"spark.jars", "spark.jars.packages"}


@dataclass(frozen=True)
class Submission:
    """A job with its words: files, overrides and options."""

    job: str
    words: tuple[str, ...]
    place: str

    @property
    def plain_words(self) -> list[str]:
        """The files and overrides."""
        words, rest = [], list(self.words)
        while rest:
            word = rest.pop(0)
            if word == "--log":
                del rest[:1]
            elif not word.startswith("-"):
                words.append(word)
        return words

    @property
    def is_json(self) -> bool:
        """Whether the log is JSON."""
        pairs = zip(self.words, [*self.words[1:], ""], strict=True)
        return "--log=json" in self.words or ("--log", "json") in pairs

    @property
    def file(self) -> Path:
        """The file of the job.

        Raises:
            ConfigError: there is no such job.
        """
        return find_job(self.job)

    @property
    def command(self) -> list[str]:
        """The command that runs the job.

        Raises:
            ConfigError: there is no such job or place.
        """
        itself = [_python(), str(self.file), *self.words]
        if self.place == places.LOCAL:
            return itself
        path = place_file(self.place)
        properties = read_properties(path)
        if "spark.remote" in properties:
            return itself
        return _spark_submit(self, path, properties, itself[1:])

    def check(self) -> None:
        """Check the job's files and overrides, and that Java is there, before a JVM starts.

        Raises:
            ConfigError: the first problem of the files and overrides.
            JavaMissing: there is no Java, or it is too old.
        """
        check_job(self.job, self.plain_words)
        java.require()


def main(words: Sequence[str]) -> int:
    """Run the job that the first of *words* names, as spark-submit.sh does; see `submit`."""
    known = [f"jobs: {listed(assets.job_files())}", f"places: {listed(sorted(place_files()))}"]
    usage = f"{_USAGE}\n{'; '.join(known)}"
    if not words:
        print(f"error: JOB is missing; {usage}", file=sys.stderr)  # noqa: T201 - for the terminal
        return ConfigError.exit_code
    if words[0] == "--help":
        print(usage)  # noqa: T201 - as above
        return 0
    return submit(words[0], words[1:])


def find_job(name: str) -> Path:
    """Return the file of the job *name*.

    Raises:
        ConfigError: there is no such job.
    """
    files = assets.job_files()
    if name not in files:
        known = f"{nearest(name, files)}; jobs: {listed(files)}"
        raise ConfigError(f"there is no job {name!r}{known}")
    return files[name]


def check_job(job: str, words: Sequence[str]) -> None:
    """Check the files and overrides of a job.

    Raises:
        ConfigError: the first problem.
    """
    if not words:
        raise ConfigError(f"the job's file is missing, such as conf/{job}.yaml")
    from lakescore.config import JOBS, load  # noqa: PLC0415 - most of what a start costs
    from lakescore.joblist import jobs_of  # noqa: PLC0415 - as above

    if job == "score":
        jobs_of(list(words))
    else:
        load(JOBS[job], Path(words[0]), list(words[1:]))


def submit(job: str, words: Sequence[str]) -> int:
    """Run a job at the place that *words* or the environment name, in the place of this process.

    With `DRY_RUN=1` in the environment, print the command instead.

    Args:
        job: the name of the job.
        words: the words of the command: files, overrides and options.

    Returns:
        The exit code, if the job did not start.
    """
    try:
        submission = _parse(job, words)
        command = submission.command
        if os.environ.get("DRY_RUN"):
            print(" ".join(map(shlex.quote, command)))  # noqa: T201 - this prints to the terminal
            return 0
        if "--help" not in words and (submission.place != places.LOCAL or not words):
            submission.check()
    except LakescoreError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201 - this prints to the terminal
        return error.exit_code
    os.environ["PLACE"] = submission.place
    os.environ.setdefault("PYSPARK_PYTHON", _python())
    _mute_jvm()
    if command[0] == sys.executable:  # this process can run it, which saves the start of a Python
        sys.argv = command[1:]
        runpy.run_path(command[1], run_name="__main__")
    else:
        os.execv(command[0], command)  # noqa: S606 - the words are those of our own command
    return 0


def run_score() -> None:
    """Run the score job in this process with its arguments, for platforms that start a wheel."""
    _run_here("score")


def run_compare() -> None:
    """Run the compare job in this process with its arguments, as `run_score` does."""
    _run_here("compare")


def run_monitor() -> None:
    """Run the monitor job in this process with its arguments, as `run_score` does."""
    _run_here("monitor")


def _run_here(job: str) -> None:
    try:
        runpy.run_path(str(find_job(job)), run_name="__main__")
    except SystemExit as ended:
        if ended.code:  # a platform may take any SystemExit for a failure
            raise


def _parse(job: str, words: Sequence[str]) -> Submission:
    """Return the submission of *words*; `--place` comes before the environment's."""
    submission = Submission(job, (), places.current())
    rest = list(words)
    kept = []
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        if option != "--place":
            kept.append(word)
            continue
        if not equals and not rest:
            raise ConfigError("--place needs the name of a place, or the path of its file")
        submission = replace(submission, place=value if equals else rest.pop(0))
    return replace(submission, words=tuple(kept))


def _python() -> str:
    return os.environ.get("PYSPARK_PYTHON") or sys.executable


def _spark_submit(
    submission: Submission, place: Path, properties: Mapping[str, str], job: Sequence[str]
) -> list[str]:
    """Return the command of Spark's launcher for *job*: its file and words."""
    home = os.environ.get("SPARK_HOME")
    launcher = (
        Path(home) / "bin" / "spark-submit"
        if home
        else Path(sys.executable).with_name("spark-submit")
    )
    options = ["--properties-file", str(place)]
    if not _PROPERTIES_OF_JARS & properties.keys():
        files = assets.jars(jars.DELTA)
        if "openlineage" in properties.get("spark.extraListeners", ""):
            files += _lineage_jars(place)
            # On a cluster the listener starts before Spark can tell it the name.
            options += ["--conf", f"spark.openlineage.appName=lakescore_{submission.job}"]
        options += ["--jars", ",".join(map(str, files))] if files else []
    # The S3 client is large: on the class path of the driver it is not copied for each run.
    s3, needs_s3 = assets.jars("s3"), any(n.startswith("spark.hadoop.fs.s3a.") for n in properties)
    if (
        s3
        and needs_s3
        and not {"spark.driver.extraClassPath", "spark.jars.packages"} & properties.keys()
    ):
        options += ["--driver-class-path", ":".join(map(str, s3))]
    # If a place names the Python of the executors, Spark would use it for the driver too.
    if (
        "spark.pyspark.python" in properties
        and "spark.pyspark.driver.python" not in properties
        and properties.get("spark.submit.deployMode") != "cluster"
    ):
        options += ["--conf", f"spark.pyspark.driver.python={_python()}"]
    verbose = {"-v", "--verbose"} & {*submission.words}
    java_options = [
        f"-Dlog4j2.configurationFile=file:{assets.log_layout(is_json=submission.is_json)}",
        *(java.VERBOSE if verbose else ()),
        *java.sharing(),
    ]
    options += ["--conf", f"spark.driver.defaultJavaOptions={' '.join(java_options)}"]
    return [str(launcher), *options, *job]


def _lineage_jars(place: Path) -> list[Path]:
    files = assets.jars("openlineage")
    if not files:
        reason = "uses OpenLineage, but its jar is missing; fetch it: lakescore setup openlineage"
        raise ConfigError(f"{place} {reason}")
    return files


def _mute_jvm() -> None:
    """Drop the messages that each JVM prints at its start, and that no option stops."""
    if sys.stderr.isatty():
        os.environ["LAKESCORE_TERMINAL"] = "1"
    grep = shutil.which("grep")
    if grep is None:
        return
    output, own_input = os.pipe()
    if os.fork() == 0:
        # A signal to the whole process group must not end grep, which prints the last lines.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        os.dup2(output, sys.stdin.fileno())
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        os.close(own_input)
        os.execv(grep, [grep, "--line-buffered", "-vE", _NOISE])  # noqa: S606 - no word of others
    os.close(output)
    os.dup2(own_input, sys.stderr.fileno())
    os.close(own_input)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
