"""The only module that makes SparkSessions. It also settles the usual traps of Spark.

Workers run the driver's interpreter; times are UTC; Delta is configured; a table's name cannot be
a file; logs are quiet. Under spark-submit, spark-submit gives Spark's properties. A plain
`python jobs/score.py` reads them from the file of the place.
"""

from __future__ import annotations

import atexit
import os
import re
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakescore import assets, classic, console, executor, jars, java, places, workers
from lakescore.errors import ConfigError, TemporaryError
from lakescore.places import place_file, read_properties
from lakescore.runner import Runner, RunnerRefused
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from pyspark.sql import SparkSession

    from lakescore.options import RunnerName

MODELS = "spark.lakescore.models"
_NEED_SPARK = (
    "spark.eventLog.enabled",
    "spark.executor.pyspark.memory",
    "spark.extraListeners",
    "spark.plugins",
    "spark.pyspark.python",
    "spark.remote",
    "spark.sql.queryExecutionListeners",
)
"""Properties of a place that have an effect only if Spark runs the job."""
_SECONDS_TO_ANSWER = 10
_TESTED = {"3.5": "3.3", "4.0": "4.4", "4.1": "4.4", "4.2": "4.4"}
"""Versions of Spark, and the version of Delta that tests ran with: see docs/cluster.md."""
_DELTA_JAR = re.compile(r"delta-spark_[\d._]+[-:](\d+\.\d+\.\d+)")
_permission: tuple[bool, str] | None = None
"""Whether the next job can use Spark, and why it needs it; None if no process has decided this."""
_jvm_folder: str | None = None
"""The folder for the start files of a JVM; None for the folder of all temporary files."""
_FIXED_SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.runSQLOnFiles": "false",  # text.`/etc/passwd` is not a table
}


class ConnectUnavailable(TemporaryError):
    """A Spark Connect server does not answer."""

    def __init__(self, remote: str) -> None:
        super().__init__(
            f"no Spark Connect server answers at {remote}; start it, or set spark.remote to its "
            "address, then run the job again"
        )


class ForeignSession(ConfigError):
    """This process has a session that is not ours, and lakescore cannot start one beside it."""

    def __init__(self, version: str) -> None:
        super().__init__(
            "this process has a session of Spark Connect whose settings lakescore does not change, "
            f"and PySpark {version} cannot clone it; use PySpark 4.1 or newer, or run the job in "
            "its own process"
        )


def start(name: str, *, properties: Path | None = None, models: Sequence[str] = ()) -> SparkSession:
    """Return the session of spark-submit, or make one from *properties*.

    If this process has a session of a notebook or a platform, its settings do not change: the
    result is a new session on the same Spark application, with a copy of its settings, such as
    credentials. Only lakescore's own settings differ there: times are UTC.

    Args:
        name: the application's name.
        properties: a file of Spark properties; the default is that of the place.
        models: the versions that the application applies; Spark's listeners and event log show them
            as the property `spark.lakescore.models`.

    Raises:
        ConfigError: the file of properties does not exist.
        ConnectUnavailable: the place is a Spark Connect server that does not answer.
        ForeignSession: the session of this process is not ours, and it cannot be cloned.
        JavaMissing: a JVM has to be started, and Java 17 or newer is missing.
    """
    if properties is not None and not properties.is_file():
        raise ConfigError(f"there is no file {properties}, which was named as Spark's properties")
    submitted = "PYSPARK_GATEWAY_PORT" in os.environ
    running = _active_session()
    if running is None:
        remote, settings = _remote_and_settings(properties, submitted=submitted)
        if remote is not None:
            spark = _connect(remote, settings)
        else:
            if not submitted:
                java.require()
            spark = _make_session(name, properties, submitted=submitted)
    elif running.conf.get(MODELS, None) is None:
        spark = _child(running)
    else:
        spark = running
    for key, value in {**_FIXED_SETTINGS, MODELS: ",".join(models)}.items():
        spark.conf.set(key, value)
    used = [spark.conf.get(name, None) for name in ("spark.jars", "spark.jars.packages")]
    if warning := untested_versions(spark.version, ",".join(filter(None, used))):
        console.stage(warning)
    return spark


def untested_versions(spark: str, jars: str) -> str:
    """Return a warning if nobody tested this version of Spark, or the version of Delta for it.

    Args:
        spark: the version of Spark.
        jars: the jars and packages of the session. A platform's own Delta is not among them; then
            only the version of Spark is checked.
    """
    tested = _TESTED.get(_minor(spark))
    delta = _DELTA_JAR.search(jars)
    if tested is not None and (delta is None or _minor(delta[1]) == tested):
        return ""
    found = f"Spark {spark}" + (f" with Delta {delta[1]}" if delta else "")
    pairs = [f"Spark {version} with Delta {of_delta}" for version, of_delta in _TESTED.items()]
    return f"{found} was not tested with lakescore; these were: {listed(pairs)}"


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def choose(name: str, requested: RunnerName, *, models: Sequence[str] = ()) -> Runner:
    """Return the runner of a job: Spark, or workers of this machine until something needs Spark.

    Args:
        name: the application's name.
        requested: `spark`; `local`, which never starts Spark; or `auto`, which starts Spark if the
            place is not local or Spark runs already.
        models: as in `start`.

    Raises:
        RunnerRefused: the job asks for local, but the place is not local or has properties that
            only Spark can follow; or the job needs Spark, which `allow_spark` has forbidden.
        Also the errors of `start`.
    """
    properties = _local_properties()
    reason = _reason_for_spark(requested, properties)
    can_start = _permission is None or _permission[0]
    if reason and (requested == "local" or not can_start):
        raise RunnerRefused(reason)
    if reason:
        return Runner(session=start(name, models=models), reason=reason)

    def start_spark(why: str) -> SparkSession:
        console.stage(f"starting Spark: {why}")
        return start(name, models=models)

    return Runner(
        start=start_spark if can_start else None,
        asked=requested,
        reason="asked for" if requested == "local" else "nothing needs Spark",
        properties=properties,
        pool=workers.pool(),
    )


def allow_spark(*, allowed: bool, reason: str = "") -> None:
    """Set whether the next job of this process, one of several jobs, can use Spark.

    Args:
        allowed: if false, a job that needs Spark is refused before Spark starts.
        reason: why the job needs Spark, if that is known.
    """
    global _permission  # noqa: PLW0603 - a process has one, as it has one session
    _permission = (allowed, reason)


def start_jvm_in(folder: str) -> None:
    """Set the *folder* in which a JVM that is started writes the port where it listens.

    If this process ends before the JVM has written the port, the JVM writes it and then ends. If
    the folder is gone, the JVM cannot write the port, and it never ends.
    """
    global _jvm_folder  # noqa: PLW0603 - a process has one, as it has one JVM
    _jvm_folder = folder


@contextmanager
def _use_jvm_folder() -> Iterator[None]:
    before = tempfile.tempdir
    tempfile.tempdir = _jvm_folder or before
    try:
        yield
    finally:
        tempfile.tempdir = before


def runs_here() -> bool:
    """Return whether jobs run on this machine and Spark did not start this process."""
    return _local_properties() is not None and "PYSPARK_GATEWAY_PORT" not in os.environ


def is_answering() -> bool:
    """Return whether this process has a session that still works, or has no session."""
    try:
        spark = _active_session() if "pyspark.sql" in sys.modules else None
        return spark is None or spark.range(1).count() == 1
    except Exception:  # noqa: BLE001 - any failure means that the session is broken
        return False


def onlooker() -> Runner:
    """Return a runner that runs nothing; it only has the settings that reach tables."""
    return Runner(properties=_local_properties())


def prepare(requested: RunnerName) -> None:
    """Fork workers, if they will run a job's tasks, so that they import libraries in advance.

    It is not known yet which libraries the model needs. Most models use scikit-learn or import it.
    """
    if _reason_for_spark(requested, _local_properties()):
        return
    with executor.without_collector():
        import mlflow.pyfunc  # noqa: F401, PLC0415 - once, for this process and its workers

    workers.pool().warm("sklearn.ensemble", "mlflow.sklearn")


def _local_properties() -> dict[str, str] | None:
    """Return Spark's properties of the place local, or None if the place is not local."""
    remote_variables = {"SPARK_REMOTE", "DATABRICKS_RUNTIME_VERSION"} & os.environ.keys()
    if remote_variables or places.current() != places.LOCAL:
        return None
    properties = read_properties(place_file(places.LOCAL))
    master = properties.get("spark.master", "local")
    return properties | _FIXED_SETTINGS if master.startswith("local") else None


def _reason_for_spark(requested: RunnerName, properties: Mapping[str, str] | None) -> str:
    """Return why Spark runs the job from the start; an empty text if the job starts without it."""
    if requested == "spark":
        return "asked for"
    if requested == "auto" and _permission is not None and _permission[1]:
        return _permission[1]
    if properties is None:
        return f"the place is {os.environ.get('PLACE') or 'not this machine'}"
    if names := _properties_for_spark(properties):
        return f"the place sets {listed(names)}"
    return "it runs already" if requested == "auto" and _is_running() else ""


def _properties_for_spark(properties: Mapping[str, str]) -> list[str]:
    """Return the names of *properties* that have an effect only if Spark runs the job."""
    return [
        name
        for name, value in properties.items()
        if (name in _NEED_SPARK or name.startswith("spark.executorEnv.")) and value != "false"
    ]


def _is_running() -> bool:
    """Return whether this process has a session, or Spark's launcher started it."""
    if "PYSPARK_GATEWAY_PORT" in os.environ:
        return True
    pyspark_sql = sys.modules.get("pyspark.sql")  # without it, no session was made
    return pyspark_sql is not None and _active_session() is not None


def _make_session(name: str, properties: Path | None, *, submitted: bool) -> SparkSession:
    from pyspark.sql import SparkSession  # noqa: PLC0415 - after the checks that need no Spark

    builder = SparkSession.builder.appName(name)  # noqa: TID251 - one of the only two uses
    if not submitted:
        path = properties or place_file(places.current())
        settings = read_properties(path)
        if not {"spark.jars", "spark.jars.packages"} & settings.keys():
            settings["spark.jars"] = ",".join(map(str, _delta_jars()))
        if any(key.startswith("spark.hadoop.fs.s3a.") for key in settings):
            # Not in spark.jars: these jars are large, and Spark would copy them for each run.
            settings.setdefault(
                "spark.driver.extraClassPath", ":".join(map(str, assets.jars("s3")))
            )
        logging = assets.log_layout(is_json=console.is_json())
        options = [
            *java.sharing(),
            settings.get("spark.driver.extraJavaOptions", ""),
            f"-Dlog4j2.configurationFile=file:{logging}",
            *(java.VERBOSE if os.environ.get("LAKESCORE_VERBOSE") else ()),
        ]
        settings["spark.driver.extraJavaOptions"] = " ".join(filter(None, options))
        if interpreter := settings.get("spark.pyspark.python"):
            os.environ.setdefault("PYSPARK_PYTHON", interpreter)
        for key, value in settings.items():
            builder = builder.config(key, value)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with _use_jvm_folder():
        return builder.getOrCreate()


def _child(running: SparkSession) -> SparkSession:
    """Return a new session with the settings of *running*, which stays as it is.

    Raises:
        ForeignSession: *running* is a client's session, and this PySpark cannot clone it.
    """
    if classic.is_client(running):
        clone: Any = getattr(running, "cloneSession", None)
        if clone is None:
            raise ForeignSession(running.version)
        client: SparkSession = clone()
        _close_at_exit(client)
        return client
    child = running.newSession()
    for row in running.sql("SET").collect():  # it hides values that look like secrets
        value = running.conf.get(row["key"], None)
        if value is not None and child.conf.get(row["key"], None) != value:
            child.conf.set(row["key"], value)
    return child


def _close_at_exit(client: SparkSession) -> None:
    """Close a client of Spark Connect before the process ends.

    Models of an open client send requests while the interpreter ends, and can wait forever.
    """
    atexit.register(client.client.close)


def _delta_jars() -> list[Path]:
    """Return the jars of Delta; fetch them if this environment was not set up.

    Raises:
        JarsNotFetched: they cannot be fetched.
    """
    if not assets.jars(jars.DELTA):
        names = ", ".join(jars.missing(jars.DELTA))
        console.stage(f"fetching {names}, once; lakescore setup does this too")
        jars.fetch(jars.DELTA)
    return assets.jars(jars.DELTA)


def _remote_and_settings(
    properties: Path | None, *, submitted: bool
) -> tuple[str | None, dict[str, str]]:
    """Return the Spark Connect server that the environment or the place names, and its settings."""
    if submitted:
        return None, {}
    if remote := os.environ.get("SPARK_REMOTE"):
        return remote, {}
    settings = read_properties(properties or place_file(places.current()))
    return settings.pop("spark.remote", None), settings


def _connect(remote: str, settings: Mapping[str, str]) -> SparkSession:
    """Return a session of the Spark Connect server at *remote*.

    Raises:
        ConfigError: a package that clients need is missing.
        ConnectUnavailable: the server does not answer.
    """
    try:
        import grpc  # noqa: PLC0415 - an extra, which takes seconds to import
        from pyspark.sql.connect.client import DefaultChannelBuilder  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(f"{error}: pip install 'lakescore[connect]'") from error
    channel = DefaultChannelBuilder(remote).toChannel()
    try:  # without this check, Spark tries for minutes
        grpc.channel_ready_future(channel).result(timeout=_SECONDS_TO_ANSWER)
    except grpc.FutureTimeoutError:
        raise ConnectUnavailable(remote) from None
    finally:
        channel.close()
    from pyspark.sql import SparkSession  # noqa: PLC0415 - after the checks that need no Spark

    spark = SparkSession.builder.remote(remote).getOrCreate()  # noqa: TID251 - the second of the only two uses
    _close_at_exit(spark)
    for key, value in settings.items():
        spark.conf.set(key, value)
    return spark


def _active_session() -> SparkSession | None:
    """Return the session of this process, if any, also in a thread that did not make it."""
    from pyspark.errors import PySparkRuntimeError  # noqa: PLC0415 - after the checks of `start`
    from pyspark.sql import SparkSession  # noqa: PLC0415 - as above

    try:
        return SparkSession.active()
    except PySparkRuntimeError:
        return None
