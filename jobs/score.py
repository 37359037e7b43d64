"""Score slices of a Delta table with one pinned model version."""

from typing import Any

from lakescore import lineage, receipt, scoring, slicing, tables
from lakescore.config import ScoreJob
from lakescore.console import progress, stage
from lakescore.job import main
from lakescore.publishing import Target
from lakescore.registry import resolve
from lakescore.session import start


def run(todo: ScoreJob) -> dict[str, Any]:
    """Resolve once, pin the input, score and publish each slice that is due, and report."""
    model = resolve(todo.model)
    stage(f"{todo.model} is {model.uri} ({model.digest[:19]})")
    spark = start("lakescore score")
    source = tables.snapshot(spark, todo.input.address, todo.input.version)
    stage(f"reading {source.address} at version {source.version}")

    read = [todo.slice_by] if todo.slice_by else []
    contract = scoring.agree(source.address, source.rows, model, keep=todo.keep, read=read)
    runs = lineage.plan(
        model,
        source,
        slice_names=todo.slice_names,
        run_id=todo.run_id,
        settings={"keep": todo.keep},
    )
    sizes = dict(map(tuple, slicing.sizes(source.rows, todo.slice_by, todo.slice_names).collect()))
    target = Target(spark, todo.output.address, model.name)
    outcomes = {each.slice: target.settled(each, sizes.get(each.slice, 0)) for each in runs}
    due = [each for each in runs if outcomes[each.slice] is None]
    stage(f"{len(due)} of {len(runs)} slices to score")

    prediction = scoring.load(spark, model, contract) if due else None
    with progress(spark, sum(sizes[each.slice] for each in due)) as bar:
        for each in due:
            rows = slicing.only(source.rows, todo.slice_by, each.slice)
            scored = scoring.score(rows, prediction, contract=contract, keep=todo.keep)
            with bar.over(sizes[each.slice]), scoring.explained(model.uri, f"slice {each.slice!r}"):
                outcomes[each.slice] = target.publish(scored, each, sizes[each.slice])

    report = receipt.of_scoring(model, source, contract, todo.output.address, outcomes.values())
    stage(f"{report['rows_scored']} of {report['rows_in']} rows scored into {todo.output.address}")
    if due:
        report["tracking_run_id"] = lineage.log_run(todo.experiment, "scoring", source, report)
    return report


if __name__ == "__main__":
    main(ScoreJob, run)
