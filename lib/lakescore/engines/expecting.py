"""Expecting: workers check the rows of an engine that cannot set rows aside, before it scores."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pyspark.sql import functions as F  # noqa: N812 - the name that everyone reads at once

from lakescore import executor
from lakescore.arrow import collected, struct
from lakescore.engines import failures
from lakescore.errors import InputContractError
from lakescore.slicing import SLICE
from lakescore.wording import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lakescore.engines.plan import Plan


class RowsUnexpected(InputContractError):
    """Rows break the rules of the job's file, and the engine cannot quarantine them."""

    def __init__(self, engine: str, broken: Mapping[str, tuple[int, str]]) -> None:
        rules = [
            f"{column} is not {rule} in {counted(rows, 'row')}"
            for column, (rows, rule) in broken.items()
        ]
        super().__init__(
            f"the input is not as expected: {listed(rules)}; engine {engine} quarantines no rows, "
            "so nothing was scored; fix the rows, or the rules in expect.values"
        )
        self.facts = {"expect": {"broken": {column: rows for column, (rows, _) in broken.items()}}}


def check_before(planned: Plan) -> Plan:
    """Return *planned* with the counts of its rows, if its engine cannot set rows aside.

    Raises:
        RowsUnexpected: rows break the rules.
    """
    expected = planned.expected
    if expected is None or planned.sets_rows_aside:
        return planned
    names = [*expected.columns, *([SLICE] if SLICE in planned.keep else [])]
    placed = expected.placed(names, len(expected.columns) if SLICE in names else None)
    columns = [F.col(f"`{name}`").alias(f"c{n}") for n, name in enumerate(names)]
    checks = executor.check_rows(placed)
    with failures.evaluated(planned, ["the rows"]):
        counted_rows = planned.rows.select(*columns).mapInArrow(checks, struct(executor.CHECKED))
        reports = collected(counted_rows).column(0).to_pylist()
    checked: dict[str, Any] = {}
    for report in reports:
        executor.add_checks(checked, json.loads(report))
    texts = {rule.column: rule.text for rule in expected.rules}
    broken = {c: (rows, texts[c]) for c, rows in checked.get("broken", {}).items() if rows}
    if broken:
        raise RowsUnexpected(planned.engine, broken)
    return replace(planned, checked=checked)
