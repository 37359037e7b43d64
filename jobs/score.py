"""Score slices of a Delta table with one pinned model version."""

from typing import Any

from lakescore import lineage, receipt, scoring, signature, slicing, tables
from lakescore.config import ScoreJob
from lakescore.console import progress, stage
from lakescore.job import main
from lakescore.publishing import Target
from lakescore.registry import resolve
from lakescore.session import start


def run(todo: ScoreJob) -> dict[str, Any]:
    """Resolve once, pin the input, score and publish the slices that are due, and report."""
    model = resolve(todo.model, trust=todo.trust)
    stage(f"{todo.model} is {model.uri} ({model.digest[:19]})")
    spark = start("lakescore score")
    source = tables.snapshot(spark, todo.input.address, todo.input.version)
    stage(f"reading {source.address} at version {source.version}")

    contract = signature.agree(source.address, source.rows, model, keep=todo.keep, read=todo.read)
    runs = lineage.plan(model, source, todo.slice_names, run_id=todo.run_id, keep=todo.keep)
    slices = slicing.cut(source.rows, todo.slice_by, todo.slice_names)
    sizes = {row[0]: row[1] for row in slicing.sizes(slices).collect()}
    target = Target(spark, todo.output.address, todo.id_columns)
    outcomes = target.settle(runs, sizes)
    due = lineage.remaining(runs, [outcome.run for outcome in outcomes])
    stage(f"{len(due)} of {len(runs)} slices to score")
    if due:
        names = [each.slice for each in due]
        size = sum(sizes[name] for name in names)
        rows = slicing.select(source.rows, todo.slice_by, names)
        keep = [*todo.keep, slicing.SLICE]
        planned = scoring.plan(todo.engine, rows, [(model, contract)], keep=keep, scan=todo.scan)
        stage(str(planned))
        scored = scoring.score(planned)
        with progress(spark, size), scoring.explained(model.uri, names):
            outcomes += target.publish(scored, due, sizes)

    report = receipt.of_scoring(model, source, contract, todo.output.address, outcomes)
    stage(f"{report['rows_scored']} of {report['rows_in']} rows scored into {todo.output.address}")
    if due:
        report["engine"] = planned.facts()
        report["tracking_run_id"] = lineage.log_run(todo.experiment, "scoring", source, report)
    return report


if __name__ == "__main__":
    main(ScoreJob, run)
