"""What the tests build: small named things, each as real as the one it stands for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion
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


def tracking_store(folder: Path) -> str:
    """Make a SQLite store with one experiment whose artifacts stay in *folder*; return its URI."""
    import mlflow

    folder.mkdir(parents=True, exist_ok=True)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment(EXPERIMENT, artifact_location=(folder / "artifacts").as_uri())
    mlflow.set_experiment(EXPERIMENT)
    return uri


def register(  # noqa: PLR0913 - all by name; each is one fact of a version
    name: str,
    *,
    run_name: str,
    columns: tuple[str, ...] = ("dep_delay", "distance"),
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    signed: bool = True,
) -> ModelVersion:
    """Log a model in a run of its own and register it as the next version of *name*."""
    import mlflow
    from mlflow.models import infer_signature

    model, rows = delay_model(columns), flights()[list(columns)]
    with mlflow.start_run(run_name=run_name):
        mlflow.log_params(dict(params or {}))
        mlflow.log_metrics(dict(metrics or {}))
        logged = mlflow.sklearn.log_model(
            model,
            name="model",
            signature=infer_signature(rows, model.predict(rows)) if signed else None,
            serialization_format="cloudpickle",
            pip_requirements=[],  # given, so that MLflow does not spend seconds on inferring them
        )
    return mlflow.register_model(logged.model_uri, name, tags=dict(tags or {}))


def stored_artifacts(client: MlflowClient, name: str, version: int) -> Path:
    """Return the folder in which the store itself keeps the version's files."""
    return Path(unquote(urlsplit(client.get_model_version_download_uri(name, str(version))).path))
