"""Classic: what a session has that shares its process with Spark's driver, and clients have not.

A client of Spark Connect reaches neither the SparkContext nor RDDs. Here is the only place that
asks for them, and what is done without.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary
from zipfile import ZIP_DEFLATED, ZipFile

from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

try:
    from py4j.protocol import Py4JJavaError
except ImportError:  # the package that only clients of Spark Connect have brings none
    FAILURES: tuple[type[Exception], ...] = (PySparkException,)
else:
    FAILURES = (Py4JJavaError, PySparkException)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame, SparkSession

_SLOTS: WeakKeyDictionary[SparkSession, int] = WeakKeyDictionary()
_SENT: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()
"""What each client of Spark Connect has shipped; it cannot ask."""


def is_client(spark: SparkSession) -> bool:
    """Tell whether *spark* is a client of Spark Connect."""
    return ".connect." in type(spark).__module__


def is_local(spark: SparkSession) -> bool:
    """Tell whether workers run on the driver's machine, and see its files."""
    if is_client(spark):
        return False
    master = str(spark.sparkContext.master)
    return master.startswith("local[") or master == "local"


def slots(spark: SparkSession) -> int:
    """Return how many tasks run at the same time."""
    if not is_client(spark):
        return spark.sparkContext.defaultParallelism
    if spark not in _SLOTS:  # what Spark divides rows into that come from nowhere
        parts = spark.range(1 << 16).select(F.spark_partition_id()).distinct().count()
        _SLOTS[spark] = max(1, parts)
    return _SLOTS[spark]


def tasks(rows: DataFrame) -> int:
    """Return into how many tasks *rows* are divided; for a client, as many as run at once."""
    spark = rows.sparkSession
    return slots(spark) if is_client(spark) else rows.rdd.getNumPartitions()


def ship(spark: SparkSession, name: str, folders: Mapping[str, str]) -> None:
    """Let each worker have the files of *folders* in the folder *name*, once a session.

    Args:
        spark: the session.
        name: of the folder that workers get.
        folders: by the path in it, which may be empty.
    """
    if is_client(spark):
        sent = _SENT.setdefault(spark, set())
        if name not in sent:
            with tempfile.TemporaryDirectory(prefix="lakescore-") as own:
                spark.addArtifacts(_archive(folders, Path(own), name), archive=True)
            sent.add(name)
        return
    context = spark.sparkContext
    if not any(each.endswith(f"#{name}") for each in context.listArchives):
        own = context._temp_dir  # noqa: SLF001 - it goes with the session
        base = Path(tempfile.mkdtemp(prefix="lakescore-", dir=own))
        context.addArchive(_archive(folders, base, name))


def _archive(folders: Mapping[str, str], base: Path, name: str) -> str:
    path = base / f"{name}.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for within, folder in folders.items():
            for file in sorted(Path(folder).rglob("*")):
                archive.write(file, Path(within) / file.relative_to(folder))
    return f"{path}#{name}"


def progress(spark: SparkSession) -> Callable[[], tuple[int, int]] | None:
    """Return what tells the tasks done and all tasks of the running stages; no client can."""
    if is_client(spark):
        return None
    tracker = spark.sparkContext.statusTracker()

    def counted() -> tuple[int, int]:
        stages = [tracker.getStageInfo(each) for each in tracker.getActiveStageIds()]
        running = [each for each in stages if each is not None]
        return sum(s.numCompletedTasks for s in running), sum(s.numTasks for s in running)

    return counted
