"""Supervising: several jobs at once, each in its own process, so a failed job stops no other job.

Processes are forked from one that has imported the libraries (multiprocessing's forkserver). So a
process costs milliseconds, and its memory is free at the end of its job. Jobs that need Spark run
one after the other in one process with one session, because their tasks use all cores.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import threading
from collections import defaultdict
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from lakescore import session, tables
from lakescore.console import stage
from lakescore.errors import LakescoreError, Stopped, TemporaryError
from lakescore.joblist import NotRun, same_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from lakescore.joblist import Job

    Receipt = dict[str, Any]
    Work = Callable[["Channel"], None]

_SECONDS_TO_END = 20.0
_SAFE_PATH = "PYTHONSAFEPATH"
_LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")  # of the path of a Unix socket


class JobLost(TemporaryError):
    """The process of one of several jobs died."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        fate = f"ended with code {code}"
        if code is None:
            fate = f"could not be started, or does not end ({reason or 'for an unknown reason'})"
        elif code < 0:
            fate = f"was killed by signal {-code}, for example because memory ran out"
        super().__init__(
            f"the process of the job {fate}; this run publishes nothing more; run the job again: "
            "it recognises everything that is published already"
        )


def prepare() -> None:
    """Start the process that forks the others; it imports libraries in the meantime."""
    from multiprocessing import forkserver  # noqa: PLC0415 - only for several jobs

    multiprocessing.set_forkserver_preload(["lakescore.preloading"])
    # Without the variable, `import git` would import a git.py of the current folder.
    with _set_variable(_SAFE_PATH, "1"), _use_short_folder():
        forkserver.ensure_running()


@contextmanager
def _set_variable(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


@contextmanager
def _use_short_folder() -> Iterator[None]:
    """Use a temporary folder that is short enough for a socket's path, as Python from 3.14 on."""
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) > _LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"  # noqa: S108 - files there get unique names
    try:
        yield
    finally:
        tempfile.tempdir = before


def pin_inputs(jobs: Sequence[Job]) -> list[Job]:
    """Return *jobs*; those that read the same table get its current version.

    A table that only Spark can open, such as one with a name, gets no version.
    """
    readers: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.config.input.version is None:
            readers[same_place(job.config.input.address)].append(job)
    pinned: dict[str, Job] = {}
    for place, sharing in readers.items():
        if len(sharing) > 1 and "/" in place:
            address = sharing[0].config.input.address
            with suppress(Exception):  # the jobs themselves report the error
                version = tables.snapshot(session.onlooker(), address).version
                stage(f"{len(sharing)} jobs read {address} at version {version}")
                pinned |= {job.name: _at_version(job, version) for job in sharing}
    return [pinned.get(job.name, job) for job in jobs]


def _at_version(job: Job, version: int) -> Job:
    pinned = job.config.input.model_copy(update={"version": version})
    return replace(job, config=job.config.model_copy(update={"input": pinned}))


@dataclass(frozen=True)
class Channel:
    """The connection of a process of jobs to the process that started it."""

    pipe: Connection
    environment: dict[str, str]
    """The environment variables of the starter."""
    folder: str
    """The folder for temporary files; the starter removes it."""
    outer: str
    """The starter's folder for temporary files, which stays."""

    def open(self) -> None:
        """Give this process the environment and the folder."""
        os.environ.clear()
        os.environ.update(self.environment | {"TMPDIR": self.folder})
        tempfile.tempdir = None
        session.start_jvm_in(self.outer)

    def jobs(self) -> Iterator[tuple[Job, bool, str]]:
        """Yield jobs as they come: the job, whether it can use Spark, and why it must."""
        with suppress(EOFError):  # there are no more
            while True:
                yield self.pipe.recv()

    def answer(self, result: Receipt | str, *, takes_more: bool) -> None:
        """Send the receipt of the last job, or the reason why it needs Spark."""
        self.pipe.send((result, takes_more))


class Supervisor:
    """Runs jobs in processes.

    Args:
        work: the function of a process; it gets the channel, and answers each job.
        on_end: called with a job and its receipt, by several threads, but never at the same time.
        receipt_of_lost: makes the receipt of a job whose process died; also never called at the
            same time.
        parallel: the number of processes that run jobs without Spark at the same time.
    """

    def __init__(
        self,
        work: Work,
        on_end: Callable[[Job, Receipt], None],
        receipt_of_lost: Callable[[Job, LakescoreError], Receipt],
        parallel: int,
    ) -> None:
        self._work, self._on_end, self._receipt_of_lost = work, on_end, receipt_of_lost
        self._parallel = parallel
        self._lock = threading.Lock()
        self._running: set[_Process] = set()
        self._spark_process: _Process | None = None
        self._is_stopped = False

    def run(self, jobs: Sequence[Job]) -> None:
        """Run *jobs*; an interrupt stops the running jobs, and the other jobs never start."""
        alone = ThreadPoolExecutor(self._parallel)
        by_spark = ThreadPoolExecutor(1)  # there is one session
        try:
            futures = [alone.submit(self._run_alone, job, by_spark) for job in jobs]
            for future in futures:
                if (needing_spark := future.result()) is not None:
                    needing_spark.result()
        except BaseException:
            alone.shutdown(wait=False, cancel_futures=True)
            by_spark.shutdown(wait=False, cancel_futures=True)
            self._stop()
            raise
        finally:
            with suppress(CancelledError):
                alone.shutdown()
                by_spark.shutdown()
            if self._spark_process is not None:
                self._release(self._spark_process)

    def _run_alone(self, job: Job, by_spark: ThreadPoolExecutor) -> Future[None] | None:
        """Run a job without Spark, or return the future of its run in Spark's process."""
        if (reason := _spark_reason(job)) is not None:
            return by_spark.submit(self._run_by_spark, job, reason)
        process, answer, _ = self._ask(None, job, spark=False, reason="")
        self._release(process)
        if isinstance(answer, str):
            return by_spark.submit(self._run_by_spark, job, answer)
        self._report(job, answer)
        return None

    def _run_by_spark(self, job: Job, reason: str) -> None:
        process, answer, takes_more = self._ask(self._spark_process, job, spark=True, reason=reason)
        self._spark_process = process if takes_more else None
        if not takes_more:
            self._release(process)
        if isinstance(answer, str):  # it can use Spark, so it has no reason to decline
            raise TypeError(f"{job.name} declined Spark: {answer}")
        self._report(job, answer)

    def _report(self, job: Job, receipt: Receipt) -> None:
        with self._lock:
            self._on_end(job, receipt)

    def _ask(
        self, process: _Process | None, job: Job, *, spark: bool, reason: str
    ) -> tuple[_Process | None, Receipt | str, bool]:
        """Run a job in *process*, or in a new process if it is None.

        Returns:
            The process; the receipt, or why the job needs Spark; whether the process takes another
            job.
        """
        try:
            process = process or self._start()
            answer, takes_more = process.ask(job, spark, reason)
        except LakescoreError as error:
            with self._lock:
                cause = Stopped() if self._is_stopped and isinstance(error, JobLost) else error
                return process, self._receipt_of_lost(job, cause), False
        return process, answer, takes_more

    def _start(self) -> _Process:
        """Start a process.

        Raises:
            NotRun: all jobs were stopped before.
            JobLost: no process can be started.
        """
        try:
            process = _Process(self._work)
        except (OSError, EOFError) as error:
            raise JobLost(None, str(error)) from error
        with self._lock:
            if not self._is_stopped:
                self._running.add(process)
                return process
        process.kill()
        process.end()
        raise NotRun

    def _release(self, process: _Process | None) -> None:
        """End a process that gets no more jobs."""
        if process is not None:
            process.end()
            self._running.discard(process)

    def _stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            processes = list(self._running)
        for process in processes:
            process.stop()

        def kill() -> None:
            for process in processes:
                process.kill()

        late = threading.Timer(_SECONDS_TO_END, kill)
        late.daemon = True
        late.start()


def _spark_reason(job: Job) -> str | None:
    """Return why a job runs with Spark from its start, or None if it is tried without Spark."""
    if job.config.runner == "spark":
        return ""
    if job.config.runner == "auto" and job.config.commits == "slice":
        # Without Spark, the job could publish slices and then need Spark. The receipt of Spark's
        # process would then call these slices unchanged.
        return "commits: slice, in a list of jobs"
    return None


class _Process:
    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("forkserver")
        self._folder = tempfile.mkdtemp(prefix="lakescore-")
        self._pipe, other_end = context.Pipe()
        channel = Channel(other_end, dict(os.environ), self._folder, tempfile.gettempdir())
        self._process = context.Process(target=work, args=(channel,))
        self._process.start()
        other_end.close()

    def ask(self, *request: object) -> tuple[Receipt | str, bool]:
        """Return the answer of the process.

        Raises:
            JobLost: the process died.
        """
        try:
            self._pipe.send(request)
            # Not only for the end of the pipe: forks of the process may hold it open.
            wait([self._pipe, self._process.sentinel])
            if self._pipe.poll():
                answer: tuple[Receipt | str, bool] = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            pass
        self._process.join(_SECONDS_TO_END)
        raise JobLost(self._process.exitcode)

    def end(self) -> None:
        """End the process, which only waits for a next job."""
        self._pipe.close()
        self._process.join(_SECONDS_TO_END)
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Send the process the signal SIGTERM, as a scheduler would."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill the process at once if it still runs."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_SECONDS_TO_END)
