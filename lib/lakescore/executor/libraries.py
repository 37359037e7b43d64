"""Libraries: the models of LightGBM, XGBoost and CatBoost, with the interface of scikit-learn.

The classes here have what workers use of a scikit-learn estimator: `predict`, `predict_proba`,
`classes_` and `feature_names_in_`. `classes_` is None if the model has no probabilities, and a list
if it predicts several labels a row. And they have `category_columns`: by feature, the categories
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


def with_categories(frame: Any, categories: Mapping[Any, Sequence[Any]]) -> Any:
    """Return a pandas *frame* whose columns in *categories* have these categories.

    Raises:
        ValueError: a column holds texts and its categories are numbers, or the other way round.
    """
    if not categories:
        return frame
    import pandas as pd  # noqa: PLC0415 - a requirement of few models

    frame = frame.copy(deep=False)
    for name, known in categories.items():
        kind = pd.api.types.infer_dtype(frame[name], skipna=True)
        known_kind = pd.api.types.infer_dtype(known, skipna=True)
        if kind != "empty" and (kind == "string") != (known_kind == "string"):
            raise ValueError(
                f"the column {name!r} is {kind}, and its categories in the training data were "
                f"{known_kind}"
            )
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


_OF_CLASSES = ("multiclass", "multiclassova")
"""The objectives of LightGBM for more than two classes."""


class _LightGBMFrames:
    """The frames that a booster takes: LightGBM reads columns by position, and checks no names."""

    def __init__(self, booster: Any) -> None:
        self.names = _given_names(booster.feature_name(), "Column_")
        self.categories, self.doubtful = _lightgbm_categories(booster)

    def prepare(self, rows: Any) -> Any:
        """Return *rows*, a block or a frame, with the categories of the training data.

        Raises:
            ValueError: the columns have another order than in the training data, or it is not
                certain which of them has which categories.
        """
        if isinstance(rows, np.ndarray):
            return rows
        names = list(rows.columns)
        # LightGBM itself replaces the spaces.
        known, given = list(self.names or ()), [str(name).replace(" ", "_") for name in names]
        if known != given and (self.categories or sorted(known) == sorted(given)):
            raise ValueError(
                f"the signature has the columns {names}, and the model was trained on {known}: "
                "LightGBM needs the same order"
            )
        for position, values in self.doubtful:
            name = names[position]
            if _may_hold(rows[name], values):
                raise ValueError(
                    f"LightGBM does not store if the categories {list(values)[:5]} belong to the "
                    f"column {name!r}; train the model on texts as categories"
                )
        return with_categories(rows, {names[n]: values for n, values in self.categories.items()})

    @property
    def category_columns(self) -> dict[str, Sequence[Any]]:
        """The categories of the training data, by the names that the booster has for columns."""
        names = self.names or ()
        return {names[n]: values for n, values in self.categories.items()}


class LightGBMModel:
    """A model of LightGBM's interface for scikit-learn."""

    def __init__(self, model: Any, threads: int) -> None:
        self._model = model.set_params(n_jobs=threads)
        self._frames = _LightGBMFrames(model.booster_)
        # With any other objective, predict_proba returns raw scores.
        has_shares = _objective_of(model.booster_) in {*_OF_CLASSES, "binary", "cross_entropy"}
        self.classes_ = getattr(model, "classes_", None) if has_shares else None
        self.feature_names_in_ = self._frames.names
        self.category_columns = self._frames.category_columns

    def predict(self, rows: Any) -> Any:
        """Return labels of a classifier, or numbers."""
        return self._model.predict(self._frames.prepare(rows))

    def predict_proba(self, rows: Any) -> Any:
        """Return a classifier's probabilities."""
        return self._model.predict_proba(self._frames.prepare(rows))


class LightGBMBooster:
    """A booster of LightGBM. If its objective is a class, `classes_` are 0, 1, ...."""

    def __init__(self, booster: Any, threads: int) -> None:
        self._booster, self._threads = booster, threads
        self._frames = _LightGBMFrames(booster)
        self.feature_names_in_ = self._frames.names
        self.category_columns = self._frames.category_columns
        objective = _objective_of(booster)
        self._is_binary = objective == "binary"
        self.classes_ = None
        if self._is_binary:
            self.classes_ = np.arange(2)
        elif objective in _OF_CLASSES:
            self.classes_ = np.arange(booster.num_model_per_iteration())

    def predict(self, rows: Any) -> Any:
        """Return what the booster predicts: for classes, probabilities."""
        return self._booster.predict(self._frames.prepare(rows), num_threads=self._threads)

    def predict_proba(self, rows: Any) -> Any:
        """Return the probabilities, one column a class."""
        return _columns_of_classes(self.predict(rows)) if self._is_binary else self.predict(rows)


def _columns_of_classes(reached: Any) -> Any:
    """Return the probabilities of both classes, as the libraries compute them from the second."""
    return np.column_stack([1.0 - reached, reached])


_Categories = dict[int, list[Any]]
_Doubts = list[tuple[int, list[Any]]]


def _lightgbm_categories(booster: Any) -> tuple[_Categories, _Doubts]:
    """Return the categories of a booster by the position of a column, and doubts about them.

    LightGBM stores the categories of pandas columns in the order of the columns, without names. It
    also stores which columns it read as categories: these, unless a category is ordered or the
    caller chose other columns, and whole numbers that the caller chose. If the two are not equally
    many, or differ in their values, the result is empty, and the booster refuses the rows.

    They can also be equally many, but not the same. So a doubt is the position of a column whose
    numbers fill most of the codes of categories, as an ordered category would. Such a column is
    refused if a table has numbers there; a table has texts for categories of texts.
    """
    known = booster.pandas_categorical or []
    ranges = _header_of(booster)["feature_infos"].split(" ")
    named = booster.params.get("categorical_feature") or booster.params.get("categorical_column")
    positions = [
        n
        for n, values in enumerate(ranges)
        if not values.startswith("[")
        # A constant column has no values there, and counts only if the parameters name it.
        if values != "none" or (isinstance(named, list) and n in named)
    ]
    if len(positions) != len(known):
        return {}, []
    categories = dict(zip(positions, known, strict=True))
    for n, values in categories.items():
        if ranges[n] != "none" and not _are_codes(ranges[n].split(":"), len(values)):
            return {}, []
    doubts = [
        (n, values)
        for values in known
        if not all(isinstance(value, str) for value in values)
        for n, numbers in enumerate(ranges)
        if numbers.startswith("[") and _fill_codes(numbers.strip("[]").split(":"), len(values))
    ]
    return categories, doubts


def _objective_of(booster: Any) -> str:
    """Return the objective of a booster; empty if it was a function."""
    return _header_of(booster).get("objective", "").split(" ", maxsplit=1)[0]


def _header_of(booster: Any) -> dict[str, str]:
    """Return the facts at the top of a booster's file, before its trees."""
    lines = booster.model_to_string(num_iteration=1).split("\nTree=")[0].splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


def _are_codes(texts: Sequence[str], categories: int) -> bool:
    """Return whether *texts* are codes of this number of categories; -1 is a missing one."""
    numbers = [float(text) for text in texts]
    return all(number.is_integer() and -1 <= number < categories for number in numbers)


def _fill_codes(ends: Sequence[str], categories: int) -> bool:
    """Return whether the numbers between *ends* can be most of the codes of the categories."""
    lowest, highest = (float(end) for end in ends)
    return lowest >= 0 and _are_codes(ends, categories) and highest - lowest + 1 > categories / 2


def _may_hold(column: Any, values: Sequence[Any]) -> bool:
    """Return whether *column* of a frame, which holds numbers or flags, can hold *values*."""
    if column.dtype.kind == "b":
        return all(isinstance(value, bool) for value in values)
    return bool(column.dtype.kind in "iuf")


def _load_xgboost(path: str, settings: Mapping[str, Any], threads: int) -> Any:
    import xgboost  # noqa: PLC0415 - a requirement of the model

    kind = str(settings.get("model_class", "xgboost.core.Booster")).rpartition(".")[2]
    if kind == "Booster":
        return XGBoostBooster(xgboost.Booster(model_file=path), threads)
    model = getattr(xgboost, kind)()
    model.load_model(path)
    return XGBoostModel(model, threads)


def _xgboost_categories(booster: Any) -> dict[str, Any]:
    """Return the categories that XGBoost stores with a model, since version 3.1.

    Raises:
        ValueError: categories are texts with other characters than ASCII, which XGBoost cuts at
            wrong places when it stores them.
    """
    kind = _learner_of(booster)["gradient_booster"]["name"]
    if kind == "gblinear" or not hasattr(booster, "get_categories"):
        return {}
    categories = {}
    try:
        for name, values in booster.get_categories(export_to_arrow=True).to_arrow() or ():
            if values is not None:  # XGBoost checks the width of whole numbers too
                width = values.type.to_pandas_dtype()
                categories[name] = np.array(values.to_pylist(), dtype=width)
        texts = [text for known in categories.values() for text in known if isinstance(text, str)]
        is_readable = all(text.isascii() for text in texts)
    except UnicodeDecodeError:
        is_readable = False
    if not is_readable:
        raise ValueError(
            "XGBoost stores categories wrong that have other characters than ASCII; "
            "train the model on categories in ASCII"
        )
    return categories


_SHARES_OF_TWO = ("binary:logistic", "reg:logistic")
_SHARES_OF_MORE = ("multi:softmax", "multi:softprob")


def _learner_of(booster: Any) -> Any:
    """Return the configuration of XGBoost's *booster*."""
    return json.loads(booster.save_config())["learner"]


def _several_labels(learner: Any) -> list[Any]:
    """Return the classes of each label if there are several labels a row."""
    labels = int(learner["learner_model_param"].get("num_target", 1))
    return [np.arange(2)] * labels if labels > 1 else []


class XGBoostModel:
    """A model of XGBoost's interface for scikit-learn."""

    def __init__(self, model: Any, threads: int) -> None:
        self._model = model
        booster = model.get_booster()
        booster.set_param({"nthread": threads})
        self.classes_ = None
        if hasattr(model, "predict_proba"):
            learner = _learner_of(booster)
            # With any other objective, predict_proba returns raw scores or labels.
            has_shares = learner["objective"]["name"] in {*_SHARES_OF_TWO, *_SHARES_OF_MORE}
            self.classes_ = model.classes_ if has_shares else None
            self.classes_ = _several_labels(learner) or self.classes_
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

    def __init__(self, booster: Any, threads: int) -> None:
        booster.set_param({"nthread": threads})
        self._booster = self._probabilities = booster
        self.feature_names_in_ = booster.feature_names
        self.category_columns = _xgboost_categories(booster)
        learner = _learner_of(booster)
        objective = learner["objective"]["name"]
        self._is_binary = objective == "binary:logistic"
        self.classes_: Any = None
        if self._is_binary:
            self.classes_ = _several_labels(learner) or np.arange(2)
        elif objective in _SHARES_OF_MORE:
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
        classes: Any = getattr(model, "classes_", None)
        self.classes_ = classes if classes is not None and len(classes) else None
        if model.get_all_params().get("loss_function") in {"MultiLogloss", "MultiCrossEntropy"}:
            self.classes_ = [np.arange(2) for _ in classes]
        self.feature_names_in_ = _given_names(model.feature_names_, "")
        self.category_columns: dict[str, list[Any]] = {}

    def predict(self, rows: Any) -> Any:
        """Return labels of a classifier, or numbers."""
        return self._model.predict(rows, thread_count=self._threads)

    def predict_proba(self, rows: Any) -> Any:
        """Return a classifier's probabilities."""
        return self._model.predict(rows, prediction_type="Probability", thread_count=self._threads)
