"""Look at what a job needs: its models, tables and place, and the jars of Spark."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lakescore import jars, places, registry
from lakescore.cli.app import say
from lakescore.config import CompareJob, ScoreJob, load
from lakescore.joblist import jobs_of
from lakescore.logs import Log, NotEligible
from lakescore.storage import TableNotFound
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from lakescore.config import Job, Segments
    from lakescore.config.models import VersionQuery


def check_surroundings(kind: type[Job], words: Sequence[str]) -> None:
    """Show what the jobs of *words* need and what is there.

    Raises:
        ConfigError: there is no such place.
        TableNotFound: a table that a job reads does not exist.
        Also the errors of `registry.describe`.
    """
    place = places.current()
    say(f"place {place}: {places.place_file(place)}")
    _check_jars()
    for job in _jobs(kind, words):
        for asked in _models(job):
            _check_model(asked)
        for address in _inputs(job):
            _check_table(address)


def _jobs(kind: type[Job], words: Sequence[str]) -> Iterator[Job]:
    if kind is ScoreJob:
        yield from (job.config for job in jobs_of(list(words)).jobs)
    else:
        yield load(kind, Path(words[0]), list(words[1:]))


def _check_jars() -> None:
    if missing := jars.missing(jars.DELTA):
        how = "lakescore setup fetches them; otherwise the first job that needs Spark does"
        say(f"jars of Delta: {listed(missing)} not fetched; {how}")
    else:
        say("jars of Delta: fetched")


def _models(job: Job) -> Sequence[str | Segments | VersionQuery]:
    if isinstance(job, ScoreJob):
        return [job.model]
    if isinstance(job, CompareJob):
        return job.versions if isinstance(job.versions, list | tuple) else [job.versions]
    return []


def _check_model(asked: str | Segments | VersionQuery) -> None:
    if isinstance(asked, str):
        say(f"model {asked}: {registry.describe(asked, digest_up_to=0).uri}")
    else:
        say(f"models of {asked.name}: not looked at; the job finds its versions when it runs")


def _inputs(job: Job) -> list[str]:
    if isinstance(job, ScoreJob):
        return [job.input.address]
    return [job.holdout.address if isinstance(job, CompareJob) else job.output.address]  # type: ignore[attr-defined]


def _check_table(address: str) -> None:
    """Show the newest version of the table at *address*.

    Raises:
        TableNotFound: there is no table.
    """
    if "/" not in address:
        say(f"table {address}: not looked at; only Spark finds a table by its name")
        return
    try:
        say(f"table {address}: version {Log(address).version}")
    except NotEligible as reason:
        say(f"table {address}: not looked at; only Spark can open it: {reason}")
    except FileNotFoundError:
        raise TableNotFound(address) from None
