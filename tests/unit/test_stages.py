"""Stages of Spark ML: which of them are Spark's own, and how Spark's errors become one line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from lakescore import classic
from lakescore.isolation import find_code

if TYPE_CHECKING:
    from pathlib import Path

FLAVORS = {
    "python_function": {"loader_module": "mlflow.spark", "data": "sparkml"},
    "spark": {"model_data": "sparkml", "code": None},
}
WHERE = "sparkml/stages/0/metadata/part-00000"


def stage(name: str, **params: Any) -> str:
    return json.dumps({"class": name, "paramMap": params})


def sql(statement: str) -> str:
    return stage("org.apache.spark.ml.feature.SQLTransformer", statement=statement)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (stage("org.apache.spark.ml.feature.VectorAssembler"), None),
        (stage("pyspark.ml.pipeline.PipelineModel", language="Python"), None),
        (stage("com.example.Stage"), f"class com.example.Stage in {WHERE}"),
        (stage("org.apache.spark.mlx.Stage"), f"class org.apache.spark.mlx.Stage in {WHERE}"),
        (sql(" \n select *, x AS y FROM __THIS__"), None),
        (sql("SET spark.sql.ansi.enabled=false"), f"a statement that is not a SELECT in {WHERE}"),
        (
            sql("INSERT INTO t SELECT * FROM __THIS__"),
            f"a statement that is not a SELECT in {WHERE}",
        ),
        (
            sql("WITH t AS (SELECT 1) INSERT INTO u SELECT 1 FROM t"),
            "a statement that is not a SELECT",
        ),
        ("no json", f"an unreadable stage in {WHERE}"),
        (json.dumps({"paramMap": {}}), f"an unreadable stage in {WHERE}"),
        (
            f"{stage('pyspark.ml.A')}\n{stage('other.B')}",
            f"class other.B in {WHERE}",
        ),  # Spark reads lines
    ],
)
def test_a_stage_that_is_not_sparks_is_code_of_the_version(
    tmp_path: Path, text: str, code: str | None
) -> None:
    file = tmp_path / WHERE
    file.parent.mkdir(parents=True)
    file.write_text(text)
    (file.parent / ".part-00000.crc").write_bytes(b"crc\x00\x01")  # Spark reads no hidden files
    (file.parent / "_SUCCESS").touch()
    own = find_code(FLAVORS, tmp_path).own
    assert own == code if code is None else str(own).startswith(code)


CALL = "An error occurred while calling o350.collectToPython.\n: org.apache.spark.SparkException: "
FAILED = (
    "[FAILED_EXECUTE_UDF] User defined function (`StringIndexerModel$$Lambda$1/0x7f`: (string) => "
    "double) failed due to: org.apache.spark.SparkException: Unseen label: new. To handle unseen "
    "labels, set Param handleInvalid to keep.. SQLSTATE: 39000"
)
TRACE = "\n\tat org.apache.spark.sql.errors.QueryExecutionErrors$.f(Q.scala:1)\n"
CAUSE = "Caused by: org.apache.spark.SparkException: Encountered null, with\nhandleInvalid = error"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        # A classic session, a client of Spark Connect, Spark 3.5, and an error of a stage's schema.
        (f"{CALL}{FAILED}{TRACE}", "Unseen label: new. To handle unseen labels, set Param "),
        (
            f"{FAILED}\n\nJVM stacktrace:\norg.apache.spark.SparkException{TRACE}",
            "Unseen label: new.",
        ),
        (f"{CALL}Job aborted{TRACE}{CAUSE}{TRACE}", "Encountered null, with handleInvalid = error"),
        ("[FIELD_NOT_FOUND] No such struct field `x`. SQLSTATE: 42704", "No such struct field `x`"),
        (
            "Output column features already exists.\n\nJVM stacktrace:\nx",
            "Output column features al",
        ),
        ("", "ValueError"),
    ],
)
def test_the_reason_of_an_error_of_spark_is_one_line(text: str, reason: str) -> None:
    found = classic.reason(ValueError(text))
    assert found.startswith(reason)
    assert not {"\n", "\t"} & set(found)
    assert "SQLSTATE" not in found
