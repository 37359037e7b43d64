"""Make the predictions of a run again, and prove that they are the same."""

from functools import partial
from typing import Any

from lakescore import loading, receipt, replaying, scoring, signature, slicing, tables
from lakescore.config import ReplayJob
from lakescore.console import stage
from lakescore.job import main
from lakescore.session import choose
from lakescore.wording import counted


def run(config: ReplayJob) -> dict[str, Any]:
    """Read what the run recorded, score its input again, and compare row for row."""
    runner = choose("lakescore replay", config.runner)
    recorded = replaying.recorded(runner, config)
    job = recorded.job
    stage(f"{config.run} scored {job.input.address} at version {job.input.version}")
    assigned = recorded.assign(config.trust)
    source = tables.snapshot(runner, job.input.address, job.input.version)

    prepare = partial(loading.prepare, runner=runner, options=job.loading, say=stage)
    loadables = [prepare(model) for model in assigned.models]
    binding = signature.bind_assigned(assigned, source, loadables, job.row_columns, job.binding)
    rows = slicing.select(source, job.slice_by, job.slice_names)
    keep = [*job.row_columns, slicing.SLICE]
    planned = scoring.plan(config.engine, rows, binding, keep, config.scan)
    stage(str(planned), ends="plan")
    execution = scoring.Execution(planned)
    with scoring.evaluated(planned, job.slice_names):
        comparison = replaying.compare(execution, recorded, tolerance=config.tolerance)
    stage(f"{comparison['same']} of {counted(comparison['rows'], 'row')} the same", ends="score")
    report = receipt.replay_receipt(config.run, assigned, source, execution, comparison)
    replaying.require_same(report)
    return report


if __name__ == "__main__":
    main(ReplayJob, run)
