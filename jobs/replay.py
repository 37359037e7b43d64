"""Make the predictions of a run once more, and prove that they are the same."""

from typing import Any

from lakescore import loading, receipt, replaying, scoring, signature, slicing, tables
from lakescore.config import ReplayJob
from lakescore.console import stage
from lakescore.job import main
from lakescore.session import start


def run(todo: ReplayJob) -> dict[str, Any]:
    """Read what the run recorded, score its input again, and compare row for row."""
    spark = start("lakescore replay")
    recorded = replaying.recorded(spark, todo)
    job = recorded.job
    stage(f"{todo.run} scored {job.input.address} at version {job.input.version}")
    assigned = recorded.assign(todo.trust)
    source = tables.snapshot(spark, job.input.address, job.input.version)

    loadables = [loading.prepare(each, **job.loading) for each in assigned.models]
    agreed = signature.agree_alike(assigned, source, loadables, job.row_columns, **job.contract)
    rows = slicing.select(source, job.slice_by, job.slice_names)
    keep = [*job.row_columns, slicing.SLICE]
    planned = scoring.plan(todo.engine, rows, agreed, keep, todo.scan)
    stage(str(planned), ends="plan")
    with scoring.evaluated(planned, job.slice_names), scoring.held(planned) as replayed:
        found = replaying.compare(
            replayed, recorded.rows,
            keys=job.id_columns, columns=planned.decisive, tolerance=todo.tolerance,
        )  # fmt: skip
    stage(f"{found['same']} of {found['rows']} rows are the same", ends="score")
    replaying.hold(todo.run, found)
    return receipt.of_replay(todo.run, assigned, source, planned, found)


if __name__ == "__main__":
    main(ReplayJob, run)
