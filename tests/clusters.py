"""A real standalone cluster for tests: a master and two workers, each a process on loopback.

The workers have addresses of their own, 127.0.0.2 and 127.0.0.3, since Spark never runs a
speculative copy of a task on the host that runs the task. Executors run a Python that holds what
models need, and not lakescore.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stores import free_port

from lakescore import java
from lakescore.places import read_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
T = TypeVar("T")
_PATIENCE = 300.0  # seconds; a machine may be busy
QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""Options of a JVM that runs a few short queries: only the first compiler, one thread for garbage.

A job with Spark takes half the time by it on two busy cores.
"""
_JAVA = " ".join([QUICK_JAVA, *java.sharing()])
_SHORT_QUERIES = {
    "spark.sql.shuffle.partitions": "2",
    "spark.databricks.delta.snapshotPartitions": "1",
    # Short queries are interpreted sooner than they are compiled.
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
SMALL = _SHORT_QUERIES | {
    "spark.driver.memory": "1g",
    "spark.driver.extraJavaOptions": _JAVA,
    "spark.executor.extraJavaOptions": _JAVA,
}
"""Properties of a small driver and small executors, on top of a place's."""
LOCAL = {"spark.master": "local[2,4]"}
DAEMON = Path(__file__).with_name("daemon")
QUICK = _SHORT_QUERIES | {
    "spark.python.daemon.module": "preloaded_daemon",
    "spark.executorEnv.PYTHONPATH": str(DAEMON),
}
"""Properties of a driver in local mode that ends after a few short queries."""
PLAIN_WORKERS = {
    "spark.python.daemon.module": "plain_daemon",
    "spark.executorEnv.PYTHONPATH": str(DAEMON),
}
"""Properties of executors whose workers import for themselves what models need.

The workers of the Spark Connect server come from Spark's own daemon, as a user's do.
"""
_EXECUTOR = b"CoarseGrainedExecutorBackend"
_OURS = ("LAKESCORE_", "MLFLOW_", "PLACE", "DRY_RUN", "SPARK_", "PYSPARK_", "PYTHON", "VIRTUAL_ENV")


def environment() -> dict[str, str]:
    """Return this process's environment without what names a project, a store or a Spark."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    pythons = {"LAKESCORE_PYTHONS": os.environ.get("LAKESCORE_PYTHONS", "")}
    return kept | {"SPARK_SUBMIT_OPTS": QUICK_JAVA} | pythons


def finish(
    *command: str | Path, variables: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    """Run *command* to its end, whatever its exit code, with `environment` and *variables*."""
    return subprocess.run(
        command,
        env=environment() | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def end(groups: Sequence[subprocess.Popen[bytes]]) -> None:
    """End processes, the last one first, each with the group that it leads."""
    for process in reversed(groups):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
    for process in groups:
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_PATIENCE)


def python_without_lakescore(folder: Path) -> Path:
    """Make a virtual environment with all packages of this one but lakescore; return its Python.

    The packages are links, so that it is made in a second.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (packages,) = (folder / "lib").glob("python*/site-packages")
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if "lakescore" not in package.name:
            (packages / package.name).symlink_to(package)
    return folder / "bin" / "python"


def wait_for(look: Callable[[], T], what: str, patience: float = _PATIENCE) -> T:
    """Return what *look* gives as soon as it is something."""
    deadline = time.monotonic() + patience
    while not (value := look()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} is not there after {patience:.0f} s")
        time.sleep(0.1)
    return value


@dataclass
class Worker:
    """A worker process and its executors."""

    process: subprocess.Popen[bytes]
    host: str

    @property
    def executors(self) -> list[int]:
        """The ids of the executor processes that it started and that still run."""
        with contextlib.suppress(FileNotFoundError):
            threads = Path(f"/proc/{self.process.pid}/task").glob("*/children")
            children = [pid for file in threads for pid in file.read_text().split()]
            command = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
            return [int(pid) for pid in children if _EXECUTOR in command[pid]]
        return []


@dataclass
class Cluster:
    """The running cluster."""

    folder: Path
    port: int = field(default_factory=free_port)
    web: int = field(default_factory=free_port)
    workers: list[Worker] = field(default_factory=list)
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        """What `spark.master` says."""
        return f"spark://127.0.0.1:{self.port}"

    def start(
        self, role: str, host: str, *arguments: str, within: Sequence[str] = ()
    ) -> subprocess.Popen[bytes]:
        """Start a Master or a Worker in a process group of its own.

        Args:
            role: Master or Worker.
            host: its address.
            arguments: its further arguments.
            within: a command that runs the command that follows it.
        """
        import pyspark

        home = Path(pyspark.__file__).parent
        number = len(self.started)
        with (self.folder / f"{role}-{number}.log").open("wb") as log:
            process = subprocess.Popen(
                [
                    *within,
                    *(home / "bin/spark-class", f"org.apache.spark.deploy.{role.lower()}.{role}"),
                    *("--host", host, *arguments),
                ],
                env=environment()
                | {
                    "SPARK_HOME": str(home),
                    "SPARK_LOCAL_IP": host,
                    "SPARK_LOCAL_DIRS": str(self.folder / f"local-{number}"),
                    "SPARK_DAEMON_MEMORY": "256m",
                    "SPARK_DAEMON_JAVA_OPTS": "-XX:TieredStopAtLevel=1",
                },
                cwd=self.folder,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.started.append(process)
        return process

    def add_worker(self, host: str, *, within: Sequence[str] = ()) -> Worker:
        """Start a worker of one core, as `start` does, and wait until the master knows it."""
        before = self.state()["aliveworkers"]
        process = self.start(
            "Worker", host, "--port", "0", "--webui-port", "0", "--cores", "1", "--memory", "1g",
            "--work-dir", str(self.folder / "work"), self.address, within=within,
        )  # fmt: skip
        self.workers.append(Worker(process, host))
        wait_for(lambda: self.state()["aliveworkers"] > before, f"the worker at {host}")
        return self.workers[-1]

    def kill(self, worker: Worker) -> None:
        """Kill a worker at once, and wait until it is gone."""
        worker.process.kill()
        worker.process.wait(_PATIENCE)
        self.workers.remove(worker)

    def state(self) -> dict[str, Any]:
        """Return what the master tells of itself, its workers and applications."""
        address = f"http://127.0.0.1:{self.web}/json/"
        with urllib.request.urlopen(address, timeout=10) as answer:
            facts: dict[str, Any] = json.load(answer)
        return facts

    def stop(self) -> None:
        """End what was started, with what that started."""
        end(self.started)


HIDING = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"')
"""A command that runs another one, which does not see the files of the folder named before it."""


@contextlib.contextmanager
def standalone(
    folder: Path,
    hosts: Sequence[str] = ("127.0.0.2", "127.0.0.3"),
    *,
    within: Sequence[str] = (),
) -> Iterator[Cluster]:
    """Run a master and workers of one core each, the workers *within* another command."""
    cluster = Cluster(folder)
    try:
        web = str(cluster.web)
        cluster.start("Master", "127.0.0.1", "--port", str(cluster.port), "--webui-port", web)
        wait_for(lambda: _answers(cluster), "the master")
        for host in hosts:
            cluster.add_worker(host, within=within)
        yield cluster
    finally:
        cluster.stop()


def _answers(cluster: Cluster) -> bool:
    try:
        return bool(cluster.state())
    except (OSError, ValueError):  # it begins with a page that is no JSON
        return False


def write_place(path: Path, properties: Mapping[str, str]) -> Path:
    """Write *properties* in Spark's format."""
    path.write_text("".join(f"{key} {value}\n" for key, value in properties.items()))
    return path


@contextlib.contextmanager
def connect_server(folder: Path) -> Iterator[str]:
    """Start the Spark Connect server that PySpark ships; yield its address, and stop it.

    Its workers' Python lacks lakescore.
    """
    import pyspark

    port = free_port()
    jars = sorted((Path(sys.prefix) / "share/lakescore/jars").glob("*.jar"))
    settings = read_properties(ROOT / "conf/spark/local.conf") | SMALL
    settings |= {
        "spark.master": "local[2,4]",
        "spark.jars": ",".join(map(str, jars)),
        "spark.connect.grpc.binding.address": "127.0.0.1",
        "spark.connect.grpc.binding.port": str(port),
        "spark.local.dir": str(folder / "local"),
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
    }
    home = Path(pyspark.__file__).parent
    workers = python_without_lakescore(folder / "python")
    command = [
        *(home / "bin/spark-submit", "--properties-file", write_place(folder / "p", settings)),
        *("--class", "org.apache.spark.sql.connect.service.SparkConnectServer", "spark-internal"),
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=environment() | {"SPARK_HOME": str(home), "PYSPARK_PYTHON": str(workers)},
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for(lambda: process.poll() is not None or _is_open(port), "the server")
        assert process.poll() is None, (folder / "server.log").read_text()[-4000:]
        yield f"sc://127.0.0.1:{port}"
    finally:
        end([process])


def _is_open(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0
