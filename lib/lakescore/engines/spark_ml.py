"""The engine spark_ml: Spark itself applies pipelines of Spark ML, without workers of Python.

The kept columns go through the pipeline under names of lakescore, so each prediction stays with its
row, and no column of the table meets one that the pipeline adds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import classic
from lakescore.arrow import is_plain
from lakescore.engines import failures, probing, results, rowwise
from lakescore.engines.failures import FeaturesLeftOut
from lakescore.engines.plan import PREDICTED, EngineRefused, Plan, Request
from lakescore.errors import InputContractError, LakescoreError, ScoringFailed
from lakescore.loading import pipelines
from lakescore.slicing import RESERVED_PREFIX, SLICE
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyspark.ml import PipelineModel
    from pyspark.sql import Column, DataFrame

    from lakescore import executor
    from lakescore.options import EngineName, ScanName
    from lakescore.signature import Contract

_KEPT = f"{RESERVED_PREFIX}k"
"""The prefix of a kept column inside a pipeline."""
_FEATURE = f"{RESERVED_PREFIX}f"
"""The prefix of a feature's column before it gets its name in the pipeline."""
_MOST_SHOWN = 3


class RowsDropped(InputContractError):
    """A pipeline of Spark ML drops rows of the input."""

    def __init__(self, uri: str, dropped: int, rows: int, example: str) -> None:
        shown = f", such as the row with {example}" if example else ""
        super().__init__(
            f"the pipeline of {uri} drops {dropped} of {counted(rows, 'row')}{shown}, so they "
            "would have no prediction; remove these rows from the table, or log the pipeline with "
            "handleInvalid='keep' in its stages"
        )


@dataclass(frozen=True, kw_only=True)
class SparkMlPlan(Plan):
    """A plan by which Spark applies pipelines to the rows that it reads."""

    engine: ClassVar[EngineName] = "spark_ml"
    sets_rows_aside: ClassVar[bool] = False
    counts_work: ClassVar[bool] = False

    pipelines: tuple[PipelineModel, ...] = ()
    """The loaded pipelines, one a side."""

    @property
    def tasks(self) -> int:
        """The number of partitions of the rows."""
        return classic.tasks(self.rows)

    def batches(self, rows: int) -> int:  # noqa: ARG002 - of every engine
        """Return 0: Spark applies a pipeline row by row."""
        return 0

    def apply(self, failing: executor.Failing, *, says: bool = False) -> DataFrame:  # noqa: ARG002
        """Return the kept columns, then one column a side; see `Plan.apply`."""
        frame = self.named_rows
        for n, (contract, pipeline) in enumerate(zip(self.contracts, self.pipelines, strict=True)):
            transformed = self.transform(frame, n)
            column = results.predicted(contract, pipeline, transformed.schema)
            given = [F.col(name) for name in frame.columns]
            frame = transformed.select(*given, column.alias(f"{PREDICTED}{n}", metadata={}))
        kept = [F.col(f"{_KEPT}{n}").alias(name) for n, name in enumerate(self.keep)]
        return frame.select(*kept, *[F.col(f"{PREDICTED}{n}") for n in range(len(self.sides))])

    @cached_property
    def named_rows(self) -> DataFrame:
        """The kept columns and features of the rows, under names that no pipeline uses."""
        kept = [F.col(f"`{name}`").alias(f"{_KEPT}{n}") for n, name in enumerate(self.keep)]
        features = [
            F.col(f"`{column.name}`").cast(column.dataType).alias(f"{_FEATURE}{n}")
            for n, column in enumerate(self.feature_columns)
        ]
        return self.rows.select(*kept, *features)

    @property
    def no_rows(self) -> DataFrame:
        """A frame without rows that has the columns of `named_rows`."""
        fields = [(field.name, field.dataType) for field in self.named_rows.schema]
        nulls = [F.lit(None).cast(kind).alias(name) for name, kind in fields]
        return self.named_rows.sparkSession.range(0).select(*nulls)

    def transform(self, frame: DataFrame, side: int) -> DataFrame:
        """Return *frame*, which has the columns of `named_rows`, with the columns of a pipeline."""
        contract = self.contracts[side]
        positions = probing.feature_positions(contract, self.feature_columns)
        vectors = contract.loadable.vectors
        features = [
            _feature(F.col(f"{_FEATURE}{n}"), is_vector=str(name) in vectors).alias(str(name))
            for name, n in positions
        ]
        given = [F.col(name) for name in frame.columns]
        return self.pipelines[side].transform(frame.select(*given, *features))

    def facts(self) -> dict[str, Any]:
        """Return the engine and its reason for the receipt."""
        return {"name": self.engine, "reason": self.reason}

    def __str__(self) -> str:
        """Return one line with the engine and its reason."""
        return f"engine {self.engine}: {self.reason}"


def _feature(column: Column, *, is_vector: bool) -> Column:
    from pyspark.ml.functions import array_to_vector  # noqa: PLC0415 - a second of import

    return array_to_vector(column) if is_vector else column


def prepare(request: Request, scan: ScanName = "spark") -> SparkMlPlan:  # noqa: ARG001 - every engine's signature
    """Return the plan of this engine: start Spark, and load the pipelines.

    Nothing is scored here. Spark's plan shows that the pipelines give one row for each row. If a
    pipeline has filters, the rows that pass them are counted.

    Args:
        request: the request.
        scan: who reads the rows; for this engine always Spark.

    Raises:
        EngineRefused: not all versions are pipelines, or the job asks for something that only
            Python does.
        PipelineUnfit: a pipeline does more than compute columns.
        RowsDropped: a pipeline drops some of the rows.
        ResultUnfit: a pipeline does not give what its signature says.
        ScoringFailed, FeaturesLeftOut, PipelineNotShared: a pipeline cannot be loaded or applied.
    """
    _check_request(request)
    uris = [contract.loadable.model.uri for contract in request.contracts]
    reason = pipelines.describe(uris)
    spark = request.runner.start(reason)
    planned = SparkMlPlan(
        reason=reason,
        source=request.source,
        keep=request.keep,
        sides=request.sides,
        shown_family=request.shown_family,
        expected=request.expected,
        pipelines=tuple(pipelines.load(spark, c.loadable) for c in request.contracts),
    )
    notes = [
        f"; all {counted(_count_rows(planned, side), 'row')} pass the filters of {uris[side]}"
        for side, contract in enumerate(planned.contracts)
        if _check_steps(planned, side, contract)
    ]
    return replace(planned, reason="".join([reason, *notes]))


def _check_request(request: Request) -> None:
    """Check that Spark alone can do what the job asks for.

    Raises:
        EngineRefused: it cannot.
    """

    def refuse(reason: str, advice: str) -> NoReturn:
        raise EngineRefused("spark_ml", reason, advice)

    loadables = [contract.loadable for contract in request.contracts]
    if others := [loadable.model.uri for loadable in loadables if not loadable.is_pipeline]:
        is_mixed = len(others) < len(loadables)
        advice = "apply pipelines in another job" if is_mixed else "give engine=auto"
        refuse(f"it applies pipelines of Spark ML, and not {listed(others)}", advice)
    if request.has_families:
        refuse("it cannot apply one model per segment", "score each segment with its own job")
    if managers := {loadable.env_manager for loadable in loadables} - {"local"}:
        reason = (
            f"env_manager {listed(managers)} installs packages of Python, which it does not use"
        )
        refuse(reason, "leave env_manager out")
    if rules := request.row_rules:
        refuse(f"it passes every row to the model, but nulls asks for {rules}", "use model or fail")


def _check_steps(planned: SparkMlPlan, side: int, contract: Contract) -> bool:
    """Check a pipeline on a frame without rows; return whether it can drop rows.

    Raises:
        PipelineUnfit, ResultUnfit, FeaturesLeftOut, ScoringFailed: it cannot score the rows.
    """
    uri, empty = contract.loadable.model.uri, planned.no_rows
    try:
        transformed = planned.transform(empty, side)
        lost = set(empty.columns) - set(transformed.columns)
        drops = not lost and rowwise.can_drop_rows(uri, transformed)
        results.predicted(contract, planned.pipelines[side], transformed.schema)
    except LakescoreError:
        raise
    except Exception as error:  # a stage checks its columns with errors of any type
        reason = classic.reason(error)
        if contract.left_out:
            raise FeaturesLeftOut(uri, contract.left_out, reason) from error
        raise ScoringFailed(uri, "any row", reason) from error
    if lost:
        reason = "its pipeline leaves out columns that it does not need, and with them the keys"
        raise rowwise.PipelineUnfit(uri, reason)
    return drops


def _count_rows(planned: SparkMlPlan, side: int) -> int:
    """Return the number of rows, all of which pass the filters of a pipeline.

    A pipeline cannot add rows, so their number is enough. Spark evaluates the filters alone,
    without the model.

    Raises:
        RowsDropped: some rows do not pass.
    """
    rows, uri = planned.named_rows, planned.uris[side]
    with failures.evaluated(planned, ["the rows"]):
        passed = planned.transform(rows, side)
        total = rows.count()
        if dropped := total - passed.count():
            raise RowsDropped(uri, dropped, total, _example(planned, rows, passed))
    return total


def _example(planned: SparkMlPlan, rows: DataFrame, passed: DataFrame) -> str:
    """Return the first kept values of one of *rows* that is not among *passed*."""
    names = {
        f"{_KEPT}{n}": name
        for n, name in enumerate(planned.keep)
        if name != SLICE and is_plain(planned.schema[name].dataType)
    }
    shown: Sequence[str] = list(names)[:_MOST_SHOWN]
    lost = rows.select(*shown).exceptAll(passed.select(*shown)).head() if shown else None
    return "" if lost is None else listed(f"{names[name]}={lost[name]}" for name in shown)
