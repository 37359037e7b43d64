"""Choosing: the engine that serves a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lakescore.engines import arrow, expecting, spark_ml, spark_udf
from lakescore.engines.plan import EngineIneligible, EngineRefused, Plan, Request
from lakescore.loading import pipelines
from lakescore.signature import Binding

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pyspark.sql import DataFrame

    from lakescore import scanning
    from lakescore.options import EngineName, ScanName
    from lakescore.signature import Contract

PREPARE: Mapping[EngineName, Callable[[Request, ScanName], Plan]] = {
    "arrow": arrow.prepare,
    "spark_udf": spark_udf.prepare,
    "spark_ml": spark_ml.prepare,
}
"""By engine, the function that makes its plan of a request, or raises `EngineIneligible`."""


def plan(
    engine: EngineName,
    rows: DataFrame | scanning.Selection,
    binding: Binding | Sequence[Contract | Binding],
    keep: Sequence[str],
    scan: ScanName = "direct",
) -> Plan:
    """Plan how versions are applied to *rows*; score a few rows as a probe.

    Args:
        engine: the requested engine; `auto` is spark_ml for pipelines of Spark ML, and arrow for
            other versions if it gives MLflow's values.
        rows: the rows to score. Workers can read only a selection of a snapshot directly.
        binding: for each column of predictions, a version, or a family whose segments a column of
            *keep* names. If a single binding of a family is passed, and not a sequence, each row
            names the version that scored it.
        keep: columns of *rows* that the result must have beside the predictions.
        scan: `direct` lets workers read the files if they get exactly the rows that Spark reads.

    Raises:
        EngineRefused: the arrow engine is requested, but would not give MLflow's values; or the
            engine is spark_udf, and the job's policies for nulls need arrow; or another engine is
            requested for pipelines of Spark ML.
        ScoringFailed: every row of the probe fails, so the model is at fault; or one row fails and
            the engine is spark_udf, which cannot quarantine it.
        ModuleMissing: a model imports a module that is not installed here.
        PythonUnfit: the workers of Spark run a Python that cannot apply models.
        FeaturesLeftOut: a model fails on every row, perhaps because the table lacks optional
            features.
        ResultUnfit: the predictions of a version do not fit its signature.
        PipelineUnfit, RowsDropped, PipelineNotShared: a pipeline of Spark ML cannot score the rows.
        RowsUnexpected: rows break the rules of the job's file, and the engine cannot quarantine
            them.
    """
    alone = isinstance(binding, Binding)
    bindings = [binding] if isinstance(binding, Binding) else binding
    sides = [side if isinstance(side, Binding) else Binding((side,)) for side in bindings]
    request = Request(
        source=rows,
        keep=tuple(keep),
        sides=tuple(sides),
        shown_family=sides[0].family if alone else None,
        expected=sides[0].expected if alone else None,
    )
    chosen = _choose_engine(engine, request)
    if chosen != "spark_ml":
        request.runner.check_python()
    try:
        planned = PREPARE[chosen](request, scan)
    except EngineIneligible as ineligible:
        if engine != "auto" or request.has_families:
            raise EngineRefused(chosen, str(ineligible)) from ineligible
        planned = spark_udf.prepare(request, reason=str(ineligible))
    return expecting.check_before(planned)


def _choose_engine(engine: EngineName, request: Request) -> EngineName:
    """Return the engine to try first.

    Raises:
        EngineRefused: the engine does not apply pipelines of Spark ML, and some versions are such.
    """
    loadables = [contract.loadable for contract in request.contracts]
    uris = [loadable.model.uri for loadable in loadables if loadable.is_pipeline]
    if not uris:
        return "arrow" if engine == "auto" else engine
    if engine not in {"auto", "spark_ml"}:
        raise EngineRefused(engine, pipelines.describe(uris), "give engine=auto or spark_ml")
    return "spark_ml"
