"""The door of the jobs: argv -> config -> run -> receipt -> exit code."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import contextmanager, suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar, cast

import typer

from lakescore import console, joblist, metering, scanning, session, storage
from lakescore.config import CompareJob, ReplayJob, ScoreJob, load
from lakescore.errors import (
    LakescoreError,
    MetricsNotWritten,
    NotRun,
    RunnerRefused,
    Stopped,
    TimedOut,
    redact,
)
from lakescore.receipt import jobs_receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic.fields import FieldInfo

    from lakescore.supervising import Channel

    Receipt = dict[str, Any]

J = TypeVar("J", ScoreJob, CompareJob, ReplayJob)
_TRUSTS_ALL = (
    "no trust policy: code that a stranger's model brings would run; name one by trust: or "
    "LAKESCORE_TRUST (docs/registry.md)"
)


def main(
    kind: type[J], run: Callable[[J], Receipt], arguments: Sequence[str] | None = None
) -> None:
    """Run a job, or several score jobs, as a command, and end the process with its exit code.

    Args:
        kind: the type of the job's file.
        run: the job; it returns its receipt, which gets the job's name, version and seconds.
        arguments: the command's arguments; those of the process when left out.
    """
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    name = kind.__name__.removesuffix("Job").lower()
    several = kind is ScoreJob
    further: Any = typer.Argument(
        None,
        metavar="[CONFIG]... [KEY=VALUE]..." if several else "[KEY=VALUE]...",
        help=f"{'further files, and ' if several else ''}keys to override",
    )

    @app.command(help=kind.__doc__, epilog=_fields(kind))
    def command(
        config: Annotated[Path, typer.Argument(help="the job's file, such as conf/score.yaml")],
        words: list[str] | None = further,
        *,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="Spark's own log, and whole traces")
        ] = False,
        log: Annotated[
            Literal["text", "json"],
            typer.Option(help="what is said while it runs: text, or a JSON document a line"),
        ] = "text",
    ) -> None:
        door = _JobCommand(name, run, verbose=verbose, log=log)
        door.open()
        given = [str(config), *(words or ())]
        code = _several(cast("Any", door), given) if several else _one(door, kind, given)
        raise typer.Exit(code)

    app(args=None if arguments is None else list(arguments), prog_name=f"{name}.py")


def _one(door: _JobCommand[J], kind: type[J], words: Sequence[str]) -> int:
    """Run the job of a file; return its exit code."""
    console.begin()
    path, *overrides = words
    try:
        config = load(kind, Path(path), overrides)
    except Exception as error:  # noqa: BLE001 - as of the job itself
        return door.failed(error).exit_code
    return _alone(door, config)


def _alone(door: _JobCommand[J], config: J) -> int:
    """Run a job that is the only one of its process; return its exit code."""
    receipt = door.attempt(config, stopped=lambda _: None)
    if "exit_code" in receipt:
        return int(receipt["exit_code"])
    console.show_receipt(receipt)
    return 0


def _several(door: _JobCommand[ScoreJob], words: Sequence[str]) -> int:
    """Run the score jobs that *words* mean; return the exit code of the one, or the highest."""
    console.begin()
    try:
        jobs = joblist.jobs_of(words)
        if not jobs.are_listed:
            return _alone(door, jobs.jobs[0].config)
        return _Batch(door, jobs).run()
    except Exception as error:  # noqa: BLE001 - as of a job itself
        return door.failed(error).exit_code


class _JobCommand(Generic[J]):
    """What a job goes through: whatever happens to it ends in a receipt.

    Args:
        name: of the kind of job.
        run: the job.
        verbose: whether Spark's log and whole traces are shown.
        log: what is said while it runs, `text` or `json`.
    """

    def __init__(self, name: str, run: Callable[[J], Receipt], *, verbose: bool, log: str) -> None:
        self.name = name
        self._run: Callable[[J], Receipt] = run
        self._verbose, self._log = verbose, log

    def open(self) -> None:
        """Say things in this process as they are to be said."""
        if self._log == "json":
            console.log_as_json(job=self.name)
        if self._verbose:
            os.environ["LAKESCORE_VERBOSE"] = "1"
        console.own_stderr()

    def attempt(
        self, config: J, *, stopped: Callable[[Receipt], None], may_decline: bool = False
    ) -> Receipt:
        """Run a job; return its receipt, which has an `exit_code` where it failed.

        Args:
            config: the job.
            stopped: is called with the receipt of a job that has to end at once; after it the
                process ends.
            may_decline: whether a job that needs Spark, and may not start it, raises.

        Raises:
            RunnerRefused: it may decline, and does.
        """
        started = time.monotonic()
        if not config.trust.is_given:
            console.stage(_TRUSTS_ALL)
        try:
            session.prepare(config.runner)
            _end_with_parent()
            with _stopping(lambda why: stopped(self.record(config, why)), config.timeout_seconds):
                receipt: Receipt = self._head() | self._run(config)
        except (Exception, SystemExit) as error:
            if may_decline and isinstance(error, RunnerRefused):
                raise
            return self.record(config, self.failed(error, is_shown=False))
        receipt["seconds"] = {**console.laps(), "total": round(time.monotonic() - started, 2)}
        if config.prometheus is not None:
            try:
                metering.write(receipt, config.prometheus)
            except MetricsNotWritten as error:  # the run is done, and its tables are written
                console.stage(str(error))
        if "would" in receipt:
            console.show_plan(receipt)
        console.show_slices(receipt)
        _write(receipt, config.receipt)
        return receipt

    def record(self, config: J, error: LakescoreError) -> Receipt:
        """Write what is known of a job that failed, say it, and return its receipt."""
        ending = {"status": "failed", "error": str(error), "exit_code": error.exit_code}
        receipt = {**self._head(), **ending, **error.facts}
        _write(receipt, config.receipt)
        if config.prometheus is not None:
            with suppress(MetricsNotWritten):  # the error itself is what must be said
                metering.write(receipt, config.prometheus)
        console.show_error(error)
        return receipt

    def failed(self, error: BaseException, *, is_shown: bool = True) -> LakescoreError:
        """Return *error* as one that has a line and an exit code, and say it."""
        if self._verbose:
            sys.stderr.write(redact("".join(traceback.format_exception(error))))
        known = error if isinstance(error, LakescoreError) else _unforeseen(error)
        if is_shown:
            console.show_error(known)
        return known

    def _head(self) -> Receipt:
        return {"job": self.name, "lakescore": version("lakescore")}


def _write(receipt: Receipt, path: Path | None) -> None:
    """Write the file of a receipt, if it has one; what was done is done where that fails."""
    if path is not None:
        try:
            console.write_receipt(receipt, path)
        except OSError as error:
            console.stage(f"the receipt cannot be written to {path}: {error.strerror or error}")


class _Batch:
    """Several jobs of a command.

    Args:
        door: that of all of them.
        jobs: what is asked for.
    """

    def __init__(self, door: _JobCommand[ScoreJob], jobs: joblist.Jobs) -> None:
        self._door, self._jobs = door, jobs
        self._receipts: dict[str, Receipt] = {}
        self._started = time.monotonic()

    def run(self) -> int:
        """Run the jobs, and say at the end what became of them; return the highest exit code.

        A person's Ctrl-C is raised again after that.
        """
        try:
            with suppress(_ToldToStop), _raising_when_stopped():
                if session.runs_here():
                    self._run_in_processes()
                else:
                    self._run_in_driver()
        except KeyboardInterrupt:
            self._end()
            raise
        except Exception as error:  # noqa: BLE001 - the jobs that did run are told all the same
            code = self._door.failed(error).exit_code
            return max(code, self._end())
        return self._end()

    def _run_in_processes(self) -> None:
        from lakescore import supervising  # noqa: PLC0415 - for several jobs alone

        supervising.prepare()
        jobs = supervising.pin_inputs(self._jobs.jobs)
        parallel = min(self._jobs.parallel or session.onlooker().slots, len(jobs))
        work = partial(_work, self._door)
        supervising.Supervisor(work, self._tell, self._receipt_of_lost, parallel).run(jobs)

    def _run_in_driver(self) -> None:
        """Run one job after the other in this process, whose Spark is not this machine's."""
        for job in self._jobs.jobs:
            console.begin(job.name)
            receipt = self._door.attempt(job.config, stopped=partial(self._stopped, job))
            self._tell(job, receipt)

    def _stopped(self, job: joblist.Job, receipt: Receipt) -> None:
        self._tell(job, receipt)
        os._exit(self._end())

    def _tell(self, job: joblist.Job, receipt: Receipt) -> None:
        self._receipts[job.name] = receipt
        console.show_receipt(receipt | {"name": job.name})

    def _receipt_of_lost(self, job: joblist.Job, error: LakescoreError) -> Receipt:
        console.begin(job.name)
        receipt = self._door.record(job.config, error)
        console.begin()
        return receipt

    def _end(self) -> int:
        """Say what became of all jobs; return the highest exit code."""
        console.begin()
        for job in self._jobs.jobs:
            if job.name not in self._receipts:
                self._tell(job, self._receipt_of_lost(job, NotRun()))
        seconds = round(time.monotonic() - self._started, 2)
        whole = jobs_receipt([(job, self._receipts[job.name]) for job in self._jobs.jobs], seconds)
        console.stage(whole.pop("summary"))
        console.show_receipt(whole)
        return int(whole["exit_code"])


def _work(door: _JobCommand[ScoreJob], channel: Channel) -> None:
    """Run the jobs of a process that was started for them."""
    gc.freeze()  # what is shared with other processes stays shared
    # Ctrl-C goes to all processes of a terminal: the one that started this tells it to stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.open()
    door.open()
    for job, spark, reason in channel.jobs():
        session.allow_spark(allowed=spark, reason=reason)
        console.begin(job.name)
        try:
            receipt = door.attempt(
                job.config,
                stopped=partial(channel.answer, takes_more=False),
                may_decline=job.config.runner == "auto" and not spark,
            )
        except RunnerRefused as not_eligible:
            channel.answer(not_eligible.reason, takes_more=False)
            return
        channel.answer(receipt, takes_more=spark and session.is_answering())


def _end_with_parent() -> None:
    """End this process when the one that started it for jobs has ended."""
    parent = multiprocessing.parent_process()
    name = "lakescore-parent"
    if parent is None or any(thread.name == name for thread in threading.enumerate()):
        return

    def watch() -> None:
        parent.join()
        os._exit(NotRun.exit_code)

    threading.Thread(target=watch, name=name, daemon=True).start()


class _ToldToStop(BaseException):
    """A scheduler asks this process to end.

    It is no `Exception`, since it may come wherever code, others' too, catches all of these.
    """


@contextmanager
def _raising_when_stopped() -> Iterator[None]:
    """Raise `_ToldToStop` in the body, once, when a scheduler asks this process to end."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends
        raise _ToldToStop

    if threading.current_thread() is not threading.main_thread():  # others may not handle signals
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stopping(failed: Callable[[LakescoreError], None], seconds: float | None) -> Iterator[None]:
    """End the process when a scheduler asks for it (SIGTERM), or when *seconds* have passed.

    It ends there and then. Unwinding would call the JVM, whose answer to a call that is under way,
    such as to score with a model that hangs, comes first. Once the driver is gone its JVM ends too,
    and with it the workers; a commit is whole or is not.
    """
    deciding, is_over = threading.RLock(), False  # a signal may come while this thread holds it

    def stop(why: LakescoreError) -> None:
        nonlocal is_over
        with deciding:
            if is_over:  # the body ended in the same moment
                return
            is_over = True
        try:
            failed(why)
        finally:
            os._exit(why.exit_code)

    timer = threading.Timer(seconds, stop, [TimedOut(seconds)]) if seconds else None
    mine = threading.current_thread() is threading.main_thread()  # others may not handle signals
    before = signal.signal(signal.SIGTERM, lambda *_: stop(Stopped())) if mine else None
    if timer is not None:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        if timer is not None:
            timer.cancel()
        with deciding:
            is_stopping, is_over = is_over, True
        if is_stopping:
            threading.Event().wait()  # until the process ends
        if mine:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _unforeseen(error: BaseException) -> LakescoreError:
    if (known := scanning.unread(error) or storage.explain_error(error)) is not None:
        return known
    lines = str(error).strip().splitlines()
    if lines[1:] and lines[0].startswith("An error occurred while calling"):
        lines[0] = lines[1].removeprefix(": ")  # Py4J's own line, then what Java said
    first = next(iter(lines), "")
    return LakescoreError(f"{type(error).__name__}: {first} (-v shows the whole trace)")


def _fields(kind: type[J]) -> str:
    """Return the keys of the job's file, one a paragraph, for `--help`."""
    fields: dict[str, FieldInfo] = kind.model_fields
    return "\n\n".join(
        [
            "Keys of the job's file:",
            *[f"{name}: {field.description}" for name, field in fields.items()],
        ]
    )
