"""The receipt: what a run reports, as one small JSON document whose keys are an interface."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any

from lakescore.environment import differences
from lakescore.errors import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lakescore.assignment import Assignment
    from lakescore.comparing import Comparison
    from lakescore.config import ScoreJob
    from lakescore.joblist import Job
    from lakescore.publishing import SliceOutcome
    from lakescore.registry import ModelVersion
    from lakescore.scoring import Plan
    from lakescore.signature import Binding, Contract
    from lakescore.snapshots import Snapshot


def model_facts(model: ModelVersion) -> dict[str, Any]:
    """Return the facts that name a pinned version."""
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
    """Return the facts that name the version of a job, or its family of versions by segment."""
    if assigned.by is None:
        return model_facts(assigned.models[0])
    return {
        "name": assigned.name,
        "reference": assigned.reference,
        "segment_by": assigned.by,
        "versions": len(assigned.models),
    }


def _segment_facts(assigned: Assignment) -> dict[str, Any]:
    """Return the version and the rows of each segment, where each has a version of its own."""
    if assigned.by is None:
        return {}
    skipped = sum(assigned.skipped(name) for name in assigned.rows)
    return {"segments": assigned.segments, "rows_skipped": skipped}


def _candidate_facts(assigned: Assignment) -> dict[str, Any]:
    """Return the facts that name a version that is compared, or a family with its segments."""
    if assigned.by is None:
        return assignment_facts(assigned)
    return {"uri": assigned.uri, **assignment_facts(assigned), "segments": assigned.segments}


def _parts(binding: Binding) -> tuple[Assignment, tuple[Contract, ...]]:
    assert binding.assigned is not None  # noqa: S101 - narrows for mypy
    return binding.assigned, binding.contracts


def score_receipt(  # noqa: PLR0913, PLR0917 - each is a fact of its own
    config: ScoreJob,
    source: Snapshot,
    binding: Binding,
    outcomes: Sequence[SliceOutcome],
    written: Mapping[str, Any],
    plans: Sequence[Plan],
    unsliced: int = 0,
) -> dict[str, Any]:
    """Return the receipt of a score job; `engine` only where anything was to score.

    `status` is `scored` where any slice was, else `unchanged` where any slice was published
    before, else `empty`. `slices` are sorted by name. `rows_of_no_slice`, where slices were looked
    for, are rows of the input whose column is null or empty. `output.renamed` and
    `features_left_out` stand where an output's name had to change, and where the table lacks
    optional features. Where each segment has a version of its own, `segments` are all segments of
    the slices with their rows, and `rows_skipped` those of segments without a version, which are
    no part of `rows_in`.
    """
    assigned, contracts = _parts(binding)
    contract = contracts[0] if contracts else None
    casts: dict[str, list[str]] = {}
    for each in contracts:
        for name, (has, asks) in each.casts.items():
            types = casts.setdefault(name, [has])
            types += [asks] if asks not in types[1:] else []
    renamed = dict(contract.renamed) if contract else {}
    left_out = list(dict.fromkeys(name for each in contracts for name in each.left_out))
    statuses = [outcome.status for outcome in outcomes]
    ranked = [each for each in ("scored", "unchanged") if each in statuses]
    return {
        "status": ranked[0] if ranked else "empty",
        "model": assignment_facts(assigned),
        "input": {"table": source.address, "version": source.version},
        "output": {
            "table": config.output.address,
            "columns": list(contract.written) if contract else [],
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
        "slices": sorted((each.facts() for each in outcomes), key=itemgetter("slice")),
        "runner": source.runner.facts(),
        **({"engine": _engine(plans)} if plans else {}),
    }


def preview(
    config: ScoreJob,
    binding: Binding,
    planned: Plan,
    sizes: Mapping[str, int],
    rows: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what the receipt of a dry run has besides that of a score job.

    `would` says what the job would do, with about how many `batches` the model would be called in
    how many `tasks`. `environment` has the requirements of the model that the packages here do not
    meet; `probe` has *rows* with their predictions.

    Args:
        config: the job.
        binding: what its versions take and give.
        planned: how they would be applied.
        sizes: rows by slice that would be scored.
        rows: a few of them, scored.
    """
    assigned, contracts = _parts(binding)
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
    unmet = [need for each in contracts for need in differences(each.loadable.folder)]
    one = f"{assigned.uri}, since {assigned.reference} is it"
    total = sum(sizes.values())
    return {
        "status": "planned",
        "would": {
            "load": one if assigned.by is None else assigned.pin,
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


def _engine(plans: Sequence[Plan]) -> dict[str, Any]:
    """Return how versions were applied: of several plans the last, and the sums of all counts."""
    every = [plan.facts() for plan in plans]
    summed = ("tasks", "bytes_read", "rows_predicted", "loads")
    totals = {n: sum(each.get(n) or 0 for each in every) for n in summed if n in every[-1]}
    return every[-1] | totals


def summary(report: Mapping[str, Any]) -> str:
    """Say in a few words what the score job of *report* did."""
    failed = f", {report['rows_quarantined']} set aside" if report["rows_quarantined"] else ""
    outside = report.get("rows_of_no_slice", 0)
    unsliced = f", {outside} rows of the input are of no slice" if outside else ""
    skipped = report.get("rows_skipped", 0)
    unassigned = f", {skipped} rows are of segments without a model" if skipped else ""
    done = f"{report['rows_scored']} of {report['rows_in']} rows scored"
    return f"{done}{failed}{unsliced}{unassigned}"


def jobs_receipt(ended: Sequence[tuple[Job, Mapping[str, Any]]], seconds: float) -> dict[str, Any]:
    """Return what became of several jobs, with a `summary` in words.

    `exit_code` is the highest of theirs: 75, where a retry may help, comes before what a retry
    cannot change. What was published is recognised by it.

    Args:
        ended: jobs, with their receipts.
        seconds: what all took.
    """
    kept = ("status", "exit_code", "error", "rows_scored", "rows_quarantined", "runner", "seconds")
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
    of_failed = f"; failed: {listed(failed)}" if failed else ""
    done = f"{len(jobs) - len(failed)} of {len(jobs)} jobs done"
    return {
        "status": "failed" if failed else "done",
        "exit_code": max(job["exit_code"] for job in jobs),
        "failed": len(failed),
        "rows_scored": rows,
        "seconds": seconds,
        "jobs": jobs,
        "summary": f"{done}, {rows} rows scored in {seconds:.1f} s{of_failed}",
    }


def replay_receipt(
    run: str, assigned: Assignment, source: Snapshot, planned: Plan, found: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the receipt of a replay job, whose counts are those of `replaying.compare`."""
    return {
        "status": "same",
        "run": run,
        "model": assignment_facts(assigned),
        "input": {"table": source.address, "version": source.version},
        **found,
        "runner": source.runner.facts(),
        "engine": planned.facts(),
    }


def compare_receipt(
    comparison: Comparison,
    holdout: Snapshot,
    planned: Plan,
    facts: Mapping[str, Any],
    *,
    where: str | None,
) -> dict[str, Any]:
    """Return the receipt of a compare job; *facts* are those of `lineage.comparison_columns`."""
    whole, own = comparison.evaluation.whole, comparison.evaluation.own
    standing = whole.standings[comparison.rank_by]
    return {
        "status": "compared",
        "run_id": facts["comparing_run_id"],
        "compared_at": facts["compared_at"].isoformat(),
        "verdict": comparison.headline,
        "confidence": comparison.confidence,
        "rank_by": comparison.rank_by,
        "label": comparison.label,
        "where": where,
        "holdout": {
            "table": holdout.address,
            "version": holdout.version,
            "digest": facts["holdout_digest"],
        },
        "baseline": comparison.candidates.baseline,
        "rows": comparison.evaluation.rows,
        "rows_common": max(whole.rows.values()),
        "runner": planned.runner.facts(),
        "engine": planned.facts(),
        "ranking": [
            {
                "rank": standing.ranks[uri],
                **_candidate_facts(comparison.candidates.assigned[uri]),
                "low": standing.estimates[uri].facts()["low"],
                "high": standing.estimates[uri].facts()["high"],
                "rows_scored": own.rows[uri],
                "rows_failed": comparison.evaluation.rows - own.rows[uri],
                "metrics": {
                    name: whole.standings[name].estimates[uri].facts()["value"]
                    for name in dict.fromkeys([comparison.rank_by, *whole.standings])
                },
            }
            for uri in comparison.ordered
        ],
    }
