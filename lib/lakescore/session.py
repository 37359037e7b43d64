"""The one maker of SparkSessions, and what newcomers trip on, settled.

Workers run the driver's own interpreter; times are UTC; Delta is configured; a table's name cannot
be a file; logs are quiet. Under spark-submit, Spark's properties come from there. In a plain
`python jobs/score.py` they are read from `conf/spark/<PLACE>.conf` beside the job.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lakescore import console, java, workers
from lakescore.errors import ConfigError, ConnectUnavailable, RunnerRefused, listed, nearest
from lakescore.places import read_properties
from lakescore.runner import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import SparkSession

    from lakescore.runner import RunnerName

VERBOSE = ("-Dlakescore.log.level=info", "-Dlakescore.log.tasks=info")
"""What log4j2.properties reads."""
MODELS = "spark.lakescore.models"
_MEANS_SPARK = (
    "spark.eventLog.enabled",
    "spark.executor.pyspark.memory",
    "spark.extraListeners",
    "spark.plugins",
    "spark.pyspark.python",
    "spark.remote",
    "spark.sql.queryExecutionListeners",
)
"""Properties of a place that are about what Spark does, which there would be nothing of."""
_SECONDS_TO_ANSWER = 10
_allowed: tuple[bool, str] | None = None
"""Whether the next job may use Spark, and why it has to, where another process has said."""
_folder_of_start: str | None = None
"""For what a JVM that starts writes, where it is not that for all temporary files."""
_ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.runSQLOnFiles": "false",  # text.`/etc/passwd` is not a table
}


def start(name: str, *, properties: Path | None = None, models: Sequence[str] = ()) -> SparkSession:
    """Return the session of spark-submit, or make one from *properties*.

    Where this process has a session that is not ours, a notebook's or a platform's, its settings
    stay as they are: a new session on the same Spark application is returned.

    Args:
        name: the application's name.
        properties: a file of Spark properties; `conf/spark/<PLACE>.conf` beside the running job
            when left out.
        models: the versions that the application applies; Spark's listeners and event log have them
            as the property `spark.lakescore.models`.

    Raises:
        ConfigError: there is no such file.
        ConnectUnavailable: the place is a Spark Connect server, and none answers.
        JavaMissing: a JVM would have to be started, and there is no Java 17 or newer.
    """
    if properties is not None and not properties.is_file():
        raise ConfigError(f"there is no file {properties}, which was named as Spark's properties")
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    running = _running()
    if running is None:
        remote, settings = _remote(properties, submitted=submitted)
        if remote is not None:
            spark = _connected(remote, settings)
        else:
            if not submitted:
                java.require()
            spark = _made(name, properties, submitted=submitted)
    elif running.conf.get(MODELS, None) is None:
        spark = running.newSession()
    else:
        spark = running
    for key, value in {**_ALWAYS, MODELS: ",".join(models)}.items():
        spark.conf.set(key, value)
    return spark


def choose(name: str, asked: RunnerName, *, models: Sequence[str] = ()) -> Runner:
    """Return what runs a job: Spark, or workers of this machine as long as nothing needs Spark.

    Args:
        name: the application's name.
        asked: `spark`; `local` refuses to start it; `auto` starts it where the place is another
            than local, or it runs already.
        models: as `start`.

    Raises:
        RunnerRefused: local was asked for, and the place is another, or sets what is Spark's alone.
        As `start` besides.
    """
    properties = _of_local_place()
    reason = _why_spark(asked, properties)
    may_start = _allowed is None or _allowed[0]
    if reason and (asked == "local" or not may_start):
        raise RunnerRefused(reason)
    if reason:
        return Runner(session=start(name, models=models), reason=reason)

    def begin(why: str) -> SparkSession:
        console.stage(f"starting Spark: {why}")
        return start(name, models=models)

    return Runner(
        start=begin if may_start else None,
        asked=asked,
        reason="asked for" if asked == "local" else "nothing needs Spark",
        properties=properties,
        pool=workers.pool(),
    )


def allow_spark(*, allowed: bool, reason: str = "") -> None:
    """Say for the next job of this process, which is one of several, whether it may use Spark.

    Args:
        allowed: without it, a job that needs Spark is refused before Spark starts.
        reason: why the job needs Spark, where that is known.
    """
    global _allowed  # noqa: PLW0603 - of the process, as its session is
    _allowed = (allowed, reason)


def start_jvm_in(folder: str) -> None:
    """Have a JVM that is started say in *folder* where it listens.

    One whose process ends before it could say so ends itself after it has. Where it cannot, since
    the folder is gone, it stays for ever.
    """
    global _folder_of_start  # noqa: PLW0603 - of the process, as its JVM is
    _folder_of_start = folder


@contextmanager
def _in_folder_of_start() -> Iterator[None]:
    before = tempfile.tempdir
    tempfile.tempdir = _folder_of_start or before
    try:
        yield
    finally:
        tempfile.tempdir = before


def runs_here() -> bool:
    """Tell whether jobs run on this machine, and this process was not started by Spark."""
    return _of_local_place() is not None and "PYSPARK_GATEWAY_PORT" not in os.environ


def is_answering() -> bool:
    """Tell whether the session of this process, if it has one, still does what it is asked for."""
    try:
        spark = _running() if "pyspark.sql" in sys.modules else None
        return spark is None or spark.range(1).count() == 1
    except Exception:  # noqa: BLE001 - whatever it is that broke
        return False


def onlooker() -> Runner:
    """Return a runner that runs nothing: it knows the settings by which tables are reached."""
    return Runner(properties=_of_local_place())


def prepare(asked: RunnerName) -> None:
    """Fork workers, if they will run a job's tasks, so that they import libraries meanwhile.

    Which ones a model needs is known later; most are of scikit-learn, or import it.
    """
    if _why_spark(asked, _of_local_place()):
        return
    import mlflow.pyfunc  # noqa: F401, PLC0415 - workers and this process need it, once

    workers.pool().warm("sklearn.ensemble", "mlflow.sklearn")


def _of_local_place() -> dict[str, str] | None:
    """Return Spark's properties of the place local, or none where the place is another."""
    elsewhere = {"SPARK_REMOTE", "DATABRICKS_RUNTIME_VERSION"} & os.environ.keys()
    if elsewhere or (os.environ.get("PLACE") or "local") != "local":
        return None
    path = _folder() / "local.conf"
    properties = read_properties(path) if path.is_file() else {}
    master = properties.get("spark.master", "local")
    return properties | _ALWAYS if master.startswith("local") else None


def _why_spark(asked: RunnerName, properties: Mapping[str, str] | None) -> str:
    """Return why a job runs by Spark from the start, or nothing where it begins without."""
    if asked == "spark":
        return "asked for"
    if asked == "auto" and _allowed is not None and _allowed[1]:
        return _allowed[1]
    if properties is None:
        return f"the place is {os.environ.get('PLACE') or 'not this machine'}"
    if meant := _meaning_spark(properties):
        return f"the place sets {listed(meant)}"
    return "it runs already" if asked == "auto" and _is_running() else ""


def _meaning_spark(properties: Mapping[str, str]) -> list[str]:
    """Return those of *properties* that are about what Spark does."""
    return [
        name
        for name, value in properties.items()
        if (name in _MEANS_SPARK or name.startswith("spark.executorEnv.")) and value != "false"
    ]


def _is_running() -> bool:
    """Tell whether this process has a session, or was started by Spark's launcher."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return True
    started = sys.modules.get("pyspark.sql")  # else nobody made one
    return started is not None and _running() is not None


def _made(name: str, properties: Path | None, *, submitted: bool) -> SparkSession:
    from pyspark.sql import SparkSession  # noqa: PLC0415 - after the checks that need no Spark

    builder = SparkSession.builder.appName(name)  # noqa: TID251 - here is the one
    if not submitted:
        path = properties or beside_the_job()
        settings = {"spark.jars": ",".join(_jars("jars")), **read_properties(path)}
        if any(key.startswith("spark.hadoop.fs.s3a.") for key in settings):
            # Not in spark.jars: they are large, and would be copied for each run.
            settings.setdefault("spark.driver.extraClassPath", ":".join(_jars("s3")))
        layout = "log4j2-json.properties" if console.is_json() else "log4j2.properties"
        logging = (path.parent / layout).absolute()
        options = [
            *java.sharing(),
            settings.get("spark.driver.extraJavaOptions", ""),
            f"-Dlog4j2.configurationFile=file:{logging}" if logging.is_file() else "",
            *(VERBOSE if os.environ.get("LAKESCORE_VERBOSE") else ()),
        ]
        settings["spark.driver.extraJavaOptions"] = " ".join(filter(None, options))
        if workers := settings.get("spark.pyspark.python"):
            os.environ.setdefault("PYSPARK_PYTHON", workers)
        for key, value in settings.items():
            builder = builder.config(key, value)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with _in_folder_of_start():
        return builder.getOrCreate()


def _remote(properties: Path | None, *, submitted: bool) -> tuple[str | None, dict[str, str]]:
    """Return the Spark Connect server that the environment or the place names, and its settings."""
    if submitted:
        return None, {}
    if remote := os.environ.get("SPARK_REMOTE"):
        return remote, {}
    settings = read_properties(properties or beside_the_job())
    return settings.pop("spark.remote", None), settings


def _connected(remote: str, settings: Mapping[str, str]) -> SparkSession:
    """Return a session of the Spark Connect server at *remote*.

    Raises:
        ConfigError: what clients need is missing.
        ConnectUnavailable: no server answers.
    """
    try:
        import grpc  # noqa: PLC0415 - an extra, and seconds of import
        from pyspark.sql.connect.client import DefaultChannelBuilder  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"{error}: pip install 'lakescore[connect]'") from error
    channel = DefaultChannelBuilder(remote).toChannel()
    try:  # Spark itself tries for minutes
        grpc.channel_ready_future(channel).result(timeout=_SECONDS_TO_ANSWER)
    except grpc.FutureTimeoutError:
        raise ConnectUnavailable(remote) from None
    finally:
        channel.close()
    from pyspark.sql import SparkSession  # noqa: PLC0415 - after the checks that need no Spark

    spark = SparkSession.builder.remote(remote).getOrCreate()  # noqa: TID251 - here is the other
    for key, value in settings.items():
        spark.conf.set(key, value)
    return spark


def _running() -> SparkSession | None:
    """Return the session that this process has; a thread other than its maker's may ask."""
    from pyspark.errors import PySparkRuntimeError  # noqa: PLC0415 - after the checks of `start`
    from pyspark.sql import SparkSession  # noqa: PLC0415 - likewise

    try:
        return SparkSession.active()
    except PySparkRuntimeError:
        return None


def beside_the_job() -> Path:
    """Return `conf/spark/<PLACE>.conf` of the project whose job is running."""
    folder = _folder()
    place = os.environ.get("PLACE") or "local"
    path = Path(place) if "/" in place else folder / f"{place}.conf"
    if not path.is_file():
        there = sorted(each.stem for each in folder.glob("*.conf"))
        raise ConfigError(f"there is no place {place!r}: no {path}{nearest(place, there)}")
    return path


def _folder() -> Path:
    return Path(sys.argv[0]).resolve().parents[1] / "conf" / "spark"


def _jars(kind: str) -> list[str]:
    """Return the jars that were fetched into the environment: Delta's `jars`, or `s3`."""
    folder = Path(sys.prefix) / "share" / "lakescore" / kind
    return [str(path) for path in sorted(folder.glob("*.jar"))]
