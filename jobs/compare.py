"""Score model versions on all rows of one holdout, rank them, and check one against gates."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore import comparing, lineage, receipt, reporting, scoring, signature, tables
from lakescore.config import CompareJob
from lakescore.console import stage
from lakescore.job import main
from lakescore.loading import prepare
from lakescore.session import choose

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from lakescore.snapshots import Snapshot


def run(config: CompareJob) -> dict[str, Any]:
    """Pin and score versions side by side, rank them, write, report and log; then act on gates."""
    pinned = comparing.pin_candidates(
        config.references, query=config.query, baseline=config.baseline,
        candidate=config.candidate, trust=config.trust,
    )  # fmt: skip
    uris = list(pinned.entries)
    stage(f"comparing {', '.join(uris)}; the baseline is {pinned.baseline}", models=uris)
    runner = choose("lakescore compare", config.runner, models=uris)
    holdout = tables.snapshot(runner, config.holdout.address, config.holdout.version)
    stage(f"on {holdout.address} at version {holdout.version}")

    rows = comparing.select(holdout, config.label, where=config.where)
    candidates = pinned.assign(holdout.address, rows, config.label, config.where)
    versions = candidates.models.items()
    loadables = {uri: prepare(model, runner, config.loading, stage) for uri, model in versions}
    bindings = signature.bind_side_by_side(candidates.sides, holdout, loadables, config.binding)
    comparing.check(rows, holdout.address, bindings)
    keep = [comparing.LABEL, *config.keep]
    planned = scoring.plan(config.engine, rows, bindings, keep, config.scan)
    stage(str(planned))

    facts = lineage.comparison_columns(
        candidates.sides, holdout, config.run_id, config.row_settings, config.decisive
    )
    with comparing.compare(planned, candidates, config.comparing) as comparison:
        gates = comparing.evaluate_gates(comparison, config.gating)
        decision = comparing.decide(comparison, gates)
        report = receipt.compare_receipt(comparison, decision, holdout, facts, where=config.where)
        write_tables(config, comparison, holdout, facts, report)
    report |= {"tables": config.addresses, "gates": gates and gates.facts()}
    files = write_report(config, comparison, report)
    report["tracking_run_id"] = lineage.log_run(
        config.experiment, "comparing", holdout, report, files=files,
        digest=comparison.digest(facts["holdout_digest"]), metrics=comparison.logged(),
    )  # fmt: skip
    return report | comparing.act_on_gates(gates, candidates, report)


def write_tables(
    config: CompareJob,
    comparison: comparing.Comparison,
    holdout: Snapshot,
    facts: Mapping[str, Any],
    report: Mapping[str, Any],
) -> None:
    """Write each table that the job's file asks for, the ranking last."""
    for name, address in config.addresses.items():
        tables.put(
            holdout.runner, comparison.table(name, holdout), address,
            constants=facts, where=comparison.place(**facts), metadata={"holds": name, **report},
        )  # fmt: skip


def write_report(
    config: CompareJob, comparison: comparing.Comparison, report: dict[str, Any]
) -> list[Path]:
    """Write the report's page and summary, print the verdict and the path, and return the files."""
    checks = report["gates"]["checks"] if report["gates"] else []
    missed = [check["sentence"] for check in checks if not check["passed"]]
    stage(f"{report['verdict']} {'; '.join(missed)}".strip())
    document = comparing.document(comparison, report, config.pinned(report))
    files = reporting.write(document, config.pages)
    stage(f"the report is {files['html']}")
    report["report"] = {kind: str(path) for kind, path in files.items()}
    return list(files.values())


if __name__ == "__main__":
    main(CompareJob, run)
