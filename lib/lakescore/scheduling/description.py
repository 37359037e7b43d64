"""What is scheduled: jobs, their times, and where they run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, get_args

from lakescore.errors import ConfigError
from lakescore.scheduling.cron import DAYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.scheduling.cron import Cron

Scheduler = Literal["airflow", "databricks", "kubernetes", "systemd"]
SCHEDULERS: tuple[Scheduler, ...] = get_args(Scheduler)
RETRIES, MINUTES_BETWEEN, MOST_HOURS = 2, 10, 6
FINAL = (2, 4, 5, 6)
"""The exit codes that a repetition cannot change."""
_VARIABLE = re.compile(r"\{\{.*?\}\}")
_PRIVATE = 0xE000


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job's file, and the keys of it that are overridden."""

    kind: Literal["score", "compare"]
    config: str
    """A path of the project, or an absolute one of the machine that runs the job."""
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the scheduler calls it: from the name of the file."""
        return f"lakescore-{re.sub('[^a-z0-9]+', '-', PurePosixPath(self.config).stem.lower())}"

    def arguments(self, root: str) -> list[str]:
        """Return its arguments where the project lies at *root*."""
        config = self.config if self.config.startswith("/") else f"{root}/{self.config}"
        return [config, *self.overrides]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A job, when it runs and where, and a second one that may follow."""

    job: Job
    each: tuple[tuple[str, ...], ...] = ()
    """Further overrides of a task each; one task when empty."""
    then: Job | None = None
    """A compare job, which needs no rows of the first one."""
    then_on: tuple[int, ...] = ()
    """The days of the week on which it follows, as ISO's numbers; every time when empty."""
    within: int | None = None
    """The minutes after which a run that goes on is worth an alarm."""
    cron: Cron
    place: str
    """The name of `conf/spark/PLACE.conf`."""
    properties: Mapping[str, str] = field(default_factory=dict)
    """What that file says."""
    project: str = "/opt/lakescore"
    """Where this project lies on the machine, or in the image, that runs the jobs."""
    environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        texts = [word for each in self.each for word in each]
        for job in filter(None, (self.job, self.then)):
            texts += [job.config, *job.overrides]
        for text in (*texts, self.project, *self.environment, *self.environment.values()):
            if not text.isprintable():
                raise ConfigError(f"{text!r} does not fit on one line of a scheduler's file")
        for each in self.each:
            if self.each.count(each) > 1:
                raise ConfigError(f"two tasks have the same keys, {shlex.join(each)}; give others")
        if self.then is not None:
            self._hold(self.then)
        elif self.then_on:
            raise ConfigError("--then-on gives the days of a second job, of which there is none")

    def _hold(self, then: Job) -> None:
        if (self.job.kind, then.kind) != ("score", "compare"):
            raise ConfigError(
                f"{then.config}, a {then.kind} job, cannot follow {self.job.config}, a "
                f"{self.job.kind} job: only a compare job follows, and only a score job"
            )
        if then.name == self.job.name:
            raise ConfigError(
                f"{self.job.config} and {then.config} would both be called {then.name}; "
                "rename one of the files"
            )
        if self.then_on and not self.cron.weekdays().intersection(self.then_on):
            raise ConfigError(
                f"{then.config} would never run: the cron line {self.cron.text!r} never comes on "
                f"{','.join(self.then_days).lower()}"
            )

    @property
    def name(self) -> str:
        """What the scheduler calls it."""
        return self.job.name

    @property
    def tasks(self) -> list[Job]:
        """The first job, once for each of the further overrides."""
        return [
            replace(self.job, overrides=(*self.job.overrides, *each)) for each in self.each or ((),)
        ]

    @property
    def then_days(self) -> list[str]:
        """The names of the days on which the second job follows, such as `Mon`."""
        return [DAYS[number - 1] for number in self.then_on]

    @property
    def then_cron(self) -> Cron:
        """When the second job runs, for schedulers that give it times of its own.

        Raises:
            ConfigError: cron cannot say it.
        """
        return self.cron.on(self.then_on) if self.then_on else self.cron

    def command(self, scheduler: Scheduler) -> str:
        """Return the command that makes this schedule's file."""
        line = ["lakescore", "schedule", self.job.config, *self.job.overrides]
        for each in self.each:
            line += ["--each", shlex.join(each)]
        line += ["--cron", self.cron.text]
        if self.then:
            line += ["--then", shlex.join([self.then.config, *self.then.overrides])]
        if self.then_on:
            line += ["--then-on", ",".join(self.then_days).lower()]
        if self.within:
            line += ["--within", f"{self.within}m"]
        line += ["--to", scheduler, "--place", self.place, "--project", self.project]
        for key, value in self.environment.items():
            line += ["--env", f"{key}={value}"]
        return shlex.join(line)

    def refuse_alarm(self, scheduler: Scheduler) -> None:
        """Refuse `within`, for a scheduler that has no alarm without further set-up.

        Raises:
            ConfigError: it is given.
        """
        if self.within:
            raise ConfigError(
                f"{scheduler} has no alarm of its own for late runs (--within); let Prometheus "
                "watch lakescore_run_end_time_seconds: docs/cluster.md"
            )


def words(text: str) -> tuple[str, ...]:
    """Return the words of *text* as a shell reads them, a scheduler's `{{ variables }}` whole.

    Raises:
        ConfigError: a quote is not closed, or there is no word.
    """
    variables = _VARIABLE.findall(text)
    marks = [chr(_PRIVATE + number) for number in range(len(variables))]
    marked = iter(marks)
    try:
        found = shlex.split(_VARIABLE.sub(lambda _: next(marked), text))
    except ValueError:
        raise ConfigError(f"{text!r} has a quote that is not closed") from None
    if not found:
        raise ConfigError(f"{text!r} has no words")
    whole = dict(zip(marks, variables, strict=True))
    return tuple("".join(whole.get(letter, letter) for letter in word) for word in found)


def minutes(text: str) -> int:
    """Return the minutes of a duration such as `2h` or `90m`.

    Raises:
        ConfigError: it is none.
    """
    found = re.fullmatch(r"([1-9]\d{0,4})([hm])", text)
    if found is None:
        raise ConfigError(f"{text!r} is no duration; write hours or minutes, such as 2h or 90m")
    return int(found[1]) * (60 if found[2] == "h" else 1)


def filled(scheduler: Scheduler, given: Sequence[str]) -> list[str]:
    """Return *given* with a day for each of the variables that *scheduler* fills in at run time."""
    if scheduler not in {"airflow", "databricks"}:
        return list(given)
    return [_VARIABLE.sub("2026-01-01", word) for word in given]
