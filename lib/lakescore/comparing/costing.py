"""Costing: the cost of predictions, measured for each version alone on a sample of the holdout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from lakescore import executor

if TYPE_CHECKING:
    from lakescore.scoring import Plan

_ROWS = 2000
_SECONDS = 0.2
"""The maximum time for the repetitions of one version."""
_REPETITIONS = 5


def costs(planned: Plan) -> dict[str, float | None]:
    """Return by version how many rows it predicts in a CPU second, conversion from Arrow included.

    It is the fastest of a few repetitions, on the driver's machine, with one thread. It is None if
    MLflow's spark_udf or Spark itself applies the models, or if the version cannot predict these
    rows. It is None for a family too, because the size of its calls depends on the size of its
    segments.
    """
    batch = planned.sample(_ROWS)
    rates: dict[str, float | None] = dict.fromkeys(planned.uris)
    if batch is None:
        return rates
    for uri, version in zip(planned.uris, planned.versions, strict=True):
        if isinstance(version, executor.Version):
            rates[uri] = planned.runner.call(_measure_rate, version, batch)
    return rates


def _measure_rate(version: executor.Version, batch: object) -> float | None:
    start, best = executor.cpu_seconds(), float("inf")
    with threadpool_limits(1):
        for _ in range(_REPETITIONS):
            before = executor.cpu_seconds()
            try:
                _, reasons = executor.attempt([version], batch)
            except Exception:  # noqa: BLE001 - it cannot score at all; the run reports this
                return None
            if reasons.null_count < len(reasons):
                return None
            best = min(best, executor.cpu_seconds() - before)
            if executor.cpu_seconds() - start > _SECONDS:
                break
    rows: int = batch.num_rows  # type: ignore[attr-defined]
    return rows / best if best > 0 else None
