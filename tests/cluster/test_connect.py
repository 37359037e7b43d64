"""Programs that score by a real Spark Connect server, whose workers lack lakescore."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from clusters import connect_server, finish, write_place
from deltalake import DeltaTable, write_deltalake
from sklearn.linear_model import LinearRegression
from stores import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
X = pd.DataFrame({"x": [0.0, 1.0, 2.0, 3.0], "y": [1.0, 1.0, 2.0, 2.0]})
FITTED = LinearRegression().fit(X, 3 * X["x"] - X["y"])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a server, and yield its address."""
    with connect_server(tmp_path_factory.mktemp("connect")) as address:
        yield address


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Return rows of a table, whose path is in their attributes."""
    random = np.random.default_rng(0)
    rows = pd.DataFrame({"id": range(1000), "x": random.normal(size=1000)})
    rows["y"] = random.normal(size=1000)
    path = str(tmp_path_factory.mktemp("lake") / "flights")
    write_deltalake(path, rows)
    rows.attrs["path"] = path
    return rows


@pytest.fixture
def run(server: str, home: Path, tmp_path: Path) -> Callable[..., Any]:
    """Run a program against the server and return what it printed."""
    place = write_place(tmp_path / "connect.conf", {"spark.remote": server})

    def done(program: str, **names: str) -> str:
        names |= {"conf/spark/connect.conf": str(place)}
        for name, meant in names.items():
            assert name in program
            program = program.replace(name, meant)
        home_is = {"LAKESCORE_HOME": str(home)}
        ended = finish(sys.executable, "-c", program, variables=home_is, folder=home)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return done


def shown() -> str:
    """Return the program that docs/cluster.md shows."""
    text = (ROOT / "docs/cluster.md").read_text()
    (program,) = re.findall(r"## \d+\. Spark Connect\n.*?```python\n(.*?)```", text, re.DOTALL)
    return str(program)


def test_the_program_of_the_docs_scores_on_the_server(
    run: Callable[..., str],
    register: Callable[..., Any],
    home: Path,
    flights: pd.DataFrame,
    tmp_path: Path,
) -> None:
    import mlflow

    register("by connect", FITTED, X, FITTED.predict(X))
    client = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    client.set_registered_model_alias("by connect", "champion", "1")
    printed = run(
        shown(),
        **{
            "flight-delay@champion": "by connect@champion",
            "/lake/flights": flights.attrs["path"],
            "/lake/predictions": str(tmp_path / "predictions"),
        },
    )
    assert printed == (
        "engine arrow: block, equal to MLflow's PyFuncModel on 200 rows; "
        "Spark reads them (the rows are not a snapshot's)\n"
    )
    predictions = DeltaTable(tmp_path / "predictions").to_pandas().sort_values("id")
    assert list(predictions.columns) == ["id", "prediction", "model"]
    assert set(predictions["model"]) == {"models:/by connect/1"}
    expected = FITTED.predict(flights[["x", "y"]])
    np.testing.assert_allclose(predictions["prediction"].to_numpy(), expected, rtol=1e-12)


BEGIN = """
import json
from pathlib import Path
from lakescore import loading, registry, scoring, session, signature, slicing, errors
spark = session.start("tests", properties=Path("conf/spark/connect.conf"))
model = registry.resolve("at connect/1")
def planned(rows, engine, scan="direct"):
    contract = signature.bind("rows", rows, loading.prepare(model), ["id"])
    return scoring.plan(engine, slicing.select(rows, None, ["all"]), [contract], ["id"], scan)
"""


def test_engines_agree_on_the_server_and_a_row_that_cannot_be_scored_is_one_line(
    run: Callable[..., str], register: Callable[..., Any]
) -> None:
    register("at connect", FITTED, X, FITTED.predict(X))
    program = """
good = spark.createDataFrame([(1, 1.0, 2.0), (2, 5.0, 0.0)], "id int, x double, y double")
bad = spark.createDataFrame([(1, 1.0, 2.0), (2, None, 0.0)], "id int, x double, y double")
results = {}
for engine in ("arrow", "spark_udf"):
    plan = planned(good, engine)
    rows = scoring.score(plan).orderBy("id").collect()
    try:
        plan = planned(bad, engine)
        with scoring.evaluated(plan, ["all"]):
            scoring.score(plan).collect()
    except errors.ScoringFailed as error:
        results[engine] = [[tuple(row) for row in rows], str(error)]
aside = scoring.side_by_side(planned(bad, "arrow")).orderBy("id").collect()
null = scoring.score(planned(bad, "arrow"), failing="null").orderBy("id").collect()
print(json.dumps({**results, "plan": str(planned(good, "auto")), "aside": [
    [row[model.uri], row[scoring.ERRORS] and row[scoring.ERRORS][0]["type"]] for row in aside],
    "null": [list(row) for row in null]}))
"""
    results = json.loads(run(BEGIN + program))
    assert results["arrow"][0] == results["spark_udf"][0]
    assert [row[1] for row in results["arrow"][0]] == pytest.approx([1.0, 15.0])
    where = {"arrow": "all of all: ", "spark_udf": "a row, and engine spark_udf quarantines none: "}
    for engine in ("arrow", "spark_udf"):
        assert f"could not score {where[engine]}" in results[engine][1]
        assert "Input X contains NaN." in results[engine][1]
        assert "\n" not in results[engine][1]
    (good_row, (bad_id, nothing, error)) = results["null"]
    assert good_row == [1, pytest.approx(1.0), None]
    assert (bad_id, nothing, error[:32]) == (2, None, "ValueError: Input X contains NaN")
    assert results["aside"] == [[pytest.approx(1.0), None], [None, "ValueError"]]
    reason = "Spark reads them (the rows are not a snapshot's)"
    assert reason in results["plan"]


def test_a_server_that_is_away_is_said_in_one_line(tmp_path: Path) -> None:
    place = write_place(
        tmp_path / "connect.conf", {"spark.remote": f"sc://127.0.0.1:{free_port()}"}
    )
    program = f"""
from pathlib import Path
from lakescore import session
try:
    session.start("never", properties=Path({str(place)!r}))
except session.ConnectUnavailable as error:
    print(error.exit_code, error)
"""
    ended = finish(sys.executable, "-c", program, variables={}, folder=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("75 no Spark Connect server answers at sc://127.0.0.1:")
