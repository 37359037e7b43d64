"""Costing: what each version takes to predict, measured alone on a few of the holdout's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from threadpoolctl import threadpool_limits

from lakescore import executor
from lakescore.scoring import sample

if TYPE_CHECKING:
    from lakescore.scoring import Plan

_ROWS = 2000
_SECONDS = 0.2
"""How long a version is repeated at the most."""
_TIMES = 5


def costs(planned: Plan) -> dict[str, float | None]:
    """Return by version how many rows it predicts in a CPU second, conversion from Arrow included.

    The fastest of a few repetitions, on the driver's machine, with one thread. None where MLflow's
    spark_udf applies the models, or one cannot predict these rows; and of a version a segment,
    whose calls are as large as its segments are.
    """
    batch = sample(planned, _ROWS) if planned.versions else None
    found: dict[str, float | None] = dict.fromkeys(planned.uris)
    if batch is None:
        return found
    for uri, version in zip(planned.uris, planned.versions, strict=True):
        if isinstance(version, executor.Version):
            found[uri] = planned.runner.call(_rate, version, batch)
    return found


def _rate(version: executor.Version, batch: object) -> float | None:
    started, best = executor.cpu_seconds(), float("inf")
    with threadpool_limits(1):
        for _ in range(_TIMES):
            before = executor.cpu_seconds()
            try:
                _, why = executor.attempt([version], batch)
            except Exception:  # noqa: BLE001 - it cannot score at all: the run says so
                return None
            if why.null_count < len(why):
                return None
            best = min(best, executor.cpu_seconds() - before)
            if executor.cpu_seconds() - started > _SECONDS:
                break
    rows: int = batch.num_rows  # type: ignore[attr-defined]
    return rows / best if best > 0 else None
