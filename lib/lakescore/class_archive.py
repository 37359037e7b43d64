"""The archive of classes: JVMs that share the parsed classes of Spark and Delta start faster.

Java's class data sharing (`-XX:ArchiveClassesAtExit`, JEP 350): a JVM that does what jobs do writes
the classes that it loaded into a file, which later JVMs map instead of reading them from jars. A
JVM with other jars, or of another Java, ignores the file without an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

_QUIET = "-Xlog:disable -Xlog:all=error:stderr"


def make() -> str:
    """Make the archive by a JVM that ends in order; return the reason if that fails."""
    from lakescore import assets, jars  # noqa: PLC0415 - only the parent process needs them

    archive = assets.class_archive()
    archive.unlink(missing_ok=True)
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        made = Path(folder) / archive.name
        # Classes that the second compiler would need are not of interest, and take time.
        java = f"{_QUIET} -XX:TieredStopAtLevel=1 -XX:ArchiveClassesAtExit={made}"
        command = [
            str(jars.spark_submit()),
            *("--properties-file", str(assets.folder() / "conf" / "spark" / "local.conf")),
            *("--jars", ",".join(map(str, assets.jars("jars"))), "--driver-java-options", java),
            *(__file__, folder),
        ]
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable}
        done = subprocess.run(  # noqa: S603 - Spark's own command, our own arguments
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and made.is_file() and _is_whole(made):
            shutil.move(made, archive)
            return ""
    lines = [line for line in done.stderr.splitlines() if line.strip() and " INFO " not in line]
    return (lines or ["no output"])[-1]


def _is_whole(archive: Path) -> bool:
    """Return whether a JVM can map *archive*; it would not check, and crash."""
    java_home = os.environ.get("JAVA_HOME")
    java = str(Path(java_home) / "bin" / "java") if java_home else "java"
    command = [java, *_QUIET.split(), f"-XX:SharedArchiveFile={archive}", "-version"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def warm_up(folder: str) -> None:
    """Do what jobs do: read and write Delta tables, by SQL and by Python workers."""
    from pyspark.sql import SparkSession  # noqa: PLC0415 - only the child process needs it
    from pyspark.sql import functions as F  # noqa: N812, PLC0415 - as above

    spark = SparkSession.builder.getOrCreate()  # noqa: TID251 - this script runs no job
    rows = spark.range(0, 100, 1, 2).selectExpr(
        "id", "id % 3 AS part", "CAST(id AS STRING) AS word", "id / 7 AS x"
    )
    table = f"{folder}/table"
    rows.write.format("delta").partitionBy("part").save(table)
    spark.read.format("delta").load(table).createOrReplaceTempView("there")
    rows.where("id < 10").createOrReplaceTempView("new")
    spark.sql(
        "MERGE INTO there USING new ON there.id = new.id AND there.part = new.part "
        "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *"
    ).collect()
    replaced = rows.where("part = 1").write.format("delta").mode("overwrite")
    replaced.option("replaceWhere", "part IN (1)").option("userMetadata", "{}").save(table)
    spark.sql(f"DESCRIBE HISTORY '{table}'").collect()
    spark.sql(f"DESCRIBE DETAIL '{table}'").collect()
    there = spark.read.format("delta").option("versionAsOf", 0).load(table)
    kept = there.mapInArrow(lambda batches: batches, there.schema).persist()
    kept.groupBy("part").agg(F.count("*"), F.max("word"), F.avg("x")).orderBy("part").collect()
    hashed = kept.groupBy(F.xxhash64("word").alias("key")).count().where("count > 1")
    hashed.agg(F.sum("count")).toArrow()
    kept.unpersist()
    spark.stop()


if __name__ == "__main__":
    warm_up(sys.argv[1])
