"""Loading: a worker process loads the model of a version once, and keeps it for its tasks."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .keeping import count, counted, shelf
from .launching import ModelFailed
from .libraries import load_boosted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .version import Version

MODELS_AT_ONCE = 16
_BYTES_AT_ONCE = 256 * 2**20
"""A worker process keeps this number of models, and more as long as their files together have at
most this number of bytes. The least recently used model is dropped first."""
NO_ROWS_FAULT = (ImportError, MemoryError)
"""Errors that no row causes: they would hit all rows, so nothing searches for them row by row."""
_LONGEST_MESSAGE = 500


def loaded(version: Version) -> Any:
    """Return the model of *version*; a worker process loads it once for all its tasks.

    Raises:
        ImportError, MemoryError, ModelFailed: the model cannot be loaded.
    """
    models: OrderedDict[Any, Any] = shelf().setdefault("models", OrderedDict())
    key = _key(version)
    if key not in models:
        try:
            models[key] = _load(version), version.size
        except NO_ROWS_FAULT:
            raise
        except Exception as error:
            reason = f"it cannot be loaded: {type(error).__name__}: {error_message(error)}"
            raise ModelFailed(reason) from error
        count("loads", 1)
        while len(models) > MODELS_AT_ONCE and _total_size(models) > _BYTES_AT_ONCE:
            models.popitem(last=False)
        if (loads := int(counted("loads"))) & (loads - 1) == 0:  # not for each of a thousand
            _freeze()
    models.move_to_end(key)
    return models[key][0]


def _key(version: Version) -> tuple[str, bool]:
    return version.key, version.mode == "pyfunc"


def unload(version: Version) -> None:
    """Drop the model of *version*, if this process has loaded it."""
    shelf().get("models", {}).pop(_key(version), None)


def _total_size(models: Mapping[Any, tuple[Any, int]]) -> int:
    return sum(size for _, size in models.values())


def _freeze() -> None:
    """Make a worker's garbage collector skip loaded objects: PySpark starts it after each task.

    With scikit-learn it skips 150,000 objects and saves 0.07 seconds; with MLflow 230,000 and 0.11.
    """
    pyspark = sys.modules.get("pyspark")  # a version's own process need not have it
    if pyspark is not None and pyspark.TaskContext.get() is not None:
        gc.unfreeze()
        gc.collect()
        gc.freeze()


def _load(version: Version) -> Any:
    folder = local_folder(version.folder)
    if version.mode == "pyfunc":
        import mlflow  # noqa: PLC0415 - seconds of import that scikit-learn's models do not need

        model = mlflow.pyfunc.load_model(folder, suppress_warnings=True)
        if model.loader_module == "mlflow.sklearn":
            _set_jobs(model.get_raw_model())
        return model
    # A block of numbers has no names; its columns are already in the model's order.
    warnings.filterwarnings("ignore", message="X does not have valid feature names")
    if version.library != "sklearn":
        return load_boosted(version.library, folder, version.settings, cores())
    if version.pickled is None:
        import mlflow.sklearn  # noqa: PLC0415 - see above

        estimator = mlflow.sklearn.load_model(folder)
    else:
        import cloudpickle  # noqa: PLC0415 - a requirement of the model, not of Spark

        with open(os.path.join(folder, version.pickled), "rb") as file:  # noqa: PTH118, PTH123
            estimator = cloudpickle.load(file)
    _set_jobs(estimator)
    return estimator


def local_folder(folder: str) -> str:
    """Return the path of *folder*: an absolute path, or the name of an archive that Spark ships."""
    if os.path.isabs(folder):  # noqa: PTH117 - pathlib would be one more import in each worker
        return folder
    from pyspark import SparkFiles  # noqa: PLC0415

    return SparkFiles.get(folder)


def _set_jobs(estimator: Any) -> None:
    """Give a scikit-learn model as many jobs as the task has cores: Spark cannot see joblib's."""
    if not hasattr(estimator, "get_params"):
        return
    names = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
    estimator.set_params(**dict.fromkeys(names, cores()))


def cores() -> int:
    """Return the number of cores that a model can use: those of the task for which it predicts."""
    if "cores" in shelf():  # the worker sends it to a version's own process
        return int(shelf()["cores"])
    from pyspark import TaskContext  # noqa: PLC0415 - every worker has it

    task = TaskContext.get()
    return task.cpus() if task else 1


def error_message(error: Exception) -> str:
    """Return the beginning of the message of an error that a model raised."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a stranger's error may have no text
        text = "an error whose message cannot be read"
    return text[:_LONGEST_MESSAGE].encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, kw_only=True)
class Description:
    """The facts of a loaded model of a library."""

    kind: str
    """The name of its class."""
    module: str
    """The module that defines the class of its last step."""
    features: tuple[str, ...] | None
    """The columns that it was fitted on, if it names them."""
    classes: tuple[Any, ...] | None
    """A classifier's labels, as plain values; None for other models."""
    has_several_labels: bool
    """Whether it is a classifier that gives several labels per row, so that `classes` is None."""
    methods: frozenset[str]
    """`predict_proba`, if it has this method."""
    categories: tuple[str, ...]
    """The columns that are categories for it, which it gets as pandas categories."""


def describe_model(version: Version) -> Description:
    """Return the description of the model of *version*, loaded in this process."""
    estimator = loaded(version)
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    names = getattr(estimator, "feature_names_in_", None)
    classes = getattr(estimator, "classes_", None)
    several = isinstance(classes, list) or getattr(classes, "ndim", 1) != 1
    return Description(
        kind=type(estimator).__name__,
        module=type(final).__module__,
        features=None if names is None else _plain(names),
        classes=None if classes is None or several else _plain(classes),
        has_several_labels=several,
        methods=frozenset(name for name in ("predict_proba",) if hasattr(estimator, name)),
        categories=tuple(getattr(estimator, "category_columns", ())),
    )


def _plain(values: Any) -> tuple[Any, ...]:
    """Return *values* without NumPy's types, which another version of NumPy cannot read."""
    return tuple(value.item() if hasattr(value, "item") else value for value in values)
