"""Models that are logged and registered as a training team does it, and the store for them."""

from __future__ import annotations

import logging
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature
    from mlflow.models.model import ModelInfo
    from mlflow.pyfunc import PythonModel
    from sklearn.linear_model import LinearRegression

EXPERIMENT = "flight-delay"


def flights() -> pd.DataFrame:
    """Return eight departures: two numeric columns that a model reads, and the label."""
    import pandas as pd

    return pd.DataFrame(
        {
            "dep_delay": [-4.0, 0.0, 2.0, 11.0, 25.0, 60.0, 3.0, -1.0],
            "distance": [1400.0, 733.0, 1089.0, 1576.0, 762.0, 719.0, 1065.0, 229.0],
            "arr_delay": [11.0, -18.0, 33.0, 12.0, 20.0, 75.0, -8.0, -14.0],
        }
    )


def delay_model(columns: tuple[str, ...] = ("dep_delay", "distance")) -> LinearRegression:
    """Return a linear model of the delay at arrival, fitted on *columns* of the flights."""
    from sklearn.linear_model import LinearRegression

    rows = flights()
    return LinearRegression().fit(rows[list(columns)], rows["arr_delay"])


def constant_model(value: float) -> LinearRegression:
    """Return a model like `delay_model` that gives *value* for every row."""
    import numpy as np

    model = delay_model()
    model.coef_, model.intercept_ = np.zeros_like(model.coef_), value
    return model


def scaling_model(column: str) -> PythonModel:
    """Return a model that multiplies *column* by a parameter and adds a configured offset.

    The class is a local one, so that it is pickled by value: executors lack this module.
    """
    import mlflow

    class Scaling(mlflow.pyfunc.PythonModel):
        def load_context(self, context: Any) -> None:
            self.offset = context.model_config["offset"]

        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:  # noqa: ARG002
            return model_input[column] * params["factor"] + self.offset

    return Scaling()


@contextmanager
def own_home(folder: Path) -> Iterator[None]:
    """Let *folder* be LAKESCORE_HOME, with a quiet MLflow that has no store but the test's."""
    import mlflow

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKESCORE_HOME", str(folder))
        patch.setenv("MLFLOW_TRACKING_URI", "")  # set_tracking_uri writes it; this puts it back
        yield
        mlflow.set_tracking_uri(None)


def tracking_store(folder: Path, *experiments: str, artifacts: str = "") -> str:
    """Make a SQLite store in *folder*, and use it; return its URI.

    Args:
        folder: of the database, which is made where there is none.
        experiments: their names; runs go to the first one. If left out, `flight-delay` alone.
        artifacts: the URI below which they keep what is logged; if left out, in *folder*.
    """
    import mlflow

    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    names = experiments or (EXPERIMENT,)
    for name in names:
        location = f"{artifacts or (folder / 'artifacts').as_uri()}/{name}"
        mlflow.create_experiment(name, artifact_location=location)
    mlflow.set_experiment(names[0])
    return uri


def register(  # noqa: PLR0913 - each is one fact of a version
    name: str,
    model: Any = None,
    inputs: Any = None,
    outputs: Any = None,
    *,
    signature: ModelSignature | Literal["inferred"] | None = "inferred",
    run_name: str = "",
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    alias: str = "",
    **options: Any,
) -> ModelVersion:
    """Log a model in a run of its own and register it as the next version of *name*.

    Args:
        name: the registered model's.
        model: an estimator, or a `PythonModel`; if left out, the delay model, with its inputs.
        inputs: rows for the model, of which the signature is inferred.
        outputs: what the model gives for them; if left out, what it predicts.
        signature: one that is not to be inferred, such as one with parameters; or none.
        run_name: the name of the run; if left out, *name*.
        params: the run's.
        metrics: the run's.
        tags: the version's.
        alias: one that is then set to the version.
        options: more of `log_model`'s, such as `model_config`.
    """
    import mlflow
    from mlflow.models import infer_signature

    if model is None:
        model = delay_model()
        inputs = flights()[list(model.feature_names_in_)]
    if signature == "inferred":
        signature = infer_signature(inputs, model.predict(inputs) if outputs is None else outputs)
    with mlflow.start_run(run_name=run_name or name):
        mlflow.log_params(dict(params or {}))
        mlflow.log_metrics(dict(metrics or {}))
        logged = _log(model, signature, options)
    version = mlflow.register_model(logged.model_uri, name, tags=dict(tags or {}))
    if alias:
        mlflow.MlflowClient().set_registered_model_alias(name, alias, str(version.version))
    return version


def _log(model: Any, signature: ModelSignature | None, options: Mapping[str, Any]) -> ModelInfo:
    """Log a model by the flavour of its library."""
    import mlflow

    # Requirements are given, so that MLflow does not spend seconds on inferring them.
    given = {"name": "model", "signature": signature, "pip_requirements": [], **options}
    if isinstance(model, mlflow.pyfunc.PythonModel):
        return mlflow.pyfunc.log_model(python_model=model, **given)
    library = type(model).__module__.partition(".")[0]
    if library == "pyspark":
        path = given.pop("artifact_path", given.pop("name"))
        with tempfile.TemporaryDirectory() as folder:
            return mlflow.spark.log_model(model, path, dfs_tmpdir=folder, **given)
    if library == "sklearn":
        given = {"serialization_format": "cloudpickle", **given}
    logged: ModelInfo = getattr(mlflow, library).log_model(model, **given)
    return logged


def stored_artifacts(client: MlflowClient, name: str, version: int) -> Path:
    """Return the folder in which the store itself keeps the version's files."""
    return Path(unquote(urlsplit(client.get_model_version_download_uri(name, str(version))).path))
