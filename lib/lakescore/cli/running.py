"""Define the commands that run jobs: score, compare and replay; and where their files are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lakescore import assets
from lakescore.cli.app import app, command, say
from lakescore.errors import ConfigError
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Callable

_PASSED_ON: dict[str, Any] = {"ignore_unknown_options": True, "allow_extra_args": True}


def _define(job: str, summary: str) -> None:
    """Define the command of a job, which reads its words itself."""

    def run(context: typer.Context) -> None:
        from lakescore.submitting import submit  # noqa: PLC0415 - other commands do not need it

        raise typer.Exit(submit(job, context.args))

    run.__doc__ = summary
    define: Callable[..., Any] = app.command(
        name=job, context_settings=_PASSED_ON, add_help_option=False
    )
    define(run)


_define("score", "Score a table with a pinned version, by a job's file.")
_define("compare", "Rank versions on holdout data, by a job's file.")
_define("replay", "Make the predictions of a run again, by a job's file.")
_define("monitor", "Compare what was scored with a baseline, by a job's file.")


@command()
def path(
    job: Annotated[str, typer.Argument(metavar="|".join(assets.job_files()), help="a job")],
) -> None:
    """Print the path of a job's Python file, for whoever calls spark-submit."""
    from lakescore.submitting import find_job  # noqa: PLC0415 - see above

    say(str(find_job(job)))


@command()
def init(
    folder: Annotated[
        Path, typer.Argument(metavar="[FOLDER]", help="folder of the project, which may not exist")
    ] = Path(),
    *,
    source: Annotated[
        Literal["empty", "flights"],
        typer.Option(
            "--from",
            help="flights: also make the demo's tables, and three versions of flight-delay, in "
            "FOLDER/.lakescore",
        ),
    ] = "empty",
) -> None:
    """Write the files of a new project: jobs, places, a trust policy, and a check for CI."""
    from lakescore import projects  # noqa: PLC0415 - other commands do not need it

    if source == "flights":
        _check_flights(folder)
    for path in projects.create(folder, with_flights=source == "flights"):
        say(str(path))
    if source == "flights":
        from lakescore import flights  # noqa: PLC0415 - as above

        os.environ["LAKESCORE_HOME"] = str((folder / ".lakescore").absolute())
        flights.prepare(say)
        say(f"next: cd {folder}, then lakescore score conf/score.yaml")
        return
    say("next: write the names of your model and tables into conf/score.yaml, then")
    say("lakescore check score conf/score.yaml")


def _check_flights(folder: Path) -> None:
    """Check that the tables and versions of the flights are written over no others.

    Raises:
        ConfigError: they would be, or the flights are not installed.
    """
    from lakescore import flights  # noqa: PLC0415 - see above

    flights.require()
    data = folder / ".lakescore"
    if data.exists():
        raise ConfigError(
            f"{data} exists, and --from flights writes over no data; name a new folder"
        )
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "LAKESCORE_HOME"):
        if os.environ.get(name):
            raise ConfigError(
                f"{name} is set, and the project's jobs would use it instead of {data}, where "
                f"--from flights puts its tables and models; unset {name}"
            )


@command()
def setup(
    kind: Annotated[
        str,
        typer.Argument(metavar="[KIND]", help="kind of jars: jars (Delta's), s3 or openlineage"),
    ] = "jars",
    *,
    again: Annotated[bool, typer.Option(help="also if nothing is missing")] = False,
) -> None:
    """Fetch the jars that Spark needs, check their digests, and prepare JVMs to start faster.

    The command does nothing if all jars are there. Jobs without Spark need no jars.
    """
    from lakescore import class_archive, jars, java  # noqa: PLC0415 - see above

    java.require()
    names = jars.missing(kind)
    if names:
        say(f"fetching {listed(names)}")
        jars.fetch(kind)
    if kind == jars.DELTA and (names or again or not assets.class_archive().is_file()):
        say("storing the classes of Spark, which JVMs then share")
        if reason := class_archive.make():
            say(f"Java stores no classes, so jobs start slower: {reason}")
