"""The team whose models lakescore scores with: real flights, three versions, a champion.

`prepare` loads the 336,776 flights of 2013 from New York into Delta tables, trains on January to
September and registers three versions of `flight-delay`, as MLflow's documentation does it.
`show` reads what the jobs wrote. Neither needs Spark; the jobs do.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from lakescore import registry
from lakescore.flights import KEYS, LABEL, NAME, SEED, prepare
from lakescore.home import home

WHERE_AND_WHAT_NEXT = """
[bold]Where everything lies[/bold], in {home}
  tables/predictions    one row a flight; its commits hold the lineage as JSON
  tables/drift          how far each day of December is from the days of the training
  tables/ranking        one row a version, metric and slice, with its interval
  tables/disagreements  the flights that the versions disagree on most
  reports/              the comparison as a page, and as Markdown
  receipts/             what each run reports: score.json, monitor.json, compare.json
  trust.yaml            which model versions its jobs may load
  mlflow.db, artifacts/ MLflow's store. To look into it:
      .venv/bin/mlflow ui --backend-store-uri sqlite:///{home}/mlflow.db

[bold]What to try next[/bold]
  .venv/bin/lakescore versions {name}
  .venv/bin/lakescore resolve '{name}?order_by=metrics.rmse'
  ./spark-submit.sh score conf/score.yaml        # again: nothing is written twice
  ./spark-submit.sh score conf/score.yaml model={name}/1 slices=2013-12-25
"""

console = Console(highlight=False)


def show(receipts: Path) -> None:
    """Show the ranking, a few predictions with their lineage, where all lies, what to try next."""
    score, monitor, compare = (
        json.loads((receipts / f"{job}.json").read_text())
        for job in ("score", "monitor", "compare")
    )
    show_ranking(compare)
    show_predictions(score)
    days = Counter(each["status"] for each in score["slices"])
    say(
        f"December: {score['rows_in']:,} departures in {days.total()} days "
        f"({', '.join(f'{count} {status}' for status, count in days.items())})"
    )
    say(f"against the training's days: {monitor['summary']}")
    console.print(WHERE_AND_WHAT_NEXT.format(home=home(), name=NAME), soft_wrap=True)
    drift, page = monitor["report"]["html"], compare["report"]["html"]
    console.print(f"[bold]The drift of December, as a page[/bold]\n  {drift}\n", soft_wrap=True)
    console.print(f"[bold]The comparison, as a page for a browser[/bold]\n  {page}", soft_wrap=True)


def show_ranking(compare: dict[str, Any]) -> None:
    """Show the versions, better first, and whether the champion is the best of them."""
    rows, metric = compare["rows"], compare["rank_by"]
    heading(f"{NAME} on {rows:,} flights of October and November, by {metric}")
    ranking = compare["ranking"]
    interval = f"{compare['confidence']:.0%} interval"
    table = Table("rank", "version", "alias", "kind", metric, interval, box=box.SIMPLE_HEAD)
    versions = {each.version: each for each in registry.versions(NAME)}
    for each in ranking:
        record = versions[each["version"]]
        interval = f"{each['low']:.2f} to {each['high']:.2f}"
        values = [f"{each['metrics'][metric]:.2f}", interval]
        facts = [str(record.version), " ".join(record.aliases), record.tags["kind"]]
        table.add_row(str(each["rank"]), *facts, *values)
    console.print(table)
    console.print(compare["verdict"])


def show_predictions(score: dict[str, Any]) -> None:
    """Show a few predictions of three days, beside what happened, with what made them."""
    from deltalake import DeltaTable  # noqa: PLC0415

    rows = DeltaTable(score["output"]["table"]).to_pandas(
        partitions=[("slice", "in", ["2013-12-01", "2013-12-14", "2013-12-25"])]
    )
    truth = DeltaTable(score["input"]["table"]).to_pandas(columns=[*KEYS, LABEL])
    chosen = rows.groupby("slice").sample(1, random_state=SEED).merge(truth, on=KEYS)
    heading("Three predictions in minutes, what happened, and what made them")
    table = Table("flight", "predicted", "actual", "version", "slice", "scoring run",
                  box=box.SIMPLE_HEAD)  # fmt: skip
    for row in chosen.itertuples():
        table.add_row(
            f"{row.carrier} {row.flight} {row.origin}-{row.dest}",
            f"{row.prediction:.1f}",
            f"{row.arr_delay:.1f}",
            f"{row.model_version}",
            f"{row.slice}",
            f"{row.scoring_run_id}",
        )
    console.print(table)
    others = [column for column in rows.columns if column.startswith(("model_", "logged", "input"))]
    console.print(f"Each row also holds {', '.join(others)} and scored_at.\n")


def heading(text: str) -> None:
    """Say what the next table is."""
    console.print(f"\n[bold]{text}[/bold]", soft_wrap=True)


def say(text: str) -> None:
    """Say one line of progress."""
    console.print(f"demo: {text}", soft_wrap=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["prepare"]:
            prepare(say)
        case ["show", receipts]:
            show(Path(receipts))
        case _:
            sys.exit("usage: demo.py prepare | show RECEIPTS")
