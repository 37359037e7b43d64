"""The receipt: what a run reports, as one small JSON document whose keys are an interface."""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.comparing import Ranked
    from lakescore.publishing import Outcome
    from lakescore.registry import ModelVersion
    from lakescore.scoring import Plan
    from lakescore.signature import Contract
    from lakescore.tables import Snapshot


def of_model(model: ModelVersion) -> dict[str, Any]:
    """Return the facts that name a pinned version."""
    return {
        "name": model.name,
        "version": model.version,
        "uri": model.uri,
        "reference": model.reference,
        "digest": model.digest,
        "run_id": model.run_id,
        "logged_model_id": model.logged_model_id,
    }


def of_scoring(
    model: ModelVersion,
    source: Snapshot,
    contract: Contract,
    output: str,
    outcomes: Sequence[Outcome],
) -> dict[str, Any]:
    """Return the receipt of a score job.

    `status` is `scored` where any slice was, else `unchanged` where any slice was published
    before, else `empty`. `slices` are sorted by name.
    """
    statuses = [outcome.status for outcome in outcomes]
    ranked = [each for each in ("scored", "unchanged") if each in statuses]
    return {
        "status": ranked[0] if ranked else "empty",
        "model": of_model(model),
        "input": {"table": source.address, "version": source.version},
        "output": {"table": output},
        "casts": {name: list(types) for name, types in contract.casts.items()},
        "rows_in": sum(outcome.rows_in for outcome in outcomes),
        "rows_scored": sum(outcome.rows_scored for outcome in outcomes),
        "slices": sorted((each.facts() for each in outcomes), key=itemgetter("slice")),
    }


def of_comparing(  # noqa: PLR0913 - each is a fact of its own
    ranking: Sequence[Ranked],
    holdout: Snapshot,
    planned: Plan,
    *,
    rows: int,
    rank_by: str,
    label: str,
    run_id: str,
) -> dict[str, Any]:
    """Return the receipt of a compare job."""
    return {
        "status": "compared",
        "run_id": run_id,
        "rank_by": rank_by,
        "label": label,
        "holdout": {"table": holdout.address, "version": holdout.version},
        "rows": rows,
        "engine": planned.facts(),
        "ranking": [
            {"rank": each.rank, **of_model(each.model), "metrics": _json(each.metrics)}
            for each in ranking
        ],
    }


def _json(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Return *metrics* with null for what has no value: JSON knows no NaN."""
    return {name: None if math.isnan(value) else value for name, value in metrics.items()}
