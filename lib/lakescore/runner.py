"""The runner: Spark or processes of this machine run the tasks of a plan.

A task is the same function for both. Spark starts when a job first needs something that only Spark
can do, and the runner keeps the reason. Until then the job needs no JVM.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar

import pyarrow as pa

from lakescore import classic
from lakescore.arrow import collected, struct
from lakescore.errors import ConfigError
from lakescore.workers import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import SparkSession

    from lakescore import executor
    from lakescore.options import RunnerName
    from lakescore.workers import Pool

P = ParamSpec("P")
T = TypeVar("T")
FAILURES: tuple[type[Exception], ...] = (*classic.FAILURES, TaskFailed)
"""The errors of a failed task, and of Spark."""
_SECONDS_TO_START = 8.0
"""The time in which Spark starts here and answers its first query: it varies from 6 to 12."""


_SECONDS_TO_SHARE = 2.0
"""The time in which a second worker imports a model's library and loads the model."""


class RunnerRefused(ConfigError):
    """The job needs Spark, and the requested runner works without it."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"runner local cannot be used: {reason}; give runner=auto, which then starts Spark"
        )
        self.reason = reason


class DeltaMissing(ConfigError):
    """A session of Spark cannot read Delta tables."""

    def __init__(self, missing: str) -> None:
        super().__init__(
            f"this session of Spark lacks {missing}; add them to its builder or to the file of the "
            "place, and start Spark again (conf/spark/local.conf has the settings; lakescore setup "
            "fetches the jars, which spark.jars then names)"
        )


class PythonUnfit(ConfigError):
    """The workers of a session of Spark run a Python that cannot apply models."""

    def __init__(self, python: str, own: str) -> None:
        super().__init__(
            f"the workers of this session of Spark run {python}, which is missing or lacks pandas "
            f"or pyarrow; set PYSPARK_PYTHON={own} and start Spark again"
        )


class Runner:
    """Runs a job by Spark, or by workers of this machine as long as nothing needs Spark.

    Args:
        session: the session of Spark, if it runs already.
        start: starts Spark; gets the reason.
        asked: `local` refuses to start Spark.
        reason: why Spark runs the job, or why workers do.
        properties: the properties with which Spark would start.
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
    def of(cls, spark: SparkSession | Runner) -> Runner:
        """Return *spark* if it is a runner, or a runner for this session of Spark."""
        return spark if isinstance(spark, Runner) else cls(session=spark, reason="it runs already")

    @property
    def name(self) -> Literal["local", "spark"]:
        """The name of the runner that runs the tasks now."""
        return "spark" if self.is_started else "local"

    @property
    def is_started(self) -> bool:
        """Whether Spark runs."""
        return self._session is not None

    @property
    def spark(self) -> SparkSession:
        """The session of Spark; it starts if it does not run.

        Raises:
            RunnerRefused: the job asks for the runner local.
        """
        return self.start("Spark reads rows")

    def start(self, reason: str) -> SparkSession:
        """Return the session of Spark; start it for this *reason* if it does not run.

        Raises:
            RunnerRefused: the job asks for the runner local.
        """
        if self._session is None:
            if self._asked == "local" or self._start is None:
                raise RunnerRefused(reason)
            self.reason = reason
            self._session = self._start(reason)
            if self._pool is not None:
                self._pool.close()  # otherwise loaded models would stay in memory twice
        return self._session

    def start_delta(self, reason: str) -> SparkSession:
        """Return the session of Spark as `start` does, to read or write Delta tables by Spark.

        Raises:
            RunnerRefused: the job asks for the runner local.
            DeltaMissing: the session cannot read Delta tables.
        """
        spark = self.start(reason)
        if missing := classic.missing_delta(spark):
            raise DeltaMissing(missing)
        return spark

    def check_python(self) -> None:
        """Check that the workers of Spark, if it runs, have a Python that can apply models.

        Raises:
            PythonUnfit: they have not.
        """
        if self._session is not None and (python := classic.unfit_python(self._session)):
            raise PythonUnfit(python, sys.executable)

    def choose(self, seconds: float) -> None:
        """Start Spark for tasks that take *seconds* seconds of one core, if that is worth it."""
        if self.is_started:
            return
        self._at_once = self.sharing(seconds)
        duration = seconds / self._at_once
        if self._asked == "auto" and duration > _SECONDS_TO_START:
            self.start(f"the rows take about {duration:.0f} s, and Spark tries a lost task again")
        elif self._asked == "auto":
            self.reason = f"the rows take about {duration:.1f} s, and to start Spark takes longer"

    def sharing(self, seconds: float) -> int:
        """Return the number of tasks for work that takes *seconds* seconds of one core."""
        return self.slots if self.is_started or seconds > _SECONDS_TO_SHARE else 1

    @property
    def is_client(self) -> bool:
        """Whether Spark runs in another process, and this process is its client."""
        return self._session is not None and classic.is_client(self._session)

    @property
    def slots(self) -> int:
        """The number of tasks that run at the same time."""
        if self._session is not None:
            return classic.slots(self._session)
        return _cores(self._properties.get("spark.master", ""))

    def setting(self, name: str, default: str | None = None) -> str | None:
        """Return the value of one of Spark's properties, or Spark's default, or *default*.

        Spark's defaults are unknown before it runs.
        """
        if self._session is None:
            return self._properties.get(name, default)
        try:
            value: str | None = self._session.conf.get(name)
        except classic.FAILURES:  # it is not set, and Spark has no default
            return default
        return value

    def settings(self, prefix: str) -> list[str]:
        """Return the names of Spark's properties that are set and begin with *prefix*."""
        if self._session is None:
            return sorted(name for name in self._properties if name.startswith(prefix))
        known = self._session.sql("SET").collect()
        return sorted(row["key"] for row in known if row["key"].startswith(prefix))

    def run(
        self, make_task: Callable[[], executor.Task], tasks: int, schema: pa.Schema
    ) -> pa.Table:
        """Return the rows of all tasks.

        Args:
            make_task: makes the function of a task, which takes a batch with the task's number.
            tasks: the number of tasks.
            schema: the schema of the rows.

        Raises:
            TaskFailed, PySparkException: a task failed on every try.
        """
        if self._session is None and self._pool is not None:
            return pa.Table.from_batches(self._pool.run(make_task, tasks, self._at_once), schema)
        numbers = self.spark.range(0, tasks, 1, tasks)
        return collected(numbers.mapInArrow(make_task(), struct(schema)))

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return the result of *function*; a worker calls it if workers run the tasks."""
        if self._session is None and self._pool is not None:
            return self._pool.call(function, *args, **kwargs)
        return function(*args, **kwargs)

    def progress(self) -> Callable[[], tuple[int, int]] | None:
        """Return a function that counts finished and all tasks, or None if nothing counts them."""
        if self._session is not None:
            return classic.progress(self._session)
        pool = self._pool
        return None if pool is None else lambda: (pool.done, pool.total)

    def facts(self) -> dict[str, str]:
        """Return the name and the reason of the runner, as the receipt holds them."""
        return {"name": self.name, "reason": self.reason}


def _cores(master: str) -> int:
    """Return how many tasks Spark's local mode would run at once."""
    cores = master.removeprefix("local").strip("[]").partition(",")[0]
    if cores.isdecimal():
        return int(cores)
    if master == "local":
        return 1
    from joblib import cpu_count  # noqa: PLC0415 - it knows the cores of a container

    return int(cpu_count())
