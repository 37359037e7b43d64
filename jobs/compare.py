"""Score several model versions on one holdout, all rows, rank them, and hold one against gates."""

from typing import Any

from lakescore import comparing, lineage, receipt, reporting, scoring, signature, tables
from lakescore.config import CompareJob
from lakescore.console import stage
from lakescore.job import main
from lakescore.loading import prepare
from lakescore.session import choose


def run(todo: CompareJob) -> dict[str, Any]:
    """Pin all, score side by side, add all rows up and rank; write, report, log; then decide."""
    entries = comparing.enter(**todo.entering)
    uris = list(entries.pinned)
    stage(f"comparing {', '.join(uris)}; the baseline is {entries.baseline}", models=uris)
    runner = choose("lakescore compare", todo.runner, models=uris)
    holdout = tables.snapshot(runner, todo.holdout.address, todo.holdout.version)
    stage(f"on {holdout.address} at version {holdout.version}")
    rows = comparing.select(holdout, todo.label, where=todo.where)
    entrants = entries.over(holdout.address, rows)
    loadables = {u: prepare(model, runner, **todo.loading) for u, model in entrants.models.items()}
    agreed = signature.agree_beside(entrants.each, holdout, loadables, **todo.contract)
    comparing.check(rows, holdout.address, agreed)
    planned = scoring.plan(todo.engine, rows, agreed, [comparing.LABEL, *todo.keep], todo.scan)
    stage(str(planned))
    facts = lineage.of_comparison(entrants.each, holdout, todo.run_id, todo.of_rows, todo.decisive)
    with comparing.compare(planned, entrants, **todo.measuring) as found:
        gates = comparing.hold(found, **todo.gating)
        stage(f"{found.verdict} {gates or ''}")
        report = receipt.of_comparing(found, holdout, planned, facts, where=todo.where)
        for name, address in todo.addresses.items():
            lines, place = found.table(name, holdout), found.place(**facts)
            said = {"holds": name, **report}
            tables.put(runner, lines, address, constants=facts, where=place, metadata=said)

    report |= {"tables": todo.addresses, "gates": gates and gates.facts()}
    files = reporting.write(comparing.document(found, report, todo.pinned(report)), todo.pages)
    stage(f"the report is {files['html']}")
    report["report"] = {kind: str(path) for kind, path in files.items()}
    report["tracking_run_id"] = lineage.log_run(
        todo.experiment, "comparing", holdout, report, files=list(files.values()),
        digest=found.digest(facts["holdout_digest"]), metrics=found.logged(),
    )  # fmt: skip
    return report | comparing.settle(gates, found.entrants, report)


if __name__ == "__main__":
    main(CompareJob, run)
