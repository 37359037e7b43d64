"""Boosting libraries: what `load_boosted` gives for a model that MLflow saved.

The expected values come from the very objects that were trained, on the frame of the training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import catboost
import lightgbm
import mlflow.catboost
import mlflow.lightgbm
import mlflow.xgboost
import numpy as np
import pandas as pd
import pytest
import xgboost
import yaml

from lakescore.executor.libraries import load_boosted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Reload = Callable[..., Any]

ROWS = 300
RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=ROWS)
FLOORS = RANDOM.choice([3, 5, 9], ROWS)
CODES = RANDOM.choice([0, 1, 2], ROWS)
CITIES = RANDOM.choice(["lyon", "oslo", "rome"], ROWS)
TARGET = X + FLOORS + 4 * (CODES == 2) + 3 * (CITIES == "oslo")
NUMBERS = pd.DataFrame({"x": X, "y": RANDOM.normal(size=ROWS)})
IS_HIGH, GROUP = (X > 0).astype(int), np.digitize(X, [-0.4, 0.6])
FEW = {"n_estimators": 8, "n_jobs": 1}
QUIET = {"verbose": -1, **FEW}
SILENT = {"n_estimators": 8, "verbose": 0, "allow_writing_files": False, "thread_count": 1}


@pytest.fixture
def reload(tmp_path: Path) -> Reload:
    """A function that saves a trained model with MLflow, and loads it as workers do."""

    def save_and_load(model: Any, **options: Any) -> Any:
        library = type(model).__module__.split(".")[0]
        folder = tmp_path / "model"
        getattr(mlflow, library).save_model(model, folder, pip_requirements=[library], **options)
        card = yaml.safe_load((folder / "MLmodel").read_text(encoding="utf-8"))
        return load_boosted(library, str(folder), card["flavors"][library], threads=1)

    return save_and_load


def as_in_a_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Return *frame* with plain texts and numbers instead of categories."""
    return frame.apply(lambda column: pd.Series(column.tolist()))


def booster_of(frame: pd.DataFrame, explicit: list[str] | None = None, **settings: Any) -> Any:
    """Return LightGBM's booster on *frame*; *explicit* names its categorical columns."""
    options = {} if explicit is None else {"categorical_feature": explicit}
    rows = lightgbm.Dataset(frame, TARGET, **options)  # type: ignore[arg-type]
    return lightgbm.train({"verbose": -1, "num_threads": 1, **settings}, rows, 8)


HALF_USED = pd.DataFrame(
    {
        "x": X,
        "floor": pd.Categorical(FLOORS, categories=[1, 3, 5, 9, 11]),
        "code": CODES,
    }
)
"""The first and the last of its categories are on no row."""


def test_lightgbm_does_not_take_a_declared_column_for_the_pandas_category(reload: Reload) -> None:
    model = reload(booster_of(HALF_USED, explicit=["code"]))
    with pytest.raises(ValueError, match="floor"):
        model.predict(as_in_a_table(HALF_USED))


def test_lightgbm_does_not_take_a_declared_column_for_an_ordered_category(reload: Reload) -> None:
    ordered = HALF_USED.assign(floor=HALF_USED["floor"].cat.as_ordered())
    model = reload(booster_of(ordered, explicit=["code"]))
    with pytest.raises(ValueError, match="floor"):
        model.predict(as_in_a_table(ordered))


def test_lightgbm_does_not_take_codes_for_the_values_of_a_declared_column(reload: Reload) -> None:
    other = HALF_USED.assign(code=FLOORS)
    model = reload(booster_of(other, explicit=["code"]))
    with pytest.raises(ValueError, match="categorical_feature do not match"):
        model.predict(as_in_a_table(other))


def test_lightgbm_does_not_believe_a_parameter_that_the_training_ignored(reload: Reload) -> None:
    frame = HALF_USED[["code", "x", "floor"]].assign(code=CODES * 10)
    trained = lightgbm.LGBMRegressor(categorical_feature=[0], **QUIET).fit(frame, TARGET)
    np.testing.assert_array_equal(
        reload(trained).predict(as_in_a_table(frame)), trained.predict(frame)
    )


@pytest.mark.parametrize(
    "values", [FLOORS > 5, X * 3, CODES + 1, CODES * 0], ids=["flags", "fractions", "codes", "one"]
)
def test_lightgbm_knows_categories_of_numbers_beside_other_columns(
    reload: Reload, values: Any
) -> None:
    frame = pd.DataFrame({"floor": pd.Categorical(FLOORS), "other": values})
    trained = booster_of(frame)
    np.testing.assert_array_equal(
        reload(trained).predict(as_in_a_table(frame)), trained.predict(frame)
    )


def test_lightgbm_knows_a_category_whose_name_has_a_space(reload: Reload) -> None:
    frame = pd.DataFrame({"the city": pd.Categorical(CITIES), "x": X})
    trained = booster_of(frame)
    np.testing.assert_array_equal(
        reload(trained).predict(as_in_a_table(frame)), trained.predict(frame)
    )


def test_texts_are_not_taken_for_categories_of_numbers(reload: Reload) -> None:
    frame = pd.DataFrame({"floor": pd.Categorical(FLOORS), "x": X})
    model = reload(booster_of(frame))
    with pytest.raises(ValueError, match="floor"):
        model.predict(frame.assign(floor=[str(floor) for floor in FLOORS]))


def test_numbers_are_not_taken_for_categories_of_texts(reload: Reload) -> None:
    frame = pd.DataFrame({"floor": pd.Categorical([str(floor) for floor in FLOORS]), "x": X})
    model = reload(booster_of(frame))
    with pytest.raises(ValueError, match="floor"):
        model.predict(frame.assign(floor=FLOORS))


def test_lightgbm_does_not_confuse_columns_in_another_order(reload: Reload) -> None:
    model = reload(lightgbm.LGBMClassifier(**QUIET).fit(NUMBERS, IS_HIGH))
    with pytest.raises(ValueError, match="order"):
        model.predict_proba(NUMBERS[["y", "x"]])


def softmax_gradients(labels: Any, raw: Any) -> tuple[Any, Any]:
    powers = np.exp(raw - raw.max(axis=1, keepdims=True))
    shares = powers / powers.sum(axis=1, keepdims=True)
    return shares - np.eye(3)[labels.astype(int)], 2 * shares * (1 - shares)


def test_raw_scores_of_lightgbm_are_not_probabilities(reload: Reload) -> None:
    trained = lightgbm.LGBMClassifier(objective=softmax_gradients, **QUIET).fit(NUMBERS, GROUP)
    assert reload(trained, serialization_format="cloudpickle").classes_ is None


@pytest.mark.parametrize("objective", ["binary:logitraw", "binary:hinge"])
def test_raw_scores_of_xgboost_are_not_probabilities(reload: Reload, objective: str) -> None:
    trained = xgboost.XGBClassifier(objective=objective, **FEW).fit(NUMBERS, IS_HIGH)
    assert reload(trained).classes_ is None


LABELS = np.column_stack([IS_HIGH, NUMBERS["y"] > 0])
"""Two labels a row, which exclude each other as little as they need each other."""


@pytest.mark.parametrize(
    "trained",
    [
        xgboost.XGBClassifier(**FEW).fit(NUMBERS, LABELS),
        xgboost.train(
            {"objective": "binary:logistic", "nthread": 1}, xgboost.DMatrix(NUMBERS, LABELS), 8
        ),
        catboost.CatBoostClassifier(loss_function="MultiLogloss", **SILENT).fit(NUMBERS, LABELS),
    ],
    ids=["XGBoost's classifier", "XGBoost's booster", "CatBoost's classifier"],
)
def test_several_labels_a_row_are_not_the_classes_of_one(reload: Reload, trained: Any) -> None:
    assert isinstance(reload(trained).classes_, list)


@pytest.mark.parametrize("booster", ["dart", "gblinear"])
def test_xgboost_loads_every_kind_of_booster(reload: Reload, booster: str) -> None:
    trained = xgboost.XGBClassifier(booster=booster, **FEW).fit(NUMBERS, IS_HIGH)
    np.testing.assert_array_equal(
        reload(trained).predict_proba(NUMBERS), trained.predict_proba(NUMBERS)
    )


@pytest.mark.parametrize("width", ["int8", "int16", "int32", "int64"])
def test_xgboost_knows_categories_of_each_width(reload: Reload, width: str) -> None:
    frame = pd.DataFrame({"floor": pd.Categorical(FLOORS.astype(width)), "x": X})
    trained = xgboost.XGBRegressor(enable_categorical=True, **FEW).fit(frame, TARGET)
    table = pd.DataFrame({"floor": FLOORS.astype("int32"), "x": X})
    np.testing.assert_array_equal(reload(trained).predict(table), trained.predict(frame))


@pytest.mark.parametrize("cities", [["Genève", "Zürich"], ["éa", "bc"], ["a", "é"]])
def test_categories_that_xgboost_stores_wrong_are_refused(
    reload: Reload, cities: list[str]
) -> None:
    values = RANDOM.choice(cities, ROWS)
    frame = pd.DataFrame({"city": pd.Categorical(values, categories=cities), "x": X})
    trained = xgboost.XGBRegressor(enable_categorical=True, **FEW).fit(frame, TARGET)
    with pytest.raises(ValueError, match="ASCII"):
        reload(trained)
