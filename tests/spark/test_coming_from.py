"""docs/coming-from.md: what teams have, and the same work with lakescore, give the same values."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from builders.models import delay_model
from deltalake import write_deltalake
from pyspark.sql import functions

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import SparkSession

TEXT = (Path(__file__).parents[2] / "docs/coming-from.md").read_text()
SECTIONS = {
    title: re.findall(r"^(Before|Now):\n\n```python\n(.*?)```", section, re.MULTILINE | re.DOTALL)
    for title, section in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
}
FEATURES = ["dep_delay", "distance"]
TABLES = ("departures", "distances", "predictions", "predictions_by_day",
          "predictions_of_the_notebook", "predictions_of_the_stack")  # fmt: skip
"""The tables of the catalog that the code reads or writes."""
ROWS = pd.DataFrame(
    {
        "id": np.arange(200),
        "day": [f"2013-12-0{1 + n % 3}" for n in range(200)],
        "dep_delay": np.arange(200.0) - 20,
        "distance": np.arange(200.0) * 7 % 900,
    }
)
EXPECTED = pytest.approx(list(delay_model().predict(ROWS[FEATURES])), rel=1e-12)


@pytest.fixture(scope="module")
def names(spark: SparkSession, register: Any, tmp_path_factory: Any) -> Iterator[dict[str, Any]]:
    """Return the names that the code uses, for a model and tables as the page has them."""
    register("flight-delay", alias="champion")
    home = tmp_path_factory.mktemp("coming")
    write_deltalake(str(home / "departures"), ROWS)
    drop_tables(spark)
    for table, columns in (("departures", list(ROWS)), ("distances", ["id", "distance"])):
        spark.createDataFrame(ROWS[columns]).write.format("delta").saveAsTable(table)
    yield {"spark": spark, "home": str(home)}
    drop_tables(spark)


def drop_tables(spark: SparkSession) -> None:
    for table in TABLES:
        spark.sql(f"DROP TABLE IF EXISTS {table}")


def code(title: str) -> tuple[str, str]:
    """Return the code before and the code now of the section."""
    (first, before), (second, now) = SECTIONS[title]
    assert (first, second) == ("Before", "Now")
    return before, now


def run(text: str, names: dict[str, Any]) -> dict[str, Any]:
    """Run a block of code in a program of its own; return its names."""
    program = dict(names)
    exec(compile(text, "docs/coming-from.md", "exec"), program)  # noqa: S102 - the page's own code
    return program


def stored(names: dict[str, Any], table: str) -> list[float]:
    rows = names["spark"].table(table).orderBy("id").select("prediction").collect()
    return [row["prediction"] for row in rows]


def test_every_section_has_the_code_before_and_now() -> None:
    assert list(SECTIONS) == [
        "Fabric: the transformer",
        "Fabric: PREDICT in SQL",
        "Databricks: spark_udf",
        "Databricks: score_batch",
        "mlops-stacks: the batch inference notebook",
        "A script with pandas under cron",
    ]
    assert all([word for word, _ in blocks] == ["Before", "Now"] for blocks in SECTIONS.values())


def test_fabrics_transformer_runs_with_another_import(names: dict[str, Any]) -> None:
    before, now = code("Fabric: the transformer")
    assert [line for line in before.splitlines() if line not in now.splitlines()] == [
        "from synapse.ml.predict import MLFlowTransformer"
    ]
    predictions = run(now, names)["predictions"].orderBy("id").collect()
    assert [row["predictions"] for row in predictions] == EXPECTED


@pytest.mark.skipif(not hasattr(functions, "arrow_udf"), reason="PREDICT in SQL needs Spark 4.1")
def test_fabrics_statement_runs_after_two_new_lines(names: dict[str, Any]) -> None:
    before, now = code("Fabric: PREDICT in SQL")
    assert [line for line in now.splitlines() if line not in before.splitlines()] == [
        "import lakescore.sql",
        'lakescore.sql.register(spark, "flight-delay/1")',
    ]
    predictions = run(now, names)["predictions"].collect()
    assert sorted(row["predictions"] for row in predictions) == pytest.approx(
        sorted(delay_model().predict(ROWS[FEATURES])), rel=1e-12
    )


def test_a_job_writes_what_the_notebook_with_spark_udf_wrote(names: dict[str, Any]) -> None:
    before, now = code("Databricks: spark_udf")
    run(before, names)
    assert stored(names, "predictions_of_the_notebook") == EXPECTED
    run(now, names)
    assert stored(names, "predictions") == EXPECTED


def test_a_join_gives_what_a_lookup_of_features_gives(names: dict[str, Any]) -> None:
    _, now = code("Databricks: score_batch")
    predictions = run(now, names)["predictions"].orderBy("id").collect()
    assert [row["prediction"] for row in predictions] == EXPECTED


def test_a_job_by_day_writes_what_the_batch_inference_notebook_wrote(
    names: dict[str, Any],
) -> None:
    before, now = code("mlops-stacks: the batch inference notebook")
    run(before, names)
    assert stored(names, "predictions_of_the_stack") == EXPECTED
    receipt = run(now, names)["receipt"]
    assert [entry["status"] for entry in receipt["slices"]] == ["scored"] * 3
    assert stored(names, "predictions_by_day") == EXPECTED


def test_a_local_job_writes_what_the_script_wrote(names: dict[str, Any]) -> None:
    before, now = code("A script with pandas under cron")
    for text in (before, now):
        run(text, names)
    for table in ("predictions_of_the_script", "predictions"):
        rows = names["spark"].read.format("delta").load(f"{names['home']}/{table}")
        assert [row["prediction"] for row in rows.orderBy("id").collect()] == EXPECTED
