"""Type hints: models whose `predict` says what it takes, logged from a file of code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import mlflow
import pytest
import score
from builders.jobs import score_job
from builders.tables import make_table, rows_of

from lakescore import applying, scoring, signature, slicing, tables
from lakescore.loading import UnsupportedSignature, prepare
from lakescore.options import BindOptions
from lakescore.registry import resolve
from lakescore.signature.errors import FeaturesNamed

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import SparkSession

COLUMNS = "id int, x double, n bigint, word string, v array<double>, day timestamp"
ROWS: list[Any] = [
    (1, 1.5, 7, "red", [1.0, 2.0], None),
    (2, -2.0, 2**53 + 1, None, [], None),  # a whole number that no double holds
    (3, 0.0, -9, "blue", [0.5], None),
]
CODE = """
import mlflow
import pydantic


class Stop(pydantic.BaseModel):
    x: float
    n: int
    word: str | None = None
    v: list[float]
    lacking: str | None = None


class Answer(pydantic.BaseModel):
    text: str
    size: int


class Model(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: list[TAKES]) -> list[GIVES]:
        return [ANSWER for row in model_input]


mlflow.models.set_model(Model())
"""
STOP = "f'{type(row.n).__name__} {row.n} {row.x} {row.word} {row.v} {row.lacking}'"
KINDS: dict[str, tuple[str, str, str, tuple[str, ...], list[Any]]] = {
    "hinted records": (
        "Stop", "str", STOP, (),
        [f"int {n} {x} {word} {v} None" for _, x, n, word, v, _ in ROWS],
    ),
    "hinted records for records": (
        "Stop", "Answer", "Answer(text=str(row.word), size=len(row.v))", (),
        [(len(v), str(word)) for _, _, _, word, v, _ in ROWS],
    ),
    "hinted numbers": ("float", "float", "2 * row", ("x",), [2 * row[1] for row in ROWS]),
    "hinted whole numbers": ("int", "int", "row + 1", ("n",), [row[2] + 1 for row in ROWS]),
    "hinted lists": ("list[float]", "float", "sum(row)", ("v",), [sum(row[4]) for row in ROWS]),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def models(tmp_path_factory: pytest.TempPathFactory, registry: str) -> None:
    folder = tmp_path_factory.mktemp("code")
    mlflow.set_tracking_uri(registry)
    for n, (name, (takes, gives, answer, _, _)) in enumerate(KINDS.items()):
        file = folder / f"model{n}.py"
        code = CODE.replace("TAKES", takes).replace("GIVES", gives).replace("ANSWER", answer)
        file.write_text(code)
        mlflow.pyfunc.log_model(name=f"m{n}", python_model=str(file), registered_model_name=name)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_table(tmp_path_factory.mktemp("hinted") / "rows", ROWS, COLUMNS)


@pytest.mark.parametrize(
    ("engine", "scan"), [("arrow", "direct"), ("arrow", "spark"), ("spark_udf", "spark")]
)
@pytest.mark.parametrize("name", KINDS)
def test_a_model_gets_what_its_type_hint_says(
    spark: SparkSession, path: str, name: str, engine: Any, scan: Any
) -> None:
    _, _, _, features, expected = KINDS[name]
    rows = tables.snapshot(spark, path)
    options = BindOptions(features=features)
    contract = signature.bind("rows", rows, prepare(resolve(f"{name}/1")), options=options)
    plan = scoring.plan(engine, slicing.select(rows, None, ["all"]), [contract], ["id"], scan)
    given = [row["prediction"] for row in scoring.score(plan).orderBy("id").collect()]
    assert [tuple(v) if isinstance(expected[0], tuple) else v for v in given] == expected


def test_an_optional_field_that_the_table_lacks_is_told(spark: SparkSession, path: str) -> None:
    loadable = prepare(resolve("hinted records/1"))
    rows = tables.snapshot(spark, path)
    assert signature.bind("rows", rows, loadable).left_out == ("lacking",)


def test_a_list_of_features_is_for_hints_without_names(spark: SparkSession, path: str) -> None:
    rows = tables.snapshot(spark, path)
    for name, features, error, message in (
        ("hinted records", ("x",), FeaturesNamed, "names its features: lacking, n, v, word, x"),
        ("hinted numbers", (), UnsupportedSignature, r"1 column without names.*\[COLUMN1\]$"),
    ):
        loadable, options = prepare(resolve(f"{name}/1")), BindOptions(features=features)
        with pytest.raises(error, match=message):
            signature.bind("rows", rows, loadable, options=options)


@pytest.mark.parametrize("name", KINDS)
def test_mlmodel_alone_proposes_what_the_whole_version_does(path: str, name: str) -> None:
    whole, alone = (
        of(f"{name}/1", path, "lake/p").propose(
            applying.Choices(features=KINDS[name][3], id_columns=("id",))
        )
        for of in (applying.request, applying.outline)
    )
    assert whole.job_file is not None
    assert alone.facts() == whole.facts()


def test_a_job_scores_records_and_sets_apart_the_row_that_the_hint_refuses(
    tmp_path: Path, runner: str
) -> None:
    rows = [*ROWS, (4, None, 1, "green", [], None)]  # x is required
    table = make_table(tmp_path / "rows", rows, COLUMNS)
    job = score_job(
        tmp_path, table, model="hinted records/1", runner="auto",
        quarantine=tmp_path / "quarantine", max_errors=1,
    )  # fmt: skip
    receipt = score.run(job)
    assert receipt["runner"]["name"] == runner
    published = [text for _, text in rows_of(tmp_path / "predictions", "id", "prediction")]
    assert published == KINDS["hinted records"][4]
    ((key, message),) = rows_of(tmp_path / "quarantine", "id", "error_message")
    assert key == 4
    assert "Input should be a valid number" in message
