"""The runner: what schedules a plan's tasks, Spark or processes of this machine.

A task is the same function either way. Spark is started by the first thing that only Spark can do,
and the reason is kept; until then nothing needs a JVM.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import pyarrow as pa

from lakescore import classic
from lakescore.arrow import collected, struct
from lakescore.errors import RunnerRefused
from lakescore.workers import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import SparkSession

    from lakescore import executor
    from lakescore.workers import Pool

P = ParamSpec("P")
T = TypeVar("T")
FAILURES: tuple[type[Exception], ...] = (*classic.FAILURES, TaskFailed)
"""What a task raises that failed, or Spark."""
RunnerName = Literal["auto", "local", "spark"]
_SECONDS_TO_START = 8.0
"""What a session of Spark on this machine takes to start, and its first query: from 6 to 12."""


_SECONDS_TO_SHARE = 2.0
"""What a second worker takes to import a model's library and to load the model."""


class Runner:
    """What runs a job: Spark, or workers of this machine as long as nothing needs Spark.

    Args:
        session: Spark's, where it runs already.
        start: starts Spark, and is told why.
        asked: `local` refuses to start Spark.
        reason: why it is Spark, or these workers.
        properties: Spark's, by which it would be started.
        pool: the workers.
    """

    def __init__(  # noqa: PLR0913 - all by name
        self,
        *,
        session: SparkSession | None = None,
        start: Callable[[str], SparkSession] | None = None,
        asked: RunnerName = "auto",
        reason: str = "",
        properties: Mapping[str, str] | None = None,
        pool: Pool | None = None,
    ) -> None:
        self._session, self._start, self._asked = session, start, asked
        self._properties = dict(properties or {})
        self._pool, self._at_once = pool, 1
        self.reason = reason

    @classmethod
    def of(cls, given: SparkSession | Runner) -> Runner:
        """Return *given*, or the runner that a session of Spark is."""
        return given if isinstance(given, Runner) else cls(session=given, reason="it runs already")

    @property
    def name(self) -> Literal["local", "spark"]:
        """What runs the tasks."""
        return "spark" if self.is_started else "local"

    @property
    def is_started(self) -> bool:
        """Whether Spark runs."""
        return self._session is not None

    @property
    def spark(self) -> SparkSession:
        """The session of Spark, which starts where it does not run.

        Raises:
            RunnerRefused: the runner local was asked for.
        """
        return self.start("Spark reads rows")

    def start(self, reason: str) -> SparkSession:
        """Return the session of Spark, started for this *reason* where it does not run.

        Raises:
            RunnerRefused: the runner local was asked for.
        """
        if self._session is None:
            if self._asked == "local" or self._start is None:
                raise RunnerRefused(reason)
            self.reason = reason
            self._session = self._start(reason)
            if self._pool is not None:
                self._pool.close()  # what they have loaded is held once more elsewhere
        return self._session

    def choose(self, seconds: float) -> None:
        """Start Spark for tasks that take so many *seconds* of one core, if that is worth it."""
        if self.is_started:
            return
        self._at_once = self.sharing(seconds)
        each = seconds / self._at_once
        if self._asked == "auto" and each > _SECONDS_TO_START:
            self.start(f"the rows take about {each:.0f} s, and Spark tries a lost task again")
        elif self._asked == "auto":
            self.reason = f"the rows take about {each:.1f} s, and to start Spark takes longer"

    def sharing(self, seconds: float) -> int:
        """Return how many tasks shall share what takes so many *seconds* of one core."""
        return self.slots if self.is_started or seconds > _SECONDS_TO_SHARE else 1

    @property
    def is_client(self) -> bool:
        """Whether Spark runs elsewhere, and this process is a client of it."""
        return self._session is not None and classic.is_client(self._session)

    @property
    def slots(self) -> int:
        """How many tasks run at the same time."""
        if self._session is not None:
            return classic.slots(self._session)
        return _cores(self._properties.get("spark.master", ""))

    def setting(self, name: str, default: str | None = None) -> str | None:
        """Return the value of one of Spark's properties: Spark's own default, or *default*.

        Before Spark runs, nobody knows its own defaults.
        """
        if self._session is None:
            return self._properties.get(name, default)
        try:
            value: str | None = self._session.conf.get(name)
        except classic.FAILURES:  # it is not set, and Spark has none
            return default
        return value

    def settings(self, prefix: str) -> list[str]:
        """Return the names of Spark's properties that are set and begin with *prefix*."""
        if self._session is None:
            return sorted(name for name in self._properties if name.startswith(prefix))
        known = self._session.sql("SET").collect()
        return sorted(row["key"] for row in known if row["key"].startswith(prefix))

    def run(self, made: Callable[[], executor.Task], tasks: int, schema: pa.Schema) -> pa.Table:
        """Return the rows that tasks give.

        Args:
            made: makes the function of a task, which takes a batch with the task's number.
            tasks: how many there are.
            schema: of the rows.

        Raises:
            TaskFailed, PySparkException: a task failed, on every try.
        """
        if self._session is None and self._pool is not None:
            return pa.Table.from_batches(self._pool.run(made, tasks, self._at_once), schema)
        sent = self.spark.range(0, tasks, 1, tasks)
        return collected(sent.mapInArrow(made(), struct(schema)))

    def call(self, function: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
        """Return what *function* returns, in a worker where these run the tasks."""
        if self._session is None and self._pool is not None:
            return self._pool.call(function, *given, **named)
        return function(*given, **named)

    def progress(self) -> Callable[[], tuple[int, int]] | None:
        """Return what tells the running tasks that are done and all of them, if it can be told."""
        if self._session is not None:
            return classic.progress(self._session)
        pool = self._pool
        return None if pool is None else lambda: (pool.done, pool.total)

    def facts(self) -> dict[str, str]:
        """Return what ran the tasks, and why, as it stands in the receipt."""
        return {"name": self.name, "reason": self.reason}


def _cores(master: str) -> int:
    """Return how many tasks Spark's local mode would run at once."""
    asked = master.removeprefix("local").strip("[]").partition(",")[0]
    if asked.isdecimal():
        return int(asked)
    if master == "local":
        return 1
    from joblib import cpu_count  # noqa: PLC0415 - it knows what a container may use

    return int(cpu_count())
