"""Run a job as a command: arguments -> configuration -> run -> receipt -> exit code."""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, cast

import typer

from lakescore import console, joblist
from lakescore.config import Job, ScoreJob, load
from lakescore.job.batch import Batch
from lakescore.job.running import explain, perform, record
from lakescore.job.stopping import end_when_stopped, end_with_parent
from lakescore.runner import RunnerRefused
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pydantic.fields import FieldInfo

    from lakescore.errors import LakescoreError

    Receipt = dict[str, Any]

J = TypeVar("J", bound=Job)


def main(
    kind: type[J], run: Callable[[J], Receipt], arguments: Sequence[str] | None = None
) -> None:
    """Run a job, or several score jobs, as a command; exit the process with its exit code.

    Args:
        kind: the type of the job's file.
        run: the job; it returns its receipt, which gets the job's name, version and seconds.
        arguments: the command's arguments; default: those of the process.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    name = kind.job_name
    several = kind is ScoreJob
    first: Any = typer.Argument(metavar="CONFIG", help=f"the job's file, such as conf/{name}.yaml")
    further: Any = typer.Argument(
        None,
        metavar="[CONFIG]... [KEY=VALUE]..." if several else "[KEY=VALUE]...",
        help=f"{'more files, and ' if several else ''}keys to override",
    )

    @app.command(help=kind.__doc__, epilog=_describe_keys(kind))
    def command(
        config: Path = first,
        words: list[str] | None = further,
        *,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="show Spark's own log, and full tracebacks")
        ] = False,
        log: Annotated[
            Literal["text", "json"],
            typer.Option(help="format of the log: text, or one JSON document per line"),
        ] = "text",
        place: Annotated[
            str | None,
            typer.Option(
                metavar="PLACE", help="name or file of Spark's properties; default: PLACE, or local"
            ),
        ] = None,
    ) -> None:
        if place is not None:
            os.environ["PLACE"] = place
        job = JobCommand(name, run, verbose=verbose, log=log)
        job.open()
        argv = [str(config), *(words or ())]
        code = _run_several(cast("Any", job), argv) if several else _run_one(job, kind, argv)
        raise typer.Exit(code)

    app(args=None if arguments is None else list(arguments), prog_name=f"lakescore {name}")


def _run_one(command: JobCommand[J], kind: type[J], words: Sequence[str]) -> int:
    """Run the job of a file; return its exit code."""
    console.begin()
    path, *overrides = words
    try:
        config = load(kind, Path(path), overrides)
    except Exception as error:  # noqa: BLE001 - handled like an error of the job itself
        return command.failed(error).exit_code
    return _run_alone(command, config)


def _run_alone(command: JobCommand[J], config: J) -> int:
    """Run the only job of this process; return its exit code."""
    receipt = command.attempt(config, stopped=lambda _: None)
    if "exit_code" in receipt:
        return int(receipt["exit_code"])
    console.show_receipt(receipt)
    return 0


def _run_several(command: JobCommand[ScoreJob], words: Sequence[str]) -> int:
    """Run the score jobs of *words*; return the exit code of the only job, or the highest one."""
    console.begin()
    try:
        jobs = joblist.jobs_of(words)
        if not jobs.are_listed:
            return _run_alone(command, jobs.jobs[0].config)
        return Batch(command, jobs).run()
    except Exception as error:  # noqa: BLE001 - handled like an error of a job itself
        return command.failed(error).exit_code


class JobCommand(Generic[J]):
    """A command that runs jobs of one kind; every run ends with a receipt.

    Args:
        name: the name of the kind of job.
        run: the job.
        verbose: whether to show Spark's log and full tracebacks.
        log: the format of the log, `text` or `json`.
    """

    def __init__(self, name: str, run: Callable[[J], Receipt], *, verbose: bool, log: str) -> None:
        self.name = name
        self._run: Callable[[J], Receipt] = run
        self._verbose, self._log = verbose, log

    def open(self) -> None:
        """Set up the log of this process."""
        if self._log == "json":
            console.log_as_json(job=self.name)
        if self._verbose:
            os.environ["LAKESCORE_VERBOSE"] = "1"
        console.own_stderr()

    def attempt(
        self, config: J, *, stopped: Callable[[Receipt], None], may_decline: bool = False
    ) -> Receipt:
        """Run a job; return its receipt, which has an `exit_code` if the job failed.

        Args:
            config: the job.
            stopped: receives the receipt of a job that has to end at once; then the process
                ends.
            may_decline: whether to raise if the job needs Spark and must not start it.

        Raises:
            RunnerRefused: the job needs Spark, and *may_decline* is true.
        """
        try:
            end_with_parent()
            return perform(
                self._run,
                config,
                end_when_stopped(
                    lambda error: stopped(self.record(config, error)), config.timeout_seconds
                ),
            )
        except (Exception, SystemExit) as error:
            if may_decline and isinstance(error, RunnerRefused):
                raise
            return self.record(config, self.failed(error, is_shown=False))

    def record(self, config: J, error: LakescoreError) -> Receipt:
        """Write the receipt of a job that failed, show the error, and return the receipt."""
        receipt = record(config, error)
        console.show_error(error)
        return receipt

    def failed(self, error: BaseException, *, is_shown: bool = True) -> LakescoreError:
        """Return *error* as a LakescoreError, which has one line and an exit code, and show it."""
        if self._verbose:
            sys.stderr.write(redact("".join(traceback.format_exception(error))))
        known = explain(error)
        if is_shown:
            console.show_error(known)
        return known


def _describe_keys(kind: type[J]) -> str:
    """Return the keys of the job's file for `--help`, each as a paragraph."""
    fields: dict[str, FieldInfo] = kind.model_fields
    return "\n\n".join(
        [
            "Keys of the job's file:",
            *[f"{name}: {field.description}" for name, field in fields.items()],
        ]
    )
