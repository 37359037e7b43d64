"""One Spark session for the process, real Delta, and a real SQLite registry."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from builders import models
from clusters import LOCAL, QUICK

from lakescore import session
from lakescore.places import read_properties

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    settings = (
        read_properties(ROOT / "conf/spark/local.conf")
        | LOCAL
        | QUICK
        | {
            "spark.sql.warehouse.dir": str(tmp_path_factory.mktemp("warehouse")),
            # Spark 4's default; Spark 3.5's would fail at dates before 1582.
            "spark.sql.parquet.datetimeRebaseModeInRead": "CORRECTED",
            "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",
            "spark.sql.parquet.int96RebaseModeInWrite": "CORRECTED",
            # The first compiler alone is given so little room for code that a whole suite would
            # make it throw code away again and again.
            "spark.driver.extraJavaOptions": "-XX:ReservedCodeCacheSize=240m",
        }
    )
    folder = tmp_path_factory.mktemp("conf")
    place = folder / "test.conf"
    place.write_text("\n".join(f"{key} {value}" for key, value in settings.items()))
    (folder / "log4j2.properties").write_text((ROOT / "conf/spark/log4j2.properties").read_text())
    started = session.start("tests", properties=place)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a registry once, since making its tables takes a second; return its file."""
    folder = tmp_path_factory.mktemp("registry")
    models.tracking_store(folder, "models", "lakescore")
    return folder / "mlflow.db"


@pytest.fixture(scope="module", autouse=True)
def registry(empty_registry: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Use a registry of the file's own, so that files can give models the same names."""
    import mlflow

    before = mlflow.get_tracking_uri()
    file = Path(shutil.copy(empty_registry, tmp_path_factory.mktemp("registry")))
    mlflow.set_tracking_uri(f"sqlite:///{file}")
    mlflow.set_experiment("models")
    yield mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(before)


@pytest.fixture(params=["spark", "local"])
def runner(
    request: pytest.FixtureRequest,
    spark: SparkSession,  # noqa: ARG001 - which jobs find, or start anew as the tests have it
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Run jobs with Spark, and again as if no Spark ran: with workers, until a job needs Spark."""
    if request.param == "local":
        monkeypatch.setattr(session, "_is_running", lambda: False)
    return str(request.param)


Register = Callable[..., int]


@pytest.fixture(scope="module")
def register(registry: str) -> Register:
    """Return `builders.models.register` for the registry; it returns the version's number."""
    import mlflow

    def register_here(*given: Any, **options: Any) -> int:
        mlflow.set_tracking_uri(registry)
        mlflow.set_experiment("models")
        options = {"pip_requirements": ["scikit-learn"]} | options  # which is installed
        return int(models.register(*given, **options).version)

    return register_here


@pytest.fixture
def write(tmp_path: Path) -> Callable[[DataFrame, str], str]:
    """Write rows as a new version of a Delta table and return its path."""

    def to(rows: DataFrame, name: str) -> str:
        path = str(tmp_path / name)
        rows.write.format("delta").mode("overwrite").save(path)
        return path

    return to
