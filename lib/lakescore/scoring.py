"""Scoring: how pinned versions are applied to rows, and the predictions as columns.

Two engines give the same values. `spark_udf` is MLflow's own function: the reference, for every
flavour. `arrow` hands Arrow batches to the model, loads it once a worker process, and applies
several versions in one pass; `plan` chooses it only where a probe of real rows shows it equal.
"""

from __future__ import annotations

import logging
import math
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once
from pyspark.sql.pandas.types import to_arrow_schema
from pyspark.sql.types import (
    BooleanType,
    DataType,
    DoubleType,
    FloatType,
    IntegerType,
    LongType,
    StringType,
    StructField,
    StructType,
)

from lakescore import executor
from lakescore.errors import EngineRefused, ScoringFailed, listed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pyspark.sql import Column, DataFrame, SparkSession

    from lakescore.registry import ModelVersion
    from lakescore.signature import Contract

cloudpickle.register_pickle_by_value(executor)  # type: ignore[no-untyped-call]

EngineName = Literal["auto", "arrow", "spark_udf"]
_PROBE_ROWS = 200
_TOLERANCE = 1e-12
"""Relative; for models that add many numbers, in whatever order their libraries do."""
_EXACT = ("sklearn.tree", "sklearn.ensemble", "sklearn.dummy")
_FEATURES = (BooleanType, DoubleType, FloatType, IntegerType, LongType, StringType)
"""What Arrow and MLflow's way by Spark turn into the same pandas values."""


@dataclass(frozen=True)
class Engine:
    """How versions are applied to rows, settled before any row is scored."""

    name: Literal["arrow", "spark_udf"]
    reason: str
    models: tuple[tuple[ModelVersion, Contract], ...]
    versions: tuple[executor.Version, ...] = ()
    """What workers of the arrow engine get; their positions count from the first feature."""
    columns: tuple[StructField, ...] = ()
    """The features that the arrow engine sends, each once a type."""

    def facts(self) -> dict[str, Any]:
        """Return the choice as it stands in the receipt."""
        modes = {"modes": [version.mode for version in self.versions]} if self.versions else {}
        return {"name": self.name, "reason": self.reason, **modes}


def plan(
    asked: EngineName, rows: DataFrame, models: Sequence[tuple[ModelVersion, Contract]]
) -> Engine:
    """Choose the engine for *models* on *rows*, of which a few are scored as a probe.

    Raises:
        EngineRefused: the arrow engine was asked for, and it would not give MLflow's values.
    """
    udf = Engine("spark_udf", "asked for", tuple(models))
    if asked == "spark_udf":
        return udf
    try:
        return _arrow(rows, models)
    except _Declined as declined:
        if asked == "arrow":
            raise EngineRefused("arrow", str(declined)) from declined
        return replace(udf, reason=str(declined))


def score(rows: DataFrame, engine: Engine, *, keep: Sequence[str]) -> DataFrame:
    """Return the columns *keep* of *rows* and the outputs of the engine's only version.

    One row for each of *rows*, each predicted once.
    """
    ((_, contract),) = engine.models
    applied = _apply(rows, engine, keep)
    names = contract.outputs.names
    if len(names) == 1:
        return applied.withColumnRenamed("p0", names[0])
    kept = [F.col(f"`{name}`") for name in keep]
    return applied.select(*kept, *[F.col("p0")[name].alias(name) for name in names])


def side_by_side(rows: DataFrame, engine: Engine, *, keep: Sequence[str]) -> DataFrame:
    """Return the columns *keep* of *rows* and one column a version, named by its URI."""
    applied = _apply(rows, engine, keep)
    uris = {f"p{n}": model.uri for n, (model, _) in enumerate(engine.models)}
    return applied.withColumnsRenamed(uris)


@contextmanager
def explained(uri: str, slices: Sequence[str]) -> Iterator[None]:
    """Turn an error that the model raised in a worker into one line.

    Raises:
        ScoringFailed: with the error's own line of the worker's Python trace.
    """
    try:
        yield
    except PySparkException as error:
        lines = str(error).splitlines()
        traces = [n for n, line in enumerate(lines) if "Traceback (most recent call last)" in line]
        if not traces:
            raise
        ends = [line for line in lines[traces[-1] + 1 :] if line and not line[0].isspace()]
        reason = ends[0] if ends else lines[-1]
        raise ScoringFailed(uri, f"all of {listed(slices)}", reason) from error


def _apply(rows: DataFrame, engine: Engine, keep: Sequence[str]) -> DataFrame:
    """Return *keep* of *rows*, then p0, p1, ...: a column a version, or a struct."""
    kept = [F.col(f"`{name}`") for name in keep]
    if engine.name == "spark_udf":
        predictions = [_spark_udf(rows.sparkSession, *each) for each in engine.models]
        return rows.select(*kept, *[each.alias(f"p{n}") for n, each in enumerate(predictions)])
    renamed = [column.alias(f"k{n}") for n, column in enumerate(kept)]
    sent = rows.select(*renamed, *_sent(engine.columns))
    results = [_result(contract) for _, contract in engine.models]
    given = StructType(
        [
            *sent.schema.fields[: len(keep)],
            *[StructField(f"p{n}", t) for n, t in enumerate(results)],
        ]
    )
    versions = [_placed(version, len(keep), rows.sparkSession) for version in engine.versions]
    applied = sent.mapInArrow(executor.predictor(versions, kept=len(keep)), given)
    return applied.withColumnsRenamed({f"k{n}": name for n, name in enumerate(keep)})


def _spark_udf(spark: SparkSession, model: ModelVersion, contract: Contract) -> Column:
    """Return MLflow's prediction as a column.

    The very files whose digest the version carries are handed to Spark. The column is marked
    nondeterministic, without which a filter on it would make Spark predict each row twice.
    """
    from mlflow.pyfunc import spark_udf  # noqa: PLC0415 - seconds of import, after the checks

    result: Any = _result(contract)
    with _quiet("mlflow"):
        udf = spark_udf(spark, str(model.artifacts), result_type=result, env_manager="local")
    features = [F.col(f"`{f.name}`").cast(f.dataType).alias(f.name) for f in contract.features]
    predicted: Column = udf.asNondeterministic()(F.struct(*features))
    return predicted


def _result(contract: Contract) -> DataType:
    fields = contract.outputs.fields
    return fields[0].dataType if len(fields) == 1 else contract.outputs


class _Declined(Exception):
    """Why the arrow engine would not give what MLflow gives."""


def _arrow(rows: DataFrame, models: Sequence[tuple[ModelVersion, Contract]]) -> Engine:
    columns = tuple(
        dict.fromkeys(
            StructField(field.name, field.dataType)
            for _, contract in models
            for field in contract.features
        )
    )
    odd = [
        f"{c.name} ({c.dataType.simpleString()})"
        for c in columns
        if type(c.dataType) not in _FEATURES
    ]
    if odd:
        raise _Declined(f"it does not take the columns {listed(odd)}")
    try:
        to_arrow_schema(rows.schema, timezone="UTC")
    except PySparkException as error:
        raise _Declined(f"Arrow cannot hold the table: {error}") from error
    positions = {(c.name, c.dataType): n for n, c in enumerate(columns)}
    sample = _sample(rows, columns)
    versions = [_version(model, contract, positions, sample) for model, contract in models]
    modes = listed(dict.fromkeys(version.mode for version in versions))
    reason = f"{modes}, equal to MLflow's PyFuncModel on {sample.num_rows} rows"
    return Engine("arrow", reason, tuple(models), tuple(versions), columns)


def _sample(rows: DataFrame, columns: Sequence[StructField]) -> pa.RecordBatch:
    table = rows.select(*_sent(columns)).limit(_PROBE_ROWS).toArrow().combine_chunks()
    if not table.num_rows:
        raise _Declined("there are no rows to probe it with")
    return table.to_batches()[0]


def _sent(columns: Sequence[StructField]) -> list[Column]:
    return [F.col(f"`{c.name}`").cast(c.dataType).alias(f"f{n}") for n, c in enumerate(columns)]


def _version(
    model: ModelVersion,
    contract: Contract,
    positions: Mapping[tuple[str, DataType], int],
    sample: pa.RecordBatch,
) -> executor.Version:
    """Return what a worker needs of *model*, in the fastest mode that gives MLflow's values."""
    pyfunc = executor.Version(
        digest=model.digest,
        folder=str(model.artifacts),
        mode="pyfunc",
        pickled=None,
        features=tuple((f.name, positions[f.name, f.dataType]) for f in contract.features),
        outputs=to_arrow_schema(contract.outputs),
    )
    try:
        (expected,) = executor.apply([pyfunc], sample)
    except Exception:  # noqa: BLE001 - a row that it cannot score: the run itself will say so
        return pyfunc
    for version in _candidates(pyfunc, contract, model):
        if _gives(version, sample, expected, exact=_is_exact(version)):
            return version
    return pyfunc


def _candidates(
    pyfunc: executor.Version, contract: Contract, model: ModelVersion
) -> Iterator[executor.Version]:
    """Yield the faster ways to apply a scikit-learn model, the fastest first."""
    flavors: dict[str, Any] = _flavors(model.artifacts)
    loader, native = flavors.get("python_function", {}), flavors.get("sklearn")
    if not native or loader.get("predict_fn", "predict") != "predict" or loader.get("code"):
        return
    readable = native.get("serialization_format") in {"pickle", "cloudpickle"}
    raw = replace(pyfunc, mode="frame", pickled=native["pickled_model"] if readable else None)
    kinds = {field.dataType for field in contract.features}
    if kinds <= {DoubleType()} or kinds <= {FloatType()}:
        names = getattr(executor.loaded(raw), "feature_names_in_", None)
        if names is None or [name for name, _ in raw.features] == list(names):
            yield replace(raw, mode="block")
    yield raw


def _gives(
    version: executor.Version, sample: pa.RecordBatch, expected: pa.Array, *, exact: bool
) -> bool:
    try:
        (found,) = executor.apply([version], sample)
    except Exception:  # noqa: BLE001 - whatever it does not take: then it is not the way
        return False
    if exact or not pa.types.is_floating(expected.type):
        return bool(found.equals(expected))
    pairs = zip(found.to_pylist(), expected.to_pylist(), strict=True)
    return all(
        a == b or (None not in (a, b) and math.isclose(a, b, rel_tol=_TOLERANCE)) for a, b in pairs
    )


def _is_exact(version: executor.Version) -> bool:
    """Tell whether the model decides by comparisons, so that any difference is an error."""
    estimator = executor.loaded(version)
    final = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
    return type(final).__module__.startswith(_EXACT)


def _flavors(artifacts: Path) -> dict[str, Any]:
    from mlflow.models import Model  # noqa: PLC0415 - seconds of import

    flavors: dict[str, Any] = Model.load(str(artifacts)).flavors
    return flavors


def _placed(version: executor.Version, kept: int, spark: SparkSession) -> executor.Version:
    """Return *version* with its features after the *kept* columns and its files at hand."""
    features = tuple((name, kept + position) for name, position in version.features)
    return replace(version, features=features, folder=_shipped(version, spark))


def _shipped(version: executor.Version, spark: SparkSession) -> str:
    """Ship the artifacts to the executors, once a session; in local mode they are there already."""
    context = spark.sparkContext
    master = str(context.master)
    if master.startswith("local[") or master == "local":
        return version.folder
    name = f"lakescore-{version.digest.removeprefix('sha256:')[:32]}"
    if not any(each.endswith(f"#{name}") for each in context.listArchives):
        base = Path(tempfile.mkdtemp(prefix="lakescore-")) / name
        context.addArchive(f"{shutil.make_archive(str(base), 'zip', version.folder)}#{name}")
    return name


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Hold back what MLflow says on every call of the environment that we chose on purpose."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
