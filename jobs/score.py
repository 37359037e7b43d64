"""Score slices of a Delta table with one pinned model version, or with one a segment."""

from typing import Any

from lakescore import assignment, lineage, loading, receipt, scoring, signature, slicing, tables
from lakescore.config import ScoreJob
from lakescore.console import progress, stage
from lakescore.job import main
from lakescore.publishing import Target
from lakescore.session import choose


def run(todo: ScoreJob) -> dict[str, Any]:
    """Resolve once, pin the input, score and publish the slices that are due, and report."""
    pinned = assignment.pin(todo.model, trust=todo.trust)
    stage(str(pinned), model=pinned.uri)
    runner = choose("lakescore score", todo.runner, models=[pinned.uri])
    source = tables.snapshot(runner, todo.input.address, todo.input.version)
    stage(f"reading {source.address} at version {source.version}", ends="start")
    names = todo.slice_names or slicing.names(source, todo.slice_by)
    assigned, keep = pinned.over(source, todo.slice_by, names), todo.keep(source.schema.names)
    loadables = [loading.prepare(each, runner, **todo.loading) for each in assigned.models]
    agreed = signature.agree_alike(assigned, source, loadables, keep, **todo.contract)
    outside = slicing.outside(source, todo.slice_by) if todo.due else 0
    runs = lineage.plan(assigned, source, names, run_id=todo.run_id, **todo.settings)
    sizes = assigned.left(slicing.sizes(slicing.select(source, todo.slice_by, names)))
    target = Target(todo, source)
    outcomes = target.settle(runs, sizes)
    due = lineage.remaining(runs, [outcome.run for outcome in outcomes])
    stage(f"{len(due)} of {len(runs)} slices to score", runs={r.slice: r.run_id for r in due})
    plans: list[scoring.Plan] = []
    for part in target.parts(due, names):
        with target.telling(outcomes):
            rows = slicing.select(source, todo.slice_by, [run.slice for run in part], sizes)
            slicing.check(rows, source.address, todo.unique, agreed.never_null)
            plans += [scoring.plan(todo.engine, rows, agreed, [*keep, slicing.SLICE], todo.scan)]
            stage(str(plans[-1]), ends="plan")
            if todo.plan:
                return receipt.of_plan(todo, source, agreed, outcomes, part, sizes, plans)
            with progress(runner, sum(sizes[run.slice] for run in part)):
                outcomes += target.publish(plans[-1], part, sizes)
    report = receipt.of_scoring(todo, source, agreed, outcomes, target.facts, plans, outside)
    stage(f"{receipt.summary(report)} into {todo.output.address}", ends="score")
    if plans:
        report["tracking_run_id"] = lineage.log_run(todo.experiment, "scoring", source, report)
    return report


if __name__ == "__main__":
    main(ScoreJob, run)
