"""Compare slices that were scored with a baseline, and with the labels that have arrived."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore import lineage, monitoring, receipt, reporting, tables
from lakescore.config import MonitorJob
from lakescore.console import stage
from lakescore.job import main
from lakescore.monitoring import Monitoring, require_passed
from lakescore.session import choose

if TYPE_CHECKING:
    from lakescore.monitoring import Evaluated, Judgement


def run(config: MonitorJob) -> dict[str, Any]:
    """Find the slices, compare their columns with the baseline, write, and check the gates."""
    runner = choose("lakescore monitor", config.runner)
    predictions = tables.snapshot(runner, config.predictions.address)
    stage(f"monitoring {predictions.address} at version {predictions.version}", ends="start")
    monitored = Monitoring(predictions, config)
    remaining = monitored.remaining()
    stage(f"slices to monitor: {len(remaining)} of {len(monitored.units)}")

    judgement: Judgement | None = None
    if remaining:
        judgement = monitored.judge(remaining)
        stage(f"compared with {judgement.baseline}: {judgement.reason}", ends="compare")
        monitored.write(judgement)
    evaluated = evaluate(config, monitored)
    report = receipt.monitor_receipt(config, predictions, monitored, judgement, evaluated)
    stage(report["summary"], ends="write")
    if monitored.units:
        page = reporting.write_drift(monitoring.document(runner, config, report), config.pages)
        report["report"] = {"html": str(page)}
        stage(f"the report is {page}")
    if judgement is not None or evaluated:
        report["tracking_run_id"] = lineage.log_run(
            config.experiment, "monitoring", predictions, report,
            metrics=monitored.metrics(judgement, evaluated), files=[page],
        )  # fmt: skip
    require_passed(report)
    return report


def evaluate(config: MonitorJob, monitored: Monitoring) -> list[Evaluated]:
    """Evaluate the predictions whose labels have arrived or changed, and write their metrics."""
    quality = monitored.quality
    remaining = quality.remaining() if quality is not None else []
    if quality is None or not remaining:
        return []
    evaluated = quality.evaluate(remaining)
    stage(receipt.quality_summary(config, evaluated), ends="evaluate")
    quality.write(evaluated)
    return evaluated


if __name__ == "__main__":
    main(MonitorJob, run)
