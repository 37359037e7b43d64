"""Run a job as a command: arguments -> configuration -> run -> receipt -> exit code."""

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
from lakescore.errors import LakescoreError, Stopped, TemporaryError
from lakescore.joblist import NotRun
from lakescore.metering import MetricsNotWritten
from lakescore.receipt import jobs_receipt
from lakescore.runner import RunnerRefused
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pydantic.fields import FieldInfo

    from lakescore.supervising import Channel

    Receipt = dict[str, Any]

J = TypeVar("J", ScoreJob, CompareJob, ReplayJob)
_TRUSTS_ALL = (
    "no trust policy: code in a model from a stranger would run; name a policy with trust: or "
    "LAKESCORE_TRUST (docs/registry.md)"
)


class TimedOut(TemporaryError):
    """The run took longer than the job allows."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"the run took longer than timeout_seconds: {seconds:g}, so it was stopped; it "
            "publishes nothing more; run it again, and it recognises everything that is published "
            "already"
        )


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
    name = kind.__name__.removesuffix("Job").lower()
    several = kind is ScoreJob
    further: Any = typer.Argument(
        None,
        metavar="[CONFIG]... [KEY=VALUE]..." if several else "[KEY=VALUE]...",
        help=f"{'more files, and ' if several else ''}keys to override",
    )

    @app.command(help=kind.__doc__, epilog=_describe_keys(kind))
    def command(
        config: Annotated[Path, typer.Argument(help="the job's file, such as conf/score.yaml")],
        words: list[str] | None = further,
        *,
        verbose: Annotated[
            bool, typer.Option("--verbose", "-v", help="show Spark's own log, and full tracebacks")
        ] = False,
        log: Annotated[
            Literal["text", "json"],
            typer.Option(help="format of the log: text, or one JSON document per line"),
        ] = "text",
    ) -> None:
        job = _JobCommand(name, run, verbose=verbose, log=log)
        job.open()
        argv = [str(config), *(words or ())]
        code = _run_several(cast("Any", job), argv) if several else _run_one(job, kind, argv)
        raise typer.Exit(code)

    app(args=None if arguments is None else list(arguments), prog_name=f"{name}.py")


def _run_one(command: _JobCommand[J], kind: type[J], words: Sequence[str]) -> int:
    """Run the job of a file; return its exit code."""
    console.begin()
    path, *overrides = words
    try:
        config = load(kind, Path(path), overrides)
    except Exception as error:  # noqa: BLE001 - handled like an error of the job itself
        return command.failed(error).exit_code
    return _run_alone(command, config)


def _run_alone(command: _JobCommand[J], config: J) -> int:
    """Run the only job of this process; return its exit code."""
    receipt = command.attempt(config, stopped=lambda _: None)
    if "exit_code" in receipt:
        return int(receipt["exit_code"])
    console.show_receipt(receipt)
    return 0


def _run_several(command: _JobCommand[ScoreJob], words: Sequence[str]) -> int:
    """Run the score jobs of *words*; return the exit code of the only job, or the highest one."""
    console.begin()
    try:
        jobs = joblist.jobs_of(words)
        if not jobs.are_listed:
            return _run_alone(command, jobs.jobs[0].config)
        return _Batch(command, jobs).run()
    except Exception as error:  # noqa: BLE001 - handled like an error of a job itself
        return command.failed(error).exit_code


class _JobCommand(Generic[J]):
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
        started = time.monotonic()
        if not config.trust.is_given:
            console.stage(_TRUSTS_ALL)
        try:
            session.prepare(config.runner)
            _end_with_parent()
            with _stopping(
                lambda error: stopped(self.record(config, error)), config.timeout_seconds
            ):
                receipt: Receipt = self._head() | self._run(config)
        except (Exception, SystemExit) as error:
            if may_decline and isinstance(error, RunnerRefused):
                raise
            return self.record(config, self.failed(error, is_shown=False))
        receipt["seconds"] = {**console.laps(), "total": round(time.monotonic() - started, 2)}
        if config.prometheus is not None:
            try:
                metering.write(receipt, config.prometheus)
            except MetricsNotWritten as error:  # the run succeeded, and its tables are written
                console.stage(str(error))
        if "would" in receipt:
            console.show_plan(receipt)
        console.show_slices(receipt)
        _write(receipt, config.receipt)
        return receipt

    def record(self, config: J, error: LakescoreError) -> Receipt:
        """Write the receipt of a job that failed, show the error, and return the receipt."""
        ending = {
            "status": "failed",
            "error": str(error),
            "code": error.code,
            "exit_code": error.exit_code,
        }
        receipt = {**self._head(), **ending, **error.facts}
        _write(receipt, config.receipt)
        if config.prometheus is not None:
            with suppress(MetricsNotWritten):  # show the error of the job instead
                metering.write(receipt, config.prometheus)
        console.show_error(error)
        return receipt

    def failed(self, error: BaseException, *, is_shown: bool = True) -> LakescoreError:
        """Return *error* as a LakescoreError, which has one line and an exit code, and show it."""
        if self._verbose:
            sys.stderr.write(redact("".join(traceback.format_exception(error))))
        known = error if isinstance(error, LakescoreError) else _explain_error(error)
        if is_shown:
            console.show_error(known)
        return known

    def _head(self) -> Receipt:
        return {"job": self.name, "lakescore": version("lakescore")}


def _write(receipt: Receipt, path: Path | None) -> None:
    """Write a receipt to *path*, if it is set; a failure does not change the result of the job."""
    if path is not None:
        try:
            console.write_receipt(receipt, path)
        except OSError as error:
            console.stage(f"the receipt cannot be written to {path}: {error.strerror or error}")


class _Batch:
    """Several jobs of one command.

    Args:
        command: the command that runs all jobs.
        jobs: the requested jobs.
    """

    def __init__(self, command: _JobCommand[ScoreJob], jobs: joblist.Jobs) -> None:
        self._command, self._jobs = command, jobs
        self._receipts: dict[str, Receipt] = {}
        self._started = time.monotonic()

    def run(self) -> int:
        """Run the jobs, and end with a summary; return the highest exit code.

        After the summary, a Ctrl-C is raised again.
        """
        try:
            with suppress(_StopRequested), _raise_when_stopped():
                if session.runs_here():
                    self._run_in_processes()
                else:
                    self._run_in_driver()
        except KeyboardInterrupt:
            self._summarize()
            raise
        except Exception as error:  # noqa: BLE001 - the summary includes the jobs that did run
            code = self._command.failed(error).exit_code
            return max(code, self._summarize())
        return self._summarize()

    def _run_in_processes(self) -> None:
        from lakescore import supervising  # noqa: PLC0415 - only several jobs need it

        supervising.prepare()
        jobs = supervising.pin_inputs(self._jobs.jobs)
        parallel = min(self._jobs.parallel or session.onlooker().slots, len(jobs))
        work = partial(_run_jobs, self._command)
        supervising.Supervisor(work, self._show, self._record_lost, parallel).run(jobs)

    def _run_in_driver(self) -> None:
        """Run one job after the other in this process, which uses Spark on other machines."""
        for job in self._jobs.jobs:
            console.begin(job.name)
            receipt = self._command.attempt(job.config, stopped=partial(self._stop, job))
            self._show(job, receipt)

    def _stop(self, job: joblist.Job, receipt: Receipt) -> None:
        self._show(job, receipt)
        os._exit(self._summarize())

    def _show(self, job: joblist.Job, receipt: Receipt) -> None:
        self._receipts[job.name] = receipt
        console.show_receipt(receipt | {"name": job.name})

    def _record_lost(self, job: joblist.Job, error: LakescoreError) -> Receipt:
        console.begin(job.name)
        receipt = self._command.record(job.config, error)
        console.begin()
        return receipt

    def _summarize(self) -> int:
        """Show the receipts of all jobs and the summary; return the highest exit code."""
        console.begin()
        for job in self._jobs.jobs:
            if job.name not in self._receipts:
                self._show(job, self._record_lost(job, NotRun()))
        seconds = round(time.monotonic() - self._started, 2)
        summary = jobs_receipt(
            [(job, self._receipts[job.name]) for job in self._jobs.jobs], seconds
        )
        console.stage(summary.pop("summary"))
        console.show_receipt(summary)
        return int(summary["exit_code"])


def _run_jobs(command: _JobCommand[ScoreJob], channel: Channel) -> None:
    """Run the jobs that *channel* brings to this process, which was started for them."""
    gc.freeze()  # memory that processes share stays shared
    # Ctrl-C goes to all processes of a terminal. The parent process stops this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    channel.open()
    command.open()
    for job, spark, reason in channel.jobs():
        session.allow_spark(allowed=spark, reason=reason)
        console.begin(job.name)
        try:
            receipt = command.attempt(
                job.config,
                stopped=partial(channel.answer, takes_more=False),
                may_decline=job.config.runner == "auto" and not spark,
            )
        except RunnerRefused as not_eligible:
            channel.answer(not_eligible.reason, takes_more=False)
            return
        channel.answer(receipt, takes_more=spark and session.is_answering())


def _end_with_parent() -> None:
    """End this process when its parent, which started it to run jobs, has ended."""
    parent = multiprocessing.parent_process()
    name = "lakescore-parent"
    if parent is None or any(thread.name == name for thread in threading.enumerate()):
        return

    def watch() -> None:
        parent.join()
        os._exit(NotRun.exit_code)

    threading.Thread(target=watch, name=name, daemon=True).start()


class _StopRequested(BaseException):
    """A scheduler asks this process to end.

    It is not an `Exception`: it can occur anywhere, also in code that catches every `Exception`.
    """


@contextmanager
def _raise_when_stopped() -> Iterator[None]:
    """Raise `_StopRequested` once in the body when a scheduler asks this process to end."""

    def stop(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the process ends already
        raise _StopRequested

    if threading.current_thread() is not threading.main_thread():  # it alone handles signals
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

    The process ends at once. Unwinding would call the JVM, and wait until the JVM has answered the
    current call, for example to a model that hangs. Without the driver, its JVM and the workers end
    too. A commit is complete or does not happen.
    """
    deciding, is_over = threading.RLock(), False  # a signal can arrive while this thread has it

    def stop(error: LakescoreError) -> None:
        nonlocal is_over
        with deciding:
            if is_over:  # the body ended at the same moment
                return
            is_over = True
        try:
            failed(error)
        finally:
            os._exit(error.exit_code)

    timer = threading.Timer(seconds, stop, [TimedOut(seconds)]) if seconds else None
    is_main = threading.current_thread() is threading.main_thread()  # it alone handles signals
    before = signal.signal(signal.SIGTERM, lambda *_: stop(Stopped())) if is_main else None
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
        if is_main:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _explain_error(error: BaseException) -> LakescoreError:
    if (known := scanning.unread(error) or storage.explain_error(error)) is not None:
        return known
    lines = str(error).strip().splitlines()
    if lines[1:] and lines[0].startswith("An error occurred while calling"):
        lines[0] = lines[1].removeprefix(": ")  # Py4J's line comes first, then Java's message
    message = next(iter(lines), "")
    return LakescoreError(f"{type(error).__name__}: {message} (-v shows the full traceback)")


def _describe_keys(kind: type[J]) -> str:
    """Return the keys of the job's file for `--help`, each as a paragraph."""
    fields: dict[str, FieldInfo] = kind.model_fields
    return "\n\n".join(
        [
            "Keys of the job's file:",
            *[f"{name}: {field.description}" for name, field in fields.items()],
        ]
    )
