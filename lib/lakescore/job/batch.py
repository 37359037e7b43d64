"""Several jobs of one command: in their own processes or one after the other, with a summary."""

from __future__ import annotations

import gc
import os
import signal
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from lakescore import console, joblist, session
from lakescore.job.stopping import StopRequested, raise_when_stopped
from lakescore.joblist import NotRun
from lakescore.receipt import jobs_receipt
from lakescore.runner import RunnerRefused

if TYPE_CHECKING:
    from lakescore.config import ScoreJob
    from lakescore.errors import LakescoreError
    from lakescore.job.command import JobCommand
    from lakescore.supervising import Channel

    Receipt = dict[str, Any]


class Batch:
    """Several jobs of one command.

    Args:
        command: the command that runs all jobs.
        jobs: the requested jobs.
    """

    def __init__(self, command: JobCommand[ScoreJob], jobs: joblist.Jobs) -> None:
        self._command, self._jobs = command, jobs
        self._receipts: dict[str, Receipt] = {}
        self._started = time.monotonic()

    def run(self) -> int:
        """Run the jobs, and end with a summary; return the highest exit code.

        After the summary, a Ctrl-C is raised again.
        """
        try:
            with suppress(StopRequested), raise_when_stopped():
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


def _run_jobs(command: JobCommand[ScoreJob], channel: Channel) -> None:
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
