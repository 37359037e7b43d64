"""Describe a schedule: its jobs, their times, and where they run."""

from __future__ import annotations

import re
import shlex
import sys
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from lakescore.errors import ConfigError
from lakescore.scheduling.cron import DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakescore.scheduling.cron import Cron

RETRIES, MINUTES_BETWEEN, MOST_HOURS = 2, 10, 6
FINAL = (2, 4, 5, 6)
"""The exit codes that a repeated run cannot change."""
VARIABLE = re.compile(r"\{\{.*?\}\}")
"""A variable that a scheduler fills in when the job runs."""
_PRIVATE = 0xE000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job's file, and the overrides of its keys."""

    kind: Literal["score", "compare", "monitor"]
    config: str
    """A path in the project, or an absolute path on the machine that runs the job."""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The job's name in the scheduler, from the name of the file."""
        return f"lakescore-{re.sub('[^a-z0-9]+', '-', PurePosixPath(self.config).stem.lower())}"

    def arguments(self, root: str) -> list[str]:
        """Return the job's arguments for a project at *root*."""
        config = self.config if self.config.startswith("/") else f"{root}/{self.config}"
        return [config, *self.overrides]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A job with its times and place, and optionally a second job that follows."""

    job: Job
    each: tuple[tuple[str, ...], ...] = ()
    """More overrides for each task; one task without more overrides if empty."""
    then: Job | None = None
    """A compare or monitor job, which follows also if the first job had nothing to do."""
    then_on: tuple[int, ...] = ()
    """The days of the week on which it follows, as ISO's numbers; every time if empty."""
    within: int | None = None
    """The minutes after which a run that has not ended raises an alarm."""
    cron: Cron
    place: str
    """The name of `conf/spark/PLACE.conf`."""
    place_folder: str = ""
    """The folder with `conf/spark` on the machine that runs the jobs; the project if empty."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """The properties in that file."""
    project: str = "/opt/lakescore"
    """The folder of this project on the machine, or in the image, that runs the jobs."""
    venv: str = ""
    """The Python environment there that has lakescore; `.venv` of the project if empty."""
    package: str = ""
    """The folder of lakescore's jobs in this environment; found by its Python if empty."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [word for overrides in self.each for word in overrides]
        for job in filter(None, (self.job, self.then)):
            texts += [job.config, *job.overrides]
        for text in (
            *texts,
            self.project,
            self.venv,
            *self.environment,
            *self.environment.values(),
        ):
            if not text.isprintable():
                raise ConfigError(f"{text!r} does not fit on one line of a scheduler's file")
        for overrides in self.each:
            if self.each.count(overrides) > 1:
                same = shlex.join(overrides)
                raise ConfigError(f"two tasks have the same overrides, {same}; make them differ")
        if self.then is not None:
            self._check_second(self.then)
        elif self.then_on:
            raise ConfigError("--then-on gives the days of a second job, but there is no --then")

    def _check_second(self, then: Job) -> None:
        if self.job.kind != "score" or then.kind == "score":
            raise ConfigError(
                f"{then.config}, a {then.kind} job, cannot follow {self.job.config}, a "
                f"{self.job.kind} job: only a compare or monitor job can follow, and only after a "
                "score job"
            )
        if then.name == self.job.name:
            raise ConfigError(
                f"{self.job.config} and {then.config} would both be called {then.name}; "
                "rename one of the files"
            )
        if self.then_on and not self.cron.weekdays().intersection(self.then_on):
            raise ConfigError(
                f"{then.config} would never run: the cron line {self.cron.text!r} never matches on "
                f"{','.join(self.then_days).lower()}"
            )

    @property
    def python_folder(self) -> str:
        """The folder of the Python environment that runs the jobs."""
        return self.venv or f"{self.project}/.venv"

    @property
    def properties_file(self) -> str:
        """The path of the place's file on the machine that runs the jobs."""
        return f"{self.place_folder or self.project}/conf/spark/{self.place}.conf"

    @property
    def job_folder(self) -> str:
        """The folder of lakescore's `jobs` and `conf` on the machine that runs the jobs."""
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        installed = f"{self.python_folder}/lib/{python}/site-packages/lakescore/project"
        return self.package or installed

    def file_of(self, job: Job) -> str:
        """Return what `lakescore path` prints there: the path of the job's Python file."""
        return f"{self.job_folder}/jobs/{job.kind}.py"

    @property
    def name(self) -> str:
        """The schedule's name in the scheduler."""
        return self.job.name

    @property
    def tasks(self) -> list[Job]:
        """The first job, once for each task's overrides."""
        return [
            replace(self.job, overrides=(*self.job.overrides, *overrides))
            for overrides in self.each or ((),)
        ]

    @property
    def then_days(self) -> list[str]:
        """The names of the days on which the second job follows, such as `Mon`."""
        return [DAYS[number - 1] for number in self.then_on]

    @property
    def then_cron(self) -> Cron:
        """The times of the second job, for schedulers that run it by its own times.

        Raises:
            ConfigError: cron cannot express these times.
        """
        return self.cron.on(self.then_on) if self.then_on else self.cron

    def command(self, scheduler: str) -> str:
        """Return the command that writes the files of this schedule."""
        line = ["lakescore", "schedule", self.job.config, *self.job.overrides]
        for overrides in self.each:
            line += ["--each", shlex.join(overrides)]
        line += ["--cron", self.cron.text]
        if self.then:
            line += ["--then", shlex.join([self.then.config, *self.then.overrides])]
        if self.then_on:
            line += ["--then-on", ",".join(self.then_days).lower()]
        if self.within:
            line += ["--within", f"{self.within}m"]
        line += ["--to", scheduler, "--place", self.place, "--project", self.project]
        if self.venv:
            line += ["--venv", self.venv]
        for key, value in self.environment.items():
            line += ["--env", f"{key}={value}"]
        return shlex.join(line)

    def refuse_alarm(self, scheduler: str) -> None:
        """Refuse `within`, because *scheduler* has no alarm without more set-up.

        Raises:
            ConfigError: `within` is set.
        """
        if self.within:
            raise ConfigError(
                f"{scheduler} has no alarm of its own for late runs (--within); let Prometheus "
                "watch lakescore_run_end_time_seconds (docs/cluster.md)"
            )


def words(text: str) -> tuple[str, ...]:
    """Split *text* into words as a shell does, and keep a scheduler's `{{ variables }}` whole.

    Raises:
        ConfigError: a quote is not closed, or *text* has no words.
    """
    variables = VARIABLE.findall(text)
    letters = [chr(_PRIVATE + number) for number in range(len(variables))]
    placeholders = iter(letters)
    try:
        split = shlex.split(VARIABLE.sub(lambda _: next(placeholders), text))
    except ValueError:
        raise ConfigError(f"{text!r} has a quote that is not closed") from None
    if not split:
        raise ConfigError(f"{text!r} has no words")
    variable_of = dict(zip(letters, variables, strict=True))
    return tuple("".join(variable_of.get(letter, letter) for letter in word) for word in split)


def minutes(text: str) -> int:
    """Return the minutes of a duration such as `2h` or `90m`.

    Raises:
        ConfigError: *text* is not a duration.
    """
    match = re.fullmatch(r"([1-9]\d{0,4})([hm])", text)
    if match is None:
        raise ConfigError(f"{text!r} is not a duration; write hours or minutes: 2h or 90m")
    return int(match[1]) * (60 if match[2] == "h" else 1)
