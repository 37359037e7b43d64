"""What a run emits: Spark's event log; with `./scripts/test.sh --openlineage` that one's too."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from clusters import write_place
from deltalake import write_deltalake
from sklearn.tree import DecisionTreeRegressor

from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Callable

    from conftest import Place

ROOT = Path(__file__).parents[2]
LISTENER = "spark.extraListeners"


def test_sparks_event_log_holds_the_stages_of_a_run_and_its_model_version(
    place: Place, register: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0]})
    write_deltalake(str(home / "tables/logged"), rows, mode="overwrite")
    tree = DecisionTreeRegressor().fit(rows[["x"]], 10 * rows["x"])
    register(f"logged {place.kind}", tree, rows[["x"]], 10 * rows["x"])
    (tmp_path / "log").mkdir()
    settings = {
        "spark.eventLog.enabled": "true",
        "spark.eventLog.dir": (tmp_path / "log").as_uri(),
        "spark.eventLog.compress": "false",
    }
    file = write_place(tmp_path / "logging.conf", read_properties(place.file) | settings)
    dataclasses.replace(place, file=file).run(
        "score", model=f"logged {place.kind}/1", input={"path": "tables/logged"},
        output={"path": f"tables/logged_{place.kind}"}, id_columns=["id"],
    )  # fmt: skip
    lines = [
        line
        for part in sorted((tmp_path / "log").rglob("events_*"))
        for line in part.read_text().splitlines()
    ]
    events = [json.loads(line) for line in lines]
    by_kind = {event["Event"].rpartition(".")[2]: event for event in events}  # the last of each
    assert by_kind["SparkListenerApplicationStart"]["App Name"] == "lakescore score"
    assert by_kind["SparkListenerApplicationEnd"]["ExitCode"] == 0
    assert by_kind["SparkListenerTaskEnd"]["Task End Reason"] == {"Reason": "Success"}
    settings = by_kind["SparkListenerSQLExecutionStart"]["modifiedConfigs"]
    assert settings["spark.lakescore.models"] == f"models:/logged {place.kind}/1"


@pytest.fixture
def listening(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Place:
    """Return the place with the line that standalone.conf shows, and a file for the events."""
    if not request.config.getoption("--openlineage"):
        pytest.skip("give --openlineage: it fetches the listener's jar")
    command = Path(sys.executable).with_name("lakescore")
    subprocess.run([command, "setup", "openlineage"], check=True)
    shown = (ROOT / "conf/spark/standalone.conf").read_text()
    (line,) = [line for line in shown.splitlines() if LISTENER in line]
    key, listener = line.removeprefix("#").split()
    lineage = {
        key: value
        for key, value in read_properties(ROOT / "conf/spark/standalone.conf").items()
        if key.startswith("spark.openlineage.")
    }
    lineage |= {key: listener, "spark.openlineage.transport.location": str(tmp_path / "events")}
    file = write_place(tmp_path / "listening.conf", read_properties(place.file) | lineage)
    return dataclasses.replace(place, file=file)


def test_the_events_name_the_table_that_is_read_and_the_one_that_is_written(
    listening: Place, register: Callable[..., Any], home: Path, tmp_path: Path
) -> None:
    rows = pd.DataFrame({"id": [1, 2, 3], "x": [1.0, 2.0, 3.0]})
    write_deltalake(str(home / "tables/listened"), rows, mode="overwrite")
    tree = DecisionTreeRegressor().fit(rows[["x"]], 10 * rows["x"])
    register("heard", tree, rows[["x"]], 10 * rows["x"])
    output = f"tables/heard_{listening.kind}"
    listening.run(
        "score", model="heard/1", input={"path": "tables/listened"}, output={"path": output},
        id_columns=["id"], scan="spark", write="spark",
    )  # fmt: skip
    events = [json.loads(line) for line in (tmp_path / "events").read_text().splitlines()]
    assert {event["job"]["namespace"] for event in events} == {"lakescore"}
    complete = [event for event in events if event["eventType"] == "COMPLETE"]
    read = {table["name"] for event in complete for table in event["inputs"]}
    written = {table["name"] for event in complete for table in event["outputs"]}
    # And the table in which the rows wait until they are counted.
    assert {str(home / "tables/listened")} == {name for name in read if "_staged_" not in name}
    assert {str(home / output)} == {name for name in written if "_staged_" not in name}
    facets_of = [event["run"]["facets"] for event in events]
    parents = [facet["parent"]["job"]["name"] for facet in facets_of if "parent" in facet]
    assert parents == ["lakescore_score"] * (len(events) - 2)  # all but the run's own two
    facets = [facet.get("spark_properties", {}) for facet in facets_of]
    models = {facet.get("properties", {}).get("spark.lakescore.models") for facet in facets}
    assert "models:/heard/1" in models
