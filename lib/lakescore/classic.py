"""Classic: functions that need a session in the process of Spark's driver, and their substitutes.

A client of Spark Connect reaches neither the SparkContext nor RDDs. Only this module asks for them,
and it holds the substitutes for clients.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary, WeakSet
from zipfile import ZIP_DEFLATED, ZipFile

from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - its usual name

try:
    from py4j.protocol import Py4JJavaError
except ImportError:  # the package for clients of Spark Connect has no py4j
    FAILURES: tuple[type[Exception], ...] = (PySparkException,)
else:
    FAILURES = (Py4JJavaError, PySparkException)

_MESSAGE = r"(.+?)(?:\.? SQLSTATE: |\n\s*at |\n\n|\Z)"
_CAUSE = re.compile(rf"(?:Caused by|failed due to): (?:[\w.$]+: )?{_MESSAGE}", re.DOTALL)
"""The innermost reason comes last."""
_BEGINNING = re.compile(
    r"(?:An error occurred while calling \S+\s*:\s*)?(?:[\w.]+(?:Exception|Error): )?"
    rf"(?:\[[A-Z_.]+\] )?{_MESSAGE}",
    re.DOTALL,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pyspark.sql import DataFrame, SparkSession

_SLOTS: WeakKeyDictionary[SparkSession, int] = WeakKeyDictionary()
_SENT: WeakKeyDictionary[SparkSession, set[str]] = WeakKeyDictionary()
"""The archives that each client of Spark Connect has shipped; it cannot ask Spark for them."""


_WITH_DELTA: WeakSet[SparkSession] = WeakSet()
_WITH_PYTHON: WeakSet[SparkSession] = WeakSet()
_NO_TABLE = "file:///no-such-table-of-lakescore"


def is_client(spark: SparkSession) -> bool:
    """Return whether *spark* is a client of Spark Connect."""
    return ".connect." in type(spark).__module__


def reason(error: BaseException) -> str:
    """Return why Spark raised *error*, in one line without the trace of Java."""
    text = str(error).strip()
    causes = _CAUSE.findall(text)
    first = _BEGINNING.match(text)
    reason = causes[-1] if causes else first[1] if first else type(error).__name__
    return " ".join(reason.split())


def missing_delta(spark: SparkSession) -> str:
    """Return what *spark* lacks to read and write Delta tables; an empty text if nothing.

    A platform has Delta under names of its own, so the settings do not show it; to read a table
    that does not exist does.
    """
    if spark in _WITH_DELTA:
        return ""
    try:
        _ = spark.read.format("delta").load(_NO_TABLE).schema
    except FAILURES as error:
        text = str(error)
        if "DATA_SOURCE_NOT_FOUND" in text or "Cannot find catalog plugin class" in text:
            return "Delta's jars"
        if "DELTA_CONFIGURE_SPARK_SESSION" in text:
            return (
                "Delta's settings spark.sql.extensions=io.delta.sql.DeltaSparkSessionExtension and "
                "spark.sql.catalog.spark_catalog=org.apache.spark.sql.delta.catalog.DeltaCatalog"
            )
    _WITH_DELTA.add(spark)
    return ""


def unfit_python(spark: SparkSession) -> str:
    """Return the Python of the workers of *spark* if it cannot apply models; empty if it can.

    Only workers on this machine can be asked.
    """
    if is_client(spark) or spark in _WITH_PYTHON or not is_local(spark):
        return ""
    python = spark.sparkContext.pythonExec
    path = shutil.which(python)
    if path is None:
        return python
    if Path(path).absolute().parent != Path(sys.executable).parent:
        probe = [path, "-c", "import cloudpickle, pandas, pyarrow"]
        if subprocess.run(probe, check=False, capture_output=True).returncode:  # noqa: S603 - Spark's
            return path
    _WITH_PYTHON.add(spark)
    return ""


def is_local(spark: SparkSession) -> bool:
    """Return whether workers run on the driver's machine, and so see its files."""
    if is_client(spark):
        return False
    master = str(spark.sparkContext.master)
    return master.startswith("local[") or master == "local"


def slots(spark: SparkSession) -> int:
    """Return the number of tasks that run at the same time."""
    if not is_client(spark):
        return spark.sparkContext.defaultParallelism
    if spark not in _SLOTS:  # the partitions that Spark makes of rows without a source
        parts = spark.range(1 << 16).select(F.spark_partition_id()).distinct().count()
        _SLOTS[spark] = max(1, parts)
    return _SLOTS[spark]


def tasks(rows: DataFrame) -> int:
    """Return the number of tasks for *rows*; for a client, the number that runs at once."""
    spark = rows.sparkSession
    return slots(spark) if is_client(spark) else rows.rdd.getNumPartitions()


def ship(spark: SparkSession, name: str, folders: Mapping[str, str]) -> None:
    """Ship the files of *folders* to all workers in the folder *name*, once a session.

    Args:
        spark: the session.
        name: the name of the folder on the workers.
        folders: the folders by their path in that folder; the path can be empty.
    """
    if is_client(spark):
        sent = _SENT.setdefault(spark, set())
        if name not in sent:
            with tempfile.TemporaryDirectory(prefix="lakescore-") as temporary:
                spark.addArtifacts(_make_archive(folders, Path(temporary), name), archive=True)
            sent.add(name)
        return
    context = spark.sparkContext
    if not any(archive.endswith(f"#{name}") for archive in context.listArchives):
        parent = context._temp_dir  # noqa: SLF001 - the session removes it at its end
        base = Path(tempfile.mkdtemp(prefix="lakescore-", dir=parent))
        context.addArchive(_make_archive(folders, base, name))


def ship_archive(spark: SparkSession, name: str, path: Path) -> None:
    """Ship the archive at *path* to all workers, unpacked in the folder *name*, once a session."""
    if is_client(spark):
        sent = _SENT.setdefault(spark, set())
        if name not in sent:
            spark.addArtifacts(f"{path}#{name}", archive=True)
            sent.add(name)
    elif not any(archive.endswith(f"#{name}") for archive in spark.sparkContext.listArchives):
        spark.sparkContext.addArchive(f"{path}#{name}")


def _make_archive(folders: Mapping[str, str], base: Path, name: str) -> str:
    path = base / f"{name}.zip"
    with ZipFile(path, "w", ZIP_DEFLATED) as archive:
        for within, folder in folders.items():
            for file in sorted(Path(folder).rglob("*")):
                archive.write(file, Path(within) / file.relative_to(folder))
    return f"{path}#{name}"


def progress(spark: SparkSession) -> Callable[[], tuple[int, int]] | None:
    """Return a function that counts done and all tasks of running stages, or None for a client."""
    if is_client(spark):
        return None
    tracker = spark.sparkContext.statusTracker()

    def count_tasks() -> tuple[int, int]:
        stages = [tracker.getStageInfo(stage_id) for stage_id in tracker.getActiveStageIds()]
        running = [stage for stage in stages if stage is not None]
        return sum(s.numCompletedTasks for s in running), sum(s.numTasks for s in running)

    return count_tasks
