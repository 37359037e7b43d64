"""Several jobs at once: each in a process of its own, so that one that fails stops no other.

Processes are forked from one that has imported the libraries (multiprocessing's forkserver), so
one costs milliseconds, and what a job loads goes with it. Jobs that need Spark share one process
and its session, one after the other: their tasks use all cores.
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
from lakescore.errors import JobLost, LakescoreError, NotRun, Stopped
from lakescore.joblist import same_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from multiprocessing.connection import Connection

    from lakescore.joblist import Job

    Receipt = dict[str, Any]
    Work = Callable[["Channel"], None]

_SECONDS_TO_END = 20.0
_SAFE_PATH = "PYTHONSAFEPATH"
_LONGEST_FOLDER = 107 - len("/pymp-12345678/listener-12345678")  # of the path of a Unix socket


def prepare() -> None:
    """Start the process that others are forked from; it imports libraries meanwhile."""
    from multiprocessing import forkserver  # noqa: PLC0415 - for several jobs alone

    multiprocessing.set_forkserver_preload(["lakescore.preloading"])
    # Without the first, a git.py of the current folder would be imported for git.
    with _variable(_SAFE_PATH, "1"), _short_folder():
        forkserver.ensure_running()


@contextmanager
def _variable(name: str, value: str) -> Iterator[None]:
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
def _short_folder() -> Iterator[None]:
    """Keep temporary files where the path of a socket fits, as Python does from 3.14 on."""
    before = tempfile.gettempdir()
    if len(os.fsencode(before)) > _LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"  # noqa: S108 - what is made there has a name of its own
    try:
        yield
    finally:
        tempfile.tempdir = before


def pin_inputs(jobs: Sequence[Job]) -> list[Job]:
    """Return *jobs*, those that read the same table with its version of this moment.

    A table that only Spark can open, as one with a name is, stays without.
    """
    readers: dict[str, list[Job]] = defaultdict(list)
    for job in jobs:
        if job.config.input.version is None:
            readers[same_place(job.config.input.address)].append(job)
    pinned: dict[str, Job] = {}
    for place, sharing in readers.items():
        if len(sharing) > 1 and "/" in place:
            address = sharing[0].config.input.address
            with suppress(Exception):  # the jobs themselves say what is wrong
                version = tables.snapshot(session.onlooker(), address).version
                stage(f"{len(sharing)} jobs read {address} at version {version}")
                pinned |= {job.name: _at_version(job, version) for job in sharing}
    return [pinned.get(job.name, job) for job in jobs]


def _at_version(job: Job, version: int) -> Job:
    pinned = job.config.input.model_copy(update={"version": version})
    return replace(job, config=job.config.model_copy(update={"input": pinned}))


@dataclass(frozen=True)
class Channel:
    """What a process of jobs has of the one that started it."""

    pipe: Connection
    environment: dict[str, str]
    """That of the starter."""
    folder: str
    """For temporary files; the starter removes it."""
    outer: str
    """The folder for temporary files that stays."""

    def open(self) -> None:
        """Let this process have the environment and the folder."""
        os.environ.clear()
        os.environ.update(self.environment | {"TMPDIR": self.folder})
        tempfile.tempdir = None
        session.start_jvm_in(self.outer)

    def jobs(self) -> Iterator[tuple[Job, bool, str]]:
        """Give jobs as they come: whether each may use Spark, and why it has to."""
        with suppress(EOFError):  # there are no more
            while True:
                yield self.pipe.recv()

    def answer(self, with_what: Receipt | str, *, takes_more: bool) -> None:
        """Give the receipt of the last job, or the reason why it needs Spark."""
        self.pipe.send((with_what, takes_more))


class Supervisor:
    """Runs jobs in processes.

    Args:
        work: what a process does with its channel: it answers each job.
        on_end: is called with a job and its receipt; by several threads, but once at a time.
        receipt_of_lost: makes the receipt of a job whose process died; once at a time as well.
        parallel: how many processes run jobs without Spark at the same time.
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
        self._of_spark: _Process | None = None
        self._is_stopped = False

    def run(self, jobs: Sequence[Job]) -> None:
        """Run *jobs*; whatever interrupts this ends those that run, and others never begin."""
        alone = ThreadPoolExecutor(self._parallel)
        by_spark = ThreadPoolExecutor(1)  # there is one session
        try:
            tried = [alone.submit(self._run_alone, job, by_spark) for job in jobs]
            for future in tried:
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
            if self._of_spark is not None:
                self._release(self._of_spark)

    def _run_alone(self, job: Job, by_spark: ThreadPoolExecutor) -> Future[None] | None:
        """Run a job without Spark; where it needs it, return its end in Spark's process."""
        if (reason := _why_spark(job)) is not None:
            return by_spark.submit(self._run_by_spark, job, reason)
        process, answer, _ = self._ask(None, job, spark=False, reason="")
        self._release(process)
        if isinstance(answer, str):
            return by_spark.submit(self._run_by_spark, job, answer)
        self._tell(job, answer)
        return None

    def _run_by_spark(self, job: Job, reason: str) -> None:
        process, answer, takes_more = self._ask(self._of_spark, job, spark=True, reason=reason)
        self._of_spark = process if takes_more else None
        if not takes_more:
            self._release(process)
        if isinstance(answer, str):  # it may use Spark, so nothing is left to decline
            raise TypeError(f"{job.name} declined Spark: {answer}")
        self._tell(job, answer)

    def _tell(self, job: Job, receipt: Receipt) -> None:
        with self._lock:
            self._on_end(job, receipt)

    def _ask(
        self, process: _Process | None, job: Job, *, spark: bool, reason: str
    ) -> tuple[_Process | None, Receipt | str, bool]:
        """Let a process, or a new one, run a job.

        Returns:
            The process; the receipt, or why the job needs Spark; whether it takes another job.
        """
        try:
            process = process or self._new()
            answer, takes_more = process.ask(job, spark, reason)
        except LakescoreError as error:
            with self._lock:
                known = Stopped() if self._is_stopped and isinstance(error, JobLost) else error
                return process, self._receipt_of_lost(job, known), False
        return process, answer, takes_more

    def _new(self) -> _Process:
        """Start a process.

        Raises:
            NotRun: all were stopped before.
            JobLost: none can be started.
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
        """Let a process end that gets no more jobs."""
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


def _why_spark(job: Job) -> str | None:
    """Return why a job is not tried without Spark, if it is not."""
    if job.config.runner == "spark":
        return ""
    if job.config.runner == "auto" and job.config.commits == "slice":
        # Tried without, it could need Spark after it has published slices, which the receipt of
        # Spark's process would call unchanged.
        return "commits: slice, in a list of jobs"
    return None


class _Process:
    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("forkserver")
        self._folder = tempfile.mkdtemp(prefix="lakescore-")
        self._pipe, its = context.Pipe()
        channel = Channel(its, dict(os.environ), self._folder, tempfile.gettempdir())
        self._process = context.Process(target=work, args=(channel,))
        self._process.start()
        its.close()

    def ask(self, *given: object) -> tuple[Receipt | str, bool]:
        """Return what the process answers.

        Raises:
            JobLost: it died.
        """
        try:
            self._pipe.send(given)
            # Not the pipe's end alone: what the process has forked may hold that open.
            wait([self._pipe, self._process.sentinel])
            if self._pipe.poll():
                answer: tuple[Receipt | str, bool] = self._pipe.recv()
                return answer
        except (EOFError, OSError):
            pass
        self._process.join(_SECONDS_TO_END)
        raise JobLost(self._process.exitcode)

    def end(self) -> None:
        """Let the process end, which waits for nothing but a next job."""
        self._pipe.close()
        self._process.join(_SECONDS_TO_END)
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def stop(self) -> None:
        """Tell the process to stop what it does, as a scheduler would."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process there and then, where it still runs."""
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_SECONDS_TO_END)
