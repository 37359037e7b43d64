"""What is scored: models in the registry, and Delta tables of any size and shape for them."""

import contextlib
import functools
import importlib
import io
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from deltalake import WriterProperties, write_deltalake

from lakescore import flights as demo
from lakescore import registry

NAME = "bench"
KEY = "id"
NUMBERS = tuple(f"x{n:02}" for n in range(20))
WIDTH = 384
"""The values of an embedding."""
_PACKAGES = ("mlflow", "cloudpickle", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy")
"""The packages of a model's own environment, in the versions that are installed here."""
VERSIONS = 8
"""How many versions of each model are registered."""


@dataclass(frozen=True)
class Workload:
    """A model, and rows for it."""

    name: str
    features: tuple[str, ...]
    fit: Callable[[], tuple[Any, Any]]
    """Returns the estimator, and rows that its signature is made of."""
    rows: Callable[[int, int], pa.Table]
    """Returns rows: how many, and a seed."""
    eats: Literal["block", "frame", "array"] = "block"
    """What the estimator takes: a block of numbers, a pandas frame, or a column of arrays."""
    gives: str = "DOUBLE"
    """Spark's name of the type of a prediction."""
    tolerance: float = 1e-12
    """How far predictions may differ: threads and batches add numbers up in different orders."""
    library: Literal["sklearn", "lightgbm", "xgboost", "catboost"] = "sklearn"
    """The library of the model, which is also its flavour in MLflow."""

    def model(self, number: int = 1) -> registry.ModelVersion:
        """Return one of the versions that `register` made."""
        return registry.resolve(f"{NAME}-{self.name}/{number}")

    def register(self) -> None:
        """Register the model, as several versions."""
        import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME
        from mlflow.models import infer_signature  # noqa: PLC0415

        logging.getLogger("mlflow").setLevel(logging.ERROR)
        registry.experiment(NAME)
        model, rows = self.fit()
        pickled = {"serialization_format": "cloudpickle"} if self.library == "sklearn" else {}
        with mlflow.start_run():
            logged = importlib.import_module(f"mlflow.{self.library}").log_model(
                model,
                name="model",
                signature=infer_signature(rows, model.predict(rows)),
                pip_requirements=[f"{name}=={version(name)}" for name in _PACKAGES],
                **pickled,
            )
        with contextlib.redirect_stderr(io.StringIO()):  # a line for each
            for _ in range(VERSIONS):
                mlflow.register_model(logged.model_uri, f"{NAME}-{self.name}")

    def estimator(self) -> Any:  # noqa: ANN401 - a model of any library
        """Load the model itself, to run in this process."""
        return load(self.saved)

    @property
    def saved(self) -> str:
        """The pickle of a scikit-learn model, or the folder of another library's model."""
        artifacts = self.model().artifacts
        return str(artifacts / "model.pkl" if self.library == "sklearn" else artifacts)

    def given(self, columns: pa.Table | pa.RecordBatch) -> Any:  # noqa: ANN401 - a block or a frame
        """Return the features of *columns* as the estimator takes them."""
        return given(columns, self.features, self.eats)


def load(path: str) -> Any:  # noqa: ANN401 - a model of any library
    """Load a model for one job, which is what a process among several ought to run."""
    import cloudpickle  # noqa: PLC0415 - runs in workers too

    if os.path.isdir(path):  # noqa: PTH112 - runs in workers too
        return load_boosted(path)
    with open(path, "rb") as file:  # noqa: PTH123 - runs in workers too
        estimator = cloudpickle.load(file)
    jobs = [name for name in estimator.get_params() if name.split("__")[-1] == "n_jobs"]
    return estimator.set_params(**dict.fromkeys(jobs, 1))


def load_boosted(folder: str) -> Any:  # noqa: ANN401 - a model of a boosting library
    """Load a model of a boosting library as its users do, for one thread."""
    import mlflow  # noqa: PLC0415 - after LAKESCORE_HOME

    model: Any = mlflow.pyfunc.load_model(folder).get_raw_model()
    if hasattr(model, "get_booster"):
        model.get_booster().set_param({"nthread": 1})
    elif hasattr(model, "booster_"):
        model.set_params(n_jobs=1)
    else:  # CatBoost
        model.predict = functools.partial(model.predict, thread_count=1)
    return model


def given(columns: pa.Table | pa.RecordBatch, features: tuple[str, ...], eats: str) -> Any:  # noqa: ANN401 - a block or a frame
    """Return the *features* of *columns* as a model takes them."""
    if eats == "frame":
        return columns.select(list(features)).to_pandas()
    if eats == "array":
        values = columns.column(features[0]).combine_chunks().flatten()
        return values.to_numpy().reshape(columns.num_rows, -1)
    kind = columns.column(features[0]).type.to_pandas_dtype()
    block = np.empty((columns.num_rows, len(features)), kind, order="F")
    for n, name in enumerate(features):
        block[:, n] = columns.column(name).to_numpy()
    return block


def doubles(rows: int, seed: int) -> pa.Table:
    """Return random doubles, which do not compress."""
    random = np.random.default_rng(seed)
    return pa.table({name: random.normal(size=rows) for name in NUMBERS})


def floats(rows: int, seed: int) -> pa.Table:
    """Return random single-precision numbers."""
    table = doubles(rows, seed)
    return table.cast(pa.schema([(name, pa.float32()) for name in NUMBERS]))


def embeddings(rows: int, seed: int) -> pa.Table:
    """Return random arrays of single-precision numbers."""
    values = np.random.default_rng(seed).normal(size=(rows, WIDTH)).astype(np.float32)
    return pa.table({"embedding": arrays_of(values)})


def arrays_of(values: Any) -> pa.Array:  # noqa: ANN401 - a block of numbers
    """Return the rows of a block as a column of arrays."""
    offsets = np.arange(len(values) + 1, dtype=np.int32) * np.int32(values.shape[1])
    return pa.ListArray.from_arrays(offsets, pa.array(values.reshape(-1)))


def on_embeddings(outputs: int) -> tuple[Any, Any]:
    """Fit a linear model that gives as many *outputs* for an embedding."""
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    block = given(embeddings(2_000, 1), ("embedding",), "array")
    weights = np.random.default_rng(2).normal(size=(WIDTH, outputs)).astype(np.float32)
    wanted = block @ weights
    return LinearRegression().fit(block, wanted if outputs > 1 else wanted[:, 0]), block


def on(estimator: Any, rows: Callable[[int, int], pa.Table]) -> tuple[Any, pd.DataFrame]:  # noqa: ANN401
    """Fit *estimator* to the sum of columns."""
    frame = rows(10_000, 1).to_pandas()
    return estimator.fit(frame, frame.sum(axis=1)), frame


def linear() -> Any:  # noqa: ANN401 - a scikit-learn model
    """Return what costs next to nothing, so that only what stands around it is measured."""
    from sklearn.linear_model import LinearRegression  # noqa: PLC0415

    return LinearRegression()


def forest(jobs: int) -> Any:  # noqa: ANN401 - a scikit-learn model
    """Return what costs much more than what stands around it."""
    from sklearn.ensemble import RandomForestRegressor  # noqa: PLC0415

    return RandomForestRegressor(100, max_depth=12, n_jobs=jobs, random_state=0)


def boosting() -> Any:  # noqa: ANN401 - a scikit-learn model
    """Return histogram gradient boosting, whose threads Spark cannot see."""
    from sklearn.ensemble import HistGradientBoostingRegressor  # noqa: PLC0415

    return HistGradientBoostingRegressor(random_state=0)


def lightgbm() -> Any:  # noqa: ANN401 - a model of LightGBM
    """Return a hundred trees of LightGBM."""
    from lightgbm import LGBMRegressor  # noqa: PLC0415

    return LGBMRegressor(n_estimators=100, verbose=-1, random_state=0)


def xgboost() -> Any:  # noqa: ANN401 - a model of XGBoost
    """Return a hundred trees of XGBoost."""
    from xgboost import XGBRegressor  # noqa: PLC0415

    return XGBRegressor(n_estimators=100, random_state=0)


def catboost() -> Any:  # noqa: ANN401 - a model of CatBoost
    """Return a hundred trees of CatBoost, the fastest of these: few operations a tree."""
    from catboost import CatBoostRegressor  # noqa: PLC0415

    return CatBoostRegressor(100, verbose=0, random_seed=0, allow_writing_files=False)


@functools.cache
def departures() -> pa.Table:
    """Return the demo's flights: strings, numbers and nulls."""
    names = ("flights", "weather", "planes")
    rows = demo.join(*[demo.read_raw(name) for name in names])
    rows = rows[[*demo.NUMBERS, *demo.WORDS, demo.LABEL]].reset_index(drop=True)
    return pa.Table.from_pandas(rows, preserve_index=False)


def flights(rows: int, seed: int) -> pa.Table:
    """Return as many flights, drawn at random."""
    drawn = np.random.default_rng(seed).integers(0, departures().num_rows, rows)
    return departures().select([*demo.NUMBERS, *demo.WORDS]).take(pa.array(drawn))


def flight_delay() -> tuple[Any, pd.DataFrame]:
    """Fit the demo's champion."""
    _, pipeline, _ = demo.pipelines()[-1]
    rows = departures().to_pandas()
    rows = rows[rows[demo.LABEL].notna()].reset_index(drop=True)
    frame = rows[[*demo.NUMBERS, *demo.WORDS]]
    return pipeline.fit(frame, rows[demo.LABEL]), frame


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("linear", NUMBERS, lambda: on(linear(), doubles), doubles),
        Workload("float32", NUMBERS, lambda: on(linear(), floats), floats, tolerance=1e-5),
        Workload("forest", NUMBERS, lambda: on(forest(-1), doubles), doubles),
        Workload("forest-one-job", NUMBERS, lambda: on(forest(1), doubles), doubles),
        Workload("boosting", NUMBERS, lambda: on(boosting(), doubles), doubles),
        Workload("lightgbm", NUMBERS, lambda: on(lightgbm(), doubles), doubles, library="lightgbm"),
        Workload("xgboost", NUMBERS, lambda: on(xgboost(), doubles), doubles, library="xgboost"),
        Workload("catboost", NUMBERS, lambda: on(catboost(), doubles), doubles, library="catboost"),
        Workload(
            "embeddings",
            ("embedding",),
            lambda: on_embeddings(1),
            embeddings,
            eats="array",
            tolerance=1e-3,
        ),
        Workload(
            "embeddings-both",
            ("embedding",),
            lambda: on_embeddings(WIDTH),
            embeddings,
            eats="array",
            gives="ARRAY<FLOAT>",
            tolerance=1e-3,
        ),
        Workload("flights", (*demo.NUMBERS, *demo.WORDS), flight_delay, flights, eats="frame"),
    )
}


@dataclass(frozen=True)
class Layout:
    """How a table lies on disk; each file has one row group."""

    files: int = 8
    unused: int = 0
    """Columns that no model asks for."""

    def write(self, path: Path, workload: Workload, rows: int) -> str:
        """Write a table of *rows* for *workload*, unless it is there; return its path."""
        if path.exists():
            return str(path)
        making = path.with_suffix(".making")
        rows_a_file = rows // self.files
        group = WriterProperties(compression="SNAPPY", max_row_group_size=rows_a_file)
        for n in range(self.files):
            table = workload.rows(rows_a_file, n)
            random = np.random.default_rng(n)
            for column in range(self.unused):
                table = table.append_column(f"unused{column:02}", [random.normal(size=rows_a_file)])
            ids = pa.array(np.arange(n * rows_a_file, (n + 1) * rows_a_file), pa.int64())
            write_deltalake(
                str(making),
                table.add_column(0, KEY, ids),
                mode="append",
                writer_properties=group,
                target_file_size=2**40,
            )
        os.rename(making, path)  # noqa: PTH104
        return str(path)


EVEN = Layout()
