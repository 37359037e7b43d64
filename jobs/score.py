"""Score slices of a Delta table with one pinned model version, or one version per segment."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from lakescore import assignment, lineage, loading, receipt, scoring, signature, slicing, tables
from lakescore.config import ScoreJob
from lakescore.console import progress, stage
from lakescore.job import main
from lakescore.publishing import Publisher
from lakescore.session import choose

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.lineage import SliceRun
    from lakescore.publishing import SliceOutcome
    from lakescore.signature import Binding
    from lakescore.snapshots import Snapshot


def run(config: ScoreJob) -> dict[str, Any]:
    """Pin the model and the input, score and publish the due slices, and return the receipt."""
    pinned = assignment.pin(config.model, trust=config.trust)
    stage(str(pinned), model=pinned.uri)
    runner = choose("lakescore score", config.runner, models=[pinned.uri])
    source = tables.snapshot(runner, config.input.address, config.input.version)
    stage(f"reading {source.address} at version {source.version}", ends="start")

    names = config.slice_names or slicing.names(source, config.slice_by)
    assigned = pinned.assign(source, config.slice_by, names)
    prepare = partial(loading.prepare, runner=runner, options=config.loading, say=stage)
    loadables = [prepare(model) for model in assigned.models]
    keep = config.keep(source.schema.names)
    binding = signature.bind_assigned(assigned, source, loadables, keep, config.binding)
    runs = lineage.plan_runs(assigned, source, names, config.settings, run_id=config.run_id)
    sizes = assigned.left(slicing.sizes(slicing.select(source, config.slice_by, names)))
    unsliced = slicing.outside(source, config.slice_by) if config.due else 0

    publisher = Publisher(config, source)
    outcomes = publisher.find_done(runs, sizes)
    due = lineage.remaining(runs, [outcome.run for outcome in outcomes])
    check(config, source, due, outcomes)
    executions = []
    for commit in publisher.commits(due, names):
        with publisher.annotate_errors(outcomes):
            executions.append(scoring.Execution(plan(config, source, binding, commit, sizes)))
            if not config.plan:
                outcomes += publish(publisher, executions[-1], commit, sizes)
    written = publisher.facts
    report = receipt.score_receipt(config, source, binding, outcomes, written, executions, unsliced)
    if config.plan and executions:
        due_sizes = {run.slice: sizes[run.slice] for run in due}
        return report | preview(config, binding, publisher, executions[-1].planned, due_sizes)
    stage(receipt.summary(report), ends="score")
    if executions:
        report["tracking_run_id"] = lineage.log_run(config.experiment, "scoring", source, report)
    return report


def check(
    config: ScoreJob,
    source: Snapshot,
    due: Sequence[SliceRun],
    outcomes: Sequence[SliceOutcome],
) -> None:
    """Check the slices without predictions against the job's file, and show which are scored."""
    empty = [outcome.run.slice for outcome in outcomes if outcome.status == "empty"]
    names = [*empty, *[run.slice for run in due]]
    slicing.check_expected(source, config.slice_by, names, config.expecting)
    total = len(due) + len(outcomes)
    stage(f"slices to score: {len(due)} of {total}", runs={r.slice: r.run_id for r in due})


def plan(
    config: ScoreJob,
    source: Snapshot,
    binding: Binding,
    runs: Sequence[SliceRun],
    sizes: Mapping[str, int],
) -> scoring.Plan:
    """Check the rows of slices against the job's file, and plan how to score them."""
    rows = slicing.select(source, config.slice_by, [run.slice for run in runs], sizes)
    slicing.check(rows, source.address, config.unique, binding.never_null)
    keep = [*config.keep(source.schema.names), slicing.SLICE]
    planned = scoring.plan(config.engine, rows, binding, keep, config.scan)
    stage(str(planned), ends="plan")
    return planned


def publish(
    publisher: Publisher,
    execution: scoring.Execution,
    runs: Sequence[SliceRun],
    sizes: Mapping[str, int],
) -> list[SliceOutcome]:
    """Score and publish the slices of one commit, and show the progress."""
    with progress(execution.planned.runner, sum(sizes[run.slice] for run in runs)):
        return publisher.publish(execution, runs, sizes)


def preview(
    config: ScoreJob,
    binding: Binding,
    publisher: Publisher,
    planned: scoring.Plan,
    sizes: Mapping[str, int],
) -> dict[str, Any]:
    """Score a few rows, publish nothing, and return the additions to the receipt of a plan."""
    with publisher.annotate_errors([]):
        rows = scoring.preview(planned)
    return receipt.preview(config, binding, planned, sizes, rows)


if __name__ == "__main__":
    main(ScoreJob, run)
