"""The receipt: the report of a run, as one small JSON document. Its keys are an interface."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from lakescore import executor
from lakescore.environments import differences
from lakescore.monitoring import evaluate_gates, rank_metric, slice_facts
from lakescore.notation import duration, number
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.comparing import Comparison, Decision
    from lakescore.config import MonitorJob, ScoreJob
    from lakescore.joblist import Job
    from lakescore.monitoring import Evaluated, Judgement, Monitoring
    from lakescore.publishing import SliceOutcome
    from lakescore.registry import ModelVersion
    from lakescore.scoring import Execution, Plan
    from lakescore.signature import Binding, Contract
    from lakescore.snapshots import Snapshot


def model_facts(model: ModelVersion) -> dict[str, Any]:
    """Return the facts that identify a pinned version."""
    return {
        "name": model.name,
        "version": model.version,
        "uri": model.uri,
        "reference": model.reference,
        "digest": model.digest,
        "digest_by": model.digest_by,
        "run_id": model.run_id,
        "logged_model_id": model.logged_model_id,
    }


def assignment_facts(assigned: Assignment) -> dict[str, Any]:
    """Return the facts that identify the version of a job, or its family of versions."""
    if assigned.by is None:
        return model_facts(assigned.models[0])
    return {
        "name": assigned.name,
        "reference": assigned.reference,
        "segment_by": assigned.by,
        "versions": len(assigned.models),
    }


def _segment_facts(assigned: Assignment) -> dict[str, Any]:
    """Return the segments of a family with their versions and rows; nothing for one version."""
    if assigned.by is None:
        return {}
    skipped = sum(assigned.skipped(name) for name in assigned.rows)
    return {"segments": assigned.segments, "rows_skipped": skipped}


def _candidate_facts(assigned: Assignment) -> dict[str, Any]:
    """Return the facts that identify a candidate: a version, or a family with its segments."""
    if assigned.by is None:
        return assignment_facts(assigned)
    return {"uri": assigned.uri, **assignment_facts(assigned), "segments": assigned.segments}


def _assignment_and_contracts(binding: Binding) -> tuple[Assignment, tuple[Contract, ...]]:
    assert binding.assigned is not None  # noqa: S101 - narrows for mypy
    return binding.assigned, binding.contracts


def score_receipt(  # noqa: PLR0913, PLR0917 - each argument is a separate fact
    config: ScoreJob,
    source: Snapshot,
    binding: Binding,
    outcomes: Sequence[SliceOutcome],
    written: Mapping[str, Any],
    executions: Sequence[Execution],
    unsliced: int = 0,
) -> dict[str, Any]:
    """Return the receipt of a score job.

    `status` is `scored` if any slice was scored; otherwise `unchanged` if any slice was published
    before; otherwise `empty`. `slices` are sorted by name. Some keys are optional:

    - `engine`, if any rows were scored.
    - `expect`, if the job has expectations for its rows, and any rows were scored: `broken`, the
      rows that break the rule for a column, and `nulls`, the nulls by slice and column.
    - `rows_of_no_slice`, if the job looked for the slices that are due: the rows of the input whose
      slice column is null or empty.
    - `output.renamed`, if the name of an output had to change.
    - `features_left_out`, if the table lacks optional features.
    - `segments` and `rows_skipped`, for a family: all segments of the slices with their rows, and
      the number of rows of segments without a version. `rows_in` does not count these rows.
    """
    assigned, contracts = _assignment_and_contracts(binding)
    first_contract = contracts[0] if contracts else None
    casts: dict[str, list[str]] = {}
    for contract in contracts:
        for name, (column_type, feature_type) in contract.casts.items():
            types = casts.setdefault(name, [column_type])
            types += [feature_type] if feature_type not in types[1:] else []
    renamed = dict(first_contract.renamed) if first_contract else {}
    left_out = list(dict.fromkeys(name for contract in contracts for name in contract.left_out))
    statuses = [outcome.status for outcome in outcomes]
    ranked = [status for status in ("scored", "unchanged") if status in statuses]
    return {
        "status": ranked[0] if ranked else "empty",
        "model": assignment_facts(assigned),
        "input": {"table": source.address, "version": source.version},
        "output": {
            "table": config.output.address,
            "columns": list(first_contract.written) if first_contract else [],
            **({"renamed": renamed} if renamed else {}),
            **written,
        },
        "quarantine": {"table": config.quarantine_address},
        "casts": casts,
        **({"features_left_out": left_out} if left_out else {}),
        "rows_in": sum(outcome.rows_in for outcome in outcomes),
        "rows_scored": sum(outcome.rows_scored for outcome in outcomes),
        "rows_quarantined": sum(outcome.rows_quarantined for outcome in outcomes),
        **({"rows_of_no_slice": unsliced} if config.due else {}),
        **_segment_facts(assigned),
        **({"expect": checked} if (checked := _expect_facts(executions)) else {}),
        "slices": sorted((outcome.facts() for outcome in outcomes), key=itemgetter("slice")),
        "runner": source.runner.facts(),
        **({"engine": _engine(executions)} if executions else {}),
    }


def preview(
    config: ScoreJob,
    binding: Binding,
    planned: Plan,
    sizes: Mapping[str, int],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the facts that the receipt of a plan adds to the receipt of a score job.

    `would` describes what the job would do: among others, the number of `tasks`, and about how many
    `batches` the model would score. `environment` has the requirements of the model that the
    installed packages do not meet; `probe` has *rows* with their predictions.

    Args:
        config: the job.
        binding: the features and outputs of its versions.
        planned: the plan by which the versions would be applied.
        sizes: the number of rows that would be scored, by slice.
        rows: a few of these rows, scored.
    """
    assigned, contracts = _assignment_and_contracts(binding)
    features = {
        feature.name: {
            "name": feature.name,
            "type": feature.dataType.simpleString(),
            "column": contract.sources[feature.name],
            "null": contract.nulls.get(feature.name, "model"),
        }
        for contract in contracts
        for feature in contract.features
    }
    unmet = [need for contract in contracts for need in differences(contract.loadable.folder)]
    version = f"{assigned.uri}, resolved from {assigned.reference}"
    total = sum(sizes.values())
    return {
        "status": "planned",
        "would": {
            "load": version if assigned.by is None else assigned.pin,
            "write_mode": config.write_mode,
            "commits": config.commits,
            "slices": dict(sizes),
            "rows": total,
            "tasks": planned.tasks,
            "batches": planned.batches(total),
        },
        "features": list(features.values()),
        "environment": [need for n, need in enumerate(unmet) if need not in unmet[:n]],
        "probe": list(rows),
    }


def _expect_facts(executions: Sequence[Execution]) -> dict[str, Any]:
    """Return the counts of the rows that were checked."""
    checked: dict[str, Any] = {}
    for execution in executions:
        executor.add_checks(checked, execution.checked)
    return checked


def _engine(executions: Sequence[Execution]) -> dict[str, Any]:
    """Return the facts of the last of *executions*, with the counts of all added up."""
    all_facts = [execution.facts() for execution in executions]
    summed = ("tasks", "bytes_read", "rows_predicted", "loads")
    totals = {
        key: sum(facts.get(key) or 0 for facts in all_facts)
        for key in summed
        if key in all_facts[-1]
    }
    return all_facts[-1] | totals


def summary(report: Mapping[str, Any]) -> str:
    """Return the result of the score job of *report* in a few words."""
    failed = f", {report['rows_quarantined']} quarantined" if report["rows_quarantined"] else ""
    outside = report.get("rows_of_no_slice", 0)
    unsliced = f", {counted(outside, 'row')} of the input in no slice" if outside else ""
    skipped = report.get("rows_skipped", 0)
    unassigned = f", {counted(skipped, 'row')} in segments without a model" if skipped else ""
    return f"{_work_done(report)}{failed}{unsliced}{unassigned}"


def _work_done(report: Mapping[str, Any]) -> str:
    """Return how many rows of *report* were scored, or why there was nothing to do."""
    slices, table = report["slices"], report["output"]["table"]
    known = [part for part in slices if part["status"] == "unchanged"]
    if report["status"] == "scored":
        kept = sum(part["rows_in"] for part in known)
        earlier = f", {counted(kept, 'row')} scored earlier" if kept else ""
        rows = counted(report["rows_in"], "row")
        return f"{report['rows_scored']} of {rows} scored into {table}{earlier}"
    if not slices:
        return f"nothing to do: no slice of {table} is due"
    if not known:
        return f"nothing to do: no row to score into {table}"
    every = "all " if len(known) == len(slices) > 1 else ""
    verb = "holds" if len(known) == 1 else "hold"
    number = counted(len(known), "slice")
    return f"nothing to do: {every}{number} of {table} {verb} these rows already"


def jobs_receipt(ended: Sequence[tuple[Job, Mapping[str, Any]]], seconds: float) -> dict[str, Any]:
    """Return the receipt of several jobs, with a `summary` in words.

    `exit_code` is the highest of the jobs' exit codes. So 75 (a retry can help) wins over the
    failures that a retry cannot change; the retry recognises the jobs that have published.

    Args:
        ended: the jobs that have ended, each with its receipt.
        seconds: the seconds that all jobs took together.
    """
    kept = (
        "status", "exit_code", "code", "error", "rows_scored", "rows_quarantined", "runner",
        "seconds",
    )  # fmt: skip
    jobs = [
        {
            "name": job.name,
            "file": str(job.file),
            "receipt": job.config.receipt,
            "exit_code": 0,
            **{key: receipt[key] for key in kept if key in receipt},
        }
        for job, receipt in ended
    ]
    failed = [f"{job['name']} ({job['exit_code']})" for job in jobs if job["exit_code"]]
    rows = sum(job.get("rows_scored", 0) for job in jobs)
    failures = f"; failed: {listed(failed)}" if failed else ""
    done = f"{len(jobs) - len(failed)} of {counted(len(jobs), 'job')} done"
    return {
        "status": "failed" if failed else "done",
        "exit_code": max(job["exit_code"] for job in jobs),
        "failed": len(failed),
        "rows_scored": rows,
        "seconds": seconds,
        "jobs": jobs,
        "summary": f"{done}, {counted(rows, 'row')} scored in {duration(seconds)}{failures}",
    }


def monitor_receipt(
    config: MonitorJob,
    predictions: Snapshot,
    monitored: Monitoring,
    judgement: Judgement | None,
    evaluated: Sequence[Evaluated] = (),
) -> dict[str, Any]:
    """Return the receipt of a monitor job.

    `status` is `alarm` if any slice alarms, `quiet` if none does, `evaluated` if only labels were
    new, and `unchanged` if there was nothing to do. `slices` are those that were judged; `summary`
    is the result in words. `quality`, if the job has labels, has the metrics of the slices whose
    labels have changed.
    """
    verdicts = judgement.verdicts if judgement else []
    judged = [slice_facts(verdict) for verdict in verdicts]
    alarming = sum(part["status"] == "alarm" for part in judged)
    return {
        "status": _monitor_status(judged, evaluated),
        "model": {"name": monitored.units[0].model if monitored.units else config.model},
        "predictions": {"table": predictions.address, "version": predictions.version},
        "output": {"table": config.output.address, "profile": config.profile_address},
        "slices": judged,
        "slices_alarming": alarming,
        **({"slices_without_predictions": monitored.missing} if monitored.missing else {}),
        "rows_in": sum(part["rows"] for part in judged),
        "left_out": dict(monitored.inputs.left_out),
        **(judgement.facts() if judgement else {}),
        **({"quality": monitored.quality.facts(evaluated)} if monitored.quality else {}),
        "gates": evaluate_gates(config, verdicts, evaluated),
        "runner": predictions.runner.facts(),
        "summary": quality_summary(config, evaluated)
        if evaluated and not judged
        else monitor_summary(config, judged),
    }


def _monitor_status(judged: Sequence[Mapping[str, Any]], evaluated: Sequence[Evaluated]) -> str:
    if not judged:
        return "evaluated" if evaluated else "unchanged"
    return "alarm" if any(part["status"] == "alarm" for part in judged) else "quiet"


def quality_summary(config: MonitorJob, evaluated: Sequence[Evaluated]) -> str:
    """Return the labels and metrics of evaluated slices in a sentence, with the newest metric."""
    final = sum(result.final for result in evaluated)
    labelled = [result for result in evaluated if result.labelled]
    slices = counted(len(evaluated), "slice")
    if not labelled:
        return f"no label matches a prediction in {slices} yet"
    newest = max(labelled, key=lambda result: result.unit.slice)
    metric = rank_metric(config, newest.whole)
    value = newest.whole[metric]["value"] if metric else None
    shown = f"; {metric} of {newest.unit.slice}: {number(value)}" if metric else ""
    rows = sum(result.labelled for result in evaluated)
    return f"{counted(rows, 'label')} in {slices}, {final} of them final{shown}"


def monitor_summary(config: MonitorJob, judged: Sequence[Mapping[str, Any]]) -> str:
    """Return the result of a monitor job in a sentence."""
    if not judged:
        return f"nothing to do: {config.output.address} holds all of these slices already"
    alarming = [part for part in judged if part["status"] == "alarm"]
    if not alarming:
        return f"no alarm: none of {counted(len(judged), 'slice')} differs by more than chance"
    columns: dict[str, int] = {}
    for part in alarming:
        for name in dict.fromkeys(alarm["column"] for alarm in part["clearest"]):
            columns[name] = columns.get(name, 0) + 1
    most = sorted(columns, key=lambda name: -columns[name])
    return (
        f"{len(alarming)} of {counted(len(judged), 'slice')} alarm, first "
        f"{alarming[0]['slice']}; most often: "
        f"{listed([f'{name} ({columns[name]})' for name in most], most=5)}"
    )


def replay_receipt(
    run: str,
    assigned: Assignment,
    source: Snapshot,
    execution: Execution,
    counts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the receipt of a replay job; *counts* are the result of `replaying.compare`."""
    return {
        "status": "same",
        "run": run,
        "model": assignment_facts(assigned),
        "input": {"table": source.address, "version": source.version},
        **counts,
        "runner": source.runner.facts(),
        "engine": execution.facts(),
    }


def compare_receipt(
    comparison: Comparison,
    decision: Decision,
    holdout: Snapshot,
    facts: Mapping[str, Any],
    *,
    where: str | None,
) -> dict[str, Any]:
    """Return the receipt of a compare job; *facts* come from `lineage.comparison_columns`."""
    common, separate = comparison.evaluation.whole, comparison.evaluation.own
    standing = common.standings[comparison.rank_by]
    return {
        "status": "compared",
        "run_id": facts["comparing_run_id"],
        "compared_at": facts["compared_at"].isoformat(),
        "verdict": decision.sentence,
        "decision": decision.facts(),
        "confidence": comparison.options.confidence,
        "rank_by": comparison.rank_by,
        "label": comparison.options.label,
        "where": where,
        "holdout": {
            "table": holdout.address,
            "version": holdout.version,
            "digest": facts["holdout_digest"],
        },
        "baseline": comparison.candidates.baseline,
        "rows": comparison.evaluation.rows,
        "rows_common": max(common.rows.values()),
        "rows_unlabelled": comparison.count_unlabelled(holdout, where),
        "runner": holdout.runner.facts(),
        "engine": comparison.execution.facts(),
        "ranking": [
            {
                "rank": standing.ranks[uri],
                **_candidate_facts(comparison.candidates.assigned[uri]),
                "low": standing.estimates[uri].facts()["low"],
                "high": standing.estimates[uri].facts()["high"],
                "rows_scored": separate.rows[uri],
                "rows_failed": comparison.evaluation.rows - separate.rows[uri],
                "metrics": {
                    name: common.standings[name].estimates[uri].facts()["value"]
                    for name in dict.fromkeys([comparison.rank_by, *common.standings])
                },
            }
            for uri in comparison.ordered
        ],
    }
