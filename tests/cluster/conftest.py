"""Two places to run jobs in, a registry and a table that both read."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyspark
import pytest
from builders import models
from clusters import (
    HIDING,
    LOCAL,
    PLAIN_WORKERS,
    SMALL,
    Cluster,
    connect_server,
    environment,
    python_without_lakescore,
    standalone,
    write_place,
)
from yarns import yarn

from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
FILES = {
    "local": "local.conf",
    "cluster": "standalone.conf",
    "connect": "connect.conf",
    "yarn": "yarn.conf",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "place" in metafunc.fixturenames:
        only = metafunc.config.getoption("--place")
        on = list(FILES)
        if "distributed" in metafunc.fixturenames:
            on = ["cluster", "yarn"]
        if "cluster" in metafunc.fixturenames:
            on = ["cluster"]
        if metafunc.module.__name__.endswith("test_lineage"):
            on.remove("connect")  # Spark's events are the server's
        # Local mode is where most other tests run.
        asked = {only} if only else {"cluster", "connect"}
        wide = [mark.kwargs.get("place") for mark in metafunc.definition.iter_markers("wide")]
        kinds = [
            pytest.param(kind, marks=pytest.mark.wide) if kind in wide and not only else kind
            for kind in on
            if kind in asked
        ]
        metafunc.parametrize("place", kinds, indirect=True, scope="module")


@dataclass(frozen=True)
class Job:
    """A job that was submitted, and its messages: a JSON document a line."""

    process: subprocess.Popen[str]
    lines: list[dict[str, Any]] = field(default_factory=list)

    def receipts(self) -> list[dict[str, Any]]:
        """Wait for the end, and return the receipts of all jobs, and the summary of several."""
        output, errors = self.process.communicate(timeout=500)
        assert self.process.returncode == 0, errors
        self.lines.extend(json.loads(line) for line in errors.splitlines())
        return [json.loads(line) for line in output.splitlines()]

    def receipt(self) -> dict[str, Any]:
        """Wait for the job's end and return its receipt."""
        return self.receipts()[-1]


@dataclass(frozen=True)
class Place:
    """Where jobs run: the file that PLACE names, and the cluster behind it, if any."""

    kind: str
    file: Path
    home: Path
    cluster: Cluster | None = None
    variables: dict[str, str] = field(default_factory=dict)
    jobs: list[Job] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a job."""
        own = {"LAKESCORE_HOME": str(self.home), "PLACE": str(self.file)}
        return environment() | {"SPARK_LOCAL_IP": "127.0.0.1"} | own | self.variables

    def write(self, job: str, **settings: Any) -> Path:
        """Write a job's file."""
        file = self.home / f"{job}-{self.kind}.json"  # JSON is YAML
        file.write_text(json.dumps(settings))
        return file

    def start(self, job: str, **settings: Any) -> Job:
        """Submit a job with *settings* as its file."""
        return self.submit(job, self.write(job, **settings))

    def submit(self, job: str, *files: Path) -> Job:
        """Submit a job's file, or several in one start."""
        process = subprocess.Popen(
            [ROOT / "spark-submit.sh", job, *files, "--log", "json"],
            env=self.environment,
            cwd=self.home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.jobs.append(Job(process))
        return self.jobs[-1]

    def run(self, job: str, **settings: Any) -> dict[str, Any]:
        """Submit a job, wait for its end, and return its receipt."""
        return self.start(job, **settings).receipt()

    def stop(self) -> None:
        """End the jobs that a failed test left behind."""
        for job in self.jobs:
            if job.process.poll() is None:
                job.process.terminate()
                job.process.wait(30)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return LAKESCORE_HOME, with a registry in it."""
    folder = tmp_path_factory.mktemp("home")
    models.tracking_store(folder, "models", "lakescore")
    return folder


@pytest.fixture(scope="session")
def register(home: Path) -> Callable[..., int]:
    """Return `builders.models.register` for the home's registry; it returns the number."""
    import mlflow

    def register_here(*given: Any, **options: Any) -> int:
        mlflow.set_tracking_uri(f"sqlite:///{home / 'mlflow.db'}")
        mlflow.set_experiment("models")
        return int(models.register(*given, **options).version)

    return register_here


@pytest.fixture(scope="module")
def place(
    request: pytest.FixtureRequest, home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Place]:
    """Yield local mode, or a cluster whose executors lack lakescore."""
    folder = tmp_path_factory.mktemp(request.param)
    settings = read_properties(ROOT / "conf/spark" / FILES[request.param]) | SMALL | PLAIN_WORKERS
    with contextlib.ExitStack() as stack:
        cluster, variables = None, {}
        if request.param == "local":
            settings |= LOCAL
        elif request.param == "connect":
            settings = read_properties(ROOT / "conf/spark" / FILES["connect"])
            settings["spark.remote"] = stack.enter_context(connect_server(folder))
        elif request.param == "yarn":
            del settings["spark.archives"]  # test_shipping.py has executors unpack one
            settings["spark.pyspark.python"] = str(python_without_lakescore(folder / "python"))
            # Else each run would upload all of Spark's jars, as it does without this property.
            settings["spark.yarn.jars"] = f"local:{Path(pyspark.__file__).parent}/jars/*"
            settings["spark.yarn.stagingDir"] = (folder / "staging").as_uri()
            variables["HADOOP_CONF_DIR"] = str(stack.enter_context(yarn(folder)).conf)
        else:
            if sys.platform != "linux":
                pytest.skip("the workers' addresses on loopback are there on Linux only")
            cluster = stack.enter_context(standalone(folder))
            settings["spark.master"] = cluster.address
            settings["spark.pyspark.python"] = str(python_without_lakescore(folder / "python"))
        file = write_place(folder / "place.conf", settings)
        place = Place(request.param, file, home, cluster, variables)
        stack.callback(place.stop)
        yield place


@pytest.fixture(scope="module")
def distributed(place: Place) -> Place:
    """Return a place with executors of their own; who asks for it is not run in local mode."""
    assert place.kind != "local"
    return place


@pytest.fixture(scope="module")
def cluster(place: Place) -> Cluster:
    """Return the standalone cluster, the only place whose parts a test can kill."""
    assert place.cluster is not None
    return place.cluster


@pytest.fixture(scope="module")
def blind(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Yield a cluster whose worker does not see the driver's folder of temporary files."""
    if subprocess.run([*HIDING[:2], "true"], check=False, capture_output=True).returncode:
        pytest.skip("only root can hide a folder from a process")
    folder, hidden = tmp_path_factory.mktemp("blind"), tmp_path_factory.mktemp("hidden")
    settings = read_properties(ROOT / "conf/spark" / FILES["cluster"]) | SMALL | PLAIN_WORKERS
    with standalone(folder, ["127.0.0.2"], within=[*HIDING, str(hidden)]) as cluster:
        settings |= {"spark.master": cluster.address, "spark.cores.max": "1"}
        settings["spark.pyspark.python"] = str(python_without_lakescore(folder / "python"))
        file = write_place(folder / "place.conf", settings)
        place = Place("blind", file, home, cluster, {"TMPDIR": str(hidden)})
        yield place
        place.stop()
