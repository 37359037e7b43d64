"""Define the commands about the files of jobs: schema, check and schedule."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lakescore import assets, places, scheduling
from lakescore.cli.app import command, pairs, say, tell
from lakescore.errors import ConfigError
from lakescore.wording import listed, nearest, redact, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore import config

_JOBS = "|".join(assets.job_files())


@command()
def schema(
    job: Annotated[str, typer.Argument(metavar=f"{_JOBS}|jobs", help="a job; jobs: for a list")],
    *,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="print a file with every key and its meaning instead")
    ] = False,
) -> None:
    """Print the JSON schema of a job's file."""
    from lakescore.joblist import JobList  # noqa: PLC0415

    if as_yaml and job != "jobs":
        from lakescore.config.example import example  # noqa: PLC0415

        say(example(_job_type(job)), keeps_lines=True)
        return
    if as_yaml:
        raise ConfigError("--yaml prints the file of one job; docs/reference.md has a list of jobs")
    tell((JobList if job == "jobs" else _job_type(job)).model_json_schema())


@command(3, 4, 5, 75)
def check(
    job: Annotated[str, typer.Argument(metavar=_JOBS, help="a job")],
    config: Annotated[
        Path, typer.Argument(metavar="CONFIG", help="the job's file, such as conf/score.yaml")
    ],
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CONFIG]... [KEY=VALUE]...", help="more files, and keys to override"
        ),
    ] = None,
    *,
    files_only: Annotated[
        bool, typer.Option("--files", help="check only the files and Java, for CI")
    ] = False,
) -> None:
    """Check a job's file and its overrides, and that what the job needs is there.

    Several files of score jobs are checked together. The command looks for Java, the place, the
    jars of Spark, the models and the tables; it shows what is there, or the first problem.
    """
    from lakescore.submitting import Submission  # noqa: PLC0415

    kind = _job_type(job)
    plain = [str(config), *(words or ())]
    Submission(job, tuple(plain), places.LOCAL).check()
    say(f"{config}: every key is known, and every value fits; Java: found")
    if not files_only:
        from lakescore.cli.checking import check_surroundings  # noqa: PLC0415

        check_surroundings(kind, plain)


@command()
def schedule(  # noqa: PLR0913 - the command's options
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="the job's file, such as conf/score.yaml")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="keys to override")
    ] = None,
    *,
    cron: Annotated[str, typer.Option(help="times of the runs: five fields as in crontab, in UTC")],
    to: Annotated[str, typer.Option(metavar="|".join(scheduling.SCHEDULERS), help="scheduler")],
    each: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="overrides of one task; repeat it for each task"),
    ] = None,
    then: Annotated[
        str | None,
        typer.Option(
            metavar="WORDS",
            help="file of a compare or monitor job to run afterwards, and keys to override",
        ),
    ] = None,
    then_on: Annotated[
        str | None,
        typer.Option(metavar="DAYS", help="days for --then, such as mon,thu; default: every time"),
    ] = None,
    within: Annotated[
        str | None,
        typer.Option(
            help="mark a run that takes longer than this, such as 2h or 90m; databricks only"
        ),
    ] = None,
    place: Annotated[
        str | None,
        typer.Option(
            help="name of conf/spark/PLACE.conf; default: PLACE of the environment, or "
            f"{scheduling.default_places()}"
        ),
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="folder of this project on the machine or image that runs the job; default: the "
            "current folder with --to systemd, otherwise /opt/lakescore",
        ),
    ] = None,
    venv: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER",
            help="Python environment there that has lakescore; default: the one of this command "
            "with --to systemd, otherwise .venv of the project",
        ),
    ] = None,
    env: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="environment variable for the job")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="folder for the files; default: print them")
    ] = None,
) -> None:
    """Write the files for a scheduler that runs a job at certain times."""
    from lakescore.places import read_properties  # noqa: PLC0415

    if to not in scheduling.SCHEDULERS:
        known = f"{nearest(to, scheduling.SCHEDULERS)}; schedulers: {listed(scheduling.SCHEDULERS)}"
        raise ConfigError(f"there is no scheduler {to!r}{known}")
    place = place or os.environ.get("PLACE") or scheduling.SCHEDULERS[to].place
    if "/" in place:
        raise ConfigError(f"--place {place} is a path; give the name of a conf/spark/PLACE.conf")
    properties = places.place_file(place)
    package = str(assets.folder())
    in_project = properties.is_relative_to(Path().absolute())
    if project is None:
        project = str(Path().absolute()) if scheduling.SCHEDULERS[to].is_here else "/opt/lakescore"
    if venv is None and scheduling.SCHEDULERS[to].is_here:
        venv = sys.prefix
        _check_command(venv)
    is_own = Path(venv or f"{project}/.venv").resolve() == Path(sys.prefix).resolve()
    tasks = [scheduling.words(text) for text in each or ()]
    described = scheduling.Schedule(
        job=_check_job(to, (config, *(overrides or ())), tasks),
        each=tuple(tasks),
        then=_check_job(to, scheduling.words(then)) if then is not None else None,
        then_on=scheduling.weekdays(then_on) if then_on is not None else (),
        within=scheduling.minutes(within) if within is not None else None,
        cron=scheduling.Cron(cron),
        place=place,
        properties=read_properties(properties),
        place_folder="" if in_project or not is_own else package,
        project=project,
        venv=venv or "",
        package=package if is_own else "",
        environment=_variables(pairs(env), is_here=scheduling.SCHEDULERS[to].is_here),
    )
    for name, text in scheduling.render(described, to).items():
        if out is None:
            print(f"# {name}\n{text}")  # noqa: T201 - this prints to the terminal
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text, encoding="utf-8")


def _check_command(venv: str) -> None:
    """Check that the environment has the command that a schedule on this machine runs.

    Raises:
        ConfigError: it has no such file.
    """
    command = Path(venv) / "bin" / "lakescore"
    if not command.is_file():
        raise ConfigError(
            f"there is no {command}, which the schedule would run; name the environment that has "
            "lakescore: --venv FOLDER"
        )


def _variables(given: dict[str, str], *, is_here: bool) -> dict[str, str]:
    """Return the variables of the scheduled job: those *given*, and those that name the registry.

    Raises:
        ConfigError: a variable of this environment has a password, which the files would show.
    """
    kept = dict(given)
    names = ["MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "LAKESCORE_HOME", "LAKESCORE_TRUST"]
    for name in names:
        value = os.environ.get(name)
        if value is None or name in given:
            continue
        if redact(value) != value:
            raise ConfigError(
                f"{name} is set here and has a password, which the files would show; give one "
                f"without a password: --env {name}=VALUE"
            )
        if name.startswith("MLFLOW_") or is_here:
            kept[name] = value
            _warn(f"{name}={value} of this environment is kept in the files; change it by --env")
        else:
            _warn(f"{name} is set here, but not for the scheduled job; give it by --env {name}=...")
    return kept


def _warn(text: str) -> None:
    print(f"lakescore: {visible(text)}", file=sys.stderr)  # noqa: T201 - for the terminal


def _check_job(
    scheduler: str, words: Sequence[str], tasks: Sequence[Sequence[str]] = ()
) -> scheduling.Job:
    """Return the job of *words*; check its file first with the overrides of each of the *tasks*."""
    from lakescore.config import JOBS, kind_of, load  # noqa: PLC0415
    from lakescore.joblist import is_list, jobs_of  # noqa: PLC0415

    config, *overrides = words
    variants = [scheduling.filled(scheduler, [*overrides, *task]) for task in tasks or [()]]
    kind = kind_of(Path(config), variants[0])
    for variant in variants:
        if is_list(Path(config)):
            jobs_of([config, *variant])
        else:
            load(JOBS[kind], Path(config), variant)
    return scheduling.Job(kind=kind, config=config, overrides=tuple(overrides))


def _job_type(name: str) -> type[config.Job]:
    from lakescore.config import JOBS  # noqa: PLC0415

    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}{nearest(name, JOBS)}; jobs: {listed(JOBS)}")
    return JOBS[name]
