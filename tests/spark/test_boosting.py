"""Boosting libraries: probabilities, categories and blocks of numbers, as each library gives them.

The expected values come from the very objects that were trained, on pandas: they never went
through MLflow or lakescore.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import catboost
import lightgbm
import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost
from mlflow.models import infer_signature

from lakescore import executor, scoring, signature, slicing, tables
from lakescore.assignment import Assignment
from lakescore.loading import UnsupportedSignature, prepare
from lakescore.options import LoadOptions
from lakescore.registry import resolve

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.snapshots import Snapshot

ROWS = 60
RANDOM = np.random.default_rng(7)
KNOWN = ["lyon", "oslo", "rome"]
TRAINING = pd.DataFrame(
    {
        "x": RANDOM.normal(size=400),
        "y": RANDOM.normal(size=400),
        "city": pd.Categorical(RANDOM.choice(KNOWN, 400)),
        "floor": pd.Categorical(RANDOM.choice([3, 5, 9], 400)),
    }
)
NUMBERS, EVERYTHING = ["x", "y"], ["x", "y", "city", "floor"]
GROUP = np.digitize(TRAINING["x"] + (TRAINING["city"] == "oslo"), [-0.4, 0.6])
"""0, 1 or 2."""
IS_HIGH = (GROUP > 0).astype(int)
NAMED = np.array(["low", "middle", "high"])[GROUP]
TARGET = TRAINING["x"] * 2 + TRAINING["y"] + 3 * (TRAINING["city"] == "rome")

TABLE = pd.DataFrame(
    {
        "id": range(ROWS),
        "x": RANDOM.normal(size=ROWS),
        "y": RANDOM.normal(size=ROWS),
        "city": RANDOM.choice(KNOWN, ROWS),
        "floor": RANDOM.choice([3, 5, 9], ROWS),
    }
)
TABLE.loc[3, "city"] = "unseen"  # no row of the training data has it
TABLE.loc[4, "city"] = None
TABLE.loc[5, "floor"] = 4  # likewise
TABLE.loc[6, "x"] = None
AS_TRAINED = TABLE.assign(
    city=pd.Categorical(TABLE["city"], categories=KNOWN),
    floor=pd.Categorical(TABLE["floor"], categories=[3, 5, 9]),
)
"""The table's rows with the categories of the training data: other values are missing."""


class Kind(NamedTuple):
    """A trained model, the columns that it takes, and the way in which workers call it."""

    model: Any
    takes: list[str]
    mode: str
    classes: Sequence[Any] = ()
    """If there are any, the model is asked for probabilities."""


def lightgbm_trained(columns: list[str], label: Any, **settings: Any) -> Any:
    rows = lightgbm.Dataset(TRAINING[columns], label)
    return lightgbm.train({"verbose": -1, "num_threads": 1, **settings}, rows, 12)


def xgboost_trained(columns: list[str], label: Any, **settings: Any) -> Any:
    rows = xgboost.DMatrix(TRAINING[columns], label, enable_categorical=True)
    return xgboost.train({"nthread": 1, **settings}, rows, 12)


FEW = {"n_estimators": 12, "n_jobs": 1}
CAT = {"n_estimators": 12, "verbose": 0, "allow_writing_files": False}
BINARY, THREE = (0, 1), (0, 1, 2)
KINDS = {
    "LightGBM's classifier of texts": Kind(
        lightgbm.LGBMClassifier(verbose=-1, **FEW).fit(TRAINING[NUMBERS], NAMED), NUMBERS, "block",
        ("high", "low", "middle"),
    ),
    "LightGBM's booster of two classes": Kind(
        lightgbm_trained(NUMBERS, IS_HIGH, objective="binary"), NUMBERS, "block", BINARY
    ),
    "LightGBM's booster of three classes": Kind(
        lightgbm_trained(NUMBERS, GROUP, objective="multiclass", num_class=3), NUMBERS, "block",
        THREE,
    ),
    "LightGBM's regressor": Kind(
        lightgbm.LGBMRegressor(verbose=-1, **FEW).fit(TRAINING[NUMBERS], TARGET), NUMBERS, "block"
    ),
    "LightGBM's classifier of categories": Kind(
        lightgbm.LGBMClassifier(verbose=-1, **FEW).fit(TRAINING[EVERYTHING], IS_HIGH), EVERYTHING,
        "frame", BINARY,
    ),
    "LightGBM's booster of categories": Kind(
        lightgbm_trained(EVERYTHING, TARGET), EVERYTHING, "frame"
    ),
    "XGBoost's classifier": Kind(
        xgboost.XGBClassifier(**FEW).fit(TRAINING[NUMBERS], GROUP), NUMBERS, "block", THREE
    ),
    "XGBoost's booster of two classes": Kind(
        xgboost_trained(NUMBERS, IS_HIGH, objective="binary:logistic"), NUMBERS, "block", BINARY
    ),
    "XGBoost's booster of three classes": Kind(
        xgboost_trained(NUMBERS, GROUP, objective="multi:softprob", num_class=3), NUMBERS, "block",
        THREE,
    ),
    "XGBoost's booster of numbers": Kind(xgboost_trained(NUMBERS, TARGET), NUMBERS, "block"),
    "XGBoost's regressor of categories": Kind(
        xgboost.XGBRegressor(enable_categorical=True, **FEW).fit(TRAINING[EVERYTHING], TARGET),
        EVERYTHING, "frame",
    ),
    "XGBoost's booster of categories": Kind(
        xgboost_trained(EVERYTHING, IS_HIGH, objective="binary:logistic"), EVERYTHING, "frame",
        BINARY,
    ),
    "CatBoost's classifier of texts": Kind(
        catboost.CatBoostClassifier(**CAT).fit(TRAINING[NUMBERS], NAMED),
        NUMBERS, "block", ("high", "low", "middle"),
    ),
    "CatBoost's regressor of numbers": Kind(
        catboost.CatBoostRegressor(**CAT).fit(TRAINING[NUMBERS], TARGET),
        NUMBERS, "block",
    ),
}  # fmt: skip
LABELS = xgboost_trained(NUMBERS, GROUP, objective="multi:softmax", num_class=3)
"""It predicts labels; its probabilities are those of the booster of three classes."""


def log(name: str, model: Any, rows: pd.DataFrame, predicted: Any, **options: Any) -> None:
    library = "xgboost" if isinstance(model, Halved) else type(model).__module__.split(".")[0]
    signed = infer_signature(rows, predicted, params=options.pop("params", None))
    with mlflow.start_run():
        getattr(mlflow, library).log_model(
            model, name="model", signature=signed, registered_model_name=name,
            pip_requirements=[library], **options,
        )  # fmt: skip


class Halved(xgboost.XGBRegressor):
    """A model of a user's own class."""

    def predict(self, *args: Any, **options: Any) -> Any:
        """Return half of what XGBoost predicts."""
        return super().predict(*args, **options) / 2


def expected(kind: Kind) -> np.ndarray[Any, Any]:
    """Return what the trained object gives on pandas: a column a class, or one column."""
    frame = AS_TRAINED[kind.takes]
    if hasattr(kind.model, "predict_proba") and kind.classes:
        return np.asarray(kind.model.predict_proba(frame))
    data = (
        xgboost.DMatrix(frame, enable_categorical=True)
        if isinstance(kind.model, xgboost.Booster)
        else frame
    )
    given = np.asarray(kind.model.predict(data))
    if kind.classes == BINARY:
        return np.column_stack([1 - given, given])
    return given.reshape(ROWS, -1)


@pytest.fixture(scope="module", autouse=True)
def models(registry: str) -> None:
    mlflow.set_tracking_uri(registry)
    mlflow.set_experiment("models")
    for name, kind in KINDS.items():
        data = TRAINING[kind.takes]
        if isinstance(kind.model, xgboost.Booster):
            data = xgboost.DMatrix(data, enable_categorical=True)
        log(name, kind.model, TRAINING[kind.takes], kind.model.predict(data))
    labels = LABELS.predict(xgboost.DMatrix(TRAINING[NUMBERS]))
    log("XGBoost's labels", LABELS, TRAINING[NUMBERS], labels)


@pytest.fixture(scope="module")
def rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    path = str(tmp_path_factory.mktemp("boosting") / "rows")
    records = TABLE.astype(object).where(TABLE.notna(), None).to_numpy().tolist()
    frame = spark.createDataFrame(records, "id int, x double, y double, city string, floor bigint")
    frame.coalesce(1).write.format("delta").save(path)
    return tables.snapshot(spark, path)


def planned(rows: Snapshot, engine: str, scan: str) -> scoring.Plan:
    contracts = []
    for name, kind in KINDS.items():
        options = LoadOptions(output="proba" if kind.classes else "prediction")
        loadable = prepare(resolve(f"{name}/1"), options=options)
        contracts.append(signature.bind("rows", rows, loadable))
    selection = slicing.select(rows, None, ["all"])
    return scoring.plan(engine, selection, contracts, ["id"], scan)  # type: ignore[arg-type]


def scored(plan: scoring.Plan) -> dict[str, list[list[float]]]:
    records = scoring.side_by_side(plan).orderBy("id").collect()
    assert [row[scoring.ERRORS] for row in records] == [None] * ROWS
    given = {}
    for name in KINDS:
        values = [row[f"models:/{name}/1"] for row in records]
        given[name] = [list(value) if isinstance(value, tuple) else [value] for value in values]
    return given


@pytest.fixture(scope="module")
def plan_of_files(rows: Snapshot) -> scoring.Plan:
    return planned(rows, "auto", "direct")


@pytest.fixture(scope="module")
def by_workers(plan_of_files: scoring.Plan) -> dict[str, list[list[float]]]:
    return scored(plan_of_files)


@pytest.fixture(scope="module")
def by_spark(rows: Snapshot) -> dict[str, list[list[float]]]:
    return scored(planned(rows, "arrow", "spark"))


@pytest.fixture(scope="module")
def by_mlflow(rows: Snapshot) -> dict[str, list[list[float]]]:
    return scored(planned(rows, "spark_udf", "direct"))


@pytest.mark.parametrize("reader", ["by_workers", "by_spark", "by_mlflow"])
@pytest.mark.parametrize("name", KINDS)
def test_a_booster_gives_what_its_library_gives_on_pandas(
    request: pytest.FixtureRequest, reader: str, name: str
) -> None:
    given = np.array(request.getfixturevalue(reader)[name], dtype=float)
    np.testing.assert_allclose(given, expected(KINDS[name]), rtol=1e-12, atol=0)


def test_numbers_go_to_a_booster_as_one_block(plan_of_files: scoring.Plan) -> None:
    facts = plan_of_files.facts()
    assert facts["scan"] == "direct"
    assert dict(zip(KINDS, facts["modes"], strict=True)) == {
        name: kind.mode for name, kind in KINDS.items()
    }


def test_the_plan_names_whose_values_the_versions_give(plan_of_files: scoring.Plan) -> None:
    expected_names = "MLflow's PyFuncModel", "lightgbm's own model", "xgboost's own model"
    assert all(name in plan_of_files.reason for name in expected_names)


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if kind.classes])
def test_the_columns_of_probabilities_are_named_after_the_classes(
    rows: Snapshot, name: str
) -> None:
    loadable = prepare(resolve(f"{name}/1"), options=LoadOptions(output="proba"))
    contract = signature.bind("rows", rows, loadable)
    assert contract.outputs.names == [f"p_{label}" for label in KINDS[name].classes]


def test_a_booster_that_predicts_labels_has_the_probabilities_of_its_margins(
    rows: Snapshot,
) -> None:
    loadable = prepare(resolve("XGBoost's labels/1"), options=LoadOptions(output="proba"))
    contract = signature.bind("rows", rows, loadable)
    plan = scoring.plan("auto", slicing.select(rows, None, ["all"]), [contract], ["id"])
    given = scoring.score(plan).orderBy("id").drop("id").toPandas().to_numpy()
    np.testing.assert_allclose(
        given, expected(KINDS["XGBoost's booster of three classes"]), rtol=1e-6
    )
    labels = LABELS.predict(xgboost.DMatrix(TABLE[NUMBERS]))
    assert given.argmax(axis=1).tolist() == labels.tolist()


@pytest.mark.parametrize("name", ["LightGBM's regressor", "XGBoost's booster of numbers"])
def test_a_booster_without_classes_has_no_probabilities(name: str) -> None:
    with pytest.raises(UnsupportedSignature, match="has no predict_proba"):
        prepare(resolve(f"{name}/1"), options=LoadOptions(output="proba"))


@pytest.fixture(scope="module")
def late_rows(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """250 rows whose floors are fractions; the rows of a probe have none."""
    path = str(tmp_path_factory.mktemp("boosting") / "late")
    records = [[n, n / 100, None if n < 220 else [3.0, 5.0, 9.0][n % 3]] for n in range(250)]
    frame = spark.createDataFrame(records, "id int, x double, floor double").coalesce(1)
    frame.write.format("delta").save(path)
    return tables.snapshot(spark, path)


LATE = pd.DataFrame({"x": TRAINING["x"], "floor": TRAINING["floor"]})
HIGH_FLOOR = (TRAINING["floor"].astype(int) + TRAINING["x"] > 5).astype(int)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_categories_of_fractions_never_go_to_a_booster_as_one_block(
    late_rows: Snapshot, library: str
) -> None:
    if library == "lightgbm":
        fractions = LATE.assign(floor=pd.Categorical(LATE["floor"].astype(float)))
        model: Any = lightgbm.LGBMClassifier(verbose=-1, **FEW).fit(fractions, HIGH_FLOOR)
    else:
        rows = xgboost.DMatrix(LATE, HIGH_FLOOR, enable_categorical=True)
        model = xgboost.train({"nthread": 1, "objective": "binary:logistic"}, rows, 12)
    name = f"{library} of fractions"
    log(name, model, LATE.astype(float), np.zeros(len(LATE)))
    loadable = prepare(resolve(f"{name}/1"), options=LoadOptions(output="proba"))
    contract = signature.bind("rows", late_rows, loadable)
    plan = scoring.plan("auto", slicing.select(late_rows, None, ["all"]), [contract], ["id"])
    given = scoring.score(plan).orderBy("id").drop("id").toPandas().to_numpy()
    numbers = [None if n < 220 else [3, 5, 9][n % 3] for n in range(250)]
    floors = pd.Categorical(numbers, categories=[3, 5, 9])
    if library == "lightgbm":
        floors = floors.rename_categories([3.0, 5.0, 9.0])
    frame = pd.DataFrame({"x": np.arange(250) / 100, "floor": floors})
    if library == "lightgbm":
        wanted = model.predict_proba(frame)[:, 1]
    else:
        wanted = model.predict(xgboost.DMatrix(frame, enable_categorical=True))
    np.testing.assert_allclose(given[:, 1], wanted, rtol=1e-12)


def test_categories_that_mlflow_would_take_for_codes_are_found(late_rows: Snapshot) -> None:
    rows = xgboost.DMatrix(LATE, TARGET, enable_categorical=True)
    model = xgboost.train({"nthread": 1}, rows, 12)
    log("codes", model, LATE.astype(float), model.predict(rows), params={"validate": True})
    loadable = prepare(resolve("codes/1"))
    assert loadable.has_categories
    contract = signature.bind("rows", late_rows, loadable)
    plan = scoring.plan("auto", slicing.select(late_rows, None, ["all"]), [contract], ["id"])
    assert plan.facts()["modes"] == ["frame"]
    with pytest.raises(UnsupportedSignature, match=r"pyfunc\.params"):
        prepare(resolve("codes/1"), options=LoadOptions(params={"validate": "false"}))


def test_mlflow_passes_params_on_but_no_probabilities() -> None:
    model = KINDS["LightGBM's classifier of texts"].model
    log("with params", model, TRAINING[NUMBERS], NAMED, params={"validate": True})
    options = LoadOptions(output="proba", params={"validate": "false"})
    with pytest.raises(UnsupportedSignature, match=r"pyfunc\.params"):
        prepare(resolve("with params/1"), options=options)


def test_mlflow_loads_a_class_that_is_not_the_librarys() -> None:
    model = Halved(**FEW).fit(TRAINING[NUMBERS], TARGET)
    log("halved", model, TRAINING[NUMBERS], model.predict(TRAINING[NUMBERS]))
    assert prepare(resolve("halved/1")).library is None


def test_catboost_in_the_format_of_onnx_has_no_probabilities() -> None:
    model = KINDS["CatBoost's classifier of texts"].model
    log("onnx", model, TRAINING[NUMBERS], NAMED, format="onnx")
    with pytest.raises(UnsupportedSignature, match="only sklearn"):
        prepare(resolve("onnx/1"), options=LoadOptions(output="proba"))


def test_another_environment_can_have_a_library_that_this_one_lacks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def describe(version: executor.Version) -> executor.Description:
        raise ModuleNotFoundError(name=version.library)

    monkeypatch.setattr(executor, "describe", describe)
    options = LoadOptions(env_manager="virtualenv")
    loadable = prepare(resolve("LightGBM's booster of categories/1"), options=options)
    assert loadable.reference.mode == "pyfunc"


def test_versions_of_a_family_with_and_without_categories_are_called_apart(
    spark: SparkSession, tmp_path: Path
) -> None:
    numbers = LATE.assign(floor=LATE["floor"].astype(int))
    plain = xgboost.train({"nthread": 1}, xgboost.DMatrix(numbers, TARGET), 12)
    rows = xgboost.DMatrix(LATE, TARGET, enable_categorical=True)
    of_categories = xgboost.train({"nthread": 1}, rows, 12)
    for region, model in {"north": plain, "south": of_categories}.items():
        log(f"region-{region}", model, numbers, np.zeros(len(numbers)))
    # No row of the north can be scored, so nothing proves how to call its version.
    records = [[n, "north", 0.0, None] for n in range(30)]
    records += [[n, "south", float(LATE["x"][n]), int(LATE["floor"][n])] for n in range(30, 50)]
    columns = "id int, region string, x double, floor bigint"
    spark.createDataFrame(records, columns).write.format("delta").save(str(tmp_path))
    source = tables.snapshot(spark, str(tmp_path))
    versions = [resolve(f"region-{region}/1") for region in ("north", "south")]
    assigned = Assignment(
        name="region-{region}", reference="region-{region}/1", models=tuple(versions), by="region",
        numbers={"north": 0, "south": 1},
    )  # fmt: skip
    loadables = {version.uri: prepare(version) for version in versions}
    binding = signature.bind_assigned(assigned, source, list(loadables.values()), ["id", "region"])
    selection = slicing.select(source, None, ["all"])
    plan = scoring.plan("auto", selection, binding, ["id", "region"])
    scored = scoring.score(plan, failing="null").where("region = 'south'").orderBy("id").collect()
    np.testing.assert_allclose(
        [row["prediction"] for row in scored], of_categories.predict(rows)[30:50], rtol=1e-6
    )
