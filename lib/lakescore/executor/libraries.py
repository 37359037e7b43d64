"""Libraries: the models of LightGBM, XGBoost and CatBoost, with the interface of scikit-learn.

The classes here have what workers use of a scikit-learn estimator: `predict`, `predict_proba`,
`classes_` and `feature_names_in_`. And they have `category_columns`: by feature, the categories
that a model was trained on. A table holds texts or whole numbers, and the library wants pandas
categories. A value that the training data did not have becomes missing.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def load_boosted(library: str, folder: str, settings: Mapping[str, Any], threads: int) -> Any:
    """Return the model of *library* in *folder*.

    Args:
        library: `lightgbm`, `xgboost` or `catboost`.
        folder: the folder of the version's artifacts.
        settings: the settings of this flavour in `MLmodel`.
        threads: the number of threads that a prediction can use.
    """
    path = os.path.join(folder, settings["data"])  # noqa: PTH118 - pathlib would be one more import
    if library == "lightgbm":
        return _load_lightgbm(path, folder, settings, threads)
    if library == "xgboost":
        return _load_xgboost(path, settings, threads)
    return _load_catboost(path, settings, threads)


def with_categories(frame: Any, categories: Mapping[str, Sequence[Any]]) -> Any:
    """Return a pandas *frame* whose columns in *categories* have these categories."""
    if not categories:
        return frame
    import pandas as pd  # noqa: PLC0415 - a requirement of few models

    frame = frame.copy(deep=False)
    for name, known in categories.items():
        frame[name] = pd.Categorical(frame[name], categories=known)
    return frame


def _given_names(names: Sequence[str], prefix: str) -> Sequence[str] | None:
    """Return *names*, unless the library itself has numbered columns without names."""
    numbered = [f"{prefix}{number}" for number in range(len(names))]
    return None if list(names) == numbered else names


def _load_lightgbm(path: str, folder: str, settings: Mapping[str, Any], threads: int) -> Any:
    import lightgbm  # noqa: PLC0415 - a requirement of the model

    if settings.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        return LightGBMBooster(lightgbm.Booster(model_file=path), threads)
    import mlflow.lightgbm  # noqa: PLC0415 - seconds of import that a booster does not need

    return LightGBMModel(mlflow.lightgbm.load_model(folder), threads)


class LightGBMModel:
    """A model of LightGBM's interface for scikit-learn."""

    def __init__(self, model: Any, threads: int) -> None:
        self._model = model.set_params(n_jobs=threads)
        self.classes_ = getattr(model, "classes_", None)
        self.feature_names_in_ = _given_names(model.booster_.feature_name(), "Column_")
        self.category_columns = _lightgbm_categories(model.booster_)

    def predict(self, rows: Any) -> Any:
        """Return labels of a classifier, or numbers."""
        return self._model.predict(with_categories(rows, self.category_columns))

    def predict_proba(self, rows: Any) -> Any:
        """Return a classifier's probabilities."""
        return self._model.predict_proba(with_categories(rows, self.category_columns))


class LightGBMBooster:
    """A booster of LightGBM. If its objective is a class, `classes_` are 0, 1, ...."""

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster, self._threads = booster, threads
        self.feature_names_in_ = _given_names(booster.feature_name(), "Column_")
        self.category_columns = _lightgbm_categories(booster)
        objective = str(booster.params.get("objective", "")).split(" ", maxsplit=1)[0]
        self._is_binary = objective == "binary"
        self.classes_ = None
        if self._is_binary:
            self.classes_ = np.arange(2)
        elif objective in {"multiclass", "multiclassova"}:
            self.classes_ = np.arange(booster.num_model_per_iteration())

    def predict(self, rows: Any) -> Any:
        """Return what the booster predicts: for classes, probabilities."""
        frame = with_categories(rows, self.category_columns)
        return self._booster.predict(frame, num_threads=self._threads)

    def predict_proba(self, rows: Any) -> Any:
        """Return the probabilities, one column a class."""
        return _columns_of_classes(self.predict(rows)) if self._is_binary else self.predict(rows)


def _columns_of_classes(reached: Any) -> Any:
    """Return the probabilities of both classes, as the libraries compute them from the second."""
    return np.column_stack([1.0 - reached, reached])


def _lightgbm_categories(booster: Any) -> dict[str, list[Any]]:
    """Return the categories of a booster that was trained on pandas categories.

    LightGBM stores the categories of such columns in the order of the columns, without names. It
    also stores the positions of categorical columns: these, unless a category is ordered, and whole
    numbers that the caller declared as categories. If it is not certain which columns are meant,
    the result is empty, and the booster refuses the rows.
    """
    known = booster.pandas_categorical or []
    positions = booster.params.get("categorical_feature") or booster.params.get(
        "categorical_column"
    )
    if not known or not isinstance(positions, list) or len(positions) != len(known):
        return {}
    header = booster.model_to_string(num_iteration=1).splitlines()
    ranges = next(line for line in header if line.startswith("feature_infos=")).split("=", 1)[1]
    numbers = [text for n, text in enumerate(ranges.split(" ")) if n not in positions]
    for values in known:
        is_text = all(isinstance(value, str) for value in values)
        if not is_text and f"[0:{len(values) - 1}]" in numbers:  # as an ordered category would be
            return {}
    names = booster.feature_name()
    return {names[n]: values for n, values in zip(sorted(positions), known, strict=True)}


def _load_xgboost(path: str, settings: Mapping[str, Any], threads: int) -> Any:
    import xgboost  # noqa: PLC0415 - a requirement of the model

    booster = xgboost.Booster(model_file=path)
    booster.set_param({"nthread": threads})
    kind = str(settings.get("model_class", "xgboost.core.Booster")).rpartition(".")[2]
    if kind == "Booster":
        return XGBoostBooster(booster)
    model = getattr(xgboost, kind)()
    model.load_model(path)
    return XGBoostModel(model, threads)


def _xgboost_categories(booster: Any) -> dict[str, list[Any]]:
    """Return the categories that XGBoost stores with a model, since version 3.1."""
    if not hasattr(booster, "get_categories"):
        return {}
    return {
        name: values.to_pylist()
        for name, values in booster.get_categories(export_to_arrow=True).to_arrow() or ()
        if values is not None
    }


class XGBoostModel:
    """A model of XGBoost's interface for scikit-learn."""

    def __init__(self, model: Any, threads: int) -> None:
        self._model = model
        booster = model.get_booster()
        booster.set_param({"nthread": threads})
        self.classes_ = getattr(model, "classes_", None)
        self.feature_names_in_ = booster.feature_names
        self.category_columns = _xgboost_categories(booster)

    def predict(self, rows: Any) -> Any:
        """Return labels of a classifier, or numbers."""
        return self._model.predict(with_categories(rows, self.category_columns))

    def predict_proba(self, rows: Any) -> Any:
        """Return a classifier's probabilities."""
        return self._model.predict_proba(with_categories(rows, self.category_columns))


class XGBoostBooster:
    """A booster of XGBoost. If its objective is a class, `classes_` are 0, 1, ...."""

    def __init__(self, booster: Any) -> None:
        self._booster = self._probabilities = booster
        self.feature_names_in_ = booster.feature_names
        self.category_columns = _xgboost_categories(booster)
        learner = json.loads(booster.save_config())["learner"]
        objective = learner["objective"]["name"]
        self._is_binary = objective in {"binary:logistic", "reg:logistic"}
        self.classes_ = None
        if objective == "binary:logistic":
            self.classes_ = np.arange(2)
        elif objective in {"multi:softmax", "multi:softprob"}:
            self.classes_ = np.arange(int(learner["learner_model_param"]["num_class"]))
        if objective == "multi:softmax":  # it predicts labels; the margins are the same
            self._probabilities = booster.copy()
            self._probabilities.set_param({"objective": "multi:softprob"})

    def predict(self, rows: Any) -> Any:
        """Return what the booster predicts."""
        return self._predict(self._booster, rows)

    def predict_proba(self, rows: Any) -> Any:
        """Return the probabilities, one column a class."""
        predicted = self._predict(self._probabilities, rows)
        return _columns_of_classes(predicted) if self._is_binary else predicted

    def _predict(self, booster: Any, rows: Any) -> Any:
        import xgboost  # noqa: PLC0415 - loaded with the model

        if isinstance(rows, np.ndarray):  # columns in the model's order, without names
            return booster.predict(xgboost.DMatrix(rows), validate_features=False)
        frame = with_categories(rows, self.category_columns)
        return booster.predict(xgboost.DMatrix(frame, enable_categorical=True))


def _load_catboost(path: str, settings: Mapping[str, Any], threads: int) -> Any:
    import catboost  # noqa: PLC0415 - a requirement of the model

    model = getattr(catboost, str(settings["model_type"]))()
    model.load_model(path, format=settings.get("save_format", "cbm"))
    return CatBoostModel(model, threads)


class CatBoostModel:
    """A model of CatBoost. It takes texts as categories itself."""

    def __init__(self, model: Any, threads: int) -> None:
        self._model, self._threads = model, threads
        classes = getattr(model, "classes_", None)
        self.classes_ = classes if classes is not None and len(classes) else None
        self.feature_names_in_ = _given_names(model.feature_names_, "")
        self.category_columns: dict[str, list[Any]] = {}

    def predict(self, rows: Any) -> Any:
        """Return labels of a classifier, or numbers."""
        return self._model.predict(rows, thread_count=self._threads)

    def predict_proba(self, rows: Any) -> Any:
        """Return a classifier's probabilities."""
        return self._model.predict(rows, prediction_type="Probability", thread_count=self._threads)
