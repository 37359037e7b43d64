"""Jobs that know of their registry only MLFLOW_TRACKING_URI: `mlflow server` on PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from builders.models import register
from clusters import LOCAL, SMALL, environment, finish, write_place
from deltalake import DeltaTable, write_deltalake
from stores import free_port, mlflow_server, postgresql

from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
JOBS: dict[str, dict[str, Any]] = {
    "score": {
        "model": "served@champion",
        "input": {"path": "tables/trips"},
        "output": {"path": "tables/predictions"},
        "id_columns": ["id"],
    },
    "compare": {
        "versions": ["served/1", "served/2"],
        "holdout": {"path": "tables/trips"},
        "label": "label",
        "rank_by": "rmse",
        "output": {"path": "tables/ranking"},
    },
}


@dataclass
class Job:
    """A job that was submitted."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def says(self, words: str) -> None:
        """Read on until the job says *words*."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(json.loads(line))
            if words in self.lines[-1]["msg"]:
                return
        raise AssertionError(self.lines)

    def end(self) -> tuple[int, dict[str, Any]]:
        """Wait for its end; return exit code and receipt, or the last line of its errors."""
        output, errors = self.process.communicate(timeout=500)
        self.lines += [json.loads(line) for line in errors.splitlines()]
        if self.process.returncode:
            return self.process.returncode, self.lines[-1]
        return 0, json.loads(output.splitlines()[-1])


@dataclass(frozen=True)
class Site:
    """A server that can be stopped and started, and a folder from which jobs run against it."""

    home: Path
    database: str
    place: Path
    server: ExitStack = field(default_factory=ExitStack)
    port: int = field(default_factory=free_port)

    @property
    def uri(self) -> str:
        """All that jobs are told of it."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the server, where it was before."""
        self.server.enter_context(mlflow_server(self.database, self.home, port=self.port))

    def environment(self, **variables: str) -> dict[str, str]:
        """Return that of a job; *variables* come on top."""
        own = {"LAKESCORE_HOME": str(self.home), "PLACE": str(self.place)}
        mine = {"MLFLOW_TRACKING_URI": self.uri, "SPARK_LOCAL_IP": "127.0.0.1"}
        return environment() | own | mine | variables

    def submit(self, job: str, *words: str, **variables: str) -> Job:
        """Submit a job."""
        file = self.home / f"{job}.json"  # JSON is YAML
        file.write_text(json.dumps(JOBS[job]))
        return Job(
            subprocess.Popen(
                [ROOT / "spark-submit.sh", job, file, *words, "--log", "json"],
                env=self.environment(**variables),
                cwd=self.home,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Yield a server with two versions of a model, whose artifacts it serves."""
    folder = tmp_path_factory.mktemp("site")
    properties = read_properties(ROOT / "conf/spark/local.conf") | SMALL | LOCAL
    place = write_place(folder / "place.conf", properties)
    before = mlflow.get_tracking_uri()
    with postgresql(tmp_path_factory.mktemp("postgresql")) as database:
        site = Site(folder, database, place)
        with site.server:
            site.start()
            try:
                mlflow.set_tracking_uri(site.uri)
                _fill(folder)
                yield site
            finally:
                mlflow.set_tracking_uri(before)


def _fill(folder: Path) -> None:
    from sklearn.tree import DecisionTreeRegressor

    rows = pd.DataFrame({"id": range(400), "x": np.random.default_rng(7).normal(size=400)})
    rows["label"] = 3 * rows["x"]
    write_deltalake(str(folder / "tables/trips"), rows)
    mlflow.set_experiment("models")
    for depth in (5, 2):
        tree = DecisionTreeRegressor(max_depth=depth).fit(rows[["x"]], rows["label"])
        register("served", tree, rows[["x"]])
    client = mlflow.MlflowClient()
    assert client.get_model_version_download_uri("served", "2").startswith("mlflow-artifacts:")
    client.set_registered_model_alias("served", "champion", "1")


@pytest.mark.parametrize(
    ("job", "resolved", "published"),
    [
        ("score", "reading ", "rows scored"),
        pytest.param("compare", "at version 0", "the report is ", marks=pytest.mark.wide),
    ],
)
def test_a_server_that_is_restarted_while_a_job_runs_is_waited_for(
    site: Site, job: str, resolved: str, published: str
) -> None:
    # MLflow's pauses are longer than by default, since a server may be slow to start here.
    running = site.submit(job, MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR="10")
    running.says(resolved)
    site.server.close()
    running.says(published)
    time.sleep(3)  # MLflow asks at once, in vain, and pauses before it asks again
    site.start()
    code, receipt = running.end()
    assert code == 0
    run = mlflow.MlflowClient().get_run(receipt["tracking_run_id"])
    assert run.info.status == "FINISHED"
    logged = mlflow.MlflowClient().list_artifacts(run.info.run_id)
    assert "receipt.json" in [file.path for file in logged]


def test_a_server_that_stays_away_takes_no_prediction_along_and_ends_the_next_run_with_75(
    site: Site,
) -> None:
    running = site.submit("score", "output.path=tables/alone", MLFLOW_HTTP_REQUEST_MAX_RETRIES="1")
    running.says("reading ")
    site.server.close()
    try:
        code, receipt = running.end()
        began = time.monotonic()
        resolve = (Path(sys.executable).with_name("lakescore"), "resolve", "served@champion")
        done = finish(*resolve, variables=site.environment(), folder=site.home)
        seconds = time.monotonic() - began
        again = site.submit("score", PLACE="local").end()
    finally:
        site.start()
    assert (code, receipt["tracking_run_id"]) == (0, None)
    assert len(DeltaTable(str(site.home / "tables/alone")).to_pandas()) == 400
    assert done.returncode == 75
    assert done.stderr == (
        f"error: the MLflow store at {site.uri} does not answer (connection refused); check "
        "MLFLOW_TRACKING_URI and the server, then try again\n"
    )
    assert seconds < 60
    assert (again[0], again[1]["msg"]) == (75, done.stderr.removeprefix("error: ").strip())


def test_a_server_that_asks_for_a_password_serves_those_who_have_it(site: Site) -> None:
    password = "right and long"  # noqa: S105 - of a server that lives for this test
    with mlflow_server(site.database, site.home, admin_password=password) as uri:
        here = {"MLFLOW_TRACKING_URI": uri, "PLACE": "local"}
        known = here | {"MLFLOW_TRACKING_USERNAME": "admin"}
        right = known | {"MLFLOW_TRACKING_PASSWORD": password}
        code, receipt = site.submit("score", "output.path=tables/guarded", **right).end()
        assert (code, receipt["rows_scored"]) == (0, 400)
        assert receipt["tracking_run_id"]
        strangers = ({**known, "MLFLOW_TRACKING_PASSWORD": "wrong"}, here)
        told = [site.submit("score", **stranger).end() for stranger in strangers]
    line = (
        f"the MLflow store at {uri} does not accept the user and password; set "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (or MLFLOW_TRACKING_TOKEN)"
    )
    assert [(code, last["msg"]) for code, last in told] == [(3, line), (3, line)]


def test_a_password_in_the_uri_is_in_no_output(site: Site) -> None:
    """MLflow itself writes the URI of each run to standard output, and to its log."""
    password = "s3cr3t-pass-word"  # noqa: S105 - likewise
    (site.home / "score.json").write_text(json.dumps(JOBS["score"]))
    with mlflow_server(site.database, site.home, admin_password=password) as uri:
        known = uri.replace("://", f"://admin:{password}@")
        running = site.environment(MLFLOW_TRACKING_URI=known)
        words = ("score", site.home / "score.json", "output.path=tables/told", "-v")
        done = finish(ROOT / "spark-submit.sh", *words, variables=running, folder=site.home)
        assert done.returncode == 0, done.stderr[-4000:]
        receipt = json.loads(done.stdout.splitlines()[-1])
        assert receipt["rows_scored"] == 400
        assert mlflow.MlflowClient(known).get_run(receipt["tracking_run_id"]).info.run_id
        other = known.replace(password, f"{password}2")
        wrong = site.environment(MLFLOW_TRACKING_URI=other, PLACE="local")
        refused = finish(ROOT / "spark-submit.sh", *words, variables=wrong, folder=site.home)
        assert refused.returncode == 3, refused.stderr[-4000:]
    local = running | {"PLACE": "local"}
    away = finish(ROOT / "spark-submit.sh", *words, variables=local, folder=site.home)
    assert away.returncode == 75
    for job in (done, refused, away):
        assert password not in job.stdout + job.stderr
    assert "Traceback" in away.stderr  # which -v shows, with the errors that it came from
    assert (
        password not in (site.home / "tables/told/_delta_log/00000000000000000001.json").read_text()
    )
