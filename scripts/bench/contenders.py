"""The ways to do the job: read key and features, predict, write key, prediction and lineage."""

import functools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

from bench.workloads import KEY, NAME, Workload, arrays_of, given, load
from lakescore import registry

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from lakescore import options, scoring

Place = Literal["local[2]", "local[1]", "python"]
"""Where a contender runs: Spark with so many slots, or a process of its own."""
Facts = dict[str, Any]
LINEAGE = {"model_name": NAME, "model_version": 1, "scoring_run_id": "bench"}
_LITERALS = ("'' AS model_name", "0 AS model_version", "'' AS scoring_run_id", "'' AS slice")
SLOTS = 2


@dataclass(frozen=True)
class Setting:
    """What a contender is given."""

    spark: "SparkSession | None"
    workload: Workload
    source: str
    target: str

    @property
    def session(self) -> "SparkSession":
        """The Spark session."""
        assert self.spark is not None  # noqa: S101 - the place says so
        return self.spark

    def read(self) -> "DataFrame":
        """Read the input with Spark."""
        return self.session.read.format("delta").load(self.source)

    def write(self, rows: "DataFrame") -> None:
        """Write predictions with their lineage, by Spark."""
        from pyspark.sql import functions as F  # noqa: N812, PLC0415 - see lakescore.scoring

        constants = {name: F.lit(value) for name, value in LINEAGE.items()}
        rows.withColumns(constants).write.format("delta").mode("overwrite").save(self.target)

    def file(self, execution: "scoring.Execution") -> None:
        """Let workers write predictions with their lineage, as the whole job does."""
        from lakescore import scoring, tables  # noqa: PLC0415 - they import Spark
        from lakescore.filing import Place  # noqa: PLC0415 - likewise

        planned = execution.planned
        carried = {"all": {**LINEAGE, "slice": "all"}}
        more = [f"prediction_{n}" for n in range(1, len(planned.versions))]
        kind = self.workload.gives
        empty = [f"CAST(NULL AS {kind}) AS {name}" for name in ["prediction", *more]]
        rows = self.read().limit(0).selectExpr(KEY, *empty, *_LITERALS)
        where = {"model_name": [NAME], "slice": ["all"]}
        begun = tables.begin(
            self.session, rows.schema, self.target, where=where, metadata={}, find_by=[KEY]
        )
        at = len(planned.carried)
        places = {name: Place(n) for n, name in enumerate(planned.carried)}
        places |= {name: Place(at + n) for n, name in enumerate(["prediction", *more])}
        sink = begun.sink(places, carried, None)
        with scoring.evaluated(planned, ["all"]):
            begun.add(execution.write_files(sink), sink)
        begun.commit()

    def commit(self, parts: list[pa.Table]) -> None:
        """Write predictions with their lineage, without Spark."""
        whole = pa.concat_tables(parts)
        for name, value in LINEAGE.items():
            whole = whole.append_column(name, pa.repeat(pa.scalar(value), whole.num_rows))
        write_deltalake(self.target, whole, mode="overwrite")


@dataclass(frozen=True)
class Contender:
    """One way to do the job."""

    name: str
    run: Callable[[Setting], Facts | None]
    place: Place = "local[2]"
    predicts: bool = True


def spark_udf(here: Setting, env_manager: Literal["local", "uv"] = "local") -> "Column":
    """Return the prediction as MLflow's documentation makes it."""
    from mlflow.pyfunc import spark_udf as make  # noqa: PLC0415 - seconds of import
    from pyspark.sql import functions as F  # noqa: N812, PLC0415

    uri = here.workload.model().uri
    udf = make(here.session, uri, result_type="double", env_manager=env_manager)
    predicted: Column = udf(F.struct(*here.workload.features))
    return predicted.alias("prediction")


def as_in_the_docs(here: Setting) -> None:
    """Keep all columns, and let MLflow do the rest."""
    here.write(here.read().select("*", spark_udf(here)))


def pruned(here: Setting) -> None:
    """Keep the key alone."""
    here.write(here.read().select(KEY, spark_udf(here)))


def pruned_in_environment(here: Setting) -> None:
    """Keep the key alone, and let MLflow make an environment for the model."""
    here.write(here.read().select(KEY, spark_udf(here, "uv")))


def run_lakescore(
    engine: "options.EngineName", scan: "options.ScanName", here: Setting, *, versions: int = 1
) -> Facts:
    """Score by one of our engines, with several versions in one pass where asked."""
    models = [here.workload.model(n + 1) for n in range(versions)]
    return scored(here, models, engine, scan)


def scored(
    here: Setting,
    models: list[registry.ModelVersion],
    engine: "options.EngineName" = "arrow",
    scan: "options.ScanName" = "direct",
    environment: "options.EnvironmentName" = "shared",
) -> Facts:
    """Score with *models*, and return what the receipt would say."""
    from lakescore import scoring, signature, slicing, tables  # noqa: PLC0415 - they import Spark
    from lakescore.loading import prepare  # noqa: PLC0415
    from lakescore.options import BindOptions, LoadOptions  # noqa: PLC0415

    rows = tables.snapshot(here.session, here.source)
    given = here.workload.features if here.workload.eats == "array" else ()
    options, loading = BindOptions(features=given), LoadOptions(environment=environment)
    loadables = [prepare(model, options=loading) for model in models]
    binding = [signature.bind(here.source, rows, one, [KEY], options) for one in loadables]
    selection = slicing.select(rows, None, ["all"])
    planned = scoring.plan(engine, selection, binding, keep=[KEY], scan=scan)
    if engine == "arrow" and (planned.direct is None) != (scan == "spark"):
        raise RuntimeError(f"the scan is not {scan}: {planned}")
    execution = scoring.Execution(planned)
    if engine == "arrow":
        here.file(execution)
    else:
        here.write(scoring.score(planned))
    return execution.facts()


def in_own_environment(here: Setting) -> Facts:
    """Score by the Python and the packages of the model's own environment."""
    return scored(here, [here.workload.model()], environment="own")


def with_rules(here: Setting) -> Facts:
    """Score, and check a rule for every feature of every row."""
    from lakescore import scoring, signature, slicing, tables  # noqa: PLC0415 - they import Spark
    from lakescore.loading import prepare  # noqa: PLC0415
    from lakescore.options import ExpectOptions  # noqa: PLC0415
    from lakescore.signature.expecting import bind_expected  # noqa: PLC0415

    rows, names = tables.snapshot(here.session, here.source), here.workload.features
    rules = ExpectOptions(values=dict.fromkeys(names, "between -1000 and 1000"))
    contract = signature.bind(here.source, rows, prepare(here.workload.model()), [KEY])
    expected = bind_expected(here.source, rows.schema, rules)
    binding = signature.Binding((contract,), expected=expected)
    selection = slicing.select(rows, None, ["all"])
    execution = scoring.Execution(scoring.plan("arrow", selection, binding, [KEY, *names]))
    here.file(execution)
    return execution.facts()


def monitored(here: Setting) -> None:
    """Count all features in bins, as the monitor job does for a slice whose baseline is known."""
    from lakescore import executor, slicing, tables  # noqa: PLC0415 - they import Spark
    from lakescore.monitoring.columns import Column  # noqa: PLC0415 - likewise
    from lakescore.monitoring.profiles import take  # noqa: PLC0415 - likewise

    selection = slicing.select(tables.snapshot(here.session, here.source), None, ["all"])
    names = here.workload.features
    columns = [Column(name=name, source=name, kind="number", role="feature") for name in names]
    edges = tuple(n / 4 for n in range(-8, 7))  # as many as the job chooses
    bins = {name: executor.NumberBins(edges=edges, origin=0.0) for name in names}
    profile = take(selection, columns, bins)
    if len(profile.cells) != len(names):
        raise RuntimeError("not all features were counted")


def fresh_versions(here: Setting) -> Facts:
    """Score with four versions that no worker has loaded yet."""
    models = [here.workload.model(n + 1) for n in range(4)]
    again = [
        replace(model, card=replace(model.card, digest=f"{model.digest}-{here.target}-{n}"))
        for n, model in enumerate(models)
    ]
    return {"versions": len(again), **scored(here, again)}


def job(here: Setting) -> Facts:
    """Run the whole job: it plans, scores, publishes a slice, reads it back, and logs its run."""
    import score  # noqa: PLC0415 - it imports Spark

    from lakescore.config import ScoreJob  # noqa: PLC0415

    model = here.workload.model()
    config = ScoreJob.model_validate(
        {
            "model": f"{model.name}/{model.version}",
            "input": {"path": here.source},
            "output": {"path": here.target},
            "id_columns": [KEY],
            "experiment": NAME,
        }
    )
    return score.run(config)


def by_hand(here: Setting) -> None:
    """Do with mapInArrow what this model needs, and no more."""
    path, features = here.workload.saved, here.workload.features
    eats = here.workload.eats
    _by_value()

    def predict(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        estimator = load(path)
        for batch in batches:
            predicted = pa.array(estimator.predict(given(batch, features, eats)), pa.float64())
            yield pa.RecordBatch.from_arrays(
                [batch.column(0), predicted], names=[KEY, "prediction"]
            )

    rows = here.read().select(KEY, *features)
    here.write(rows.mapInArrow(predict, f"{KEY} long, prediction double"))


def no_model(here: Setting) -> None:
    """Add the columns up in SQL: what Spark costs around any model."""
    from pyspark.sql import functions as F  # noqa: N812, PLC0415

    rows = here.read()
    numbers = [name for name, kind in rows.dtypes if name in here.workload.features]
    terms = [F.length(n) if dict(rows.dtypes)[n] == "string" else F.col(n) for n in numbers]
    total = sum((F.coalesce(term, F.lit(0)) for term in terms), F.lit(0.0))
    here.write(rows.select(KEY, total.alias("prediction")))


def polars(here: Setting) -> None:
    """Read with polars, predict in one go, write with deltalake."""
    import polars as pl  # noqa: PLC0415 - of the benchmark alone

    features = list(here.workload.features)
    rows = pl.scan_delta(here.source).select(KEY, *features).collect()
    if here.workload.eats == "frame":
        eaten = rows.select(features).to_pandas()
    else:
        eaten = rows.select(features).to_numpy(order="fortran")
    predicted = pl.Series("prediction", here.workload.estimator().predict(eaten))
    lineage = [pl.lit(value).alias(name) for name, value in LINEAGE.items()]
    rows.select(KEY, predicted).with_columns(lineage).write_delta(here.target, mode="overwrite")


def limit(here: Setting) -> None:
    """Read, predict and commit with nothing in between, in one thread."""
    estimator = here.workload.estimator()
    files = DeltaTable(here.source).file_uris()
    here.commit([predict_file(here.workload, estimator, path) for path in files])


def limit_by_processes(here: Setting) -> None:
    """Do it in as many processes as Spark has slots, each with the model at hand; commit here."""
    path = here.workload.saved
    files = DeltaTable(here.source).file_uris()
    predict = partial(predict_in_process, here.workload.name, path)
    here.commit(list(pool().map(predict, files)))


@functools.cache
def pool() -> ProcessPoolExecutor:
    """Return the processes of `limit_by_processes`, which stay until `close_pool`."""
    return ProcessPoolExecutor(SLOTS, multiprocessing.get_context("spawn"))


def close_pool() -> None:
    """End the processes of `pool`, for which a process would wait when it ends."""
    if pool.cache_info().currsize:
        pool().shutdown()


loaded = functools.cache(load)


def predict_in_process(workload: str, path: str, file: str) -> pa.Table:
    """Do what `predict_file` does with a model that is loaded once."""
    from bench.workloads import WORKLOADS  # noqa: PLC0415 - it holds functions, so it is not sent

    return predict_file(WORKLOADS[workload], loaded(path), file)


def predict_file(workload: Workload, estimator: Any, path: str) -> pa.Table:  # noqa: ANN401
    """Return the keys and predictions of a file."""
    rows = pq.read_table(path, columns=[KEY, *workload.features], use_threads=False)
    predicted = estimator.predict(workload.given(rows))
    is_array = workload.gives.startswith("ARRAY")
    column = arrays_of(predicted) if is_array else pa.array(predicted, pa.float64())
    return pa.table({KEY: rows.column(KEY), "prediction": column})


def limit_of_versions(versions: int, here: Setting) -> None:
    """Do what `limit` does for several versions, with one reading and one block."""
    models = [here.workload.estimator() for _ in range(versions)]
    parts = []
    for path in DeltaTable(here.source).file_uris():
        rows = pq.read_table(path, columns=[KEY, *here.workload.features], use_threads=False)
        block = here.workload.given(rows)
        names = ["prediction", *[f"prediction_{n + 1}" for n in range(1, versions)]]
        predicted = [model.predict(block) for model in models]
        predictions = dict(zip(names, predicted, strict=True))
        parts.append(pa.table({KEY: rows.column(KEY), **predictions}))
    here.commit(parts)


def _by_value() -> None:
    """Let Spark's workers have our functions without this folder on their path."""
    from pyspark import cloudpickle  # noqa: PLC0415

    from bench import workloads  # noqa: PLC0415

    cloudpickle.register_pickle_by_value(workloads)  # type: ignore[no-untyped-call]


DOCS = Contender("spark_udf, MLflow's docs", as_in_the_docs)
PRUNED = Contender("spark_udf, pruned columns", pruned)
LAKESCORE_UDF = Contender("lakescore, spark_udf", partial(run_lakescore, "spark_udf", "spark"))
SPARK_SCAN = Contender("lakescore, arrow, Spark scan", partial(run_lakescore, "arrow", "spark"))
DIRECT = Contender("lakescore, arrow, direct scan", partial(run_lakescore, "arrow", "direct"))
JOB = Contender("lakescore, the whole job", job)
BY_HAND = Contender("mapInArrow by hand", by_hand)
NO_MODEL = Contender("Spark with no model", no_model, predicts=False)
POLARS = Contender("polars and deltalake", polars, "python")
LIMIT = Contender("limit", limit, "python")
FRESH = Contender("fresh versions", fresh_versions)
OWN = Contender("lakescore, direct scan, own environment", in_own_environment)
MONITORED = Contender("lakescore, monitored", monitored, predicts=False)
WITH_RULES = Contender("lakescore, direct scan, 20 rules", with_rules)
UDF_OWN = Contender("spark_udf, pruned columns, env_manager", pruned_in_environment)
DIRECT_ALONE = replace(DIRECT, name="lakescore, direct scan, local[1]", place="local[1]")
LIMIT_BOTH = Contender("limit, two processes", limit_by_processes, "python")


def direct_of(versions: int) -> Contender:
    """Return our direct scan with so many versions."""
    run = partial(run_lakescore, "arrow", "direct", versions=versions)
    return Contender(f"lakescore, direct scan, K={versions}", run)


def spark_scan_of(versions: int) -> Contender:
    """Return our Spark scan with so many versions."""
    run = partial(run_lakescore, "arrow", "spark", versions=versions)
    return Contender(f"lakescore, Spark scan, K={versions}", run)


def limit_of(versions: int) -> Contender:
    """Return the limit with so many versions."""
    return Contender(f"limit, K={versions}", partial(limit_of_versions, versions), "python")


CONTENDERS = {
    contender.name: contender
    for contender in (
        *(DOCS, PRUNED, LAKESCORE_UDF, SPARK_SCAN, DIRECT, JOB, BY_HAND, NO_MODEL, POLARS, LIMIT),
        *(FRESH, OWN, MONITORED, WITH_RULES, UDF_OWN, DIRECT_ALONE, LIMIT_BOTH),
        *[make(k) for k in (1, 2, 4, 8) for make in (direct_of, spark_scan_of, limit_of)],
    )
}
