"""Score several model versions on one holdout, all rows, and rank them."""

from functools import partial
from typing import Any

from lakescore import comparing, lineage, receipt, scoring, signature, tables
from lakescore.config import CompareJob
from lakescore.console import stage
from lakescore.job import main
from lakescore.loading import prepare
from lakescore.registry import resolve
from lakescore.session import start


def run(todo: CompareJob) -> dict[str, Any]:
    """Resolve all, pin the holdout, score it side by side, write and report the ranking."""
    resolved = [resolve(reference, trust=todo.trust) for reference in todo.versions]
    models = {model.uri: model for model in resolved}
    stage(f"comparing {', '.join(models)}", models=list(models))
    spark = start("lakescore compare")
    holdout = tables.snapshot(spark, todo.holdout.address, todo.holdout.version)
    stage(f"on {holdout.address} at version {holdout.version}")

    agreed = partial(signature.agree, holdout.address, holdout.rows, read=[todo.label])
    contracts = [agreed(prepare(model)) for model in models.values()]
    rows = comparing.select(holdout.rows, todo.label)
    planned = scoring.plan(todo.engine, rows, contracts, keep=[comparing.LABEL], scan=todo.scan)
    stage(str(planned))
    scored = scoring.side_by_side(planned)
    metrics = comparing.metrics_for(todo.rank_by, scored.schema, list(models))
    with scoring.explained(", ".join(models), ["the holdout"]), comparing.held(scored) as kept:
        count, table = comparing.evaluate(kept, list(models), metrics)
    ranking = comparing.rank(list(models.values()), table, todo.rank_by)
    stage(f"{ranking[0].model.uri} is first by {todo.rank_by} on {count} labelled rows")

    settings = {"rank_by": todo.rank_by, "label": todo.label}
    run_id = todo.run_id or lineage.fingerprint(list(models.values()), holdout, **settings)
    report = receipt.of_comparing(ranking, holdout, planned, run_id=run_id, rows=count, **settings)
    lines = comparing.long_form(
        spark, ranking, comparing_run_id=run_id, rank_by=todo.rank_by, rows=count,
        holdout_table=holdout.address, holdout_version=holdout.version, compared_at=lineage.now(),
    )  # fmt: skip
    place = {"comparing_run_id": [run_id]}
    tables.replace(lines, todo.output.address, where=place, metadata=report)
    report["tracking_run_id"] = lineage.log_run(todo.experiment, "comparing", holdout, report)
    return report


if __name__ == "__main__":
    main(CompareJob, run)
