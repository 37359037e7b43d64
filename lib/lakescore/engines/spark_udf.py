"""The engine spark_udf: MLflow's own function applies the versions. It serves every flavour."""

from __future__ import annotations

import logging
import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import classic, executor, wrapping
from lakescore.engines import failures, probing
from lakescore.engines.plan import PREDICTED, EngineRefused, Plan, Request
from lakescore.errors import ScoringFailed
from lakescore.logs import NotEligible
from lakescore.slicing import SLICE
from lakescore.wording import listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyspark.sql import Column, DataFrame

    from lakescore.options import EngineName, ScanName
    from lakescore.signature import Contract


@dataclass(frozen=True, kw_only=True)
class UdfPlan(Plan):
    """A plan by which MLflow's function applies the versions to rows that Spark reads."""

    engine: ClassVar[EngineName] = "spark_udf"
    sets_rows_aside: ClassVar[bool] = False
    counts_work: ClassVar[bool] = False

    @property
    def tasks(self) -> int:
        """The number of partitions of the rows."""
        return classic.tasks(self.rows)

    def batches(self, rows: int) -> int:
        """Return the estimated number of batches that Spark sends to Python."""
        tasks = max(1, min(rows, self.tasks))
        # If Spark filters rows, they no longer come in the batches that it reads.
        limit = (
            "parquet.columnarReaderBatchSize"
            if _passes_batches_on(self.runner.spark.version) and self._has_whole_files()
            else "execution.arrow.maxRecordsPerBatch"
        )
        most = int(self.runner.setting(f"spark.sql.{limit}") or 0)
        share = math.ceil(rows / tasks)
        return tasks * math.ceil(share / most) if most > 0 else tasks

    def _has_whole_files(self) -> bool:
        """Return whether the slices consist of whole files, so that Spark filters no row."""
        column = self.selection.column if self.selection is not None else SLICE
        if column is None:
            return True
        try:
            return self.selection is not None and column in self.selection.log.partitioned_by
        except NotEligible:
            return False

    def apply(self, failing: executor.Failing, *, says: bool = False) -> DataFrame:  # noqa: ARG002
        """Return the kept columns, then one column a side; see `Plan.apply`."""
        kept = [F.col(f"`{name}`") for name in self.keep]
        predictions = [_predict(self.rows, contract) for contract in self.contracts]
        return self.rows.select(
            *kept, *[column.alias(f"{PREDICTED}{n}") for n, column in enumerate(predictions)]
        )

    def facts(self) -> dict[str, Any]:
        """Return the engine and its reason for the receipt."""
        return {"name": self.engine, "reason": self.reason}

    def __str__(self) -> str:
        """Return one line with the engine and its reason."""
        return f"engine {self.engine}: {self.reason}"


def prepare(request: Request, scan: ScanName = "spark", reason: str = "") -> UdfPlan:  # noqa: ARG001 - every engine's signature
    """Return the plan of this engine; start Spark, and score a few rows as a probe.

    Without the probe, Spark would try each failing task again.

    Args:
        request: the request.
        scan: who reads the rows; for this engine always Spark.
        reason: why the arrow engine cannot be used; empty if the job asks for this engine.

    Raises:
        EngineRefused: a policy for nulls keeps rows from the model, which MLflow's function cannot.
        ScoringFailed: a version could not score a row, and this engine cannot quarantine it.
        ModuleMissing, ResultUnfit, FeaturesLeftOut: no row could be scored.
    """
    _check_null_rules(request, reason)
    _check_environments(request, reason)
    rejected = f", and engine arrow cannot be used: {reason}" if reason else ""
    request.runner.start(f"engine spark_udf needs Spark{rejected}")
    planned = UdfPlan(
        reason=reason or "asked for",
        source=request.source,
        keep=request.keep,
        sides=request.sides,
        shown_family=request.shown_family,
        expected=request.expected,
    )
    columns = request.feature_columns
    managers = {contract.loadable.env_manager for contract in request.contracts}
    if managers != {"local"} or probing.find_refusal(request.runner, columns):
        few = replace(planned, source=planned.rows.limit(probing.ROWS).coalesce(1))
        with failures.evaluated(few, [f"the first {probing.ROWS} rows"]):
            few.apply("raise").collect()
        return planned
    if (sample := probing.read_sample(request, columns)) is None:
        return planned
    aligned = executor.counted("aligned")
    for contract in request.contracts:
        version = probing.bind_version(contract, probing.feature_positions(contract, columns))
        _, why = probing.attempt(request.runner, version, contract, sample)
        if why.null_count < len(why):
            first = why.drop_null()[0].as_py()[0]
            raise ScoringFailed(
                version.uri,
                "a row, and engine spark_udf quarantines none",
                f"{first['type']}: {first['message']}",
            )
    return replace(planned, reason=planned.reason + probing.order_note(aligned))


def _check_null_rules(request: Request, reason: str) -> None:
    """Check that no policy for nulls keeps rows from the model; this engine cannot do that."""
    if not request.row_rules:
        return
    problem = f"it passes every row to the model, but nulls asks for {request.row_rules}"
    advice = "leave these out of nulls"
    if reason:
        problem = f"{problem}; engine arrow cannot be used: {reason}"
    else:
        advice = f"give engine=auto, or {advice}"
    raise EngineRefused("spark_udf", problem, advice)


def _check_environments(request: Request, reason: str) -> None:
    """Check that no version runs in its own environment, which is none of MLflow's."""
    loadables = [contract.loadable for contract in request.contracts]
    uris = [loadable.model.uri for loadable in loadables if loadable.environment is not None]
    if uris:
        problem = f"{listed(uris)} need environments of their own, which engine arrow alone uses"
        problem = f"{problem}; engine arrow cannot be used: {reason}" if reason else problem
        advice = "give environment: shared, or env_manager: uv, or a table that arrow takes"
        raise EngineRefused("spark_udf", problem, advice if reason else "give engine=auto")


def _passes_batches_on(version: str) -> bool:
    """Return whether Spark of *version* passes the batches of a reader to Python unchanged.

    Tested with 3.5.9, 4.0.5 and 4.1.4, which do not, and with 4.2.0, which does.
    """
    return tuple(int(part) for part in version.split(".")[:2]) >= (4, 2)


def _predict(rows: DataFrame, contract: Contract) -> Column:
    """Return MLflow's prediction as a column, made from the files that the version's digest covers.

    The column is marked nondeterministic. Otherwise a filter on it would make Spark predict each
    row twice.
    """
    from mlflow.pyfunc import spark_udf  # noqa: PLC0415 - seconds of import, after the checks

    names = [contract.names[feature.name] for feature in contract.features]
    version = probing.bind_version(contract, tuple((name, n) for n, name in enumerate(names)))
    with _mute_logger("mlflow"):
        udf = spark_udf(
            rows.sparkSession,
            str(wrapping.wrap(version)),
            result_type=wrapping.given(contract.outputs),
            env_manager=contract.loadable.env_manager,
        )
    columns = [
        F.col(f"`{contract.sources[feature.name]}`").cast(feature.dataType).alias(feature.name)
        for feature in contract.features
    ]
    predicted: Column = udf.asNondeterministic()(F.struct(*columns))
    return wrapping.unwrapped(predicted, contract.outputs)


@contextmanager
def _mute_logger(name: str) -> Iterator[None]:
    """Mute MLflow's warnings about the environment, which lakescore chose on purpose."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
