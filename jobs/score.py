"""Score slices of a Delta table with one pinned model version."""

from typing import Any

from lakescore import lineage, receipt, scoring, signature, slicing, tables
from lakescore.config import ScoreJob
from lakescore.console import progress, stage
from lakescore.job import main
from lakescore.loading import prepare
from lakescore.publishing import Target
from lakescore.registry import resolve
from lakescore.session import start


def run(todo: ScoreJob) -> dict[str, Any]:
    """Resolve once, pin the input, score and publish the slices that are due, and report."""
    model = resolve(todo.model, trust=todo.trust)
    stage(f"{todo.model} is {model.uri} ({model.digest[:19]})")
    spark = start("lakescore score")
    source = tables.snapshot(spark, todo.input.address, todo.input.version)
    stage(f"reading {source.address} at version {source.version}", ends="start")

    keep, loadable = todo.keep(source.rows.columns), prepare(model, **todo.loading)
    contract = signature.agree(source.address, source.rows, loadable, keep=keep, **todo.contract)
    runs = lineage.plan(model, source, todo.slice_names, run_id=todo.run_id, **todo.settings)
    every = slicing.select(source.rows, todo.slice_by, todo.slice_names)
    sizes = slicing.sizes(every, source.address, keys=todo.unique, never_null=contract.never_null)
    target = Target(spark, todo)
    outcomes = target.settle(runs, sizes)
    due = lineage.remaining(runs, [outcome.run for outcome in outcomes])
    stage(f"{len(due)} of {len(runs)} slices to score")
    if due:
        names = [each.slice for each in due]
        rows = slicing.select(source.rows, todo.slice_by, names)
        keep = (*keep, slicing.SLICE)
        planned = scoring.plan(todo.engine, rows, [contract], keep=keep, scan=todo.scan)
        stage(str(planned), ends="plan")
        with progress(spark, sum(sizes[name] for name in names)):
            outcomes += target.publish(planned, due, sizes)

    report = receipt.of_scoring(todo, source, contract, outcomes, target.facts)
    stage(f"{receipt.summary(report)} into {todo.output.address}", ends="score")
    if due:
        report["engine"] = planned.facts()
        report["tracking_run_id"] = lineage.log_run(todo.experiment, "scoring", source, report)
    return report


if __name__ == "__main__":
    main(ScoreJob, run)
