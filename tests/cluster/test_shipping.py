"""What ./scripts/package.sh makes is all that a driver and executors need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyspark
import pytest
from clusters import PLAIN_WORKERS, finish, write_place
from deltalake import DeltaTable, write_deltalake
from sklearn.tree import DecisionTreeRegressor

from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Place

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dist() -> Path:
    """Make the packages, and return their folder."""
    subprocess.run([ROOT / "scripts/package.sh"], check=True, capture_output=True)
    return ROOT / "dist"


@pytest.mark.wide  # it builds an archive of an environment, by a script that changes rarely
def test_a_zip_and_an_archive_are_enough_for_machines_that_share_no_packages(
    distributed: Place, dist: Path, register: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"id": [1, 2, 3, 4], "x": [1.0, 2.0, 3.0, 4.0]})
    write_deltalake(str(home / "tables/few"), rows)
    tree = DecisionTreeRegressor().fit(rows[["x"]], 10 * rows["x"])
    register("ten", tree, rows[["x"]], 10 * rows["x"])
    environment = tmp_path / "environment"
    environment.mkdir()
    archive = dist / "environment.tar.gz"
    subprocess.run(["tar", "-xzf", archive, "-C", environment], check=True)
    python = environment / "bin/python"  # of the driver, as where a cluster runs that too
    lacks = [python, "-c", "import lakescore"]
    assert subprocess.run(lacks, check=False, capture_output=True).returncode == 1

    shipped = {
        "spark.archives": f"{archive}#environment",
        "spark.pyspark.python": "./environment/bin/python",
        "spark.pyspark.driver.python": str(python),
        "spark.submit.pyFiles": str(next(dist.glob("lakescore-*.zip"))),
        "spark.jars": ",".join(map(str, Path(sys.prefix).glob("share/lakescore/jars/*.jar"))),
        "spark.cores.max": "1",  # one executor, because it takes long to unpack the archive
    }
    there = read_properties(distributed.file)
    own = {name: value for name, value in there.items() if name not in PLAIN_WORKERS}
    file = write_place(tmp_path / "bare.conf", own | shipped)
    spark = Path(pyspark.__file__).parent
    job = distributed.write(
        "score", model="ten/1", input={"path": "tables/few"}, output={"path": "tables/shipped"},
        id_columns=["id"], engine="spark_udf",
    )  # fmt: skip
    submit = (spark / "bin/spark-submit", "--properties-file", file, "jobs/score.py", job)
    variables = distributed.environment | {"SPARK_HOME": str(spark)}
    done = finish(*submit, variables=variables, folder=ROOT)
    assert done.returncode == 0, done.stderr
    rows = DeltaTable(str(home / "tables/shipped")).to_pandas().sort_values("id")
    assert rows["prediction"].tolist() == [10.0, 20.0, 30.0, 40.0]
