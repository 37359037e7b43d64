"""Sessions of Spark that others made: they stay as they are, and what they lack is one line."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from builders.tables import make_table
from pyspark.sql.connect.session import SparkSession as ConnectSession

from lakescore import assets, jars

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from pyspark.sql import SparkSession
from lakescore import session, tables
from lakescore.errors import LakescoreError

kind, table = sys.argv[1:]
if kind in {"classic", "connect"}:
    builder = SparkSession.builder
    own = (builder.master("local[2]") if kind == "classic" else builder.remote("local[2]"))
    own = own.getOrCreate()
    own.conf.set("spark.sql.session.timeZone", "Asia/Tokyo")
    own.conf.set("spark.sql.shuffle.partitions", "7")
    started = session.start("beside it", models=["models:/a/1"])
    names = ("spark.sql.session.timeZone", "spark.sql.shuffle.partitions", session.MODELS)
    print([own.conf.get(name, None) for name in names])
    print([started.conf.get(name, None) for name in names])
else:
    started = session.start("ours", properties=Path(kind))
for address in (table, "a_name"):
    try:
        print(tables.snapshot(started, address).rows.collect())
    except LakescoreError as error:
        print(type(error).__name__, str(error))
"""
JARS = "DeltaMissing this session of Spark lacks Delta's jars; add them to its builder or"
SETTINGS = "DeltaMissing this session of Spark lacks Delta's settings spark.sql.extensions=io."
LOCAL = "spark.master local[2]\nspark.ui.enabled false\n"


def lines_of(kind: str | Path, folder: Path) -> list[str]:
    """Run the program in a process of its own, where no session runs yet."""
    table = make_table(folder / "table", [(1, 1.0)], "id int, x double")
    words = [sys.executable, "-c", PROGRAM, str(kind), str(table)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=100)
    return done.stdout.splitlines()


@pytest.mark.parametrize("kind", ["classic", "connect"])
def test_a_session_that_is_not_ours_stays_as_it_is(kind: str, tmp_path: Path) -> None:
    if kind == "connect" and not hasattr(ConnectSession, "cloneSession"):
        pytest.skip("PySpark 4.1 is the first that clones a client's session")
    own, started, by_path, by_name = lines_of(kind, tmp_path)
    assert own == "['Asia/Tokyo', '7', None]"
    assert started == "['UTC', '7', 'models:/a/1']"
    assert by_path.startswith(JARS)
    assert by_name.startswith(JARS)


def test_a_place_without_the_jars_of_delta_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "own.conf"
    place.write_text(f"{LOCAL}spark.jars {assets.jars(jars.DELTA)[1]}\n")  # not Delta's own
    assert [line.startswith(JARS) for line in lines_of(place, tmp_path)] == [True, True]


def test_a_place_without_the_settings_of_delta_is_one_line(tmp_path: Path) -> None:
    place = tmp_path / "own.conf"
    place.write_text(LOCAL)
    assert [line.startswith(SETTINGS) for line in lines_of(place, tmp_path)] == [True, True]


PREDICTING = """
from pyspark.sql import SparkSession
import lakescore

spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
rows = spark.createDataFrame([(1.0, 2.0)], "dep_delay double, distance double")
try:
    print(lakescore.predict(rows, "foreign/1").collect())
except lakescore.errors.LakescoreError as error:
    print(type(error).__name__, str(error))
"""


def test_workers_whose_python_lacks_the_packages_are_one_line(
    register: Any, registry: str, tmp_path: Path
) -> None:
    register("foreign")
    lacking = tmp_path / "python3"
    lacking.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S "$@"\n')
    lacking.chmod(0o755)
    variables = os.environ | {"PYSPARK_PYTHON": str(lacking), "MLFLOW_TRACKING_URI": registry}
    words = [sys.executable, "-c", PREDICTING]
    done = subprocess.run(
        words, env=variables, capture_output=True, text=True, check=True, timeout=100
    )
    assert done.stdout.strip() == (
        f"PythonUnfit the workers of this session of Spark run {lacking}, which is missing or "
        f"lacks pandas or pyarrow; set PYSPARK_PYTHON={sys.executable} and start Spark again"
    )
