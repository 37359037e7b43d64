"""The commands about the jobs' files: schema, check and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lakescore.cli.door import command, pairs, tell
from lakescore.errors import ConfigError, listed, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lakescore.config import CompareJob, ReplayJob, ScoreJob


@command()
def schema(job: str) -> None:
    """Print the JSON schema of a job's file: score, compare or replay."""
    tell(_job(job).model_json_schema())


@command()
def check(
    job: str, config: Path, overrides: Annotated[list[str] | None, typer.Argument()] = None
) -> None:
    """Read a job's file with its overrides, and say what is wrong.

    Java is looked for as well.
    """
    from lakescore import java  # noqa: PLC0415
    from lakescore.config import load  # noqa: PLC0415

    load(_job(job), config, overrides or [])
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
    from lakescore.places import read_properties  # noqa: PLC0415
    from lakescore.scheduling import SCHEDULERS, Cron, Schedule, filled  # noqa: PLC0415

    found = [each for each in SCHEDULERS if each == to]
    if not found:
        known = f"{nearest(to, SCHEDULERS)}; schedulers: {listed(SCHEDULERS)}"
        raise ConfigError(f"there is no scheduler {to!r}{known}")
    place = place or ("kubernetes" if to == "kubernetes" else "standalone")
    properties = Path("conf/spark") / f"{place}.conf"
    if not properties.is_file():
        raise ConfigError(f"there is no place {place!r}: no {properties} here")
    described = Schedule(
        job=_kind_of(Path(config), filled(found[0], overrides or [])),
        config=config,
        overrides=tuple(overrides or ()),
        cron=Cron(cron),
        place=place,
        properties=read_properties(properties),
        project=project,
        environment=pairs(env),
    )
    for name, text in described.render(found[0]).items():
        if out is None:
            print(f"# {name}\n{text}")  # noqa: T201 - here is the terminal
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / name).write_text(text, encoding="utf-8")


def _kind_of(config: Path, overrides: Sequence[str]) -> Literal["score", "compare"]:
    """Return the job that a file is for: of the two, only a compare job's has `versions`."""
    from lakescore.config import CompareJob, ScoreJob, load  # noqa: PLC0415

    try:
        load(ScoreJob, config, overrides)
    except ConfigError as error:
        try:
            load(CompareJob, config, overrides)
        except ConfigError:
            raise error from None
        return "compare"
    return "score"


def _job(name: str) -> type[ScoreJob | CompareJob | ReplayJob]:
    from lakescore.config import JOBS  # noqa: PLC0415

    if name not in JOBS:
        raise ConfigError(f"there is no job {name!r}{nearest(name, JOBS)}; jobs: {listed(JOBS)}")
    return JOBS[name]
