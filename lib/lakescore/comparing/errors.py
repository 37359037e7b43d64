"""Define the errors of a comparison: what cannot be selected, measured or passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lakescore.errors import ConfigError, InputContractError, RequirementNotMet
from lakescore.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class TooManySlices(ConfigError):
    """A column divides the holdout into more slices than can be compared."""

    def __init__(self, column: str, most: int) -> None:
        super().__init__(
            f"column {column!r} has more than {most} slices; slice by a column with fewer values"
        )


class BadCondition(ConfigError):
    """A condition on a table's rows has a wrong syntax, or uses more than comparisons."""

    def __init__(self, text: str, reason: str) -> None:
        super().__init__(f"cannot read the condition {text!r}: {reason}")


class MetricUndefined(InputContractError):
    """The metric is not defined for these predictions and labels."""

    def __init__(self, metric: str, reason: str) -> None:
        super().__init__(f"{metric} cannot be computed: {reason}")


class HoldoutEmpty(InputContractError):
    """No row of the holdout has a label."""

    def __init__(self, address: str, label: str, where: str | None = None) -> None:
        among = address if where is None else f"{address} where {where}"
        super().__init__(
            f"no row of {among} has a label in {label!r}, so there is nothing to compare; wait "
            "for labels, or name another version of the table"
            f"{'' if where is None else ' or another filter'}"
        )


class WeightsInvalid(InputContractError):
    """Some rows have weights that are not valid."""

    def __init__(self, wrong: int, rows: int) -> None:
        super().__init__(
            f"the weight is missing, negative or infinite in {wrong} of "
            f"{counted(rows, 'labelled row')}; leave these rows out (where), or fix them"
        )


class GateFailed(RequirementNotMet):
    """A version does not meet the job's gates."""

    def __init__(self, candidate: str, failures: Iterable[str], report: Mapping[str, Any]) -> None:
        super().__init__(
            f"{candidate} does not pass the gates: {'; '.join(failures)}; no alias was moved"
        )
        # The comparison itself succeeded, so the receipt keeps its facts.
        self.facts = {key: value for key, value in report.items() if key != "status"}
