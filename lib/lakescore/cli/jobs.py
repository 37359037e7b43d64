"""The commands about the jobs' files: schema, check and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakescore.cli.app import command, pairs, tell
from lakescore.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.config import CompareJob, ReplayJob, ScoreJob
    from lakescore.scheduling import Job, Scheduler


@command()
def schema(job: str) -> None:
    """Print the JSON schema of a job's file: score, compare or replay; or of a list: jobs."""
    from lakescore.joblist import JobList  # noqa: PLC0415

    tell((JobList if job == "jobs" else _job(job)).model_json_schema())


@command()
def check(
    job: str,
    config: Path,
    words: Annotated[list[str] | None, typer.Argument(metavar="[CONFIG]... [KEY=VALUE]...")] = None,
) -> None:
    """Read a job's file with its overrides, or several of score jobs, and say what is wrong.

    Java is looked for as well.
    """
    from lakescore import java  # noqa: PLC0415
    from lakescore.config import load  # noqa: PLC0415
    from lakescore.joblist import jobs_of  # noqa: PLC0415

    kind, further = _job(job), words or []
    if job == "score":
        jobs_of([str(config), *further])
    else:
        load(kind, config, further)
    java.require()


@command()
def schedule(  # noqa: PLR0913 - each is a fact of a schedule
    config: Annotated[str, typer.Argument(help="the job's file, such as conf/score.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="keys to override")
    ] = None,
    *,
    cron: Annotated[str, typer.Option(help="when: five fields as in crontab, in UTC")],
    to: Annotated[str, typer.Option(help="airflow, databricks, kubernetes or systemd")],
    each: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="once for each task: what it alone overrides"),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS", help="the file of a compare job that follows, and keys to override"
        ),
    ] = None,
    then_on: Annotated[
        str | None,
        typer.Option(metavar="DAYS", help="when it does, such as mon,thu [every time]"),
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="how long a run may go on without an alarm: 2h, or 90m")
    ] = None,
    place: Annotated[
        str | None, typer.Option(help="where: conf/spark/PLACE.conf [standalone or kubernetes]")
    ] = None,
    project: Annotated[
        str, typer.Option(help="where this project lies on the machine or image that runs the job")
    ] = "/opt/lakescore",
    env: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="a variable for the job")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the files; they are printed when left out")
    ] = None,
) -> None:
    """Write what a scheduler needs to run a job at certain times."""
    from lakescore import scheduling  # noqa: PLC0415
    from lakescore.places import read_properties  # noqa: PLC0415

    found = [known for known in scheduling.SCHEDULERS if known == to]
    if not found:
        known = f"{nearest(to, scheduling.SCHEDULERS)}; schedulers: {listed(scheduling.SCHEDULERS)}"
        raise ConfigError(f"there is no scheduler {to!r}{known}")
    place = place or ("kubernetes" if to == "kubernetes" else "standalone")
    properties = Path("conf/spark") / f"{place}.conf"
    if not properties.is_file():
        raise ConfigError(f"there is no place {place!r}: no {properties} here")
    ranges = [scheduling.words(text) for text in each or ()]
    described = scheduling.Schedule(
        job=_scheduled(found[0], (config, *(overrides or ())), ranges),
        each=tuple(ranges),
        then=_scheduled(found[0], scheduling.words(then)) if then is not None else None,
        then_on=scheduling.weekdays(then_on) if then_on is not None else (),
        within=scheduling.minutes(within) if within is not None else None,
        cron=scheduling.Cron(cron),
        place=place,
        properties=read_properties(properties),
        project=project,
        environment=pairs(env),
    )
    for name, text in scheduling.render(described, found[0]).items():
        if out is None:
            print(f"# {name}\n{text}")  # noqa: T201 - here is the terminal
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text, encoding="utf-8")


def _scheduled(
    scheduler: Scheduler, words: Sequence[str], each: Sequence[Sequence[str]] = ()
) -> Job:
    """Return the job that *words* describe, once it holds with the further words of *each* task."""
    from lakescore.config import JOBS, kind_of, load  # noqa: PLC0415
    from lakescore.joblist import is_list, jobs_of  # noqa: PLC0415
    from lakescore.scheduling import Job, filled  # noqa: PLC0415

    config, *overrides = words
    tasks = [filled(scheduler, [*overrides, *further]) for further in each or [()]]
    kind = kind_of(Path(config), tasks[0])
    for task in tasks:
        if is_list(Path(config)):
            jobs_of([config, *task])
        else:
            load(JOBS[kind], Path(config), task)
    return Job(kind=kind, config=config, overrides=tuple(overrides))


def _job(name: str) -> type[ScoreJob | CompareJob | ReplayJob]:
    from lakescore.config import JOBS  # noqa: PLC0415

    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}{nearest(name, JOBS)}; jobs: {listed(JOBS)}")
    return JOBS[name]
