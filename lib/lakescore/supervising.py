"""Several jobs at once: each in a process of its own, so that one that fails stops no other.

Processes are forked from one that has imported the libraries (multiprocessing's forkserver), so
one costs milliseconds, and what a job loads goes with it. Jobs that need Spark share one process
and its session, one after the other: their tasks use all cores.
"""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lakescore import session, tables
from lakescore.console import stage
from lakescore.errors import JobLost, LakescoreError, Stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from lakescore.joblist import Job

    Receipt = dict[str, Any]
    Work = Callable[[Connection], None]

_IMPORTED = (
    "deltalake",
    "git",  # MLflow asks for the commit of the program
    "lakescore.job",
    "lakescore.lineage",
    "lakescore.loading",
    "lakescore.publishing",
    "lakescore.receipt",
    "lakescore.registry",
    "lakescore.scoring",
    "mlflow.pyfunc",
    "mlflow.sklearn",
    "mlflow.store.model_registry.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.tracing.processor.base_mlflow",
    "pyarrow.pandas_compat",
    "skops.io",  # what MLflow keeps models of scikit-learn in
    "sklearn.ensemble",
    "sqlalchemy.dialects.sqlite",
)
"""What most jobs need, imported once for all; what is not installed is passed over."""
_SECONDS_TO_END = 20.0


def prepare() -> None:
    """Start the process that others are forked from; it imports libraries meanwhile."""
    from multiprocessing import forkserver  # noqa: PLC0415 - for several jobs alone

    multiprocessing.set_forkserver_preload(list(_IMPORTED))
    forkserver.ensure_running()


def pin_inputs(jobs: Sequence[Job]) -> list[Job]:
    """Return *jobs*, those that read the same table with its version of this moment.

    A table that only Spark can open, as one with a name is, stays without.
    """
    read = Counter(job.todo.input.address for job in jobs if job.todo.input.version is None)
    versions: dict[str, int] = {}
    for address, readers in read.items():
        if readers > 1 and "/" in address:
            with suppress(LakescoreError):  # the jobs themselves say what is wrong
                versions[address] = tables.snapshot(session.onlooker(), address).version
                stage(f"{readers} jobs read {address} at version {versions[address]}")
    return [
        _at_version(job, versions[job.todo.input.address])
        if job.todo.input.version is None and job.todo.input.address in versions
        else job
        for job in jobs
    ]


def _at_version(job: Job, version: int) -> Job:
    pinned = job.todo.input.model_copy(update={"version": version})
    return replace(job, todo=job.todo.model_copy(update={"input": pinned}))


class Supervisor:
    """Runs jobs in processes.

    Args:
        work: what a process does: it takes from its pipe a job, whether it may use Spark, and why
            it has to; and it answers with the job's receipt, or with the reason why it needs Spark,
            and with whether it takes a next one.
        ended: is called with a job and its receipt; by several threads, but once at a time.
        lost: makes the receipt of a job whose process died.
        parallel: how many processes run jobs without Spark at the same time.
    """

    def __init__(
        self,
        work: Work,
        ended: Callable[[Job, Receipt], None],
        lost: Callable[[Job, LakescoreError], Receipt],
        parallel: int,
    ) -> None:
        self._work, self._ended, self._lost = work, ended, lost
        self._parallel = parallel
        self._lock = threading.Lock()
        self._running: set[_Process] = set()
        self._sparks: _Process | None = None
        self._is_stopped = False

    def run(self, jobs: Sequence[Job]) -> None:
        """Run *jobs*; whatever interrupts this ends those that run, and others never begin."""
        alone = ThreadPoolExecutor(self._parallel)
        by_spark = ThreadPoolExecutor(1)  # there is one session
        try:
            tried = [alone.submit(self._run_alone, job, by_spark) for job in jobs]
            for future in tried:
                if (needing := future.result()) is not None:
                    needing.result()
        except BaseException:
            alone.shutdown(wait=False, cancel_futures=True)
            by_spark.shutdown(wait=False, cancel_futures=True)
            self._stop()
            raise
        finally:
            with suppress(CancelledError):
                alone.shutdown()
                by_spark.shutdown()
            if self._sparks is not None:
                self._let_end(self._sparks)

    def _run_alone(self, job: Job, by_spark: ThreadPoolExecutor) -> Future[None] | None:
        """Run a job without Spark; where it needs it, return its end in Spark's process."""
        if job.todo.runner == "spark":
            return by_spark.submit(self._run_by_spark, job, "")
        process = self._new()
        answer, _ = self._ask(process, job, spark=False, reason="")
        self._let_end(process)
        if isinstance(answer, str):
            return by_spark.submit(self._run_by_spark, job, answer)
        self._tell(job, answer)
        return None

    def _run_by_spark(self, job: Job, reason: str) -> None:
        process = self._sparks = self._sparks or self._new()
        answer, takes_more = self._ask(process, job, spark=True, reason=reason)
        if not takes_more:
            self._let_end(process)
            self._sparks = None
        if isinstance(answer, str):  # it may use Spark, so nothing is left to decline
            raise TypeError(f"{job.name} declined Spark: {answer}")
        self._tell(job, answer)

    def _tell(self, job: Job, receipt: Receipt) -> None:
        with self._lock:
            self._ended(job, receipt)

    def _new(self) -> _Process:
        process = _Process(self._work)
        self._running.add(process)
        return process

    def _let_end(self, process: _Process) -> None:
        self._running.discard(process)
        process.end()

    def _ask(
        self, process: _Process, job: Job, *, spark: bool, reason: str
    ) -> tuple[Receipt | str, bool]:
        try:
            return process.ask(job, spark, reason)
        except JobLost as error:
            return self._lost(job, Stopped() if self._is_stopped else error), False

    def _stop(self) -> None:
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


class _Process:
    def __init__(self, work: Work) -> None:
        context = multiprocessing.get_context("forkserver")
        self._pipe, its = context.Pipe()
        self._process = context.Process(target=work, args=(its,))
        self._process.start()
        its.close()

    def ask(self, *given: object) -> tuple[Receipt | str, bool]:
        """Return what the process answers.

        Raises:
            JobLost: it died.
        """
        try:
            self._pipe.send(given)
            answer: tuple[Receipt | str, bool] = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise JobLost(self._process.exitcode) from None
        return answer

    def end(self) -> None:
        """Let the process end, which waits for nothing but a next job."""
        self._pipe.close()
        self._process.join(_SECONDS_TO_END)
        self.kill()

    def stop(self) -> None:
        """Tell the process to stop what it does, as a scheduler would."""
        self._process.terminate()

    def kill(self) -> None:
        """End the process there and then, where it still runs."""
        if self._process.is_alive():
            self._process.kill()
